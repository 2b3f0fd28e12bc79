"""Stage `initial-dataset`: labelled initial frames become the data set of iteration 0, test frames the test set."""

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.labels import Labels, read_labels
from al_engine.campaign.ledger import Ledger
from al_engine.errors import InputError, typed
from al_engine.files.frames_hdf5 import has_dataset, write_labelled
from flows.compute.stage_call import Stage, Work, summarise


def plan(ledger: Ledger) -> Stage:
    """The stage that assembles the initial data set and the test set."""
    parents = (names.INITIAL_FRAMES, *(path.stem for path in ledger.label_parts(names.INITIAL_FRAMES)))
    return Stage(name=names.INITIAL_DATASET, job=f"{__name__}:assemble", inputs={}, parents=parents, needs="nothing")


def assemble(work: Work) -> None:
    """Put the labelled initial and test frames together.

    Raises:
        InputError: If too many labels failed for a campaign to make sense.
    """
    labels = read_labels(work.parts.path(name) for name in work.parts.label_chunks(names.INITIAL_FRAMES))
    with work.parts.open(names.INITIAL_FRAMES) as frames:
        n_train, test_kelvin = len(frames["train/n_atoms"]), frames["test/temperature_kelvin"][()]
        central = None
        if has_dataset(frames["test"], "central"):
            central = np.split(frames["test/central"][()], np.cumsum(frames["test/n_atoms"][()])[:-1])
    train = [item for index, item in labels.labelled.items() if index < n_train]
    test = [item for index, item in labels.labelled.items() if index >= n_train]
    refuse_failed_initial_set(labels, work, n_train=len(train), n_test=len(test))
    with work.write() as root:
        write_labelled(root.create_group("labelled"), train)
        write_labelled(root.create_group("test"), test)
        kept = [i - n_train for i in labels.labelled if i >= n_train]
        root["test/temperature_kelvin"] = test_kelvin[kept]
        if central is not None:
            root["test/central"] = np.concatenate([central[i] for i in kept])
        root.attrs["label_failures"] = labels.failures
        words = f" ({labels.failure_words()})" if labels.failures else ""
        summarise(
            root,
            f"{len(train)} labelled initial frames, {len(test)} test frames, {labels.failures} failed labels{words}",
        )


def refuse_failed_initial_set(labels: Labels, work: Work, *, n_train: int, n_test: int) -> None:
    """Refuse an initial set in which too many labels failed.

    Args:
        labels: The labels of initial and test frames.
        work: The work of the stage.
        n_train: Number of labelled initial frames.
        n_test: Number of labelled test frames.

    Raises:
        InputError: If more than `labels.max_failed_share` of the labels failed, or fewer than two initial frames or no
            test frame are labelled.
    """
    allowed = work.config.labels.max_failed_share * len(labels.reasons)
    if labels.failures > allowed or n_train < 2 or n_test < 1:  # noqa: PLR2004 (a frame to train on, a frame to validate)
        raise InputError(
            f"{labels.failures} of {len(labels.reasons)} initial labels failed, {labels.failure_words()}. Once their "
            f"cause is gone, `al-engine resume {typed(work.directory)} --retry-failed-labels` computes them again; "
            f"if it is in the config, copy {work.directory}/campaign.yaml beside itself, change the copy, and start "
            "over: `al-engine run COPY --dir NEW`"
        )
