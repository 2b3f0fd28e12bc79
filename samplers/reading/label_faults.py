"""Faults of labelled frames from other programs: what cannot be trained on, named frame by frame."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from al_engine.structures.frames import FloatArray, IntArray, LabelledFrame
from al_engine.structures.identity import originals
from al_engine.structures.neighbours import closest_distance
from samplers.reading.labelled_files import FileLabel

OUTLIER = 15.0
"""Distance of an energy per atom from its composition's, in robust standard deviations, above which it is a fault."""
LEAST_OUTLIER_EV = 0.2
"""Least such distance, eV per atom: hot and stretched frames are less than this above the others."""
OTHER_SCALE = 10.0
"""Factor by which the RMS force of a frame differs from the median, above which its forces are in another unit."""
LEAST_OTHER_SIZE = 5.0
"""Least RMS force of such a frame, eV/Å: beside relaxed structures, hot frames have forces many times as large."""
NET_FORCE = 0.3
"""Norm of the sum of the forces, in units of that of random forces of the same size, above which forces are missing."""
LEAST_NET_FORCE = 0.1
"""Least such sum, eV/Å."""
SAME_ENERGY_EV = 1e-3
"""Largest difference of the energies of two copies of a structure, eV per atom, that counts as equal."""
CLOSEST_ANG = 0.4
"""A distance that no two atoms have, Å: half of the bond of H2."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a frame.

    Attributes:
        frame: Number of the frame, from 0.
        where: Name of the frame in messages.
        kind: Kind of the fault, one word.
        text: What is wrong.
        drops: Whether the frame is left out without asking: it is a copy of another frame with the same label, or a
            single atom.
    """

    frame: int
    where: str
    kind: str
    text: str
    drops: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def faults_of(
    labels: Sequence[FileLabel],
    *,
    max_force_ev_per_ang: float = 100.0,
    labelled: bool = True,
    outliers: bool = True,
    atoms: bool = True,
) -> list[Fault]:
    """Find the faults of labelled frames, in order of the frames; at most one for each frame.

    Args:
        labels: The frames.
        max_force_ev_per_ang: A force component above this is a fault.
        labelled: Whether the labels are judged; false: only the structures.
        outliers: Whether energies and forces far from those of the other frames are faults.
        atoms: Whether single atoms may stay. They have no forces, and E0s are never read from them.
    """
    found: dict[int, tuple[str, str, bool]] = {}

    def add(index: int, kind: str, text: str, *, drops: bool = False) -> None:
        found.setdefault(index, (kind, text, drops))

    for index, label in enumerate(labels):
        if not atoms and len(label.frame) == 1:
            add(index, "atom", "is a single atom, and is left out: it has no forces to learn", drops=True)
        for kind, text in (*(_label_faults(label, max_force_ev_per_ang) if labelled else ()), *_frame_faults(label)):
            add(index, kind, text)
    sound = [index for index in range(len(labels)) if index not in found]
    checks = [_electron_faults, *([_method_faults] if labelled else []), _copy_faults]
    for check in (*checks, *((_energy_faults, _force_faults) if labelled and outliers else ())):
        for index, kind, text, drops in check([(index, labels[index]) for index in sound]):
            add(index, kind, text, drops=drops)
        sound = [index for index in sound if index not in found]
    return [Fault(index, labels[index].where, *found[index]) for index in sorted(found)]


def without_faults(labels: Sequence[FileLabel], faults: Sequence[Fault]) -> list[FileLabel]:
    """The frames without faults, in order."""
    with_fault = {fault.frame for fault in faults}
    return [label for index, label in enumerate(labels) if index not in with_fault]


def accepted(labels: Sequence[FileLabel], faults: Sequence[Fault]) -> list[LabelledFrame]:
    """The labelled frames without faults, in order."""
    return [
        LabelledFrame(label.frame, label.energy, label.forces, label.stress, label.weight)
        for label in without_faults(labels, faults)
        if label.energy is not None and label.forces is not None
    ]


def _label_faults(label: FileLabel, max_force: float) -> Iterator[tuple[str, str]]:
    """The faults that the label of a frame shows alone."""
    if label.energy is None:
        yield "energy", "has no energy"
    elif not np.isfinite(label.energy):
        yield "energy", f"its energy is {label.energy}"
    forces = label.forces
    if forces is None:
        yield "forces", "has no forces, or not three numbers for each atom"
        return
    if not np.isfinite(forces).all():
        yield "forces", f"its force on atom {int(np.argmin(np.isfinite(forces).all(axis=1)))} is not finite"
        return
    if not forces.any() and len(label.frame) > 1:
        yield "forces", "all its forces are zero"
    largest = float(np.abs(forces).max(initial=0.0))
    if largest > max_force:
        atom = int(np.argmax(np.abs(forces).max(axis=1)))
        yield "forces", f"its force on atom {atom} is {largest:.4g} eV/Å, above the limit of {max_force:g} eV/Å"
    net = float(np.linalg.norm(forces.sum(axis=0)))
    if net > max(NET_FORCE * float(np.linalg.norm(forces)), LEAST_NET_FORCE):
        yield "forces", f"its forces add up to {net:.3g} eV/Å, as if some were missing or of another frame"


