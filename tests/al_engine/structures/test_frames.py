"""Frames: shapes, immutability, content hashes, ASE, and the HDF5 layout."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from al_engine.errors import LedgerError
from al_engine.files.frames_hdf5 import (
    PER_ATOM,
    PER_FRAME,
    UNITS,
    read_frames,
    read_labelled,
    write_frames,
    write_labelled,
)
from al_engine.structures.frames import Frame, LabelledFrame, dataset_digest

FRAME_FIELDS = ("numbers", "positions", "cell", "pbc", "charge", "unpaired_electrons")


def as_dict(frame: Frame) -> dict:
    return {name: getattr(frame, name) for name in FRAME_FIELDS}


def assert_equal(a: Frame, b: Frame) -> None:
    for name in FRAME_FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.content_hash() == b.content_hash()


# -- frames -----------------------------------------------------------------------------------------------------


def test_arrays_are_read_only_copies(random_labelled):
    positions = np.zeros((2, 3))
    frame = Frame(numbers=[1, 1], positions=positions)
    positions[0, 0] = 7.0
    assert frame.positions[0, 0] == 0.0
    labelled = random_labelled(1)[0]
    for array in (frame.numbers, frame.positions, frame.cell, frame.pbc, labelled.forces):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(AttributeError):
        frame.charge = 1


def test_arrays_have_one_type_whatever_was_given():
    frame = Frame(numbers=(6, 1), positions=[[0, 0, 0], [0, 0, 1]], charge=np.int32(1))
    assert (frame.numbers.dtype, frame.positions.dtype, frame.pbc.dtype) == (np.int64, np.float64, np.bool_)
    assert type(frame.charge) is int


@pytest.mark.parametrize(
    "wrong",
    [
        {"positions": np.zeros((3, 3))},
        {"positions": np.zeros(6)},
        {"positions": np.zeros((2, 2))},
        {"numbers": np.ones((2, 1))},
        {"cell": np.zeros(3)},
        {"pbc": [True]},
    ],
)
def test_wrong_shapes_are_refused(wrong):
    fields = {"numbers": [1, 1], "positions": np.zeros((2, 3))} | wrong
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} has shape"):
        Frame(**fields)


def test_forces_must_fit_the_frame():
    with pytest.raises(ValueError, match="forces has shape"):
        LabelledFrame(frame=Frame(numbers=[1], positions=np.zeros((1, 3))), energy=0.0, forces=np.zeros((2, 3)))


def test_electrons_of_ammonium():
    frame = Frame(numbers=[7, 1, 1, 1, 1], positions=np.zeros((5, 3)), charge=1)
    assert (len(frame), frame.n_electrons, frame.is_periodic) == (5, 10, False)


def test_with_positions_changes_nothing_else(random_frame):
    frame = random_frame(3)
    moved = frame.with_positions(frame.positions + 1.0)
    np.testing.assert_array_equal(moved.positions, frame.positions + 1.0)
    assert_equal(moved.with_positions(frame.positions), frame)


# -- content hashes ---------------------------------------------------------------------------------------------


def test_hash_changes_with_every_field(random_frame):
    frame = random_frame(0)
    nudged = frame.positions.copy()
    nudged[2, 1] = np.nextafter(nudged[2, 1], np.inf)
    changes = {
        "numbers": [*frame.numbers[:-1], frame.numbers[-1] + 1],
        "positions": nudged,
        "cell": frame.cell + 1e-15,
        "pbc": ~frame.pbc,
        "charge": frame.charge + 1,
        "unpaired_electrons": frame.unpaired_electrons + 1,
    }
    assert set(changes) == set(FRAME_FIELDS)
    hashes = {Frame(**as_dict(frame) | {name: value}).content_hash() for name, value in changes.items()}
    hashes.add(frame.content_hash())
    hashes.add(
        Frame(
            **as_dict(frame) | {"charge": frame.unpaired_electrons, "unpaired_electrons": frame.charge}
        ).content_hash()
    )
    hashes.add(Frame(**as_dict(frame) | {"numbers": frame.numbers[::-1]}).content_hash())
    assert len(hashes) == len(changes) + 3


def test_hash_is_of_the_content_not_of_the_memory(random_frame):
    frame = random_frame(1)
    fields = as_dict(frame)
    fields["positions"] = np.asfortranarray(frame.positions).astype(">f8")
    fields["numbers"] = np.repeat(frame.numbers, 2)[::2].astype(np.int16)
    fields["cell"] = frame.cell.T.copy().T
    assert Frame(**fields).content_hash() == frame.content_hash()


def test_hash_is_the_same_in_every_version():
    """The digest of a campaign must never change: a hash written down once."""
    water = Frame(numbers=[8, 1, 1], positions=[[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]])
    assert water.content_hash() == "acfa8c043959f202fc6bb77cee33d4f8ae64bfece65c5d6d7805c5f5b99c3b4c"
    labelled = LabelledFrame(frame=water, energy=-137.5, forces=np.zeros((3, 3)))
    assert dataset_digest([labelled, labelled]) == "e31f7acc4078adaf7d7c3ad161f9c0a5a593238eebb34af547a14385f4c15180"


def test_labelled_hash_changes_with_energy_and_forces(random_labelled):
    labelled = random_labelled(1)[0]
    other = LabelledFrame(frame=labelled.frame, energy=labelled.energy + 1e-9, forces=labelled.forces)
    another = LabelledFrame(frame=labelled.frame, energy=labelled.energy, forces=-labelled.forces)
    heavy = replace(labelled, weight=2.0)
    assert len({item.content_hash() for item in (labelled, other, another, heavy)}) == 4
    assert replace(heavy, weight=1.0).content_hash() == labelled.content_hash()


def test_dataset_digest_depends_on_order_and_on_each_frame(random_labelled):
    labelled = random_labelled(5)
    digests = {
        dataset_digest(labelled),
        dataset_digest(labelled[::-1]),
        dataset_digest(labelled[:4]),
        dataset_digest([]),
    }
    assert len(digests) == 4
    assert dataset_digest(tuple(random_labelled(5))) == dataset_digest(labelled)


# -- ASE --------------------------------------------------------------------------------------------------------


def test_ase_round_trip(random_frame):
    frame = random_frame(2)
    atoms = frame.to_atoms()
    np.testing.assert_array_equal(atoms.get_positions(), frame.positions)
    np.testing.assert_array_equal(atoms.cell.array, frame.cell)
    assert_equal(Frame.from_atoms(atoms), frame)


def test_ase_atoms_do_not_share_the_frames_memory(random_frame):
    frame = random_frame(2)
    before = frame.content_hash()
    atoms = frame.to_atoms()
    atoms.rattle(0.1, seed=1)
    atoms.numbers[0] += 1
    assert frame.content_hash() == before


def test_arguments_win_over_the_info_of_atoms(random_frame):
    atoms = random_frame(2).to_atoms()
    frame = Frame.from_atoms(atoms, charge=9, unpaired_electrons=7)
    assert (frame.charge, frame.unpaired_electrons) == (9, 7)
    del atoms.info["charge"], atoms.info["unpaired_electrons"]
    frame = Frame.from_atoms(atoms)
    assert (frame.charge, frame.unpaired_electrons) == (0, 0)


def test_charges_are_integers_or_refused(random_frame):
    atoms = random_frame(2).to_atoms()
    atoms.info["charge"] = 0.99999
    assert Frame.from_atoms(atoms).charge == 1
    atoms.info["charge"] = -0.5
    with pytest.raises(ValueError, match=r"charge is -0\.5"):
        Frame.from_atoms(atoms)


# -- HDF5 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 7])
def test_hdf5_round_trip(count, random_labelled, tmp_path):
    labelled = random_labelled(count)
    with h5py.File(tmp_path / "a.h5", "w") as root:
        write_labelled(root.create_group("labelled"), labelled)
        write_frames(root.create_group("frames"), [item.frame for item in labelled])
    with h5py.File(tmp_path / "a.h5") as root:
        read = read_labelled(root["labelled"])
        for a, b in zip(read_frames(root["frames"]), labelled, strict=True):
            assert_equal(a, b.frame)
    assert [item.content_hash() for item in read] == [item.content_hash() for item in labelled]


def test_hdf5_is_plain_to_other_programs(random_labelled, tmp_path):
    """What a reader without al-engine sees: concatenated arrays, counts to split them, units."""
    labelled = random_labelled(4)
    with h5py.File(tmp_path / "a.h5", "w") as root:
        write_labelled(root, labelled)
        np.testing.assert_array_equal(root["n_atoms"], [len(item) for item in labelled])
        np.testing.assert_array_equal(root["forces"], np.concatenate([item.forces for item in labelled]))
        np.testing.assert_array_equal(root["energy"], [item.energy for item in labelled])
        np.testing.assert_array_equal(root["cell"][2], labelled[2].frame.cell)
        assert {name: root[name].attrs["unit"] for name in UNITS if name in root} == {
            name: unit for name, unit in UNITS.items() if name != "stress"
        }
        assert set(root) == {*PER_ATOM, *PER_FRAME, "energy", "forces", "frame_hash"}
        assert root["frame_hash"][2].tobytes().hex() == labelled[2].content_hash()


def test_digest_does_not_depend_on_how_frames_are_spread_over_files(random_labelled, tmp_path):
    labelled = random_labelled(9)
    for index, part in enumerate((labelled[:2], [], labelled[2:3], labelled[3:])):
        with h5py.File(tmp_path / f"{index}.h5", "w") as root:
            write_labelled(root, part)
    read = []
    for index in range(4):
        with h5py.File(tmp_path / f"{index}.h5") as root:
            read += read_labelled(root)
    assert dataset_digest(read) == dataset_digest(labelled)


@pytest.mark.parametrize("name", [*PER_ATOM, *PER_FRAME, "energy", "forces"])
def test_missing_or_short_arrays_are_named(name, random_labelled, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as root:
        write_labelled(root.create_group("labelled"), random_labelled(3))
        values = root["labelled"][name][()]
        del root["labelled"][name]
        with pytest.raises(LedgerError, match=rf"a\.h5:/labelled lacks {name}"):
            read_labelled(root["labelled"])
        root["labelled"][name] = values[:-1]
        with pytest.raises(LedgerError, match=r"a\.h5:/labelled/\w+ has shape"):
            read_labelled(root["labelled"])


def test_negative_counts_are_refused(random_labelled, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as root:
        write_labelled(root, random_labelled(2))
        root["n_atoms"][...] = root["n_atoms"][()] + [10, -10]
        with pytest.raises(LedgerError, match="negative"):
            read_labelled(root)


def test_what_is_no_array_is_missing(tmp_path):
    """A name in HDF5 may stand for a type or a group as well."""
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        write_frames(file.create_group("frames"), [])
        del file["frames/numbers"], file["frames/cell"]
        file["frames/numbers"] = np.dtype("f8")
        file.create_group("frames/cell")
        with pytest.raises(LedgerError, match="lacks numbers, cell"):
            read_frames(file["frames"])
