"""Checks of labels by further labels: forces against energy differences, a cell against the doubled cell."""
