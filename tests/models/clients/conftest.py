"""A committee on disk, and structures for it: a molecule, a box, a sheared box."""

import h5py
import numpy as np
import pytest

from al_engine.structures.frames import Frame
from models import load_committee
from models.storage.weights import TrainedMember, write_member


@pytest.fixture(scope="session")
def committee_file(tmp_path_factory, tiny_model, tiny_config):
    """A file of three members."""
    path = tmp_path_factory.mktemp("committee") / "committee.h5"
    with h5py.File(path, "w") as file:
        for k in range(3):
            write_member(file.create_group(f"member{k}"), TrainedMember(tiny_model(tiny_config(), seed=k)))
    return path


@pytest.fixture
def calculator(committee_file):
    return load_committee(committee_file, device="cpu")


@pytest.fixture(params=["molecule", "box", "sheared"])
def atoms(request, random_cluster, calculator):
    """A structure with the committee as its calculator."""
    cluster = random_cluster(12, seed=4, side=5.0)
    cell = {"molecule": np.zeros((3, 3)), "box": np.diag([6.0, 6.5, 7.0])}.get(
        request.param, np.array([[6.0, 0, 0], [1.0, 6.5, 0], [-0.5, 0.8, 7.0]])
    )
    frame = Frame(cluster.numbers, cluster.positions, cell=cell, pbc=[bool(cell.any())] * 3)
    atoms = frame.to_atoms()
    atoms.calc = calculator
    return atoms
