"""Levels of theory as earlier versions wrote them, and whether labels made now would be the same.

Of ASE calculators, those versions stored the `energy`, and told them charge and unpaired electrons through ASE's
initial charges and magnetic moments alone. Their levels say neither, because there was no other way. To xtb they gave
frames as they stand.
"""

from collections.abc import Mapping
from typing import Any

from al_engine.campaign.labels import FRAMES_TURNED, LevelOfTheory
from labelers.backends.ase.calculator import calculator_class
from labelers.backends.ase.facts import Facts, facts_of

_SAID_SINCE = ("energy", "charge_and_spin")


def changes_since(stored: Mapping[str, Any], now: LevelOfTheory, *, closed_shells: bool) -> list[str] | None:
    """What has changed between a level that an earlier version wrote and the same one now.

    Args:
        stored: The level as stored with the labels (`LevelOfTheory.to_dict`).
        now: What a label would be now.
        closed_shells: Whether all frames that the labels are of are neutral and without unpaired electrons.

    Returns:
        What would be other labels now, in words, nothing if they would be the same; None if `stored` is not an earlier
        form of `now` at all.

    Raises:
        InputError: If the calculator can't be imported.
    """
    settings = dict(stored["settings"])
    fault = known_fault(stored)
    if fault is not None and {**stored, "settings": {**settings, FRAMES_TURNED: True}} == now.to_dict():
        return [fault]
    if now.backend != "ase" or any(name in settings for name in _SAID_SINCE):
        return None
    if "parameters" in settings:  # a folder for files was once counted as a part of the level
        settings["parameters"] = {key: value for key, value in settings["parameters"].items() if key != "directory"}
    settings_now = {name: value for name, value in now.settings.items() if name not in _SAID_SINCE}
    if {**stored, "settings": settings} != {**now.to_dict(), "settings": settings_now}:
        return None
    calculator = calculator_class(now.method)
    facts = facts_of(now.method, calculator)
    changes = []
    if _free_energy_may_differ(calculator, facts):
        changes.append(
            "the energy stored is now the one that the forces belong to (`free_energy`), no longer `energy`, "
            "which electronic smearing makes another"
        )
    if not closed_shells and (facts is None or not (facts.charges and facts.moments)):
        changes.append(
            "charge and unpaired electrons now reach the calculator (labels.ase_charge_and_spin), which before had to "
            "read them from ASE's initial charges and magnetic moments"
        )
    return changes


def known_fault(stored: Mapping[str, Any]) -> str | None:
    """What is known to be wrong with labels that an earlier version made, in words; None if nothing.

    Args:
        stored: Their level of theory as it was stored with them (`LevelOfTheory.to_dict`).
    """
    if stored["backend"] == "xtb" and FRAMES_TURNED not in stored["settings"]:
        return (
            f"xtb {stored['backend_version']} was given frames as they stand, which gives wrong forces (by up to "
            "several eV/Å) where two near atoms share a Cartesian coordinate, as in files of two or three decimals"
        )
    return None


def _free_energy_may_differ(calculator: Any, facts: Facts | None) -> bool:
    """Whether a calculator may give a free energy that is another number than its energy."""
    if facts is not None:
        return facts.smeared
    if str(getattr(calculator, "__module__", "")).startswith("ase.calculators."):
        return False  # those of ASE's own that may have a row
    return "free_energy" in getattr(calculator, "implemented_properties", ["free_energy"])
