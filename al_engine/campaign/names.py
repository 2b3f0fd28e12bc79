"""Names of the parts: the file name of a part without its ending."""

import re
from collections.abc import Sequence

from al_engine.config import CampaignConfig

INITIAL_FRAMES = "initial-frames"
INITIAL_DATASET = "initial-dataset"


def member(iteration: int, index: int) -> str:
    """The part with the weights of one member."""
    return f"iter{iteration:03d}-member{index}"


def members(iteration: int, count: int) -> list[str]:
    """The parts with the weights of all members of a committee."""
    return [member(iteration, index) for index in range(count)]


def member_index(name: str) -> int:
    """The member whose part has this name; the inverse of `member`.

    Raises:
        ValueError: If the name is not that of a member's part.
    """
    match = re.fullmatch(r"iter\d{3,}-member(\d+)", name)
    if match is None:
        raise ValueError(f"{name}: not the name of a member's part")
    return int(match[1])


def dataset_before(iteration: int) -> list[str]:
    """The parts that make the data set before an iteration, in order."""
    return [INITIAL_DATASET, *(append(k) for k in range(iteration))]


def sample(iteration: int, temperature_kelvin: float) -> str:
    """The part with the frames sampled at one temperature."""
    return f"iter{iteration:03d}-sample-{temperature_kelvin:g}K"


def samples(iteration: int, temperatures_kelvin: Sequence[float]) -> list[str]:
    """The parts with the frames sampled at all temperatures, in order."""
    return [sample(iteration, kelvin) for kelvin in temperatures_kelvin]


def selection(iteration: int) -> str:
    """The part with the fates of all sampled frames and with the chosen frames."""
    return f"iter{iteration:03d}-selection"


def labels(iteration: int | None, first: int, last: int) -> str:
    """The part with labels of the chosen frames `first` to `last`, counted from 1; iteration None: the initial set."""
    group = "initial" if iteration is None else f"iter{iteration:03d}"
    return f"{group}-labels-{first:05d}-{last:05d}"


def label_range(name: str) -> tuple[int | None, int, int] | None:
    """Iteration, first and last frame of a label part, the inverse of `labels`; None if it is not a label part."""
    match = re.fullmatch(r"(?:initial|iter(\d{3}))-labels-(\d{5})-(\d{5})", name)
    return match and (None if match[1] is None else int(match[1]), int(match[2]), int(match[3]))


def evaluation(iteration: int) -> str:
    """The part with the scores of the committee on the test set and on the new labels."""
    return f"iter{iteration:03d}-evaluation"


def append(iteration: int) -> str:
    """The part with the labelled frames that join the data set, the final fates and the iteration's record."""
    return f"iter{iteration:03d}-append"


def of_iteration(iteration: int, config: CampaignConfig) -> list[list[str]]:
    """The parts of a finished iteration: a list for each stage, in the order of the stages.

    Label parts are not included, because their number depends on the selection.
    """
    return [
        members(iteration, config.training.members),
        samples(iteration, config.sampling.temperatures_kelvin),
        [selection(iteration)],
        [evaluation(iteration)],
        [append(iteration)],
    ]
