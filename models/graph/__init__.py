"""Atoms, their neighbours, and the functions of distance and direction on them."""
