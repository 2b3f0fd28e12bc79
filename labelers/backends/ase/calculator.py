"""ASE calculators: find the class by name, check the config's parameters, make a calculator that writes to a folder."""

import difflib
import importlib
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from al_engine.errors import InputError
from labelers.backends.ase.facts import Facts, Folder

PARAMETERS = "labels.ase_parameters"
"""The config key of the calculator's parameters, for messages."""
_COMMON_KEYS = frozenset({"atoms", "command", "directory", "ignore_bad_restart_file", "label", "profile", "restart"})
"""Keys that ASE's base classes of calculators take."""
_LIKELY_TYPO = 0.75
"""Smallest similarity (`difflib` ratio) at which an unknown key counts as a misspelling of a known key."""
_PLAIN_WORD = re.compile(r"[\w./+-]+")
"""The name or path of a program, without shell syntax."""
_CONFIG_FILE = "ASE's configuration file (~/.config/ase/config.ini, or where ASE_CONFIG_PATH says)"


def calculator_class(name: str) -> Any:
    """Find the class of an ASE calculator, or a function that makes a calculator.

    Args:
        name: A name that ASE knows, or `package.module:Class`.

    Raises:
        InputError: If ASE knows no such calculator, or the class can't be imported.
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
    from ase.calculators.calculator import get_calculator_class, names

    try:
        return get_calculator_class(name)
    except (ImportError, AttributeError) as error:
        close = difflib.get_close_matches(name.lower(), names, n=1)
        raise InputError(
            f"labels.ase_calculator: ASE knows no calculator '{name}' here ({error}); "
            + (f"did you mean '{close[0]}'? " if close and close[0] != name else "")
            + "`ase info --calculators` lists names, or give `package.module:Class`"
        ) from error


def refuse_other_folder(name: str, facts: Facts) -> None:
    """Refuse a calculator that always writes into the current folder.

    Labels computed in parallel would overwrite each other's files there.

    Raises:
        InputError: If the calculator is of this kind.
    """
    if facts.folder is Folder.CURRENT:
        raise InputError(
            f"labels.ase_calculator: ASE's '{name}' writes its files into the current folder, where labels computed in "
            "parallel would overwrite each other's files; give `package.module:Class` of a calculator that writes into "
            "its `directory`"
        )


def refuse_no_forces(name: str, facts: Facts, parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that do not ask the program for forces, if ASE does not ask for them itself.

    Raises:
        InputError: If no parameter contains a word that asks for forces (`Facts.asks_forces`); the message names it.
    """
    if not facts.asks_forces:
        return
    key, *words = facts.asks_forces
    text = " ".join(value for value in parameters.values() if isinstance(value, str)).lower()
    if not any(word.lower() in text for word in words):
        raise InputError(f"{PARAMETERS}: '{name}' computes forces only on request; put `{words[0]}` into `{key}`")


def refuse_typos(calculator: Any, facts: Facts, parameters: Mapping[str, Any]) -> None:
    """Refuse keys that a calculator would silently ignore.

    If all keys of a calculator are known, every other key is refused. For other calculators, a key is refused only if
    it resembles a known key and the source of the class does not mention it. Calculators that pass their keys on to a
    program are not checked, because the keys of the program are not known.

    Raises:
        InputError: If a key is unknown; the message names the key and the most similar known key.
    """
    from ase.calculators.calculator import Calculator, FileIOCalculator

    all_known = facts.keys is not None and calculator.__module__.startswith("ase.calculators.")
    if all_known:
        known = facts.keys or frozenset()
    elif _is_subclass(calculator, Calculator) and not _is_subclass(calculator, FileIOCalculator):
        known = frozenset(calculator.default_parameters)
    else:
        return
    accepted = known | _COMMON_KEYS | _named_arguments(calculator)
    for key in parameters:
        if key in accepted:
            continue
        close = difflib.get_close_matches(key, known, n=1, cutoff=_LIKELY_TYPO)
        if not all_known and (not close or _is_mentioned(calculator, key)):
            continue
        meant = f"did you mean `{close[0]}`?" if close else f"it takes {', '.join(sorted(known))}"
        raise InputError(f"{PARAMETERS}: the calculator ignores `{key}`; {meant}")


def _is_subclass(calculator: Any, base: type) -> bool:
    return isinstance(calculator, type) and issubclass(calculator, base)


def _named_arguments(calculator: Any) -> frozenset[str]:
    """Names of the constructor arguments of a class and its base classes."""
    names: set[str] = set()
    for base in getattr(calculator, "__mro__", (calculator,)):
        try:
            names.update(inspect.signature(base).parameters)
        except (TypeError, ValueError):  # built-in classes have no signature
            continue
    return frozenset(names)


def _is_mentioned(calculator: Any, key: str) -> bool:
    """Whether the source of a class or of a base class contains the key as a word; True if a source is missing."""
    for base in calculator.__mro__:
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):  # compiled, or `object`
            if base is not object:
                return True
            continue
        if re.search(rf"\b{re.escape(key)}\b", source):
            return True
    return False


def build_calculator(calculator: Any, facts: Facts, parameters: Mapping[str, Any], folder: Path) -> Any:
    """Make a calculator that writes its files into a folder, unless it makes a folder of its own (`Folder.OWN`).

    Args:
        calculator: The class, or a function that makes a calculator.
        facts: Known facts about the calculator.
        parameters: The keyword arguments as in the config, without `directory`.
        folder: The folder, an absolute path.

    Raises:
        Exception: Any exception of the class.
    """
    arguments = _with_objects(calculator, deepcopy(dict(parameters)), folder)
    if facts.folder is Folder.OWN:
        return calculator(**arguments)
    if facts.folder is Folder.KEYWORD or "directory" in _own_arguments(calculator):
        arguments["directory"] = str(folder)  # classes that need a Path convert the string
        return calculator(**arguments)
    built = calculator(**arguments)
    if hasattr(built, "directory"):
        built.directory = folder if isinstance(built.directory, Path) else str(folder)
    return built


