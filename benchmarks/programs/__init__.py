"""A structure and its trajectory in each simulation program, for `benchmarks/clients.py`."""
