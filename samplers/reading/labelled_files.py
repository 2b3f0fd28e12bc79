"""Labelled frames from files: energies and forces under the names and in the units of other programs.

The names that programs use are recognised, and the recognised names are told to the user. Where a file has labels of
several methods, the user says which to take. Nothing is converted unless the user gives a unit.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from al_engine.config.data import EnergyUnit, ForcesUnit, StressUnit
from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray, Frame, LabelledFrame
from samplers.reading.database_files import database_units
from samplers.reading.stated_charge import Stated
from samplers.reading.structure_files import METHOD_NAMES, WEIGHT_NAMES, FileStructure, read_structures

ASES_ENERGIES = ("energy", "free_energy")
"""Names under which ASE reads energies itself; the stress beside them is in eV/Å³."""
ASES_STRESS = "stress"
"""Name under which ASE reads stresses itself, with the order xx, yy, zz, yz, xz, xy if it has six components."""
_STRESS = re.compile(r"stress|virial", re.IGNORECASE)
WEIGHT = "config_weight"
"""Name under which mace-torch reads the weight of a frame in the loss."""
WEIGHTS_OF_LABELS = ("config_energy_weight", "config_forces_weight", "config_stress_weight", "config_virials_weight")
"""Names under which mace-torch reads weights of a frame's single labels; they are not supported."""
_ENERGY = re.compile(
    # `free_energy` is a kind of energy, not the energy of a method named "free"
    r"(?:(?P<before>(?!(?:free|total|potential)_energy)\w+?)_)?(?:free_|total_|potential_)?energy(?:_(?P<after>\w+))?",
    re.IGNORECASE,
)
_FORCES = re.compile(r"(?:(?P<before>\w+?)_)?forces?(?:_(?P<after>\w+))?", re.IGNORECASE)
_OTHER = re.compile(
    r"per_atom|kinetic|formation|interaction|binding|atomi[sz]|zero_point|local|cohesive|deviation|std|var|error|weight",
    re.IGNORECASE,
)
"""Words in names of energies and forces that are no labels of the whole frame."""


@dataclass(frozen=True, slots=True, eq=False)
class FileLabel:
    """A frame of a file with what the file says of its label.

    Attributes:
        frame: The structure, with the charge and the unpaired electrons that the file states, else 0.
        where: Name of the frame in messages.
        energy: Energy in eV; None if the file has no number.
        forces: Forces in eV/Å, shape (N, 3); None if the file has no such array.
        method: The method of the label as the file states it; empty if it does not.
        stress: Stress in eV/Å³ with ASE's sign, shape (3, 3); None if the file has none that is used.
        stated: Charge and spin that the file states.
        weight: Weight of the frame in the training loss; NaN if the file has no number there.
    """

    frame: Frame
    where: str
    energy: float | None
    forces: FloatArray | None
    method: str = ""
    stress: FloatArray | None = None
    stated: Stated = field(default_factory=Stated)
    weight: float = 1.0

    @classmethod
    def of(cls, item: LabelledFrame, where: str) -> Self:
        """A frame of a campaign or of a file that a campaign's labels were written to: nothing is left unstated."""
        stated = Stated(item.frame.charge, item.frame.unpaired_electrons)
        return cls(item.frame, where, item.energy, item.forces, stress=item.stress, stated=stated, weight=item.weight)


@dataclass(frozen=True, slots=True)
class LabelNames:
    """Names and units of the labels and weights in a file.

    Attributes:
        energy_key: Name of the energies; None: recognised.
        forces_key: Name of the forces; None: recognised.
        stress_key: Name of the stresses or virials; None: the stress that ASE reads beside its own energy.
        weight_key: Name of the weights; None: `WEIGHT`.
        energy_unit: Unit of the energies.
        forces_unit: Unit of the forces.
        stress_unit: Unit of the stresses under `stress_key`; `eV`: virials.
    """

    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    weight_key: str | None = None
    energy_unit: EnergyUnit = "eV"
    forces_unit: ForcesUnit = "eV/ang"
    stress_unit: StressUnit = "eV/ang3"


DEFAULT_NAMES = LabelNames()


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFile:
    """The frames of a file with their labels, and the names under which the labels were found.

    Attributes:
        frames: The frames.
        energy_key: Name of the energies.
        forces_key: Name of the forces.
        unused: Names of stresses and virials that are not used.
    """

    frames: tuple[FileLabel, ...]
    energy_key: str
    forces_key: str
    unused: tuple[str, ...] = ()


def energy_in_ev(unit: EnergyUnit) -> float:
    """An energy unit in eV."""
    return _energies_in_ev()[unit]


def forces_in_ev_per_ang(unit: ForcesUnit) -> float:
    """A unit of forces in eV/Å."""
    from ase import units

    energy, _, length = unit.rpartition("/")
    return _energies_in_ev()[energy] / {"ang": 1.0, "bohr": float(units.Bohr)}[length]


