"""Prepare a campaign for a run: create or open its directory, lock it, check it, and start its workers."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from al_engine.campaign import names
from al_engine.campaign.inputs import with_inputs_inside
from al_engine.campaign.ledger import CONFIG_FILE, Ledger
from al_engine.config import CampaignConfig
from al_engine.config.reader import load_config, refuse_changes
from al_engine.errors import InputError
from al_engine.files.lock import campaign_lock
from al_engine.protocols import Progress, silent
from flows.compute.executors import opened_executor
from flows.pages.display import Display
from flows.session.interrupts import Interrupts
from flows.session.new_campaign import new_campaign, refuse_other_inputs
from flows.session.preflight import Preflight, preflight, with_automatic_choices
from flows.session.retry_labels import retry_failed_labels
from flows.session.session import Session
from flows.stages.labels.labelling import label_cache
from flows.stages.labels.levels import level_to_go_on_with
from labelers.backends.registry import level_of_theory

RUNS = Path("runs")
"""Folder of the campaign directories that are made from config files."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A campaign that can be opened: its ledger, and the result of the preflight if `prepare` has run it."""

    ledger: Ledger
    checked: Preflight | None = None


def load_target(target: Path) -> tuple[CampaignConfig, Path]:
    """The config of a campaign directory or config file, and the folder that its relative paths start from.

    Raises:
        InputError: If the target is neither.
    """
    if target.is_dir():
        return Ledger.open(target).config, target
    return load_config(target), target.parent


def prepare(target: Path, directory: Path | None = None, *, progress: Progress = silent) -> Prepared:
    """A campaign from a target: a campaign directory, or a config file, for which a directory is made.

    If nothing has been computed in the directory yet, the config file and its inputs replace those in the directory.

    Args:
        target: Campaign directory, or config file.
        directory: Campaign directory for a config file; by default `runs/<name>`.
        progress: Called with the progress of the checks of a new campaign.

    Raises:
        InputError: If the target is neither, or if the directory holds a campaign with another config or other inputs.
        CampaignLockedError: If another process runs the campaign in the directory.
    """
    if target.is_dir():
        if directory is not None and directory.resolve() != target.resolve():
            raise InputError(
                f"--dir {directory} contradicts {target}, which is a campaign directory itself; leave out --dir"
            )
        return Prepared(_with_choices(Ledger.open(target)))
    config = load_config(target)
    directory = directory or RUNS / config.name
    if (directory / CONFIG_FILE).exists():
        existing = _with_choices(Ledger.open(directory))
        if existing.has_begun():
            config = load_config(target, begun=existing.config)
            current = with_automatic_choices(with_inputs_inside(config), begun=existing.config)
            refuse_changes(existing.config, current, source=str(target), directory=directory)
            refuse_other_inputs(config, source=target.parent, directory=directory)
            return Prepared(Ledger(directory, current))
    # the config file may be that of a fork, whose past the new campaign does not have
    config = config.model_copy(update={"inherited_iterations": None})
    checked = preflight(config, base_dir=target.parent, progress=progress)
    # another process may have begun to run the campaign, although it has no part yet
    with campaign_lock(directory, config.execution.lock) if directory.is_dir() else nullcontext():
        return Prepared(new_campaign(checked.config, source=target.parent, directory=directory), checked)


def _with_choices(ledger: Ledger) -> Ledger:
    """A campaign whose config has its automatic choices made.

    The preflight makes the choices of a new campaign, which are stored with its config. A campaign begun by an earlier
    version may have stored `auto`.
    """
    if ledger.has_begun():
        ledger.config = with_automatic_choices(ledger.config)
    return ledger


@contextmanager
def opened(prepared: Prepared, display: Display, *, retry: bool = False) -> Iterator[Session]:
    """Lock a campaign, check it, write its config, and start its workers, for as long as the block runs.

    Args:
        prepared: The campaign.
        display: Shows notes and the progress of checks.
        retry: Whether the newest failed labels are computed again.

    Raises:
        InputError: If a check fails, or there are no failed labels to compute again.
        ResumableError: If another process runs the campaign, or a file cannot be written.
    """
    ledger = prepared.ledger
    with campaign_lock(ledger.directory, ledger.config.execution.lock, say=display.say):
        _check(prepared, display)
        if not ledger.has_begun():  # files that the user has named since `init` are copied
            ledger.config = new_campaign(ledger.config, source=ledger.directory, directory=ledger.directory).config
        config = ledger.config
        periodic = config.labels_boxes
        ledger.refuse_changed_config()  # before parts are set aside to be made again
        level = level_to_go_on_with(ledger, level_of_theory(config.labels, periodic=periodic))
        for line in retry_failed_labels(ledger) if retry else ():
            display.say(line)
        ledger.begin()
        ledger.write_config()
        if prepared.checked is not None:
            with label_cache(ledger.directory, config, level) as cache:
                cache.keep(prepared.checked.labels)
        with (
            opened_executor(ledger.directory, config) as executor,
            Interrupts() as interrupts,
        ):
            yield Session(ledger=ledger, level=level, executor=executor, display=display, interrupts=interrupts)


def _check(prepared: Prepared, display: Display) -> None:
    """Run the preflight, unless `prepare` has run it, and show its notes.

    Campaigns whose initial frames and own frames (`data`) exist were checked before they were made. A fork may have the
    initial frames of another campaign, and frames of its own that nobody has checked.
    """
    ledger, checked = prepared.ledger, prepared.checked
    if all(ledger.part_path(name).exists() for name in names.initial_sources(ledger.config)):
        return
    if checked is None:
        level = level_of_theory(ledger.config.labels, periodic=ledger.config.labels_boxes)
        with (
            label_cache(ledger.directory, ledger.config, level) as cache,
            display.step("checking") as progress,
        ):
            checked = preflight(ledger.config, base_dir=ledger.directory, cache=cache, progress=progress)
        ledger.config = checked.config
    for note in checked.notes:
        display.say(("note", "yellow"), f": {note}")
