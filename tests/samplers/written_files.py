"""Helpers that write structure files, and read the charge and spin that they state."""

from samplers.reading.structure_files import read_structures

WATER = ["O 0 0 0", "H 0.96 0 0", "H -0.24 0.93 0"]
AMMONIUM = ["N 0 0 0", "H 0.6 0.6 0.6", "H -0.6 -0.6 0.6", "H -0.6 0.6 -0.6", "H 0.6 -0.6 -0.6"]
OXYGEN = ["O 0 0 0", "O 0 0 1.21"]
METHYL = ["C 0 0 0", "H 1.08 0 0", "H -0.54 0.93 0", "H -0.54 -0.93 0"]


def xyz(rows, comment=""):
    return "\n".join([str(len(rows)), comment, *rows, ""])


def written(folder, text, name="in.xyz"):
    path = folder / name
    path.write_text(text)
    return path


def stated(path, **more):
    (structure,) = read_structures(path, **more)
    return structure.stated.charge, structure.stated.unpaired_electrons
