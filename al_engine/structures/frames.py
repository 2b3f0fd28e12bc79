"""Frames (structures in ASE's units) and labelled frames (structures with energy and forces)."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


ROUNDING = 1e-3
"""Largest difference from an integer of a charge, or of a number of unpaired electrons, that counts as rounding."""


def _frozen(value: ArrayLike, dtype: type, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """A read-only copy of an array; raises ValueError, with the name, if its shape is not the given shape."""
    array: NDArray[Any] = np.array(value, dtype=dtype, order="C")
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    array.setflags(write=False)
    return array


def _whole(value: Any, name: str) -> int:
    """An integer that may be stored as a float with rounding errors.

    Raises:
        ValueError: If the value is not within 1e-3 of an integer.
    """
    whole = round(float(value))
    if abs(whole - float(value)) > ROUNDING:
        raise ValueError(f"{name} is {value}, which is not an integer")
    return whole


def _no_cell() -> FloatArray:
    return np.zeros((3, 3))


def _no_pbc() -> BoolArray:
    return np.zeros(3, dtype=bool)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A structure. Its arrays are read-only.

    Attributes:
        numbers: Atomic numbers, shape (N,).
        positions: Positions in Å, shape (N, 3).
        cell: Cell vectors as rows in Å, shape (3, 3); zeros without a cell.
        pbc: Periodicity along each cell vector, shape (3,).
        charge: Total charge in e.
        unpaired_electrons: Number of unpaired electrons (multiplicity minus one).

    Raises:
        ValueError: If an array has the wrong shape, or charge or unpaired electrons are no integers.
    """

    numbers: IntArray
    positions: FloatArray
    cell: FloatArray = field(default_factory=_no_cell)
    pbc: BoolArray = field(default_factory=_no_pbc)
    charge: int = 0
    unpaired_electrons: int = 0

    def __post_init__(self) -> None:
        n_atoms = len(self.numbers)
        object.__setattr__(self, "numbers", _frozen(self.numbers, np.int64, (n_atoms,), "numbers"))
        object.__setattr__(self, "positions", _frozen(self.positions, np.float64, (n_atoms, 3), "positions"))
        object.__setattr__(self, "cell", _frozen(self.cell, np.float64, (3, 3), "cell"))
        object.__setattr__(self, "pbc", _frozen(self.pbc, np.bool_, (3,), "pbc"))
        object.__setattr__(self, "charge", _whole(self.charge, "charge"))
        object.__setattr__(self, "unpaired_electrons", _whole(self.unpaired_electrons, "unpaired_electrons"))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def n_electrons(self) -> int:
        """Number of electrons, core electrons included."""
        return int(self.numbers.sum()) - self.charge

    @property
    def is_periodic(self) -> bool:
        """Whether any direction is periodic."""
        return bool(self.pbc.any())

    def with_positions(self, positions: ArrayLike) -> "Frame":
        """The same frame with other positions, in Å, shape (N, 3)."""
        return Frame(
            numbers=self.numbers,
            positions=np.asarray(positions, dtype=np.float64),
            cell=self.cell,
            pbc=self.pbc,
            charge=self.charge,
            unpaired_electrons=self.unpaired_electrons,
        )

    def content_hash(self) -> str:
        """SHA-256 over all attributes, as hexadecimal digits; equal only for frames that are equal bit by bit."""
        digest = hashlib.sha256(b"frame-1")
        for array, dtype in (
            (self.numbers, "<i8"),
            (self.positions, "<f8"),
            (self.cell, "<f8"),
            (self.pbc, "u1"),
            (np.array([self.charge, self.unpaired_electrons]), "<i8"),
        ):
            digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
        return digest.hexdigest()

    def to_atoms(self) -> Any:
        """The frame as `ase.Atoms`, with charge and unpaired electrons in `info`."""
        from ase import Atoms

        return Atoms(
            numbers=self.numbers,
            positions=self.positions,
            cell=self.cell,
            pbc=self.pbc,
            info={"charge": self.charge, "unpaired_electrons": self.unpaired_electrons},
        )

    @classmethod
    def from_atoms(cls, atoms: Any, *, charge: int | None = None, unpaired_electrons: int | None = None) -> Self:
        """Make a frame from `ase.Atoms`.

        Args:
            atoms: The `ase.Atoms`.
            charge: Total charge, e; None: `atoms.info["charge"]`, or 0 if that is missing.
            unpaired_electrons: Number of unpaired electrons; None: `atoms.info["unpaired_electrons"]`, or 0 if that is
                missing.
        """
        info = atoms.info
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            charge=info.get("charge", 0) if charge is None else charge,
            unpaired_electrons=(
                info.get("unpaired_electrons", 0) if unpaired_electrons is None else unpaired_electrons
            ),
        )


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFrame:
    """A frame with its reference energy and forces.

    Attributes:
        frame: The structure.
        energy: Energy in eV.
        forces: Forces in eV/Å, shape (N, 3).
        stress: Stress dE/d(strain) / V in eV/Å³, with ASE's sign, shape (3, 3); None if it is not known.
        weight: Weight of the frame in the training loss, above zero; the labels of a campaign have the weight 1.

    Raises:
        ValueError: If forces or stress have the wrong shape.
    """

    frame: Frame
    energy: float
    forces: FloatArray
    stress: FloatArray | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "energy", float(self.energy))
        object.__setattr__(self, "forces", _frozen(self.forces, np.float64, (len(self.frame), 3), "forces"))
        if self.stress is not None:
            object.__setattr__(self, "stress", _frozen(self.stress, np.float64, (3, 3), "stress"))

    def __len__(self) -> int:
        return len(self.frame)

    def content_hash(self) -> str:
        """SHA-256 over frame, energy, forces, the stress if it is known, and the weight if it is not 1.

        Returns:
            The hash as hexadecimal digits.
        """
        digest = hashlib.sha256(self.frame.content_hash().encode())
        digest.update(np.float64(self.energy).astype("<f8").tobytes())
        digest.update(np.ascontiguousarray(self.forces, dtype="<f8").tobytes())
        if self.stress is not None:
            digest.update(np.ascontiguousarray(self.stress, dtype="<f8").tobytes())
        if self.weight != 1.0:
            digest.update(b"weight" + np.float64(self.weight).astype("<f8").tobytes())
        return digest.hexdigest()


def dataset_digest(labelled: Sequence[LabelledFrame]) -> str:
    """SHA-256 over the content of labelled frames in order, as hexadecimal digits.

    It does not depend on how the frames are stored.
    """
    return digest_of_hashes(bytes.fromhex(item.content_hash()) for item in labelled)


def digest_of_hashes(hashes: Iterable[bytes]) -> str:
    """The `dataset_digest` of frames whose content hashes are known.

    Args:
        hashes: Content hashes of the frames in order, 32 bytes per frame; an item may contain the hashes of several
            successive frames.
    """
    digest = hashlib.sha256(b"dataset-1")
    for item in hashes:
        digest.update(item)
    return digest.hexdigest()
