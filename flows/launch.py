"""From a target on the command line to a campaign's verdict: prepare the directory, lock it, start what is needed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from al_engine.config import CampaignConfig, LabelBackend
from al_engine.config_io import load_config, refuse_changes
from al_engine.cores import usable_cores
from al_engine.disk import disk_error
from al_engine.errors import InputError, typed
from al_engine.ledger import CONFIG_FILE, Ledger
from al_engine.lock import campaign_lock
from al_engine.seeds import derived_seed
from al_engine.verdict import Verdict
from flows import names
from flows.context import Session, in_session
from flows.display import Display
from flows.interrupts import Interrupts
from flows.retry import retry_failed_labels
from flows.server import Server, ensure_server, kept_alive
from flows.stages import Campaign
from flows.workers import ComputePool
from labelers.cache import LabelCache
from labelers.pool import LabelPool
from labelers.protocol import LevelOfTheory
from labelers.registry import level_of_theory, resolve_backend
from labelers.screen import screen_frame
from models.member_files import copy_members, members_hash
from samplers.periodic import bonded_to_itself
from samplers.system import System, build_system, cluster_of

RUNS = Path("runs")
INPUTS = "inputs"
LABEL_CACHE = "labels.sqlite"
SERVER_RESTARTS = 3
"""How often a run goes on with a new Prefect server after the one it had is gone."""
START = f"{INPUTS}/start.h5"
"""Copies of the members that training starts from."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is known of a campaign before anything is computed.

    Attributes:
        config: The config with its automatic choices made.
        system: What is simulated.
        labelled: What is labelled: the system, or a cluster cut from it.
        level: What its labels will be.
    """

    config: CampaignConfig
    system: System
    labelled: System
    level: LevelOfTheory


def preflight(config: CampaignConfig, *, base_dir: Path) -> Preflight:
    """Check all that can be checked in seconds: the structure, charge and spin, elements, the labels' backend.

    Args:
        config: The config.
        base_dir: Where the files it names are relative to.

    Returns:
        What is known then.

    Raises:
        InputError: If something can't work.
    """
    system = build_system(config.system, base_dir=base_dir, seed=derived_seed(config.seed, "system"))
    if config.initial.file is not None and not (base_dir / config.initial.file).is_file():
        raise InputError(f"initial.file: {base_dir / config.initial.file}: no such file")
    if config.training.start is not None:
        from models.start import check_start

        check_start(base_dir / config.training.start, config.model, elements=sorted(set(system.frame.numbers.tolist())))
    config = with_backend(config)
    _refuse_crystals(system, config)
    cut = config.selection.cut_molecules
    labelled = system if cut is None else cluster_of(system, cut)
    level = level_of_theory(config.labels, periodic=labelled.frame.is_periodic)
    is_xtb = level.backend != "ase"
    reason = screen_frame(
        labelled.frame,
        min_distance_ang=config.selection.min_distance_ang,
        min_contact_factor=config.selection.min_contact_factor,
        check_spin=is_xtb,
    )
    if reason is not None:
        raise InputError(f"the system cannot be labelled: {reason}")
    return Preflight(config, system, labelled, level)


def _refuse_crystals(system: System, config: CampaignConfig) -> None:
    """Refuse to move or cut molecules that go on in the next cell."""
    options = {
        "sampling.pressure_bar": config.sampling.pressure_bar,
        "selection.cut_molecules": config.selection.cut_molecules,
    }
    frame = system.frame
    used = [name for name, value in options.items() if value is not None]
    if used and bonded_to_itself(frame.positions, system.bonds.pairs, frame.cell, frame.pbc):
        raise InputError(
            f"{used[0]}: {system.molecule.source} is bonded to its own periodic images, so that it is no molecule that "
            f"could be moved or cut out whole; set {' and '.join(used)} to null"
        )


def with_backend(config: CampaignConfig, *, auto: LabelBackend = "auto") -> CampaignConfig:
    """The config with `labels.backend: auto` decided: as it was when the campaign began, if `auto` says that."""
    backend = auto if config.labels.backend == "auto" else config.labels.backend
    labels = config.labels.model_copy(update={"backend": backend})
    backend = resolve_backend(labels, periodic=config.labels_boxes)
    return config.model_copy(update={"labels": labels.model_copy(update={"backend": backend})})


def load_target(target: Path) -> tuple[CampaignConfig, Path]:
    """The config of a campaign directory or config file, and what its paths are relative to.

    Raises:
        InputError: If the target is neither.
    """
    if target.is_dir():
        return Ledger.open(target).config, target
    return load_config(target), target.parent


def prepare(target: Path, directory: Path | None = None) -> Ledger:
    """The ledger of a target, which is a campaign directory or a config file; for a file, its directory is made.

    Args:
        target: Campaign directory, or config file.
        directory: Where the campaign of a config file lives; by default `runs/<name>`.

    Raises:
        InputError: If the target is neither, or differs from the campaign that has begun there.
    """
    if target.is_dir():
        if directory is not None and directory.resolve() != target.resolve():
            raise InputError(f"--dir {directory} contradicts {target}, which is a campaign directory itself")
        return Ledger.open(target)
    config = load_config(target)
    directory = directory or RUNS / config.name
    stored = directory / CONFIG_FILE
    moved = with_inputs_inside(config)
    if stored.exists():
        begun = with_backend(load_config(stored))
        moved = with_backend(moved, auto=begun.labels.backend)  # what `auto` chooses may differ from version to version
        refuse_changes(begun, moved, source=str(target))
        _refuse_other_start(config, source=target.parent, directory=directory)
        return Ledger(directory, moved)
    checked = preflight(config, base_dir=target.parent)
    ledger = Ledger(directory, with_inputs_inside(checked.config))
    ledger.write_config()
    copy_inputs(config, source=target.parent, directory=directory)
    return ledger


def with_inputs_inside(config: CampaignConfig) -> CampaignConfig:
    """The config with the files it names in the campaign directory, where they are copied: it can be moved."""

    def inside(name: str | None) -> str | None:
        return None if name is None else f"{INPUTS}/{Path(name).name}"

    return config.model_copy(
        update={
            "system": config.system.model_copy(update={"structure": inside(config.system.structure)}),
            "initial": config.initial.model_copy(update={"file": inside(config.initial.file)}),
            "training": config.training.model_copy(update={"start": START if config.training.start else None}),
        }
    )


def _refuse_other_start(config: CampaignConfig, *, source: Path, directory: Path) -> None:
    """Refuse a config that names other models to start from than those the campaign began with, if they are there."""
    start = config.training.start
    if start is None or not (source / start).exists() or not (directory / START).exists():
        return
    if members_hash(source / start) != members_hash(directory / START):
        raise InputError(
            f"training.start: {source / start} holds other models than the campaign began with, which are in "
            f"{directory / START}; go on with `al-engine resume {typed(directory)}`, or start a campaign "
            "in another directory"
        )


def copy_inputs(config: CampaignConfig, *, source: Path, directory: Path) -> None:
    """Copy the files a config names, relative to `source`, into a campaign directory.

    Raises:
        InputError: If one is missing.
        ResumableError: If the disk is full.
    """
    start = config.training.start
    files = [source / name for name in (config.system.structure, config.initial.file) if name is not None]
    if not files and start is None:
        return
    for path in files:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    try:
        (directory / INPUTS).mkdir(parents=True, exist_ok=True)
        for path in files:
            shutil.copyfile(path, directory / INPUTS / path.name)
    except OSError as error:
        raise disk_error(directory / INPUTS, error) from error
    if start is not None:
        copy_members(source / start, directory / START)


def choose_device(config: CampaignConfig) -> str:
    """`cuda` if asked for, or if `auto` and there is one; else `cpu`.

    Raises:
        InputError: If a GPU is asked for and there is none.
    """
    wanted = config.execution.device
    if wanted == "cpu" or (wanted == "auto" and not Path("/dev/nvidiactl").exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise InputError("execution.device is cuda, but torch finds no GPU; set it to auto or cpu")
    return "cpu"


def worker_counts(config: CampaignConfig, device: str) -> tuple[int, int]:
    """Worker processes that compute, and that label."""
    cores = usable_cores()
    wanted = config.execution.workers
    return wanted or (1 if device == "cuda" else cores), wanted or cores


@contextmanager
def opened(ledger: Ledger, display: Display, *, retry: bool = False) -> Iterator[Session]:
    """Lock a campaign, check it, begin it, and start its workers; `retry`: failed labels are tried again."""
    with campaign_lock(ledger.directory, ledger.config.execution.lock, say=display.say):
        if not ledger.part_path(names.INITIAL_FRAMES).exists():
            ledger.config = preflight(ledger.config, base_dir=ledger.directory).config
        else:
            ledger.config = with_backend(ledger.config)
        for line in retry_failed_labels(ledger) if retry else ():
            display.say(line)
        ledger.begin()
        ledger.write_config()
        config = ledger.config
        periodic = config.labels_boxes
        level = level_of_theory(config.labels, periodic=periodic)
        device = choose_device(config)
        compute_workers, label_workers = worker_counts(config, device)
        with (
            ComputePool(compute_workers) as compute,
            LabelPool(config.labels, workers=label_workers, periodic=periodic) as label_pool,
            LabelCache(label_cache_path(ledger), level, shared=config.execution.label_cache is not None) as cache,
            Interrupts() as interrupts,
        ):
            campaign = Campaign(ledger, compute=compute, label_pool=label_pool, level=level, device=device, cache=cache)
            campaign.refuse_other_level()
            yield Session(campaign=campaign, display=display, interrupts=interrupts)


def label_cache_path(ledger: Ledger) -> Path:
    """Where labels are kept beside the parts: the campaign's own file, or one that it shares with others."""
    shared = ledger.config.execution.label_cache
    return ledger.directory / LABEL_CACHE if shared is None else Path(shared).expanduser()