def _energies_in_ev() -> dict[str, float]:
    from ase import units

    return {
        "eV": 1.0,
        "hartree": float(units.Hartree),
        "rydberg": float(units.Rydberg),
        "kcal/mol": float(units.kcal / units.mol),
        "kJ/mol": float(units.kJ / units.mol),
    }


def stress_in_ev_per_ang3(unit: StressUnit, volume_ang3: float) -> float:
    """A unit of stresses in eV/Å³. A virial is minus the stress times the volume, as in GAP's and MACE's files.

    Args:
        unit: The unit.
        volume_ang3: Volume of the cell in Å³, by which virials are divided.
    """
    from ase import units

    factors = {
        "eV/ang3": 1.0,
        "GPa": float(units.GPa),
        "kbar": 0.1 * float(units.GPa),
        "hartree/bohr3": float(units.Hartree / units.Bohr**3),
        "eV": -1.0 / volume_ang3,
    }
    return factors[unit]


def read_labelled_file(
    path: Path, names: LabelNames = DEFAULT_NAMES, *, elements: Mapping[str, str] | None = None
) -> LabelledFile:
    """Read all frames of a file with their energies and forces.

    Args:
        path: A file in any format that ASE reads; ASE databases too.
        names: Names and units of the labels.
        elements: Elements by the file's names or types of atoms.

    Raises:
        InputError: If the file cannot be read, a given name does not occur, no energies and forces are found, or those
            of several methods are; or if the file states another unit than the given one.
    """
    structures = read_structures(path, elements=elements)
    energy_key, forces_key = _keys(structures, str(path), names.energy_key, names.forces_key)
    _refuse_other_units(path, energy_key, forces_key, names)
    weights = frame_weights(structures, str(path), names.weight_key)
    stresses = sorted({name for each in structures for name in each.labels if _STRESS.search(name)})
    stress_key = names.stress_key
    if stress_key is not None and not any(stress_key in each.labels for each in structures):
        raise InputError(f"{path}: stress_key: no frame has `{stress_key}`; the file has {_listed(stresses)}")
    if stress_key is None and energy_key in ASES_ENERGIES and names.energy_unit == "eV":
        stress_key = ASES_STRESS
    energy_factor, forces_factor = energy_in_ev(names.energy_unit), forces_in_ev_per_ang(names.forces_unit)
    frames = tuple(
        FileLabel(
            frame=structure.frame,
            where=structure.where,
            energy=_number(structure.labels.get(energy_key), energy_factor),
            forces=_vectors(structure.labels.get(forces_key), len(structure.frame), forces_factor),
            method=_method(structure.labels),
            stress=_stress(structure, stress_key, names.stress_unit),
            stated=structure.stated,
            weight=weight,
        )
        for structure, weight in zip(structures, weights, strict=True)
    )
    return LabelledFile(frames, energy_key, forces_key, unused=tuple(name for name in stresses if name != stress_key))


def _refuse_other_units(path: Path, energy_key: str, forces_key: str, names: LabelNames) -> None:
    """Refuse units that contradict those that an ASE database states in its metadata.

    Raises:
        InputError: If a unit differs.
    """
    stated = database_units(path)
    for option, key, unit in (
        ("energy_unit", energy_key, names.energy_unit),
        ("forces_unit", forces_key, names.forces_unit),
    ):
        if stated.get(key, unit) != unit:
            raise InputError(f"{path} states that its `{key}` is in {stated[key]}, not in {unit}; set {option}")


def frame_weights(structures: Sequence[FileStructure], source: str, weight_key: str | None = None) -> list[float]:
    """The weight of each structure of a file in the training loss.

    A structure without a weight has the weight 1, as in mace-torch.

    Args:
        structures: The structures of the file.
        source: Name of the file in messages.
        weight_key: Name of the weights; None: `WEIGHT`.

    Returns:
        The weights; NaN where the file has no number.

    Raises:
        InputError: If no structure has a weight of the given name, or the file has weights of single labels.
    """
    names = {name for structure in structures for name in structure.labels if WEIGHT_NAMES.search(name)}
    if weight_key is not None and weight_key not in names:
        found = ", ".join(f"`{name}`" for name in sorted(names)) or "no name with `weight`"
        raise InputError(f"{source}: weight_key: no frame has `{weight_key}`; the file has {found}")

    def weights(name: str) -> list[float]:
        numbers = [_number(structure.labels.get(name, 1.0), 1.0) for structure in structures]
        return [math.nan if number is None else number for number in numbers]

    if weight_key is not None:
        return weights(weight_key)
    for name in sorted(names.intersection(WEIGHTS_OF_LABELS)):
        if any(weight != 1.0 for weight in weights(name)):
            raise InputError(
                f"{source}: has `{name}`, and a frame has only a single weight for all its labels; remove `{name}`, or "
                "name the weights to take with weight_key"
            )
    return weights(WEIGHT)


