"""The subject of an evaluation: the committee of one iteration of a campaign, and the folder of the results."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.config import OneSystemConfig
from al_engine.cores import usable_cores
from al_engine.errors import CampaignLockedError, InputError, typed
from al_engine.files.atomic import disk_error, write_file
from al_engine.files.lock import campaign_lock
from al_engine.verdict.records import numbers_only
from flows.compute.devices import choose_device
from flows.stages.training import load_committee

if TYPE_CHECKING:
    from models.inference.committee import Committee

FOLDER = "evaluation"
"""Folder of a campaign directory for the results of evaluations."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A committee and the folder of its results.

    Attributes:
        ledger: The campaign, read only.
        iteration: Iteration of the committee.
        device: `cpu` or `cuda`.
        output: Folder of the results, which this process has locked.
        system: Name of the system that is evaluated; empty in a campaign of one system, and for all systems.
    """

    ledger: Ledger
    iteration: int
    device: str
    output: Path
    system: str = ""

    def of_system(self, name: str | None) -> "Subject":
        """This subject for one of the systems of the campaign.

        Args:
            name: Name of the system; None: the only system.

        Raises:
            InputError: If there is no such system, or there are several and none is named.
        """
        names = list(self.ledger.config.by_system)
        if name is None and len(names) > 1:
            raise InputError(
                f"{self.ledger.directory}: has several systems; name one with --system: {', '.join(names)}"
            )
        if name is not None and name not in names:
            has = (
                f"has the systems {', '.join(names)}"
                if self.ledger.config.systems
                else "has one system, without a name"
            )
            raise InputError(f"--system {name}: {self.ledger.directory} {has}")
        return replace(self, system=names[0] if name is None else name)

    @property
    def config(self) -> OneSystemConfig:
        """The config of the system that is evaluated."""
        return self.ledger.config.by_system[self.system]

    def committee(self, *, evaluations: int = 0) -> "Committee":
        """Load the committee; `evaluations` is the number of planned evaluations."""
        import torch

        # torch counts the cores of the machine; a container's quota may allow fewer
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
        parts, config = self.ledger.reader(), self.ledger.config
        return load_committee(parts, config, self.iteration, self.device, evaluations=evaluations)

    def file(self, what: str, ending: str) -> Path:
        """Path of a result of this committee, such as `iter003-errors.json`."""
        system = f"{self.system}-" if self.system else ""
        return self.output / f"iter{self.iteration:03d}-{system}{what}{ending}"

    def result(self, what: str, values: Mapping[str, Any], plot: bytes) -> dict[str, Any]:
        """Write a result as JSON and its plot as PNG; returns the content of the JSON file, which holds both paths.

        Values that are not finite, as those of a diverged member, are None.

        Raises:
            ResumableError: If the disk is full or can't be written to.
        """
        answer = {
            "campaign": self.ledger.config.name,
            "directory": str(self.ledger.directory),
            "what": what,
            "iteration": self.iteration,
            **({"system": self.system} if self.system else {}),
            "members": self.ledger.config.training.members,
            **numbers_only(values),
            "plot": str(self.file(what, ".png")),
            "json": str(self.file(what, ".json")),
        }
        write_file(self.file(what, ".png"), plot)
        write_file(self.file(what, ".json"), (json.dumps(answer, indent=2, allow_nan=False) + "\n").encode())
        return answer


def newest_iteration(ledger: Ledger) -> int:
    """The last iteration whose committee is complete.

    Raises:
        InputError: If no iteration of the campaign is finished.
    """
    finished = len(ledger.history())
    if not finished:
        raise InputError(
            f"{ledger.directory}: has no finished iteration, so that no committee can be evaluated yet; continue the "
            f"campaign with `al-engine run {typed(ledger.directory)}`"
        )
    return finished if _is_complete(ledger, finished) else finished - 1


def _is_complete(ledger: Ledger, iteration: int) -> bool:
    members = range(ledger.config.training.members)
    return all(ledger.part_path(names.member(iteration, member)).exists() for member in members)


@contextmanager
def opened(directory: Path, *, iteration: int | None, output: Path | None) -> Iterator[Subject]:
    """Open a campaign's committee for an evaluation; the campaign may be running.

    Args:
        directory: The campaign directory.
        iteration: Iteration of the committee; None: the newest complete committee.
        output: Folder for the results; None for `evaluation` in the campaign directory.

    Raises:
        InputError: If the campaign or the committee does not exist, or the folder is a file or is locked by another
            evaluation.
    """
    ledger = Ledger.open(directory)
    newest = newest_iteration(ledger)
    if iteration is None:
        iteration = newest
    elif not (0 <= iteration <= newest and _is_complete(ledger, iteration)):
        raise InputError(
            f"--iteration {iteration}: {directory} has complete committees of the iterations 0 to {newest}"
        )
    folder = output or directory / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder}: is a file; give a folder with --output") from None
    except OSError as error:
        raise disk_error(folder, error) from error
    with ExitStack() as stack:
        try:
            stack.enter_context(campaign_lock(folder, ledger.config.execution.lock))
        except CampaignLockedError:
            message = f"{folder}: another `al-engine evaluate` writes there; wait, or give another folder with --output"
            raise InputError(message) from None
        yield Subject(ledger, iteration, choose_device(ledger.config), folder)
