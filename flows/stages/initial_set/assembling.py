"""Stage `initial-dataset`: labelled initial frames become the data set of iteration 0, test frames the test set."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.labels import Labels, LevelOfTheory, read_labels
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.scores import NO_SYSTEM, SYSTEM, SYSTEMS, central_atoms
from al_engine.config import OneSystemConfig
from al_engine.errors import InputError, typed
from al_engine.files.frames_hdf5 import has_dataset, read_labelled, write_labelled
from al_engine.structures.frames import BoolArray, FloatArray, LabelledFrame
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.initial_set.isolated_atoms import label_isolated_atoms, write_isolated_atoms


def plan(ledger: Ledger, level: LevelOfTheory) -> Stage:
    """The stage that assembles the initial data set and the test set.

    Args:
        ledger: The campaign.
        level: The level of theory, for the energies of isolated atoms.
    """
    atoms = ledger.config.training.reference_energies == "isolated_atoms"
    parents = [
        name
        for source in names.initial_sources(ledger.config)
        for name in (source, *(path.stem for path in ledger.label_parts(source)))
    ]
    return Stage(
        name=names.INITIAL_DATASET,
        job=f"{__name__}:assemble",
        inputs={"isolated_atoms": level.fingerprint()} if atoms else {},
        parents=tuple(parents),
        arguments={"level": level.to_dict()},
        needs="labels" if atoms else "nothing",
    )


def assemble(work: Work, *, level: dict[str, Any]) -> None:
    """Put the labelled initial and test frames of all systems together, and label isolated atoms if the config asks.

    Raises:
        InputError: If too many labels failed for a campaign to make sense, or an isolated atom can't be labelled.
    """
    sets = [_initial_set(work, config) for config in work.config.by_system.values()]
    systems, data = list(work.config.by_system), _data(work)
    atoms = None
    if work.config.training.reference_energies == "isolated_atoms":
        labelled = [*data.frames, *(item for own in sets for item in own.train)]
        elements = {int(z) for item in labelled for z in item.frame.numbers}
        atoms = label_isolated_atoms(work, elements, LevelOfTheory(**level))
    with work.write() as root:
        write_labelled(root.create_group("labelled"), [*(item for own in sets for item in own.train), *data.frames])
        write_labelled(root.create_group("test"), [item for own in sets for item in own.test])
        root["test/temperature_kelvin"] = np.concatenate([own.test_kelvin for own in sets])
        if any(own.central is not None for own in sets):
            whole = [own.central or [np.ones(len(item), dtype=bool) for item in own.test] for own in sets]
            root["test/central"] = np.concatenate([atoms for own in whole for atoms in own])
        if work.config.systems or work.config.data:
            root.attrs[SYSTEMS] = systems
            of_systems = np.repeat(np.arange(len(sets)), [len(own.train) for own in sets])
            root[SYSTEM] = np.append(of_systems, np.full(len(data.frames), NO_SYSTEM))
        if work.config.systems:
            root[f"test/{SYSTEM}"] = np.repeat(np.arange(len(sets)), [len(own.test) for own in sets])
        if atoms is not None:
            write_isolated_atoms(root, atoms)
        labels = [*(own.labels for own in sets), data.labels]
        failures = sum(each.failures for each in labels)
        root.attrs["label_failures"] = failures
        words = "; ".join(each.failure_words() for each in labels if each.failures)
        summarise(
            root,
            f"{len(root['labelled/n_atoms'])} labelled initial frames, {len(root['test/n_atoms'])} test frames, "
            f"{failures} failed labels{f' ({words})' if words else ''}",
        )


@dataclass(frozen=True, slots=True, eq=False)
class _InitialSet:
    """The labelled initial frames and test frames of a system.

    Attributes:
        labels: The labels of all its frames.
        train: The labelled initial frames.
        test: The T labelled test frames.
        test_kelvin: Temperature of each test frame, K, shape (T,).
        central: The atoms of each test frame that stand for the box it was cut from, each shape (N,); None if frames
            are not cut, or if the molecules are equal and the central one can be found by its size.
    """

    labels: Labels
    train: list[LabelledFrame]
    test: list[LabelledFrame]
    test_kelvin: FloatArray
    central: list[BoolArray] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """The user's own frames with labels, and the outcomes of the frames that the campaign labelled."""

    frames: list[LabelledFrame]
    labels: Labels


