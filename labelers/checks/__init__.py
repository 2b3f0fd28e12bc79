"""Checks of a labeler by its own labels: forces against energies, small cells against larger ones."""