def _own_arguments(calculator: Any) -> frozenset[str]:
    """Names of the arguments of a class's own constructor, without those of its base classes."""
    try:
        return frozenset(inspect.signature(calculator).parameters)
    except (TypeError, ValueError):
        return frozenset()


def _with_objects(calculator: Any, parameters: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Replace the mappings `profile` and `runner` (exciting) by the Python objects that a calculator needs."""
    if isinstance(parameters.get("profile"), Mapping):
        parameters["profile"] = _profile(calculator, parameters["profile"])
    if isinstance(parameters.get("runner"), Mapping):
        from ase.calculators.exciting.runner import SimpleBinaryRunner

        parameters["runner"] = SimpleBinaryRunner(**{**parameters["runner"], "directory": folder})
    return parameters


def _profile(calculator: Any, values: Mapping[str, Any]) -> Any:
    """Make the profile of a calculator, the object that holds the command of its program.

    The class of the profile is the one that the module of the calculator's class or of a base class defines, otherwise
    `StandardProfile`.
    """
    from ase.calculators.calculator import StandardProfile
    from ase.calculators.genericfileio import BaseProfile

    for base in getattr(calculator, "__mro__", ()):
        for found in vars(sys.modules[base.__module__]).values():
            if _is_subclass(found, BaseProfile) and found.__module__ == base.__module__ and found is not BaseProfile:
                return found(**values)
    rest = {key: value for key, value in values.items() if key != "command"}
    return StandardProfile(values["command"], configvars=rest)


def refuse_unusable(name: str, calculator: Any, facts: Facts, parameters: Mapping[str, Any], folder: Path) -> None:
    """Build a calculator on trial, and check that it computes forces and that its program is installed.

    Args:
        name: The calculator, as in `labels.ase_calculator`.
        calculator: The class, or a function that makes a calculator.
        facts: Known facts about the calculator.
        parameters: The keyword arguments as in the config, without `directory`.
        folder: A temporary folder for files of the trial.

    Raises:
        InputError: If the class does not accept the parameters, the calculator computes no forces or is not
            configured, or its program is missing.
    """
    from ase.calculators import calculator as ase_calculator

    place = _where_to_name_the_program(calculator)
    try:
        trial = build_calculator(calculator, facts, parameters, folder)
    except (ase_calculator.BadConfiguration, ase_calculator.EnvironmentError) as error:
        raise InputError(
            f"calculator '{name}' does not know its program ({one_line(error)}); name it in {place}"
        ) from error
    except ImportError as error:
        raise InputError(f"calculator '{name}' needs a package that is not installed here ({error})") from error
    except Exception as error:
        raise InputError(
            f"{PARAMETERS}: calculator '{name}' does not accept them ({one_line(error)}); "
            "give the keyword arguments that its class takes, and the `command` of its program if it has a program"
        ) from error
    properties = getattr(trial, "implemented_properties", None)
    if properties is not None and "forces" not in properties:
        raise InputError(
            f"labels.ase_calculator: '{name}' computes no forces (it names {', '.join(properties)}); choose another"
        )
    try:
        word = _first_word(_command(trial))
    except ase_calculator.CalculatorSetupError as error:
        raise InputError(
            f"calculator '{name}' does not know its program ({one_line(error)}); name it in {place}"
        ) from error
    if word is None:
        return
    if "/" in word and not Path(word).is_absolute():
        raise InputError(
            f"the program of calculator '{name}' is '{word}', a relative path, but it is started in a separate folder "
            f"for each label; give its full path in {place}"
        )
    if not _is_installed(word):
        raise InputError(
            f"the program of calculator '{name}', '{word}', is not installed; install it, or name it in {place}"
        )


def _where_to_name_the_program(calculator: Any) -> str:
    """The config key, and the section of ASE's configuration, that name the program of a calculator, for a message."""
    from ase.calculators.genericfileio import GenericFileIOCalculator

    key = "profile: {command: /path/to/program}"
    if not _is_subclass(calculator, GenericFileIOCalculator):
        key = "command: /path/to/program ..."
    return f"{PARAMETERS}.{key}, or in a section of {_CONFIG_FILE}"


def _command(calculator: Any) -> object:
    """The command with which a calculator starts its program; None if it is unknown.

    Args:
        calculator: A calculator object, not its class.
    """
    if hasattr(calculator, "make_command"):  # Vasp
        return calculator.make_command(calculator.command)
    return getattr(getattr(calculator, "profile", None), "command", None)


def one_line(error: BaseException) -> str:
    """An exception's type and message on a single line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def _first_word(command: object) -> str | None:
    """The first word of a command; None if the command is not a text, or begins with shell syntax."""
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        return None
    return words[0] if words and _PLAIN_WORD.fullmatch(words[0]) else None


def _is_installed(word: str) -> bool:
    """Whether a command's first word is an installed program or a command of the shell."""
    if shutil.which(word):
        return True
    lookup = subprocess.run(["/bin/sh", "-c", 'command -v "$1"', "sh", word], capture_output=True, check=False)  # noqa: S603 -- a plain word, only looked up
    return lookup.returncode == 0
