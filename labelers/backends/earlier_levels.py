"""Comparison of the current level of theory with levels of theory that earlier versions of al-engine stored.

Earlier versions differ in five ways:

- With an ASE calculator, the energy of a label was `energy` instead of the force-consistent energy.
- With an ASE calculator, charge and unpaired electrons were passed only through ASE's initial charges and magnetic
  moments.
- With an ASE calculator from a package whose distribution has another name, the version was stored as `unknown`.
- With an ASE calculator, the content of the files that its parameters name was not stored.
- With xtb, frames were not rotated.

The levels that they stored mention none of these choices.
"""

from collections.abc import Mapping
from typing import Any

from al_engine.campaign.labels import FILES, FRAMES_TURNED, LevelOfTheory
from labelers.backends.ase.calculator import calculator_class
from labelers.backends.ase.facts import Facts, facts_of

_NEW_SETTINGS = ("energy", "charge_and_spin")
"""Settings of an ASE calculator's level of theory that earlier versions did not store."""


def changes_since(stored: Mapping[str, Any], now: LevelOfTheory, *, closed_shells: bool) -> list[str] | None:
    """Compare the level of theory of labels from an earlier version with the current level.

    Args:
        stored: The level as stored with the labels (`LevelOfTheory.to_dict`).
        now: The current level of theory.
        closed_shells: Whether all labelled frames are neutral and have no unpaired electrons.

    Returns:
        The changes that would alter the labels, in words; empty if the labels would be the same. None if `stored` is
        not an earlier form of `now`.

    Raises:
        InputError: If the calculator can't be imported.
    """
    settings = dict(stored["settings"])
    fault = known_fault(stored)
    if fault is not None and {**stored, "settings": {**settings, FRAMES_TURNED: True}} == now.to_dict():
        return [fault]
    if now.backend != "ase":
        return None
    settings = _completed(settings, now.settings)
    if {**stored, "settings": settings} == now.to_dict():
        return []
    if any(name in settings for name in _NEW_SETTINGS):
        return None
    if "parameters" in settings:  # earlier versions stored `directory` too, which does not change the labels
        settings["parameters"] = {key: value for key, value in settings["parameters"].items() if key != "directory"}
    settings_now = {name: value for name, value in now.settings.items() if name not in _NEW_SETTINGS}
    if {**stored, "settings": settings} != {**now.to_dict(), "settings": settings_now}:
        return None
    calculator = calculator_class(now.method)
    facts = facts_of(now.method, calculator)
    changes = []
    if _free_energy_may_differ(calculator, facts):
        changes.append(
            "the stored energy is now `free_energy`, which the forces belong to, and no longer `energy`, which differs "
            "from it with electronic smearing"
        )
    if not closed_shells and (facts is None or not (facts.charges and facts.moments)):
        changes.append(
            "charge and unpaired electrons now reach the calculator by labels.ase_charge_and_spin, and no longer only "
            "by ASE's initial charges and magnetic moments"
        )
    return changes


def _completed(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings of an ASE calculator, with the present value of what earlier versions did not know."""
    settings = dict(stored)
    if settings.get("calculator_version") == "unknown":
        settings["calculator_version"] = now["calculator_version"]
    if FILES in now:
        settings.setdefault(FILES, now[FILES])
    return settings


def known_fault(stored: Mapping[str, Any]) -> str | None:
    """Describe the known fault of labels from an earlier version, if there is one.

    Args:
        stored: The level of theory as stored with the labels (`LevelOfTheory.to_dict`).

    Returns:
        The fault in words; None if no fault is known.
    """
    if stored["backend"] == "xtb" and FRAMES_TURNED not in stored["settings"]:
        return (
            f"xtb {stored['backend_version']} was given frames without rotation, which gives wrong forces (by up to "
            "several eV/Å) where two near atoms share a Cartesian coordinate, as in files with two or three decimals"
        )
    return None


def _free_energy_may_differ(calculator: Any, facts: Facts | None) -> bool:
    """Whether a calculator may return a free energy that differs from its energy.

    Args:
        calculator: The class, or a function that makes a calculator.
        facts: Known facts about the calculator; None if it has no row.
    """
    if facts is not None:
        return facts.smeared
    if str(getattr(calculator, "__module__", "")).startswith("ase.calculators."):
        return False  # every calculator of ASE whose free energy may differ has a row in `facts`
    return "free_energy" in getattr(calculator, "implemented_properties", ["free_energy"])
