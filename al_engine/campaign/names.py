"""Names of the parts, and the few numbers that follow from an iteration's index alone."""

import re

from al_engine.config import TrainingConfig

INITIAL_FRAMES = "initial-frames"
INITIAL_DATASET = "initial-dataset"


def member(iteration: int, index: int) -> str:
    """Weights of one member."""
    return f"iter{iteration:03d}-member{index}"


def sample(iteration: int, temperature_kelvin: float) -> str:
    """Frames sampled at one temperature."""
    return f"iter{iteration:03d}-sample-{temperature_kelvin:g}K"


def selection(iteration: int) -> str:
    """Fates of all sampled frames, and the chosen ones."""
    return f"iter{iteration:03d}-selection"


def labels(iteration: int | None, first: int, last: int) -> str:
    """Labels of the chosen frames `first` to `last`, counted from 1; iteration None: the initial set."""
    group = "initial" if iteration is None else f"iter{iteration:03d}"
    return f"{group}-labels-{first:05d}-{last:05d}"


def label_range(name: str) -> tuple[int | None, int, int] | None:
    """The inverse of `labels`; None for another part's name."""
    match = re.fullmatch(r"(?:initial|iter(\d{3}))-labels-(\d{5})-(\d{5})", name)
    return match and (None if match[1] is None else int(match[1]), int(match[2]), int(match[3]))


def evaluation(iteration: int) -> str:
    """The committee against the test set and the new labels."""
    return f"iter{iteration:03d}-evaluation"


def append(iteration: int) -> str:
    """The labelled frames that join the data set, final fates, and the iteration's record."""
    return f"iter{iteration:03d}-append"


def updates(training: TrainingConfig, iteration: int) -> int:
    """Gradient updates per member in an iteration."""
    return round(training.updates * (1.0 + training.updates_growth * iteration))


def driver(iteration: int, temperature_index: int, n_members: int) -> int:
    """The member that drives a temperature: rotates, so that no member's errors go unseen."""
    return (iteration + temperature_index) % n_members
