"""A program that stands in for a quantum-chemistry code: `python stand_in.py PROGRAM ...`, in the folder of its input.

It writes only the part of the program's output that ASE reads: an energy of -1.5 and a force of 0.01 (i + 1) along x on
atom i, in the program's own units. It records its input under $RECORD: a folder per call, with a copy of all files and
the name of the folder that it ran in. A second call in the same folder fails. If $FAIL is set, the program prints an
error and exits with a non-zero status; if $SLOW is set, it does not end.
"""

import os
import re
import shutil
import sys
import time
from pathlib import Path

ENERGY, FORCE = -1.5, 0.01


def forces(count, unit=FORCE):
    return [(unit * (i + 1), 0.0, 0.0) for i in range(count)]


def rows(numbers, form="{:20.12f}"):
    return "\n".join("".join(form.format(value) for value in row) for row in numbers)


def orca(source):
    text = Path(source).read_text()
    atoms = re.findall(r"^([A-Z][a-z]?) +(\S+ \S+ \S+)$", text, re.MULTILINE)
    count = len(atoms)
    print(f"Number of atoms                             .... {count}")
    print("CARTESIAN COORDINATES (ANGSTROEM)\n---------------------------------")
    print("\n".join(" ".join(atom) for atom in atoms))
    print(f"FINAL SINGLE POINT ENERGY    {ENERGY:.12f}\n****ORCA TERMINATED NORMALLY****")
    gradient = [f"{-value:.12f}" for row in forces(count) for value in row]
    Path("orca.engrad").write_text(
        f"# Number of atoms\n#\n {count}\n#\n# The current total energy in Eh\n#\n {ENERGY}\n#\n"
        "# The current gradient in Eh/bohr\n#\n" + "\n".join(gradient) + "\n#\n# The atomic numbers\n"
    )


def aims():
    atoms = re.findall(r"^atom (.*) (\w+)$", Path("geometry.in").read_text(), re.MULTILINE)
    print(f"| Number of atoms : {len(atoms)}\n| Number of Kohn-Sham states (occupied + empty): 10")
    print("| Number of spin channels : 1\nThe structure contains 3 atoms, and a total of 10.000 electrons.")
    print("Atomic structure:\n |       Atom                x [A]            y [A]            z [A]")
    for index, (position, symbol) in enumerate(atoms):
        print(f" |   {index + 1}: Species {symbol} {position}")
    print("Begin self-consistency iteration #    1")
    print(f"| Total energy uncorrected : {ENERGY} eV\n| Electronic free energy : {ENERGY} eV")
    print("Total atomic forces (unitary forces cleaned) [eV/Ang]:")
    for index, row in enumerate(forces(len(atoms))):
        print(f" | {index + 1} {rows([row])}")
    print("Have a nice day.")


def espresso(_, source):
    text = Path(source).read_text()
    cell = re.search(r"CELL_PARAMETERS angstrom\n((?:.*\n){3})", text).group(1).splitlines()
    atoms = [line.split() for line in text.split("ATOMIC_POSITIONS")[1].splitlines()[1:] if line.strip()]
    bohr = 0.529177208590
    print("     Program PWSCF v.7.3 starts")
    print(f"     number of atoms/cell      = {len(atoms)}\n     number of atomic types    = 2")
    print(f"     celldm(1)=   {1 / bohr:.9f}\n     crystal axes: (cart. coord. in units of alat)")
    for index, line in enumerate(cell):
        print(f"               a({index + 1}) = (  {line}  )")
    print("     site n.     atom                  positions (alat units)")
    for index, (symbol, *position) in enumerate(atoms):
        print(f"         {index + 1}           {symbol}  tau(   {index + 1}) = (   {' '.join(position)}  )")
    print(f"!    total energy              =     {ENERGY} Ry\n\n     Forces acting on atoms (cartesian axes, Ry/au):\n")
    for index, row in enumerate(forces(len(atoms))):
        print(f"     atom    {index + 1} type  1   force = {rows([row])}")


def qchem(source, target):
    text = Path(source).read_text().split("$molecule")[1].split("$end")[0]
    count = len(text.strip().splitlines()) - 1
    lines = [f" Total energy in the final basis set = {ENERGY:.8f}", " Gradient of SCF Energy"]
    columns = [[-value for value in column] for column in zip(*forces(count), strict=True)]
    for start in range(0, count, 6):
        lines.append("".join(f"{start + i + 1:12d}" for i in range(len(columns[0][start : start + 6]))))
        for axis, column in enumerate(columns):
            lines.append(f"{axis + 1:5d}" + "".join(f"{value:12.7f}" for value in column[start : start + 6]))
    lines.append(" Max gradient component =       1.0")
    Path(target).write_text("\n".join(lines) + "\n")


def dftb():
    count = int(Path("geo_end.gen").read_text().split()[0])
    Path("detailed.out").write_text(f"Total energy:     {ENERGY:.10f} H   {27 * ENERGY:.4f} eV\n")
    Path("results.tag").write_text(f"forces              :real:2:3,{count}\n{rows(forces(count))}\n")


def mopac(source):
    count = len([line for line in Path(source).read_text().splitlines() if line.count(" 1") >= 3])
    derivatives = [
        f"{i} {i} C CARTESIAN X 0.0 {-value:.9f} KCAL" for row in forces(count) for i, value in enumerate(row)
    ]
    print("  MOPAC v22.0.6 Linux\n  FINAL HEAT OF FORMATION =      -1.50000 KCAL/MOL =  -6.276 KJ/MOL")
    print("  TOTAL ENERGY            =       -100.00000 EV")
    print("       FINAL  POINT  AND  DERIVATIVES\n\n   PARAMETER     ATOM    TYPE\n" + "\n".join(derivatives))


def record():
    folder = Path(os.environ["RECORD"]) / str(os.getpid())
    shutil.copytree(Path.cwd(), folder)
    (folder / "ran-in").write_text(str(Path.cwd()))
    return folder


def main(program, *arguments):
    if Path("taken").exists():
        sys.exit("another label runs in this folder")
    Path("taken").touch()
    record()
    if "SLOW" in os.environ:
        time.sleep(3600.0)
    if "FAIL" in os.environ:
        words = "some banner\n\n  SCF DID NOT MEET\n  ITS CRITERIA\n"
        if program == "qchem":
            Path(arguments[1]).write_text(words)
        else:
            print(words, flush=True)
        sys.exit(3)
    globals()[program](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
