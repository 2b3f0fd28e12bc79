"""Labels from any ASE calculator; the config names the calculator as ASE does, or as `package.module:Class`."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from al_engine.campaign.labels import LabelReason
from al_engine.config import LabelsConfig
from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray, Frame
from labelers.backends.ase.calculator import (
    PARAMETERS,
    build_calculator,
    calculator_class,
    one_line,
    refuse_no_forces,
    refuse_other_folder,
    refuse_typos,
    refuse_unusable,
)
from labelers.backends.ase.charge_spin import ChargeAndSpin
from labelers.backends.ase.facts import UNKNOWN, facts_of
from labelers.backends.ase.folders import label_folder, last_output
from labelers.backends.protocol import Label, LabelError

_LONGEST_CAUSE, _LONGEST_OUTPUT = 230, 150
"""Largest numbers of characters of the exception and of the program's last output in the message of a failed label."""


class AseLabeler:
    """Labeler that uses an ASE calculator.

    Each label has a fresh calculator, because a calculator that is used again would start from its last wave function,
    and labels would depend on their order. Each label has its own folder, because most calculators write files under
    fixed names. `labels.ase_charge_and_spin` decides how charge and unpaired electrons reach the calculator
    (`labelers.backends.ase.charge_spin`).

    Args:
        name: A name that ASE knows (`emt`, `lj`), or `package.module:Class`.
        config: Settings of the labels.

    Raises:
        InputError: If there is no such calculator, it does not accept the parameters, or its program is missing.
    """

    def __init__(self, name: str, config: LabelsConfig) -> None:
        self._name, self._class = name, calculator_class(name)
        known = facts_of(name, self._class)
        self._facts = known or UNKNOWN
        parameters = dict(config.ase_parameters)
        self._with_stress = config.stress
        self._kept_in = _directory(parameters.pop("directory", None))
        self._charge_and_spin = ChargeAndSpin(name, known, config.ase_charge_and_spin, parameters)
        self._charge_and_spin.refuse_way()
        refuse_other_folder(name, self._facts)
        refuse_typos(self._class, self._facts, parameters)
        refuse_no_forces(name, self._facts, parameters)
        with TemporaryDirectory() as folder:
            refuse_unusable(name, self._class, self._facts, parameters, Path(folder))

    def check(self, frame: Frame) -> None:
        """Check that the calculator can label a frame, which is representative of all frames to label.

        Raises:
            InputError: If no way is known to pass the frame's charge or spin to the calculator, if the parameters
                contradict the frame, or if the calculator needs a periodic cell and the frame has none.
        """
        self._charge_and_spin.parameters_for(frame)
        if self._facts.needs_cell and not frame.is_periodic:
            raise InputError(
                f"labels.ase_calculator: '{self._name}' calculates only in a periodic cell, but the labelled frames "
                "have none; set system.shape to box, or choose a calculator for molecules"
            )

    def label(self, frame: Frame) -> Label:
        """Compute the label of a frame.

        The label holds the force-consistent energy (eV), the forces (eV/Å, shape (N, 3)) and, for a periodic frame, the
        stress (eV/Å³, shape (3, 3)). The stress is left out if the calculator did not compute it with the forces, or if
        `labels.stress` is false.

        Raises:
            LabelError: If the calculator raises an exception (the message holds the exception and the last output of
                its program), or if the frame's charge or spin can't be passed to it.
        """
        try:
            parameters = self._charge_and_spin.parameters_for(frame)
        except InputError as error:
            raise LabelError(LabelReason.BAD_INPUT, str(error)) from error
        atoms = frame.to_atoms()
        self._charge_and_spin.mark(atoms, frame)
        with label_folder(self._kept_in, frame) as folder:
            try:
                atoms.calc = build_calculator(self._class, self._facts, parameters, folder)
                # Forces first: with them, most calculators compute the energy too.
                forces = np.array(atoms.get_forces(), dtype=np.float64)
                return Label(force_consistent_energy(atoms), forces, self._stress(atoms, frame))
            except Exception as error:  # a calculator may raise anything; the frame is lost, not the worker
                raise LabelError(_reason(error), self._failure(error, folder)) from error

    def _stress(self, atoms: Any, frame: Frame) -> FloatArray | None:
        """The stress of a periodic frame in eV/Å³, shape (3, 3); None if it was not computed with the forces.

        The stress is read from the results, because a request for the stress could start a second calculation.
        """
        from ase.stress import voigt_6_to_full_3x3_stress

        results = getattr(atoms.calc, "results", None)
        found = results.get("stress") if isinstance(results, Mapping) else None
        if found is None or not (self._with_stress and frame.pbc.all()):
            return None
        stress = np.array(found, dtype=np.float64)
        if stress.shape == (6,):
            return np.array(voigt_6_to_full_3x3_stress(stress))
        return stress if stress.shape == (3, 3) else None

    def _failure(self, error: Exception, folder: Path) -> str:
        """The message of a failed label: the exception, and the last output of the program."""
        cause, output = (text.replace(str(folder), ".") for text in (one_line(error), last_output(folder)))
        message = f"{self._name}: {cause[:_LONGEST_CAUSE]}"
        return f"{message}; its program's last output: {output[-_LONGEST_OUTPUT:]}" if output else message


def _directory(directory: object) -> Path | None:
    """The directory of the user that keeps the calculators' files, as an absolute path; None if none is given.

    Raises:
        InputError: If the value is not a path.
    """
    if directory is None:
        return None
    if not isinstance(directory, str):
        raise InputError(f"{PARAMETERS}.directory: got {directory!r}; give the path of a folder")
    return Path(directory).expanduser().absolute()


def force_consistent_energy(atoms: Any) -> float:
    """The energy in eV that is consistent with the forces (F = -dE/dR): the free energy, if the calculator gives it.

    With electronic smearing, a calculator's `energy` is extrapolated to zero temperature and does not match the forces.

    Args:
        atoms: `ase.Atoms` with a calculator that has computed the forces.
    """
    results = getattr(atoms.calc, "results", None)
    found = results.get("free_energy") if isinstance(results, Mapping) else None
    if found is not None:
        return float(found)
    with contextlib.suppress(NotImplementedError, TypeError):  # TypeError: some calculators lack this argument
        return float(atoms.get_potential_energy(force_consistent=True))
    return float(atoms.get_potential_energy())


def _reason(error: Exception) -> LabelReason:
    """The reason code of a calculator's exception."""
    from ase.calculators.calculator import SCFError

    return LabelReason.NOT_CONVERGED if isinstance(error, SCFError) else LabelReason.BACKEND_ERROR
