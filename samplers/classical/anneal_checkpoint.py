"""Checkpoint of the MD runs that make an initial set, in an HDF5 file that is replaced as a whole."""

from pathlib import Path

import numpy as np

from al_engine.files.hdf5 import UNREADABLE, hdf5_for_reading, in_memory_hdf5
from al_engine.files.seal import SealState, check_seal
from samplers.classical.anneal import RunState, Save

SCHEMA = 1
"""Version of the file format."""


class AnnealCheckpoint:
    """States of runs by name, stored in a file. A kill during a save leaves the old file or the new file.

    Args:
        path: The file; None: states are kept in memory only.
        key: Key of the runs' inputs. A file with another key, an unreadable file, or a file for another number of atoms
            is ignored.
        n_atoms: Number of atoms N of the system.
    """

    def __init__(self, path: Path | None, *, key: str, n_atoms: int) -> None:
        self._path, self._key = path, key
        self._runs = {} if path is None else _read(path, key=key, n_atoms=n_atoms)

    def state(self, run: str) -> RunState | None:
        """The last saved state of a run; None if none was saved."""
        return self._runs.get(run)

    def saver(self, run: str) -> Save:
        """Make the function that saves the states of a run.

        The function raises `ResumableError` if the disk is full or cannot be written to.
        """

        def save(state: RunState) -> None:
            self._runs[run] = state
            if self._path is not None:
                _write(self._path, self._runs, key=self._key)

        return save


def _write(path: Path, runs: dict[str, RunState], *, key: str) -> None:
    """Replace the file by a file with the states of all runs.

    Raises:
        ResumableError: If the disk is full or cannot be written to.
    """
    with in_memory_hdf5(path) as file:
        file.attrs.update(schema=SCHEMA, key=key)
        for name, state in runs.items():
            group = file.create_group(name)
            group.attrs["segments"] = state.segments
            for array in ("positions", "velocities", "kept"):
                group[array] = getattr(state, array)


def _read(path: Path, *, key: str, n_atoms: int) -> dict[str, RunState]:
    """The states in the file; none if there is no file or the file is ignored."""
    if not path.is_file() or check_seal(path) is not SealState.WHOLE:
        return {}
    try:
        with hdf5_for_reading(path) as file:
            if file.attrs.get("schema") != SCHEMA or file.attrs.get("key") != key:
                return {}
            runs = {
                name: RunState(
                    segments=int(group.attrs["segments"]),
                    **{array: np.asarray(group[array]) for array in ("positions", "velocities", "kept")},
                )
                for name, group in file.items()
            }
    except UNREADABLE:
        return {}  # only the progress of the runs is lost
    fit = all(
        state.positions.shape == state.velocities.shape == (n_atoms, 3) and state.kept.shape[1:] == (n_atoms, 3)
        for state in runs.values()
    )
    return runs if fit else {}
