"""A campaign for Python scripts: `from al_engine import Campaign`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.audited import fates_with_audits
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.samples import COLUMNS
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_frames
from al_engine.selection.fates import Fate
from al_engine.verdict.records import IterationRecord
from al_engine.verdict.verdict import Verdict

if TYPE_CHECKING:
    from ase import Atoms

    from models.inference.calculator import CommitteeCalculator

FRAMES_AT_A_TIME = 1000
"""Number of frames whose structures `Campaign.frames` reads at once."""


class Campaign:
    """A campaign directory, for reading; the campaign may be running.

    Args:
        directory: The campaign directory, such as `runs/ethanol`.

    Raises:
        InputError: If `directory` is not a campaign directory.
    """

    def __init__(self, directory: str | Path) -> None:
        self._ledger = Ledger.open(Path(directory))

    def __repr__(self) -> str:
        return f"Campaign({str(self.directory)!r})"

    @property
    def directory(self) -> Path:
        """The campaign directory."""
        return self._ledger.directory

    def status(self) -> dict[str, Any]:
        """The state of the campaign, as `al-engine status --json` prints it."""
        from flows.pages.status import campaign_status

        return campaign_status(self.directory)

    @property
    def verdict(self) -> Verdict | None:
        """Why the campaign stopped; None while it has not."""
        return self._ledger.verdict()

    @property
    def iterations(self) -> tuple[IterationRecord, ...]:
        """The records of the finished iterations, oldest first."""
        return tuple(self._ledger.history())

    def dataset(self) -> "list[Atoms]":
        """The labelled frames in order, without the test set: `ase.Atoms` with energy (eV) and forces (eV/Å)."""
        from al_engine.campaign.export import labelled_atoms

        return [labelled_atoms(item) for item in self._ledger.dataset()]

    def test_set(self) -> "list[Atoms]":
        """The labelled test frames, on which no model is trained: `ase.Atoms` as from `dataset`."""
        from al_engine.campaign.export import labelled_atoms
        from al_engine.campaign.scores import read_test

        return [labelled_atoms(item) for item in read_test(self._ledger.reader(), self._ledger.config).frames]

    def frames(self, *, fate: str | Sequence[str] | None = None, iteration: int | None = None) -> "Iterator[Atoms]":
        """Sampled frames, one after the other, as `ase.Atoms`.

        The `info` of the `ase.Atoms` has `iteration`, `system` (in a campaign of several systems), `temperature_kelvin`
        and `fate`; the trajectory (`replica`) and its MD step (`step`); the force deviation of the worst atom
        (`deviation_norm`, `deviation_component`, eV/Å) and the index of this atom (`worst_atom`); the largest deviation
        of the net force on a molecule (`net_force_deviation`, eV/Å) and the index of this molecule (`worst_molecule`);
        and `sound`, which is False if the trajectory was stopped at the frame.

        Args:
            fate: Name of a fate, or names of fates, such as `labelled` or `rejected`: only frames with these fates;
                None: all frames.
            iteration: Only frames of this iteration; None: frames of all finished iterations.

        Raises:
            InputError: If a fate is unknown, or the iteration is not finished.
        """
        known = [each.name.lower() for each in Fate]
        fates = [fate] if isinstance(fate, str) else fate
        wanted = known if fates is None else list(fates)
        for name in wanted:
            if name not in known:
                raise InputError(f"fate {name!r}: is unknown; the fates are {', '.join(known)}")
        finished = len(self._ledger.history())
        if iteration is not None and not 0 <= iteration < finished:
            raise InputError(f"iteration {iteration}: {self.directory} has {finished} finished iterations, from 0 on")
        codes = [Fate[name.upper()] for name in wanted]
        iterations = range(finished) if iteration is None else [iteration]
        return (atoms for number in iterations for atoms in self._sampled(number, codes))

    def _sampled(self, iteration: int, codes: Sequence[Fate]) -> "Iterator[Atoms]":
        """The frames of an iteration with one of some fates, as from `frames`."""
        parts = self._ledger.reader()
        fates = fates_with_audits(parts, iteration)
        start = 0  # of the state point's frames among the frames of the iteration
        for point in self._ledger.config.state_points:
            with parts.open(names.sample(iteration, point.temperature_kelvin, point.system)) as root:
                columns = {name: root[name][()] for name in COLUMNS}
                here = fates[start : start + len(columns["step"])]
                start += len(here)
                rows = np.flatnonzero(np.isin(here, codes))
                for first in range(0, len(rows), FRAMES_AT_A_TIME):
                    chosen = rows[first : first + FRAMES_AT_A_TIME]
                    for row, frame in zip(chosen.tolist(), read_frames(root["frames"], rows=chosen), strict=True):
                        atoms = frame.to_atoms()
                        atoms.info |= {"iteration": iteration, "temperature_kelvin": point.temperature_kelvin}
                        atoms.info |= {"system": point.system} if point.system else {}
                        atoms.info |= {name: values[row].item() for name, values in columns.items()}
                        atoms.info["fate"] = Fate(int(here[row])).name.lower()
                        yield atoms

    def committee(self, iteration: int | None = None, *, device: str = "auto") -> "CommitteeCalculator":
        """The committee as an ASE calculator.

        Args:
            iteration: Iteration whose committee is loaded; None: the newest complete committee.
            device: `cpu`, `cuda`, or `auto`: a GPU if the machine has one.

        Raises:
            InputError: If the iteration has no complete committee, or a part with weights is damaged.
        """
        from models import load_committee

        return load_committee(self.directory, iteration=iteration, device=device)
