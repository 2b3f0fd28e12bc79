"""Errors of the committee's mean and of each member on the test set, by system and temperature."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from al_engine.campaign.scores import read_test
from al_engine.committee.predictions import TemperatureErrors, committee_errors
from al_engine.config import StatePoint
from al_engine.errors import InputError
from al_engine.protocols import Progress
from al_engine.structures.frames import IntArray
from flows.evaluation import plots
from flows.evaluation.subject import Subject
from flows.stages.search.scoring import EVALUATION_BATCH

WHAT = "errors"


def evaluate_errors(subject: Subject, progress: Progress) -> dict[str, Any]:
    """Score the committee on the test set.

    Raises:
        InputError: If the test set is empty.
    """
    test = read_test(subject.ledger.reader(), subject.ledger.config)
    if not test.frames:
        raise InputError(f"{subject.ledger.directory}: has no labelled test frames, because all their labels failed")
    energies, forces = subject.committee().predict(
        [item.frame for item in test.frames], batch_size=EVALUATION_BATCH, progress=progress
    )

    def errors_of(rows: IntArray, kelvin: float | None, system: str = "") -> TemperatureErrors:
        chosen = rows.tolist()
        labelled = [test.frames[i] for i in chosen]
        own = [forces[i] for i in chosen]
        return committee_errors(energies[:, chosen], own, labelled, kelvin=kelvin, system=system)

    kelvins = test.temperature_kelvin
    system = np.zeros(len(kelvins), dtype=np.int64) if test.system is None else test.system
    by_temperature = []
    for index, name in enumerate(test.systems):
        own = system == index
        known = np.unique(kelvins[own & np.isfinite(kelvins)]).tolist()
        by_temperature += [errors_of(np.flatnonzero(own & (kelvins == kelvin)), kelvin, name) for kelvin in known]
        unknown = np.flatnonzero(own & ~np.isfinite(kelvins))
        if len(unknown):
            by_temperature.append(errors_of(unknown, None, name))
    overall = errors_of(np.arange(len(test.frames)), None)
    plot = plots.errors_plot(
        by_temperature,
        kelvins=kelvins,
        forces_reference=[item.forces for item in test.frames],
        forces_predicted=[frame_forces.mean(axis=0) for frame_forces in forces],
        force_mae=overall.mean.forces_mev_per_ang.mae,
    )
    values = {"all": asdict(overall), "temperatures": [asdict(errors) for errors in by_temperature]}
    return subject.result(WHAT, values, plot)


def errors_text(answer: dict[str, Any]) -> str:
    """The result as text for the terminal."""
    width = max(9, *(len(_name(row)) for row in answer["temperatures"]))
    lines = [
        f"iteration {answer['iteration']}, test set of {answer['all']['mean']['frames']} frames",
        "",
        f"{'':>{width}}  {'':>6}  {'forces / meV/Å':^26}  {'energy / meV/atom':^26}",
        (
            f"{'':>{width}}  {'frames':>6}  {'MAE':>6} {'RMSE':>6} {'max':>6} {'member':>6}  "
            f"{'MAE':>6} {'RMSE':>6} {'max':>6} {'member':>6}"
        ),
    ]
    for row in [*answer["temperatures"], {**answer["all"], "kelvin": "all"}]:
        cells = [f"{_name(row):>{width}}  {row['mean']['frames']:>6}"]
        for quantity in ("forces_mev_per_ang", "energy_mev_per_atom"):
            mean = row["mean"][quantity]
            members = [m[quantity]["mae"] for m in row["members"]]
            member = None if None in members else float(np.mean(members))
            shown = (mean["mae"], mean["rmse"], mean["largest"], member)
            cells.append(" ".join(f"{'-' if value is None else format(value, '.3g'):>6}" for value in shown))
        lines.append("  ".join(cells))
    lines += [
        "",
        "errors of the committee's mean; member: MAE of a single member, averaged over the members",
        f"{answer['plot']}",
    ]
    return "\n".join(lines)


def _name(row: Mapping[str, Any]) -> str:
    """The state point of a row of errors in words."""
    kelvin = row["kelvin"]
    if kelvin == "all":
        return "all"
    if kelvin is None:
        return f"{row['system']} unknown".strip()
    return str(StatePoint(row["system"], kelvin))
