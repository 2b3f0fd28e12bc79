"""Configs of the ASE backend with programs that stand in for quantum-chemistry codes, and records of their inputs."""

import os
import re
import sys
from pathlib import Path

import numpy as np
from ase.build import molecule
from ase.units import Bohr, Hartree, Rydberg, kcal, mol

from al_engine.config import LabelsConfig
from al_engine.structures.frames import Frame

STAND_IN = f"{sys.executable} -S {Path(__file__).parent / 'stand_in.py'}"
UNITS = {
    "orca": (Hartree, Hartree / Bohr),
    "aims": (1.0, 1.0),
    "espresso": (Rydberg, Rydberg / Bohr),
    "qchem": (Hartree, Hartree / Bohr),
    "dftb": (Hartree, Hartree / Bohr),
    "mopac": (kcal / mol, kcal / mol),
}
"""The programs' units of energy and force in eV and eV/Å."""
ENERGY, FORCE = -1.5, 0.01


def command(program):
    return f"{STAND_IN} {program}"


def config(program, folder, **parameters):
    """The config that labels with a stand-in; `folder` holds the files that the program needs."""
    own = {
        "orca": {"profile": {"command": command("orca")}, "orcasimpleinput": "HF def2-SVP EnGrad"},
        "aims": {"profile": {"command": command("aims")}, "xc": "pbe", "species_dir": str(species(folder))},
        "espresso": {
            "profile": {"command": command("espresso"), "pseudo_dir": "/nowhere"},
            "pseudopotentials": {symbol: f"{symbol}.upf" for symbol in "HCNO"},
            "input_data": {"ecutwfc": 30},
        },
        "qchem": {},
        "dftb": {"command": f"{command('dftb')} > PREFIX.out", "Hamiltonian_MaxAngularMomentum_H": '"s"'},
        "mopac": {"command": f"{command('mopac')} PREFIX.mop > PREFIX.out"},
    }[program]
    return LabelsConfig(backend="ase", ase_calculator=program, ase_parameters={**own, **parameters})


def species(folder):
    """A folder of species files for FHI-aims."""
    for name in ("01_H", "06_C", "07_N", "08_O"):
        (folder / f"{name}_default").write_text(f"  species {name}\n")
    return folder


def qchem_on_path(folder):
    """ASE's Q-Chem calculator takes no other command than `qchem`."""
    path = folder / "qchem"
    path.write_text(f'#!/bin/sh\nexec {command("qchem")} "$@"\n')
    path.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def frame(name="CH3", *, boxed=False, shift=0.0, **charge_and_spin):
    atoms = molecule(name)
    cell = 8.0 * np.eye(3) if boxed else np.zeros((3, 3))
    positions = atoms.positions + 4.0 + shift
    return Frame(numbers=atoms.numbers, positions=positions, cell=cell, pbc=[boxed] * 3, **charge_and_spin)


def calls(record):
    """The inputs of the programs: for each call the text of its files, and the folder that it ran in."""
    return [
        ("\n".join(path.read_text() for path in sorted(folder.iterdir())), Path((folder / "ran-in").read_text()))
        for folder in sorted(record.iterdir())
    ]


def given(record, pattern):
    """All matches of a pattern in the input of the only call."""
    ((text, _),) = calls(record)
    return re.findall(pattern, text, re.MULTILINE)
