"""Where stages are computed: the device, the worker processes of this machine, and clusters of Dask and Ray."""
