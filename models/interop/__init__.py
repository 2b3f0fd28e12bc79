"""Conversion of models of other packages to members: exported to HDF5 where they were trained, converted here.

For each package `export_<package>.py` is a script for the package's own environment, `<package>_file.py` reads its
output and refuses models that cannot be represented, and `convert_<package>.py` maps the weights. `convert.py` is the
command for all packages.
"""
