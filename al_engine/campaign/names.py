"""Names of the parts. The name of a part is its file name without the ending `.h5`."""

import re
from collections.abc import Container, Sequence

from al_engine.config import CampaignConfig, StatePoint

INITIAL_FRAMES = "initial-frames"
"""Name of the part with the system and its initial frames, in a campaign of one system."""
INITIAL_DATASET = "initial-dataset"
"""Name of the part with the labelled initial frames of all systems, the user's own frames and the test set."""
DATA = "initial-data-frames"
"""Name of the part with the user's own frames (`data` in the config)."""


def initial_frames(system: str = "") -> str:
    """Name of the part with a system and its initial frames; `system` is empty in a campaign of one system."""
    return f"initial-{system}-frames" if system else INITIAL_FRAMES


def all_initial_frames(config: CampaignConfig) -> list[str]:
    """Names of the parts with the initial frames, one for each system, in the order of the config."""
    return [initial_frames(system) for system in config.by_system]


def member(iteration: int, index: int) -> str:
    """Name of the part with the weights of one member."""
    return f"iter{iteration:03d}-member{index}"


def members(iteration: int, count: int) -> list[str]:
    """Names of the parts with the weights of all members of a committee."""
    return [member(iteration, index) for index in range(count)]


def member_index(name: str) -> int:
    """Index of the member whose part has this name; the inverse of `member` for the index.

    Raises:
        ValueError: If the name is not that of a member's part.
    """
    match = re.fullmatch(r"iter\d{3,}-member(\d+)", name)
    if match is None:
        raise ValueError(f"{name}: not the name of a member's part")
    return int(match[1])


def dataset_before(iteration: int, existing: Container[str]) -> list[str]:
    """Names of the parts that make the data set before an iteration, in order.

    Args:
        iteration: The iteration.
        existing: Names of the existing parts. They show which iterations have an audit.
    """
    parts = [INITIAL_DATASET]
    for k in range(iteration):
        parts += [append(k), *([audited(k)] if audited(k) in existing else [])]
    return parts


def initial_sources(config: CampaignConfig) -> list[str]:
    """Names of the parts with the initial frames, and with the user's own frames: the data set before iteration 0."""
    return [*all_initial_frames(config), *([DATA] if config.data else [])]


def sample(iteration: int, temperature_kelvin: float, system: str = "") -> str:
    """Name of the part with the frames of a system sampled at one temperature."""
    return f"iter{iteration:03d}-sample-{f'{system}-' if system else ''}{temperature_kelvin:g}K"


def samples(iteration: int, points: Sequence[StatePoint]) -> list[str]:
    """Names of the parts with the frames sampled at each state point, in the order of the points."""
    return [sample(iteration, point.temperature_kelvin, point.system) for point in points]


def selection(iteration: int) -> str:
    """Name of the part with the fates of all sampled frames and with the chosen frames."""
    return f"iter{iteration:03d}-selection"


def audit(iteration: int) -> str:
    """Name of the part with the accurate frames drawn for the audit of an iteration's committee."""
    return f"iter{iteration:03d}-audit"


def audited(iteration: int) -> str:
    """Name of the part with the result of an audit.

    If the audit failed, the part also has the labelled frames, which join the data set.
    """
    return f"iter{iteration:03d}-audited"


def labels(source: str, first: int, last: int) -> str:
    """Name of the part with labels of the frames `first` to `last`, counted from 1, of the part `source`.

    Args:
        source: Name of the part with the frames: from `initial_sources`, `selection` or `audit`.
        first: Number of the first frame.
        last: Number of the last frame.
    """
    return f"{label_group(source)}-labels-{first:05d}-{last:05d}"


def label_group(source: str) -> str:
    """Beginning of the names of the label parts of a source, such as `initial`, `iter003` or `iter003-audit`.

    Args:
        source: Name of the part with the frames, as in `labels`.
    """
    return source.removesuffix("-frames" if is_initial(source) else "-selection")


def is_initial(source: str) -> bool:
    """Whether a part holds the initial frames of a system, or the user's own frames (`DATA`)."""
    return system_of_initial(source) is not None


def system_of_initial(source: str) -> str | None:
    """Name of the system whose initial frames a part holds, the inverse of `initial_frames`; None for other parts.

    For the user's own frames (`DATA`) it is `data`, which the config refuses as the name of a system.
    """
    match = re.fullmatch(r"initial(?:-(\w+))?-frames", source)
    return None if match is None else match[1] or ""


def label_source(name: str) -> str | None:
    """Name of the part whose frames a label part labels; None if `name` is not the name of a label part."""
    match = re.fullmatch(r"(?P<group>initial(-\w+)?|iter\d{3}(-audit)?)-labels-[\d-]+", name)
    if match is None:
        return None
    group = match["group"]
    if group.startswith("initial"):
        return f"{group}-frames"
    return group if group.endswith("-audit") else f"{group}-selection"


def label_range(name: str) -> tuple[str, int, int] | None:
    """Source, first and last frame of a label part; None if `name` is not the name of a label part.

    This is the inverse of `labels`: the source is the name of the part with the frames.
    """
    source, match = label_source(name), re.search(r"-(\d+)-(\d+)$", name)
    return None if source is None or match is None else (source, int(match[1]), int(match[2]))


def label_order(name: str) -> int:
    """Key that sorts the label parts of a source by their frames.

    The order of the names as text is another: from 100,000 frames on, the numbers have more digits.
    """
    found = label_range(name)
    return 0 if found is None else found[1]


def joined(source: str) -> str:
    """Name of the part through which the labels of a source join the data set.

    Args:
        source: Name of the part with the frames, as in `labels`.
    """
    if is_initial(source):
        return INITIAL_DATASET
    if source.endswith("-audit"):
        return f"{source.removesuffix('-audit')}-audited"
    return f"{source.removesuffix('-selection')}-append"


def evaluation(iteration: int) -> str:
    """Name of the part with the scores of the committee on the test set and on the new labels."""
    return f"iter{iteration:03d}-evaluation"


def append(iteration: int) -> str:
    """Name of the part with the labelled frames that join the data set, the final fates and the iteration's record."""
    return f"iter{iteration:03d}-append"


def of_iteration(iteration: int, config: CampaignConfig) -> list[list[str]]:
    """Names of the parts of a finished iteration: a list for each stage, in the order of the stages.

    Label parts are not included, because their number depends on the selection. Audits are not included either,
    because an iteration need not have an audit.
    """
    return [
        members(iteration, config.training.members),
        samples(iteration, config.state_points),
        [selection(iteration)],
        [evaluation(iteration)],
        [append(iteration)],
    ]
