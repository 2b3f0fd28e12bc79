"""Weights of members in HDF5."""
