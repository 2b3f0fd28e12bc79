"""Checks of a labeler by its own labels: forces against energy differences, cells against doubled cells."""
