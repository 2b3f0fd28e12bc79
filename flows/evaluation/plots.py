"""Plots of the evaluations, as PNG bytes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from al_engine.frames import FloatArray
from flows.plots import BLUE, GREY, RED, png, warmth

if TYPE_CHECKING:
    from flows.evaluation.errors import TemperatureErrors
    from flows.evaluation.scans import Scan
    from flows.evaluation.stability import Trajectories

SCAN_COLUMNS = 4
HOTTEST_SHOWN = 3.0
"""In units of the thermostat's temperature: a collapsing replica's last temperature would hide all others."""


def errors_plot(
    by_temperature: Sequence["TemperatureErrors"],
    *,
    kelvins: FloatArray,
    forces_reference: Sequence[FloatArray],
    forces_predicted: Sequence[FloatArray],
    force_mae: float,
) -> bytes:
    """Parity of the test set's force components, and mean absolute errors by temperature.

    Args:
        by_temperature: What the bars show.
        kelvins: Temperature of each frame in K, shape (F,).
        forces_reference: Labels' forces in eV/Å, F arrays of shape (N, 3).
        forces_predicted: The committee's mean forces in eV/Å, F arrays of shape (N, 3).
        force_mae: Of all of them, meV/Å.
    """
    figure = Figure(figsize=(11.5, 3.9), layout="constrained")
    parity, forces, energies = figure.subplots(1, 3)
    known = np.unique(kelvins[np.isfinite(kelvins)]).tolist()
    for frame_kelvin, reference, predicted in zip(kelvins.tolist(), forces_reference, forces_predicted, strict=True):
        place = known.index(frame_kelvin) / max(len(known) - 1, 1) if frame_kelvin in known else None
        colour = GREY if place is None else warmth(place)
        parity.plot(reference.ravel(), predicted.ravel(), ".", ms=3, alpha=0.5, color=colour)
    low, high = parity.get_xlim()
    parity.plot([low, high], [low, high], color=GREY, lw=1)
    parity.set(
        xlabel="label force / eV/Å",
        ylabel="committee mean / eV/Å",
        title=f"Test forces: MAE {force_mae:.1f} meV/Å",
    )
    ticks = ["?" if errors.kelvin is None else f"{errors.kelvin:g}" for errors in by_temperature]
    places = np.arange(len(by_temperature))
    for axes, quantity, unit in (
        (forces, "forces_mev_per_ang", "force MAE / meV/Å"),
        (energies, "energy_mev_per_atom", "energy MAE / meV/atom"),
    ):
        axes.bar(places, [getattr(errors.mean, quantity).mae for errors in by_temperature], color=BLUE, label="mean")
        for place, errors in zip(places.tolist(), by_temperature, strict=True):
            values = [getattr(member, quantity).mae for member in errors.members]
            axes.plot([place] * len(values), values, "_", ms=12, color=RED, label=None if place else "members")
        axes.set_xticks(places, ticks)
        axes.set_xlim(-1, len(by_temperature))
        axes.set(xlabel="temperature / K", ylabel=unit, title="By temperature")
        axes.legend(fontsize=8)
    return png(figure)


def scans_plot(scans: Sequence["Scan"], factors: FloatArray) -> bytes:
    """One column per bond: its energy curve by labels and model, and the errors along it.

    Args:
        scans: The bonds.
        factors: Lengths in equilibrium lengths, shape (P,).
    """
    columns = min(SCAN_COLUMNS, len(scans))
    rows = -(-len(scans) // columns)
    figure = Figure(figsize=(3.2 * columns, 4.6 * rows), layout="constrained")
    panels = figure.subplots(2 * rows, columns, squeeze=False)
    for panel in panels.ravel():
        panel.set_visible(False)
    for place, scan in enumerate(scans):
        row, column = divmod(place, columns)
        energy, error = panels[2 * row, column], panels[2 * row + 1, column]
        lengths = factors * scan.equilibrium_ang
        energy.set_visible(True)
        energy.plot(lengths, scan.curve.reference, "k-", lw=1.5, label="label")
        energy.plot(lengths, scan.curve.predicted, "--", color=RED, lw=1.5, label="committee mean")
        energy.set(title=f"{scan.kind.name} ({scan.kind.count} alike)", ylabel="energy / eV")
        error.set_visible(True)
        error.plot(lengths, scan.curve.force_mae, "o-", ms=3, color=BLUE, label="forces / meV/Å")
        error.plot(lengths, scan.curve.energy_mae, "s-", ms=3, color=RED, label="energy / meV/atom")
        error.plot(lengths, scan.curve.deviation, ":", color=GREY, label="max deviation / meV/Å")
        error.set_yscale("log")
        error.set(xlabel="bond length / Å", ylabel="mean absolute error")
    panels[0, 0].legend(fontsize=7)
    panels[1, 0].legend(fontsize=7)
    return png(figure)


def stability_plot(seen: "Trajectories", *, kelvin: float, timestep_fs: float) -> bytes:
    """Survivors, the largest stretch and the temperature of each replica against time."""
    from samplers.explosion import LONGEST_STRETCH_ANG
    from samplers.stability import surviving

    figure = Figure(figsize=(11.5, 3.6), layout="constrained")
    alive, stretch, temperature = figure.subplots(1, 3)
    time_ps = seen.step * timestep_fs * 1e-3
    share = surviving(seen.stop_reason, seen.stop_step, seen.step)
    alive.step([0.0, *time_ps], [100.0, *(100.0 * share)], where="post", color=BLUE, lw=2)
    alive.set(ylim=(-3, 103), ylabel="surviving / %", title=f"Survivors of {len(seen.stop_reason)}")
    replicas = seen.stretch_ang.shape[1]
    for replica in range(replicas):
        colour = warmth(replica / max(replicas - 1, 1))
        stretch.plot(time_ps, seen.stretch_ang[:, replica], lw=0.8, color=colour)
        temperature.plot(time_ps, seen.kinetic_kelvin[:, replica], lw=0.5, color=colour)
    stretch.axhline(LONGEST_STRETCH_ANG, color=GREY, ls="--", lw=1, label="collapse")
    stretch.set_yscale("log")
    stretch.set(ylabel="Å from the equilibrium length", title="Most stretched bond")
    stretch.legend(fontsize=8)
    temperature.axhline(kelvin, color=GREY, ls="--", lw=1, label="thermostat")
    temperature.set(ylim=(0, HOTTEST_SHOWN * kelvin), ylabel="K", title="Kinetic temperature")
    temperature.legend(fontsize=8)
    for axes in (alive, stretch, temperature):
        axes.set_xlabel("time / ps")
        axes.set_xlim(0, max(float(time_ps[-1]), 1e-9))
    return png(figure)
