"""Fork of a campaign: a new campaign with other options that shares the past of an old one and its labels."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from al_engine.campaign import names
from al_engine.campaign.labels import stored_level
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import iteration_of
from al_engine.config import CampaignConfig, is_mutable, is_within, name_from
from al_engine.config.reader import differences, parse_value, validate_config, with_whole_paths
from al_engine.errors import InputError, typed
from al_engine.files.atomic import disk_error
from flows.session.new_campaign import made_or_nothing, new_campaign
from labelers.backends.registry import level_of_theory
from models.storage.member_files import copy_members
from samplers.initial.user_data import write_hdf5_data

OF_THE_PAST = (
    "system",
    "systems",
    "initial",
    "seed",
    "training.reference_energies",
    "sampling.temperatures_kelvin",
    "selection.cut_molecules",
    "selection.cut_charge",
)
"""Options that the parts of the past depend on. If one of them changes, the labels are shared as data, not as parts."""
OF_THE_MODEL = ("model",)
"""Options that the weights depend on. If one of them changes, training does not start from the old committee."""
LABELS_FILE = "labels-of-{name}.h5"
"""Name of the file with the labels of the old campaign, in the folder of the inputs."""
COMMITTEE_FILE = "committee.h5"


@dataclass(frozen=True, slots=True)
class Fork:
    """A campaign that was forked.

    Attributes:
        directory: The new campaign directory.
        iterations: Number of iterations that it shares.
        linked: Number of parts that it shares.
        labels: Number of labels that it shares as data, because the options of the past have changed.
        changed: The changed options, each with its old and new value.
    """

    directory: Path
    iterations: int
    linked: int
    labels: int
    changed: Mapping[str, tuple[Any, Any]]


def fork(directory: Path, target: Path, *, at: int | None = None, settings: Sequence[str] = ()) -> Fork:
    """Make a new campaign that goes on from an iteration of another, with other options.

    The parts of the past are hard links, or copies on another file system. Options that the past depends on, such as
    the system or the temperatures, can change too: then the labels join the new campaign as `data`, and training starts
    from the newest committee of the shared iterations.

    Args:
        directory: The campaign directory, which stays as it is; the campaign may be running.
        target: The new campaign directory, which must not exist.
        at: Number of iterations to share; None: all finished iterations.
        settings: Changed options, `key=value` with a dotted key and a value in YAML.

    Raises:
        InputError: If the campaign has no labelled initial set or fewer than `at` finished iterations, if the target
            exists, or if an option is wrong or cannot change.
        ResumableError: If the disk is full.
    """
    ledger = Ledger.open(directory)
    finished = len(ledger.history())
    at = finished if at is None else at
    if not 0 <= at <= finished:
        raise InputError(f"--at {at}: {directory} has {finished} finished iterations; give 0 to {finished}")
    if names.INITIAL_DATASET not in ledger.reader().names:
        raise InputError(f"{directory}: has no labelled initial set yet; `al-engine run` makes it")
    if target.exists():
        raise InputError(f"{target}: exists already; give another directory")
    begun = ledger.launched_config() or ledger.config  # not the config file, which may have been edited since
    config = _with_settings(begun, settings, name=name_from(target.name))
    changed = {key: pair for key, pair in differences(begun, config).items() if key != "name"}
    _refuse_other_labels(changed, begun, config, directory, target)
    if any(is_within(key, OF_THE_PAST) for key in changed):
        return _with_labels_as_data(ledger, config, target, at=at, changed=changed)
    return _with_parts(ledger, config, target, at=at, changed=changed)


def _with_parts(
    ledger: Ledger, config: CampaignConfig, target: Path, *, at: int, changed: Mapping[str, tuple[Any, Any]]
) -> Fork:
    """A fork that shares the parts of the initial set and of the first iterations."""
    if at and any(is_within(key, OF_THE_MODEL) for key in changed):
        raise InputError(
            "`model` cannot change where weights are shared, because training goes on from them; fork with --at 0"
        )
    other_data = any(is_within(key, ("data",)) for key in changed)
    shared = [
        name
        for name in ledger.reader().names
        if (iteration := iteration_of(name)) is None or iteration < at
        if not (other_data and _depends_on_data(name))
    ]
    unfinished = [names.audit(k) for k in range(at) if names.audited(k) not in shared]
    shared = [name for name in shared if not any(_is_of(name, audit) for audit in unfinished)]
    config = config.model_copy(update={"inherited_iterations": at})
    with made_or_nothing(target):
        try:
            (target / ledger.parts_directory.name).mkdir(parents=True)
            for name in shared:
                _link(ledger.part_path(name), target / ledger.parts_directory.name)
        except OSError as error:
            raise disk_error(target, error) from error
        forked = new_campaign(config, source=ledger.directory.resolve(), directory=target)
        forked.write_index(verdict=None)
    return Fork(target, iterations=at, linked=len(shared), labels=0, changed=changed)


def _with_labels_as_data(
    ledger: Ledger, config: CampaignConfig, target: Path, *, at: int, changed: Mapping[str, tuple[Any, Any]]
) -> Fork:
    """A fork that shares the labels, and starts training from the newest committee of the shared iterations."""
    labelled = ledger.dataset(before=at)
    level = stored_level(ledger)
    with TemporaryDirectory() as folder:
        file = Path(folder) / LABELS_FILE.format(name=ledger.config.name.replace(" ", "-"))
        write_hdf5_data(file, labelled, level or {})
        # Frames of the old `data` are among the labels. The labels were checked when they were made: what looks like an
        # outlier is a stretched bond.
        added = config.data if any(is_within(key, ("data",)) for key in changed) else []
        data = [item.model_dump(mode="json") for item in added]
        update: dict[str, Any] = {"data": [*data, {"file": str(file), "keep_outliers": True}]}
        if at and _may_start_from_the_committee(ledger, config, changed):
            committee = Path(folder) / COMMITTEE_FILE
            copy_members(ledger.directory, committee, iteration=at - 1)
            update["training"] = {**config.training.model_dump(mode="json"), "start": str(committee)}
        changed_config = validate_config(
            {**config.model_dump(mode="json"), **update, "inherited_iterations": None}, source="fork"
        )
        new_campaign(changed_config, source=ledger.directory.resolve(), directory=target)
    return Fork(target, iterations=0, linked=0, labels=len(labelled), changed=changed)


def _may_start_from_the_committee(
    ledger: Ledger, config: CampaignConfig, changed: Mapping[str, tuple[Any, Any]]
) -> bool:
    """Whether a fork that shares the labels can start training from the old committee.

    It has to have the same model. Frames of a file are divided anew into training and test frames if an option of the
    initial set changes, so that the old committee may have been trained on the new test frames.
    """
    same_model = not any(is_within(key, OF_THE_MODEL) for key in changed)
    divided = any(own.initial.source == "file" for own in config.by_system.values())
    divided_anew = divided and any(is_within(key, ("initial", "systems", "seed")) for key in changed)
    return same_model and not divided_anew and config.training.start == ledger.config.training.start


def _with_settings(config: CampaignConfig, settings: Sequence[str], *, name: str) -> CampaignConfig:
    """The config with changed options.

    Raises:
        InputError: If a setting is not `key=value`, or the key or the value is wrong.
    """
    data = config.model_dump(mode="json")
    data["name"] = name
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise InputError(f"--set {setting}: write --set KEY=VALUE, such as selection.upper_mev_per_ang=400")
        section: Any = data
        *path, last = key.split(".")
        for step in path:
            section = section.get(step) if isinstance(section, dict) else None
            if not isinstance(section, dict):
                raise InputError(f"--set {setting}: there is no section `{'.'.join(path)}`")
        value = parse_value(text, source=f"--set {setting}")
        section[last] = with_whole_paths(value, last, folder=Path())  # not from the campaign's folder
    return validate_config(data, source="--set")


def _refuse_other_labels(
    changed: Mapping[str, tuple[Any, Any]], begun: CampaignConfig, config: CampaignConfig, directory: Path, target: Path
) -> None:
    """Refuse changes of options that decide how frames are labelled: the fork shares labels that were made with them.

    Raises:
        InputError: If there is such a change; the message says whether it is of the level of theory.
    """
    other = [key for key in changed if key.startswith("labels.") and not is_mutable(key)]
    if not other:
        return
    levels = [level_of_theory(each.labels, periodic=each.labels_boxes) for each in (begun, config)]
    why = (
        "the shared labels were made with the old value"
        if levels[0] == levels[1]
        else "it is part of the level of theory, and labels of two levels are never mixed"
    )
    raise InputError(
        f"`{other[0]}` cannot change in a fork: {why}. Start a new campaign: `al-engine run CONFIG --dir "
        f"{typed(target)}`. With `training.start: {directory}` in its config, its training starts from this committee"
    )


def _depends_on_data(name: str) -> bool:
    """Whether a part holds the user's own frames or their labels, or the data set that they join."""
    labels = f"{names.label_group(names.DATA)}-labels-"
    return name in (names.DATA, names.INITIAL_DATASET) or name.startswith(labels)


def _is_of(name: str, audit: str) -> bool:
    """Whether a part is that of an audit's frames, or of their labels."""
    return name == audit or names.label_source(name) == audit


def _link(part: Path, folder: Path) -> None:
    """Link a part into a folder. Parts never change, so that both campaigns can own the same file."""
    try:
        os.link(part, folder / part.name)
    except OSError:  # another file system, or one without links
        shutil.copyfile(part, folder / part.name)
