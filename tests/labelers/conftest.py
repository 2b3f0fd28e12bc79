import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from al_engine.structures.frames import Frame

sys.path.insert(0, str(Path(__file__).parent))  # tests and worker processes import faulty_labelers by name

PFTBA = "N(" + ")(".join(["C(F)(F)C(F)(F)C(F)(F)C(F)(F)F"] * 2) + ")C(F)(F)C(F)(F)C(F)(F)C(F)(F)F"


def from_smiles(smiles, *, charge=0, seed=7):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=seed) == 0
    AllChem.MMFFOptimizeMolecule(mol)
    return Frame(
        numbers=np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()]),
        positions=mol.GetConformer().GetPositions(),
        charge=charge,
    )


def rattled(frame, seed, scale=0.05):
    rng = np.random.default_rng(seed)
    return frame.with_positions(frame.positions + rng.normal(0.0, scale, frame.positions.shape))


@pytest.fixture(scope="session")
def molecules():
    """Molecules by name, off their equilibria."""
    frames = {
        "water": Frame.from_atoms(molecule("H2O")),
        "ethanol": Frame.from_atoms(molecule("CH3CH2OH")),
        "ammonium": from_smiles("[NH4+]", charge=1),
        "acetate": from_smiles("CC(=O)[O-]", charge=-1),
        "methyl": Frame.from_atoms(molecule("CH3"), unpaired_electrons=1),
        "oxygen": Frame.from_atoms(molecule("O2"), unpaired_electrons=2),
        "C12F27N": from_smiles(PFTBA),
    }
    assert len(frames["C12F27N"]) == 40
    return {name: rattled(frame, seed=index) for index, (name, frame) in enumerate(frames.items())}


@pytest.fixture(scope="session")
def diamond():
    """The two carbon atoms of a skewed periodic cell, off their equilibrium."""
    from ase.build import bulk

    return rattled(Frame.from_atoms(bulk("C", "diamond", a=3.57)), seed=11)


@pytest.fixture
def faulty():
    """The factory of a labeler whose fault is the frame's charge; see faulty_labelers.py."""
    return "faulty_labelers:create"
