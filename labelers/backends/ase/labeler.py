"""Labels from any ASE calculator: one that ASE knows by name, or a class given as `package.module:Class`."""

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
    calculator_class,
    made,
    one_line,
    refuse_no_forces,
    refuse_no_start,
    refuse_other_folder,
    refuse_typos,
)
from labelers.backends.ase.charge_spin import ChargeAndSpin
from labelers.backends.ase.facts import UNKNOWN, facts_of
from labelers.backends.ase.folders import label_folder, last_words
from labelers.backends.protocol import LabelError

_LONGEST_CAUSE, _LONGEST_WORDS = 230, 150
"""Characters of a failure's message: of the exception, and of what the program wrote last."""


class AseLabeler:
    """Any ASE calculator.

    A fresh calculator serves each label, in a folder of its own: calculators keep a wave function between calls, which
    would make labels depend on their order, and most write files under fixed names. Charge and unpaired electrons reach
    it as `labels.ase_charge_and_spin` has it (`labelers.backends.ase.charge_spin`).

    Args:
        name: A name ASE knows (`emt`, `lj`), or `package.module:Class`.
        config: Settings of the labels.

    Raises:
        InputError: If there is no such calculator, it does not take these parameters, or its program is not there.
    """

    def __init__(self, name: str, config: LabelsConfig) -> None:
        self._name, self._class = name, calculator_class(name)
        known = facts_of(name, self._class)
        self._facts = known or UNKNOWN
        parameters = dict(config.ase_parameters)
        self._kept_in = _kept_in(parameters.pop("directory", None))
        self._told = ChargeAndSpin(name, known, config.ase_charge_and_spin, parameters)
        self._told.refuse_way()
        refuse_other_folder(name, self._facts)
        refuse_typos(self._class, self._facts, parameters)
        refuse_no_forces(name, self._facts, parameters)
        with TemporaryDirectory() as folder:
            refuse_no_start(name, self._class, self._facts, parameters, Path(folder))

    def check(self, frame: Frame) -> None:
        """Refuse a system that can't be labelled, before anything is.

        Raises:
            InputError: If there is no known way to tell the calculator its charge or spin, the parameters contradict,
                or it has no periodic cell and the calculator needs one.
        """
        self._told.parameters_for(frame)
        if self._facts.needs_cell and not frame.is_periodic:
            raise InputError(
                f"labels.ase_calculator: '{self._name}' calculates in a periodic cell, and what is labelled has none; "
                "set system.shape to box, or take a calculator for molecules"
            )

    def label(self, frame: Frame) -> tuple[float, FloatArray]:
        """Force-consistent energy in eV and forces in eV/Å, shape (N, 3).

        Raises:
            LabelError: If the calculator raises, with its words and the last of its program's; or if it can't be told
                the frame's charge or spin.
        """
        try:
            parameters = self._told.parameters_for(frame)
        except InputError as error:
            raise LabelError(LabelReason.BAD_INPUT, str(error)) from error
        atoms = frame.to_atoms()
        self._told.mark(atoms, frame)
        with label_folder(self._kept_in, frame) as folder:
            try:
                atoms.calc = made(self._class, self._facts, parameters, folder)
                forces = np.array(atoms.get_forces(), dtype=np.float64)  # first: the energy comes with them
                return force_consistent_energy(atoms), forces
            except Exception as error:  # a calculator may raise anything; the frame is lost, not the worker
                raise LabelError(_reason(error), self._words(error, folder)) from error

    def _words(self, error: Exception, folder: Path) -> str:
        said, wrote = (text.replace(str(folder), ".") for text in (one_line(error), last_words(folder)))
        words = f"{self._name}: {said[:_LONGEST_CAUSE]}"
        return f"{words}; its program's last words: {wrote[-_LONGEST_WORDS:]}" if wrote else words


def _kept_in(directory: object) -> Path | None:
    """The folder that the user wants the calculators' files in."""
    if directory is None:
        return None
    if not isinstance(directory, str):
        raise InputError(f"{PARAMETERS}.directory: got {directory!r}; give the path of a folder")
    return Path(directory).expanduser().absolute()


def force_consistent_energy(atoms: Any) -> float:
    """The energy in eV whose negative gradient the forces are: the free energy, where the calculator gives it.

    With electronic smearing a calculator's `energy` is extrapolated to zero temperature, and no forces belong to it.

    Args:
        atoms: `ase.Atoms` with a calculator that has computed the forces.
    """
    results = getattr(atoms.calc, "results", None)
    found = results.get("free_energy") if isinstance(results, Mapping) else None
    if found is not None:
        return float(found)
    with contextlib.suppress(NotImplementedError, TypeError):  # TypeError: some take no such argument
        return float(atoms.get_potential_energy(force_consistent=True))
    return float(atoms.get_potential_energy())


def _reason(error: Exception) -> LabelReason:
    from ase.calculators.calculator import SCFError

    return LabelReason.NOT_CONVERGED if isinstance(error, SCFError) else LabelReason.BACKEND_ERROR
