"""Labels from any ASE calculator: one that ASE knows by name, or a class given as `package.module:Class`."""

import importlib
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from al_engine.errors import InputError
from al_engine.frames import FloatArray, Frame
from labelers.protocol import LabelError, LabelReason


class AseLabeler:
    """Any ASE calculator.

    A fresh calculator serves each label, in a directory of its own: calculators keep a wave function between calls,
    which would make labels depend on their order, and several write files under fixed names. Charge and unpaired
    electrons are given as ASE's initial charges and magnetic moments (spread evenly, their sums are the frame's);
    calculators that read neither want them in their parameters.

    Args:
        name: A name ASE knows (`emt`, `lj`), or `package.module:Class`.
        parameters: Keyword arguments of the calculator.

    Raises:
        InputError: If there is no such calculator, or it does not take these parameters.
    """

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        self._name = name
        self._parameters = parameters
        self._class = calculator_class(name)
        with TemporaryDirectory() as directory:  # parameters are tried once here, so that a wrong one is bad input
            try:
                self._calculator(directory)
            except Exception as error:
                raise InputError(
                    f"labels.ase_parameters: calculator '{name}' does not start with them ({error}); "
                    "give the keyword arguments its class takes"
                ) from error

    def _calculator(self, directory: str) -> Any:
        calculator = self._class(**self._parameters)
        if hasattr(calculator, "directory") and "directory" not in self._parameters:
            calculator.directory = directory
        return calculator

    def label(self, frame: Frame) -> tuple[float, FloatArray]:
        """Energy in eV and forces in eV/Å, shape (N, 3).

        Raises:
            LabelError: If the calculator raises; its words are in the message.
        """
        atoms = frame.to_atoms()
        if frame.charge:
            atoms.set_initial_charges(np.full(len(frame), frame.charge / len(frame)))
        if frame.unpaired_electrons:
            atoms.set_initial_magnetic_moments(np.full(len(frame), frame.unpaired_electrons / len(frame)))
        with TemporaryDirectory() as directory:
            try:
                atoms.calc = self._calculator(directory)
                return float(atoms.get_potential_energy()), np.array(atoms.get_forces(), dtype=np.float64)
            except Exception as error:  # a calculator may raise anything; the frame is lost, not the worker
                text = " | ".join(str(error).split("\n"))
                raise LabelError(_reason(error), f"{self._name}: {type(error).__name__}: {text}") from error


def _reason(error: Exception) -> LabelReason:
    from ase.calculators.calculator import SCFError

    return LabelReason.NOT_CONVERGED if isinstance(error, SCFError) else LabelReason.BACKEND_ERROR


def calculator_class(name: str) -> Any:
    """The class of an ASE calculator.

    Args:
        name: A name ASE knows, or `package.module:Class`.

    Raises:
        InputError: If there is none.
    """
    module_name, colon, class_name = name.partition(":")
    if colon:
        try:
            return getattr(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(
                f"labels.ase_calculator: '{name}' can't be imported ({error}); "
                "give `package.module:Class` of an installed package"
            ) from error
    from ase.calculators.calculator import get_calculator_class

    try:
        return get_calculator_class(name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"labels.ase_calculator: ASE knows no calculator '{name}' here ({error}); "
            "`ase info --calculators` lists names, or give `package.module:Class`"
        ) from error
