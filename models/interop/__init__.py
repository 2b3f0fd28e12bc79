"""Models of other packages as members: written to HDF5 where they were trained, converted here.

Per package: `export_<package>.py` is a script for the package's own environment, `<package>_file.py` reads what that
wrote and refuses what can't be represented, `convert_<package>.py` maps the weights. `convert.py` is the command for
all of them, and shows how they fit together.
"""
