"""Extension of a campaign: more iterations in its own directory; more temperatures or systems in a fork."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ase.symbols import Symbols

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.config import CampaignConfig
from al_engine.config.campaign import ENERGY_WEIGHT_OF_SEVERAL
from al_engine.config.reader import parse_value, validate_config, with_whole_paths
from al_engine.errors import InputError, typed
from al_engine.files.lock import campaign_lock
from al_engine.verdict.verdict import Verdict
from flows.session.fork import Fork, fork
from flows.stages.audits.judging import verdict_after
from flows.stages.initial_set.importing import stored_systems

OF_ONE_SYSTEM = ("sampling.pressure_bar", "selection.cut_molecules", "initial.file")
"""Options that belong to a system; in a campaign of several systems they stand with the system."""


@dataclass(frozen=True, slots=True)
class Extension:
    """An extended campaign.

    Attributes:
        directory: The directory of the campaign that goes on: the same, or a new one.
        max_iterations: Number of its own iterations after which it stops.
        fork: What a campaign in a new directory shares; None if the campaign goes on in its own directory.
        verdict: The verdict that still holds, so that no further iteration is computed; None if the campaign goes on.
    """

    directory: Path
    max_iterations: int
    fork: Fork | None = None
    verdict: Verdict | None = None


def extend(
    directory: Path,
    new: Path | None = None,
    *,
    iterations: int | None = None,
    temperatures: Sequence[float] = (),
    systems: Sequence[str] = (),
) -> Extension:
    """Extend a campaign by iterations, temperatures or systems.

    More iterations go on in the same directory. Temperatures and systems decide what the past consists of, so that
    they need a new directory; its campaign has all labels and starts from the newest committee.

    Args:
        directory: The campaign directory.
        new: Directory of the new campaign; None: the campaign goes on in its own.
        iterations: Number of further iterations; None: `stop.max_iterations` stays as it is.
        temperatures: Further temperatures in K, for all systems.
        systems: Further systems, each an entry of the section `systems` in YAML.

    Raises:
        InputError: If nothing is added, if temperatures or systems are added without a new directory, if there is
            nothing to extend yet, or if an option is wrong.
        ResumableError: If another process runs the campaign, or the disk is full.
    """
    if iterations is None and not temperatures and not systems:
        raise InputError("nothing to extend by: give --iterations, --temperature or --system")
    ledger = Ledger.open(directory)
    if names.INITIAL_DATASET not in ledger.reader().names:
        raise InputError(f"{directory}: has no labelled initial set yet; edit its campaign.yaml")
    if new is None:
        if iterations is None or temperatures or systems:
            raise InputError(
                "more temperatures or systems need a directory of their own, because the parts of this campaign "
                f"depend on them: `al-engine extend {typed(directory)} NEW ...`; it shares all labels"
            )
        return _with_more_iterations(ledger, iterations)
    begun = ledger.launched_config() or ledger.config
    settings = _systems_settings(begun, ledger, systems) if systems else {}
    settings |= _temperature_settings(
        begun, settings.get("systems", _dumped(begun, directory)["systems"]), temperatures
    )
    if iterations is not None:
        settings["stop.max_iterations"] = iterations
    made = fork(directory, new, settings=[f"{key}={_in_yaml(value)}" for key, value in settings.items()])
    return Extension(new, Ledger.open(new).config.stop.max_iterations, fork=made)


def _with_more_iterations(ledger: Ledger, iterations: int) -> Extension:
    """Raise the limit of iterations in the campaign's own directory, and judge the campaign again."""
    with campaign_lock(ledger.directory, ledger.config.execution.lock):
        ledger.refuse_changed_config()
        limit = len(ledger.own_history()) + iterations
        data = ledger.config.model_dump(mode="json")
        data["stop"]["max_iterations"] = limit
        ledger.config = validate_config(data, source="--iterations", begun=True)
        ledger.write_config()
        verdict = verdict_after(ledger, len(ledger.history()))
        if verdict is None:
            ledger.write_index(None)
    return Extension(ledger.directory, limit, verdict=verdict)


def _systems_settings(config: CampaignConfig, ledger: Ledger, added: Sequence[str]) -> dict[str, Any]:
    """The options of a campaign that has further systems, by dotted key."""
    data = _dumped(config, ledger.directory)
    systems, settings = data["systems"], dict[str, Any]()
    if config.system is not None:
        (stored,) = stored_systems(ledger.reader(), config)
        own: dict[str, Any] = {"name": Symbols(stored.frame.numbers).get_chemical_formula()[:32], **data["system"]}
        for key in OF_ONE_SYSTEM:
            section, option = key.split(".")
            if (value := data[section][option]) is not None:
                where = own.setdefault("initial", {}) if section == "initial" else own
                where[option] = value
                settings[key] = None
        systems, settings["system"] = [own], None
        if config.training.energy_weight == type(config.training).model_fields["energy_weight"].default:
            settings["training.energy_weight"] = ENERGY_WEIGHT_OF_SEVERAL
    for text in added:
        value = parse_value(text, source=f"--system {text}")
        if not isinstance(value, dict) or "name" not in value:
            raise InputError(
                f"--system {text}: write a system with a name in YAML, such as "
                "--system '{name: dimer, smiles: CCO, molecules: 2}'"
            )
        systems.append(with_whole_paths(value, "", folder=Path()))
    return {**settings, "systems": systems}


def _temperature_settings(
    config: CampaignConfig, systems: list[dict[str, Any]], temperatures: Sequence[float]
) -> dict[str, Any]:
    """The options with further temperatures, by dotted key: the common temperatures, and those of each system."""
    if not temperatures:
        return {}
    common = sorted({*config.sampling.temperatures_kelvin, *temperatures})
    settings: dict[str, Any] = {"sampling.temperatures_kelvin": common}
    if any(system.get("temperatures_kelvin") for system in systems):
        settings["systems"] = [_with_temperatures(system, temperatures) for system in systems]
    return settings


def _with_temperatures(system: Mapping[str, Any], temperatures: Sequence[float]) -> dict[str, Any]:
    own = system.get("temperatures_kelvin")
    return {**system, "temperatures_kelvin": sorted({*own, *temperatures})} if own else dict(system)


def _dumped(config: CampaignConfig, directory: Path) -> Any:
    """The config of a campaign as plain data, with whole paths of the files that it names."""
    return with_whole_paths(config.model_dump(mode="json"), "", folder=directory)


def _in_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("\n...\n")
