"""Files on disk: atomic writes, locks, seals, and HDF5 files with frames or parts."""
