"""Candidates that bring no label, whatever the committee learns: frames that cannot be labelled, and known frames.

They count in the acceptance like all other candidates, but they do not show what the committee has yet to learn: where
molecules come apart, the acceptance stays high however long the campaign goes on. A copy of a known frame could be
labelled, but the label would teach nothing; copies are counted apart.
"""

from collections.abc import Mapping, Sequence

from al_engine.config import SelectionConfig
from al_engine.selection.fates import UNLABELABLE_FATES, Fate
from al_engine.verdict.records import TemperatureRecord, total_fates

MOST = 0.5
"""Share of candidates without a label from which a cause and a remedy are stated."""
LEAST_CANDIDATES = 5
"""Fewest candidates without a label for a cause. A single stretched bond does not mean that molecules come apart."""

_UNLABELABLE = tuple(fate.name.lower() for fate in UNLABELABLE_FATES)
_KNOWN = Fate.DUPLICATE.name.lower()
_CAUSES = {
    "fragmented": (
        "the system dissociates at {kelvins}, with bonds longer than {config.max_bond_factor:g} times their "
        "equilibrium length (selection.max_bond_factor); in a fork (`al-engine fork`), lower the temperatures or raise "
        "this option"
    ),
    "too_close": (
        "atoms collide at {kelvins}, closer than {config.min_distance_ang:g} Å or {config.min_contact_factor:g} times "
        "the sum of their covalent radii (selection.min_distance_ang, min_contact_factor); in a fork "
        "(`al-engine fork`), lower the temperatures, set model.zbl or lower these options"
    ),
    "refused": (
        "the labeler takes no such frames at {kelvins}, because of their elements, charge, extent or cell; in a new "
        "campaign, another system or labels.backend may help"
    ),
    "duplicate": (
        "at {kelvins} the committee disagrees on frames of the data set, of the test set or chosen before; in a fork "
        "(`al-engine fork`), more training or more initial frames may help"
    ),
}


def without_label(temperatures: Sequence[TemperatureRecord], config: SelectionConfig) -> str:
    """How many candidates bring no label and why; with the cause if they are most candidates, empty if there are none.

    Args:
        temperatures: Records of one or several iterations; records of older versions, without fates, are left out.
        config: The settings that the frames did not meet.
    """
    fates = total_fates(temperatures)
    found = _without_label(fates)
    reasons = ", ".join(f"{number} {fate.replace('_', ' ')}" for fate, number in found.items() if fate != _KNOWN)
    candidates, known = sum(fates.values()), found.get(_KNOWN, 0)
    never = sum(found.values()) - known
    shares = [
        *([f"{never} of {candidates} candidates can never be labelled ({reasons})"] if never else []),
        *([f"{known} of {candidates} candidates equal a known frame"] if known else []),
    ]
    text = ", and ".join(shares)
    if not mostly_without_label(temperatures):
        return text
    cause = max(found, key=found.__getitem__)
    return f"{text}: {_CAUSES[cause].format(kelvins=_kelvins(temperatures, cause), config=config)}"


def mostly_without_label(temperatures: Sequence[TemperatureRecord]) -> bool:
    """Whether at least `MOST` of the candidates, and at least `LEAST_CANDIDATES`, bring no label."""
    fates = total_fates(temperatures)
    return sum(_without_label(fates).values()) >= max(LEAST_CANDIDATES, MOST * sum(fates.values()))


def _kelvins(temperatures: Sequence[TemperatureRecord], fate: str) -> str:
    """The temperatures at which most candidates have a fate; if there are none, the temperature with most of them."""
    number, most = {}, []
    for point in sorted({t.point for t in temperatures}, key=lambda p: (p.system, p.temperature_kelvin)):
        fates = total_fates(t for t in temperatures if t.point == point)
        number[point] = fates.get(fate, 0)
        if number[point] and number[point] >= MOST * sum(fates.values()):
            most.append(point)
    *others, last = map(str, most or [max(number, key=number.__getitem__)])
    if last.count(",") or not others:  # names of systems
        return " and ".join([*others, last])
    return f"{', '.join(other.removesuffix(' K') for other in others)} and {last}"


def without_label_by_fate(record: TemperatureRecord) -> Mapping[str, int] | None:
    """Numbers of candidates that bring no label by fate, known frames last; None in records of older versions."""
    if record.candidate_fates is None:
        return None
    return _without_label(record.candidate_fates)


def _without_label(fates: Mapping[str, int]) -> dict[str, int]:
    return {fate: fates[fate] for fate in (*_UNLABELABLE, _KNOWN) if fates.get(fate)}
