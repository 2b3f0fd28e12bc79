"""Functions for the files of all exporters: opening, package of origin, hyper-parameters, irreps in e3nn's notation."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import h5py
from pydantic import BaseModel, ValidationError

from al_engine.errors import InputError
from al_engine.files.hdf5 import UNREADABLE, open_hdf5

SCHEMA = 1
"""Version of the exporters' file format."""
EXPORTERS = {"mace-torch": "export_mace.py", "nequip": "export_nequip.py"}
"""Export script of each package."""
HyperParameters = TypeVar("HyperParameters", bound=BaseModel)


@contextmanager
def open_export(path: Path) -> Iterator[h5py.File]:
    """Open a file that an exporter wrote.

    Raises:
        InputError: If the file is missing or is not an HDF5 file.
    """
    exporters = " or ".join(EXPORTERS.values())
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a file that {exporters} wrote")
    with open_hdf5(path, fix=f"write it again with {exporters}") as file:
        yield file


def name_of(group: h5py.Group) -> str:
    """Path of the file and name of the group, for error messages."""
    return f"{group.file.filename}{'' if group.name == '/' else ':' + group.name}"


def package_of(group: h5py.Group) -> str:
    """The package whose model a group holds, a key of `EXPORTERS`, from the versions that the exporter recorded.

    Raises:
        InputError: If no exporter wrote the group.
    """
    try:
        versions = json.loads(group.attrs["hyper_parameters"])["versions"]
        return next(package for package in EXPORTERS if package in versions)
    except (*UNREADABLE, StopIteration):
        raise InputError(
            f"{name_of(group)} was not written by {' or '.join(EXPORTERS.values())}; run the "
            "exporter on the model, in the environment of its package"
        ) from None


def read_hyper_parameters(group: h5py.Group, kind: type[HyperParameters], *, package: str) -> HyperParameters:
    """Read the hyper-parameters of an exported model.

    Args:
        group: Group that an exporter wrote.
        kind: Class of the hyper-parameters, which their JSON must fit.
        package: Package that the model must be from.

    Raises:
        InputError: If the model is of another package or schema, or the group is damaged.
    """
    where, exporter = name_of(group), EXPORTERS[package]
    if package_of(group) != package:
        raise InputError(f"{where} was not written by {exporter}, but by {EXPORTERS[package_of(group)]}")
    if int(group.attrs.get("schema", 0)) != SCHEMA:
        raise InputError(
            f"{where} has schema {group.attrs.get('schema')}, this version reads {SCHEMA}; "
            f"write it again with this version's {exporter}"
        )
    try:
        return kind.model_validate_json(group.attrs["hyper_parameters"])
    except ValidationError as error:
        raise damaged(group, error, package=package) from error


def damaged(group: h5py.Group, error: Exception, *, package: str) -> InputError:
    """The error for an export that cannot be read."""
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{name_of(group)} is damaged ({reason}); write it again with {EXPORTERS[package]}")


def degrees(irreps: str) -> dict[int, int] | None:
    """Channels of each degree of irreps such as `16x0e+16x1o`; None if parity is not natural or a degree repeats."""
    channels: dict[int, int] = {}
    for term in irreps.split("+"):
        match = re.fullmatch(r"(\d+)x(\d+)([eo])", term.strip())
        if match is None:
            return None
        degree = int(match[2])
        if degree in channels or match[3] != "eo"[degree % 2]:
            return None
        channels[degree] = int(match[1])
    return channels