def _frame_faults(label: FileLabel) -> Iterator[tuple[str, str]]:
    """Atoms on top of each other, a weight that is not above zero, and impossible numbers of unpaired electrons."""
    frame = label.frame
    closest = closest_distance(frame.positions, frame.cell, frame.pbc)
    if closest < CLOSEST_ANG:
        yield "positions", f"two of its atoms are {closest:.3g} Å apart: an atom occurs twice, or positions are in nm"
    if not 0.0 < label.weight < np.inf:
        yield "weight", f"its weight is {label.weight:g}; a frame of no weight has to be removed from the file"
    # programs write isolated atoms without their unpaired electrons
    if len(label.frame) > 1 and (label.frame.n_electrons - label.frame.unpaired_electrons) % 2:
        text = f"of its {label.frame.n_electrons} electrons {label.frame.unpaired_electrons} cannot be unpaired"
        yield "electrons", f"{text}; write charge and unpaired_electrons into the frame's info"


_Numbered = Sequence[tuple[int, FileLabel]]
_Found = Iterator[tuple[int, str, str, bool]]


def _electron_faults(labels: _Numbered) -> _Found:
    """Frames with the atoms of others but another charge or spin, which the models cannot see."""
    first: dict[bytes, FileLabel] = {}
    for index, label in labels:
        frame = label.frame
        other = first.setdefault(np.sort(frame.numbers).tobytes(), label)
        if (frame.charge, frame.unpaired_electrons) != (other.frame.charge, other.frame.unpaired_electrons):
            text = (
                f"has charge {frame.charge:+d} and {frame.unpaired_electrons} unpaired electrons; {other.where}, of "
                f"the same atoms, has {other.frame.charge:+d} and {other.frame.unpaired_electrons}, and the models do "
                "not see charge and spin"
            )
            yield index, "electrons", text, False


def _method_faults(labels: _Numbered) -> _Found:
    """Frames that state another method than most frames."""
    stated: defaultdict[str, list[int]] = defaultdict(list)
    for index, label in labels:
        stated[label.method].append(index)
    main = max(stated, key=lambda method: len(stated[method]), default="")
    for method, indices in stated.items():
        for index in indices if method != main else ():
            text = f"states the method {method or '(none)'!r}, most frames {main or '(none)'!r}"
            yield index, "method", text, False


def _copy_faults(labels: _Numbered) -> _Found:
    """Copies of earlier frames, with the same label or with another."""
    copied = originals([label.frame for _, label in labels])
    for place in np.flatnonzero(copied >= 0).tolist():
        (index, label), (_, other) = labels[place], labels[int(copied[place])]
        difference = 0.0  # of structures without labels
        if label.energy is not None and other.energy is not None:
            difference = abs(label.energy - other.energy)
        if difference > SAME_ENERGY_EV * len(label.frame):
            text = f"is a copy of {other.where}, with an energy that differs by {difference:.4g} eV"
            yield index, "method", text, False
        else:
            yield index, "copy", f"is a copy of {other.where}, and is left out", True


def _energy_faults(labels: _Numbered) -> _Found:
    """Energies far from those of the other frames of their composition; single atoms have no others."""
    labels = [(index, label) for index, label in labels if len(label.frame) > 1]
    if not labels:
        return
    numbers = sorted({int(z) for _, label in labels for z in label.frame.numbers})
    counts = np.array([[np.count_nonzero(label.frame.numbers == z) for z in numbers] for _, label in labels], float)
    energy = np.array([label.energy for _, label in labels], dtype=np.float64)
    size = counts.sum(axis=1)
    residual = (energy - counts @ _least_absolute(counts, energy, size)) / size
    residual -= np.median(residual)
    limit = max(OUTLIER * _robust_deviation(residual), LEAST_OUTLIER_EV)
    for place in np.flatnonzero(np.abs(residual) > limit).tolist():
        text = (
            f"its energy is {residual[place]:+.4g} eV per atom away from that of its composition (the others are "
            f"within {_robust_deviation(residual):.2g}): another method or unit, or a broken structure"
        )
        yield labels[place][0], "outlier", text, False


def _least_absolute(counts: FloatArray, energy: FloatArray, size: FloatArray) -> FloatArray:
    """Energies per element that fit the energies per atom with the least sum of absolute residuals, eV.

    By iteratively reweighted least squares, so that a few wrong energies do not shift the others.
    """
    weight = 1.0 / size
    solution: FloatArray = np.zeros(counts.shape[1])
    for _ in range(30):
        solution[:] = np.linalg.lstsq(counts * weight[:, None], energy * weight, rcond=1e-8)[0]
        residual = np.abs(energy - counts @ solution) / size
        weight = 1.0 / (size * np.sqrt(np.maximum(residual, 1e-4)))
    return solution


def _robust_deviation(values: FloatArray) -> float:
    """Standard deviation of the bulk of values, from their median absolute deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _force_faults(labels: _Numbered) -> _Found:
    """Forces of another size than those of most frames."""
    size = np.array([float(np.sqrt(np.mean(np.square(_forces(label))))) for _, label in labels])
    if not len(size):
        return
    typical = float(np.median(size))
    others: IntArray = np.flatnonzero((size > OTHER_SCALE * typical) & (size > LEAST_OTHER_SIZE) & (typical > 0.0))
    for place in others.tolist():
        text = f"its forces are {size[place] / typical:.3g} times as large as those of most frames"
        yield labels[place][0], "outlier", text, False


def _forces(label: FileLabel) -> FloatArray:
    return np.zeros((0, 3)) if label.forces is None else label.forces