def _keys(
    structures: Sequence[FileStructure], source: str, energy_key: str | None, forces_key: str | None
) -> tuple[str, str]:
    """The names of energies and forces in a file.

    Raises:
        InputError: If a given name does not occur, or the names are missing or ambiguous.
    """
    names = _possible_names(structures)
    for option, key in (("energy_key", energy_key), ("forces_key", forces_key)):
        if key is not None and not any(key in structure.labels for structure in structures):
            raise InputError(f"{source}: {option}: no frame has `{key}`; the file has {_listed(names)}")
    energies, forces = _by_method(names, _ENERGY), _by_method(names, _FORCES)
    if energy_key is None and forces_key is None:
        possible = [(energies[method], forces[method]) for method in energies if method in forces]
    elif energy_key is not None:
        own = [[forces_key]] if forces_key is not None else _of_method(_method_in(energy_key, _ENERGY), forces)
        possible = [([energy_key], names_of_forces) for names_of_forces in own]
    else:
        own = _of_method(_method_in(str(forces_key), _FORCES), energies)
        possible = [(names_of_energies, [str(forces_key)]) for names_of_energies in own]
    if not possible:
        raise InputError(
            f"{source}: energies and forces were not found; name them with energy_key and forces_key. The file has "
            f"{_listed(names)}"
        )
    if len(possible) > 1:
        pairs = "; ".join(f"{energy[0]} and {force[0]}" for energy, force in possible)
        raise InputError(f"{source}: has labels of several methods ({pairs}); choose with energy_key and forces_key")
    for option, same in zip(("energy_key", "forces_key"), possible[0], strict=True):
        other = next((name for name in same[1:] if not _equal(structures, same[0], name)), None)
        if other is not None:
            raise InputError(f"{source}: `{same[0]}` and `{other}` have different values; choose one with {option}")
    return possible[0][0][0], possible[0][1][0]


def _possible_names(structures: Sequence[FileStructure]) -> list[str]:
    """Names of the data that may be energies or forces: a number for each frame, or three for each atom."""
    found: dict[str, None] = {}
    for structure in structures:
        for name, value in structure.labels.items():
            if name not in found and (_number(value, 1.0) is not None or _is_vectors(value, len(structure.frame))):
                found[name] = None
    return list(found)


def _equal(structures: Sequence[FileStructure], first: str, second: str) -> bool:
    """Whether two names have equal values in all structures that have both."""
    both = [each.labels for each in structures if first in each.labels and second in each.labels]
    try:
        return all(np.allclose(labels[first], labels[second], rtol=1e-9, atol=1e-6, equal_nan=True) for labels in both)
    except (TypeError, ValueError):  # no numbers, or arrays of different shapes
        return False


def _of_method(method: str | None, names: Mapping[str, list[str]]) -> list[list[str]]:
    """The names of a method among names by method, or all names if the method has none."""
    return [names[method]] if method is not None and method in names else list(names.values())


def _method_in(name: str, pattern: re.Pattern[str]) -> str | None:
    """What stands before or after the word in a name, such as `ref`; None if the name is not recognised."""
    match = pattern.fullmatch(name)
    return None if match is None or _OTHER.search(name) else (match["before"] or match["after"] or "").lower()


def _by_method(names: Sequence[str], pattern: re.Pattern[str]) -> dict[str, list[str]]:
    """The names that a pattern matches, by what stands before or after the word, such as `ref` or `dft`.

    A free energy is taken where there is one beside the energy, because the forces are its derivative.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        method = _method_in(name, pattern)
        if method is not None:
            found.setdefault(method, []).append(name)
    free = {method: [name for name in same if "free_" in name.lower()] for method, same in found.items()}
    return {method: free[method] or same for method, same in found.items()}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "no numbers beside its structures"


def _number(value: Any, factor: float) -> float | None:
    try:
        number = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return factor * float(number.reshape(-1)[0]) if number.size == 1 and value is not None else None


def _vectors(value: Any, n_atoms: int, factor: float) -> FloatArray | None:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return factor * array if array.shape == (n_atoms, 3) else None


def _is_vectors(value: Any, n_atoms: int) -> bool:
    return np.shape(value) == (n_atoms, 3) and np.issubdtype(np.asarray(value).dtype, np.number)


def _stress(structure: FileStructure, key: str | None, unit: StressUnit) -> FloatArray | None:
    """The stress of a structure that is periodic in all directions, eV/Å³, shape (3, 3); None if there is none."""
    from ase.stress import voigt_6_to_full_3x3_stress

    found = None if key is None or not structure.frame.pbc.all() else structure.labels.get(key)
    try:
        values = np.empty(0) if found is None else np.asarray(found, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        return None
    if values.size not in (6, 9) or not np.isfinite(values).all():
        return None
    tensor = values.reshape(3, 3) if values.size == 9 else np.array(voigt_6_to_full_3x3_stress(values))  # noqa: PLR2004
    return tensor * stress_in_ev_per_ang3(unit, abs(float(np.linalg.det(structure.frame.cell))))


def _method(labels: Mapping[str, Any]) -> str:
    """The method that a frame states for its label; empty if it does not."""
    stated = {name.lower(): str(value).strip() for name, value in labels.items() if name.lower() in METHOD_NAMES}
    return ", ".join(stated[name] for name in sorted(stated))
