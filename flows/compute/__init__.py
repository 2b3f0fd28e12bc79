"""Where stages are computed: the device, the number of workers, and the worker processes of this machine."""
