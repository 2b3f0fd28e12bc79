"""Kernels in C++ for CPUs: the two sums that cost most of MS-MACE, each in one pass with nothing stored per pair.

They are compiled for the machine when first needed (a second each), kept on disk, and checked against the plain torch
path of `models.layers` before use. Without a C++ compiler, or on a GPU, the plain path is used.
"""
