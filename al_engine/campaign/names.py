"""Names of the parts: the file name of a part without its ending."""

import re
from collections.abc import Container, Sequence

from al_engine.config import CampaignConfig, StatePoint

INITIAL_FRAMES = "initial-frames"
"""The part with the system and its initial frames, in a campaign of one system."""
INITIAL_DATASET = "initial-dataset"
DATA = "initial-data-frames"
"""The part with the user's own frames (`data` in the config)."""


def initial_frames(system: str = "") -> str:
    """The part with a system and its initial frames."""
    return f"initial-{system}-frames" if system else INITIAL_FRAMES


def all_initial_frames(config: CampaignConfig) -> list[str]:
    """The parts with the initial frames of all systems, in order."""
    return [initial_frames(system) for system in config.by_system]


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


def dataset_before(iteration: int, existing: Container[str]) -> list[str]:
    """The parts that make the data set before an iteration, in order.

    Args:
        iteration: The iteration.
        existing: Names of the existing parts: an iteration need not have an audit.
    """
    parts = [INITIAL_DATASET]
    for k in range(iteration):
        parts += [append(k), *([audited(k)] if audited(k) in existing else [])]
    return parts


def initial_sources(config: CampaignConfig) -> list[str]:
    """The parts whose frames make the data set before iteration 0: initial frames, and the user's own frames."""
    return [*all_initial_frames(config), *([DATA] if config.data else [])]


def sample(iteration: int, temperature_kelvin: float, system: str = "") -> str:
    """The part with the frames of a system sampled at one temperature."""
    return f"iter{iteration:03d}-sample-{f'{system}-' if system else ''}{temperature_kelvin:g}K"


def samples(iteration: int, points: Sequence[StatePoint]) -> list[str]:
    """The parts with the frames sampled at state points, in order."""
    return [sample(iteration, point.temperature_kelvin, point.system) for point in points]


def selection(iteration: int) -> str:
    """The part with the fates of all sampled frames and with the chosen frames."""
    return f"iter{iteration:03d}-selection"


def audit(iteration: int) -> str:
    """The part with the accurate frames drawn for the audit of an iteration's committee."""
    return f"iter{iteration:03d}-audit"


def audited(iteration: int) -> str:
    """The part with the result of an audit; if the audit failed, the labelled frames join the data set."""
    return f"iter{iteration:03d}-audited"


def labels(source: str, first: int, last: int) -> str:
    """The part with labels of the frames `first` to `last`, counted from 1, of the part `source`.

    Args:
        source: Name of the part with the frames: an `initial_frames`, a `selection`, or an `audit`.
        first: Number of the first frame.
        last: Number of the last frame.
    """
    return f"{label_group(source)}-labels-{first:05d}-{last:05d}"


def label_group(source: str) -> str:
    """Beginning of the names of the label parts of a source, such as `initial`, `iter003` or `iter003-audit`."""
    return source.removesuffix("-frames" if is_initial(source) else "-selection")


def is_initial(source: str) -> bool:
    """Whether a part holds the initial frames of a system."""
    return system_of_initial(source) is not None


def system_of_initial(source: str) -> str | None:
    """Name of the system whose initial frames a part holds, the inverse of `initial_frames`; None for other parts."""
    match = re.fullmatch(r"initial(-(\w+))?-frames", source)
    return None if match is None else match[2] or ""


def label_source(name: str) -> str | None:
    """The part whose frames a label part labels; None if the name is not that of a label part."""
    match = re.fullmatch(r"(?P<initial>initial(-\w+)?)-labels-[\d-]+|(iter\d{3})(?P<audit>-audit)?-labels-[\d-]+", name)
    if match is None:
        return None
    if match["initial"]:
        return f"{match['initial']}-frames"
    return f"{match[3]}-audit" if match["audit"] else f"{match[3]}-selection"


def label_range(name: str) -> tuple[str, int, int] | None:
    """Source, first and last frame of a label part, the inverse of `labels`; None if it is not a label part."""
    source, match = label_source(name), re.search(r"-(\d{5})-(\d{5})$", name)
    return None if source is None or match is None else (source, int(match[1]), int(match[2]))


def joined(source: str) -> str:
    """The part through which the labels of a source join the data set."""
    if is_initial(source):
        return INITIAL_DATASET
    return f"{source}ed" if source.endswith("-audit") else f"{source.removesuffix('-selection')}-append"


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
        samples(iteration, config.state_points),
        [selection(iteration)],
        [evaluation(iteration)],
        [append(iteration)],
    ]