def run_campaign(ledger: Ledger, display: Display, *, retry: bool = False) -> Verdict:
    """Start or continue a campaign under Prefect, to its verdict; `retry`: the newest failed labels are tried again.

    Raises:
        AlEngineError: With a message for the user: wrong input, a lost worker, a full disk.
        KeyboardInterrupt: If stopped by Ctrl-C or SIGTERM; everything finished is on disk.
    """
    restarts, server = 0, None
    while True:
        with opened(ledger, display, retry=retry and restarts == 0) as current:
            server = ensure_server(lost=server)
            _announce(server, ledger, display)
            from flows.runner import ServerLostError, run_flow  # imports Prefect, which reads what ensure_server set

            try:
                with in_session(current), display, kept_alive(server, display.say):
                    run_flow(ledger)
            except ServerLostError as error:
                restarts += 1
                if restarts > SERVER_RESTARTS:
                    raise
                display.say((f"{error}; starting it and going on", "yellow"))
                continue
            verdict = ledger.verdict()
        if verdict is None:
            raise RuntimeError(f"{ledger.directory}: the flow ended without a verdict")
        return verdict


def _announce(server: Server, ledger: Ledger, display: Display) -> None:
    started = "started, and left running for you" if server.started else "found"
    display.say("campaign ", (ledger.config.name, "bold"), f" in {ledger.directory}")
    display.say(f"Prefect server {started}: ", (server.ui_url, "bold"))
    for remark in server.remarks:
        display.say(("warning", "yellow"), f": {remark}")