def _data(work: Work) -> _Data:
    """Read the user's own frames; there may be none.

    Raises:
        InputError: If too many of the labels that the campaign made failed.
    """
    labels = read_labels(work.parts.path(name) for name in work.parts.label_chunks(names.DATA))
    if not work.config.data:
        return _Data([], labels)
    with work.parts.open(names.DATA) as root:
        frames = read_labelled(root["labelled"])
        weights = root["train/weight"][()] if has_dataset(root["train"], "weight") else None
    allowed = work.config.labels.max_failed_share * len(labels.reasons)
    if labels.failures > allowed:
        raise _failed(labels, work, "the user's frames (`data`)")
    own = labels.labelled
    if weights is not None:
        own = {index: replace(item, weight=float(weights[index])) for index, item in own.items()}
    return _Data([*frames, *own.values()], labels)


def _initial_set(work: Work, config: OneSystemConfig) -> _InitialSet:
    """Read the labels of a system's initial set.

    Raises:
        InputError: If too many labels failed.
    """
    source = names.initial_frames(config.system_name)
    labels = read_labels(work.parts.path(name) for name in work.parts.label_chunks(source))
    with work.parts.open(source) as frames:
        n_train, test_kelvin = len(frames["train/n_atoms"]), frames["test/temperature_kelvin"][()]
        central = None
        if has_dataset(frames["test"], "central"):
            central = np.split(frames["test/central"][()], np.cumsum(frames["test/n_atoms"][()])[:-1])
    train = [item for index, item in labels.labelled.items() if index < n_train]
    test = {index - n_train: item for index, item in labels.labelled.items() if index >= n_train}
    refuse_failed_initial_set(labels, work, config.system_name, n_train=len(train), n_test=len(test))
    kept = list(test)
    if central is not None:
        central = [central[index] for index in kept]
    elif config.system_name and config.selection.cut_molecules is not None:
        central = central_atoms(list(test.values()), config.selection.cut_molecules)
    return _InitialSet(labels, train, list(test.values()), test_kelvin[kept], central)


def refuse_failed_initial_set(labels: Labels, work: Work, system: str = "", *, n_train: int, n_test: int) -> None:
    """Refuse an initial set in which too many labels failed.

    Args:
        labels: The labels of initial and test frames.
        work: The work of the stage.
        system: Name of the system; empty in a campaign of one system.
        n_train: Number of labelled initial frames.
        n_test: Number of labelled test frames.

    Raises:
        InputError: If more than `labels.max_failed_share` of the labels failed, or fewer than two initial frames or no
            test frame are labelled.
    """
    allowed = work.config.labels.max_failed_share * len(labels.reasons)
    if labels.failures > allowed or n_train < 2 or n_test < 1:  # noqa: PLR2004 (a frame to train on, a frame to validate)
        raise _failed(labels, work, system)


def _failed(labels: Labels, work: Work, of: str) -> InputError:
    """The error for labels of which too many failed; `of` names their system, if there are several."""
    of_system = f" of {of}" if of else ""
    return InputError(
        f"{labels.failures} of {len(labels.reasons)} initial labels{of_system} failed, {labels.failure_words()}. "
        f"Once their cause is gone, `al-engine resume {typed(work.directory)} --retry-failed-labels` computes them "
        f"again; if it is in the config, copy {work.directory}/campaign.yaml beside itself, change the copy, and "
        "start over: `al-engine run COPY --dir NEW`"
    )
