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
from al_engine.config.reader import differences, parse_value, validate_config
from al_engine.errors import InputError, typed
from al_engine.files.atomic import disk_error
from flows.session.new_campaign import made_or_nothing, new_campaign
from samplers.initial.user_data import write_hdf5_data

OF_THE_PAST = ("system", "systems", "initial", "seed", "training.reference_energies", "sampling.temperatures_kelvin")
"""Options that the parts of the past depend on. If one of them changes, the labels are shared as data, not as parts."""
OF_THE_MODEL = ("model",)
"""Options that the weights depend on. If one of them changes, training does not start from the old committee."""
OF_FILES = ("file", "structure", "structures", "start")
"""Names of options whose values are paths."""
LABELS_FILE = "labels-of-{name}.h5"
"""Name of the file with the labels of the old campaign, in the folder of the inputs."""


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
    from the newest committee.

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
    _refuse_other_level(changed, directory, target)
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
        update: dict[str, Any] = {"data": [*config.model_dump(mode="json")["data"], {"file": str(file)}]}
        same_model = not any(is_within(key, OF_THE_MODEL) for key in changed)
        if at and same_model and config.training.start == ledger.config.training.start:
            training = config.training.model_dump(mode="json")
            update["training"] = {**training, "start": str(ledger.directory.resolve())}
        changed_config = validate_config(
            {**config.model_dump(mode="json"), **update, "inherited_iterations": None}, source="fork"
        )
        new_campaign(changed_config, source=ledger.directory.resolve(), directory=target)
    return Fork(target, iterations=0, linked=0, labels=len(labelled), changed=changed)


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
        section[last] = _with_whole_paths(parse_value(text, source=f"--set {setting}"), last)
    return validate_config(data, source="--set")


def _with_whole_paths(value: Any, key: str) -> Any:
    """A value with whole paths of its files: relative paths start at the present folder, not at the campaign's."""
    if isinstance(value, dict):
        return {name: _with_whole_paths(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_whole_paths(each, key) for each in value]
    return str(Path(value).resolve()) if key in OF_FILES and isinstance(value, str) else value


def _refuse_other_level(changed: Mapping[str, tuple[Any, Any]], directory: Path, target: Path) -> None:
    """Refuse changes of the level of theory: labels of two levels are never mixed."""
    other = [key for key in changed if key.startswith("labels.") and not is_mutable(key)]
    if other:
        raise InputError(
            f"`{other[0]}` is part of the level of theory, and labels of two levels are never mixed. Start a new "
            f"campaign: `al-engine run CONFIG --dir {typed(target)}`. With `training.start: {directory}` in its "
            "config, its training starts from this committee"
        )


def _depends_on_data(name: str) -> bool:
    """Whether a part holds the user's own frames or their labels, or the data set that they join."""
    labels = f"{names.label_group(names.DATA)}-labels-"
    return name in (names.DATA, names.INITIAL_DATASET) or name.startswith(labels)


def _link(part: Path, folder: Path) -> None:
    """Link a part into a folder. Parts never change, so that both campaigns can own the same file."""
    try:
        os.link(part, folder / part.name)
    except OSError:  # another file system, or one without links
        shutil.copyfile(part, folder / part.name)
