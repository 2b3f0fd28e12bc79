"""Bytes on disk: atomic writes, locks, seals, HDF5 files of frames and of parts."""
