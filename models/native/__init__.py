"""C++ kernels for CPUs: geometry, messages and product basis, each in a single pass with nothing stored per pair.

Kernels are compiled for the machine when first needed (about a second each), cached on disk, and compared with plain
torch before use (`models.inference.acceleration`). Without a C++ compiler, or on a GPU, plain torch is used.
"""
