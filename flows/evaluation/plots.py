"""Plots of the evaluations, as PNG bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from al_engine.committee.bond_curves import BondCurve
from al_engine.committee.predictions import TemperatureErrors
from al_engine.structures.frames import FloatArray
from flows.pages.plots import BLUE, GREY, RED, png, warmth

SCAN_COLUMNS = 4
"""Largest number of columns in the plot of bond scans; each bond has a column of two panels."""
HOTTEST_SHOWN = 3.0
"""Highest kinetic temperature shown, in units of the thermostat's temperature. Without a limit, a collapsing replica
would stretch the axis and hide all other replicas."""


def errors_plot(
    by_temperature: Sequence[TemperatureErrors],
    *,
    kelvins: FloatArray,
    forces_reference: Sequence[FloatArray],
    forces_predicted: Sequence[FloatArray],
    force_mae: float,
) -> bytes:
    """Parity of the test set's force components, and mean absolute errors by temperature.

    Args:
        by_temperature: Errors at each state point, shown as bars.
        kelvins: Temperature of each frame in K, shape (F,).
        forces_reference: Labels' forces in eV/Å, F arrays of shape (N, 3).
        forces_predicted: The committee's mean forces in eV/Å, F arrays of shape (N, 3).
        force_mae: Mean absolute error of all force components, meV/Å.
    """
    figure = Figure(figsize=(11.5, 3.9), layout="constrained")
    parity, forces, energies = figure.subplots(1, 3)
    known = np.unique(kelvins[np.isfinite(kelvins)]).tolist()
    for frame_kelvin, reference, predicted in zip(kelvins.tolist(), forces_reference, forces_predicted, strict=True):
        fraction = known.index(frame_kelvin) / max(len(known) - 1, 1) if frame_kelvin in known else None
        colour = GREY if fraction is None else warmth(fraction)
        parity.plot(reference.ravel(), predicted.ravel(), ".", ms=3, alpha=0.5, color=colour)
    low, high = parity.get_xlim()
    parity.plot([low, high], [low, high], color=GREY, lw=1)
    parity.set(
        xlabel="label force / eV/Å",
        ylabel="committee mean / eV/Å",
        title=f"Test forces: MAE {force_mae:.1f} meV/Å",
    )
    ticks = [_tick(errors) for errors in by_temperature]
    bars = np.arange(len(by_temperature))
    for axes, quantity, unit in (
        (forces, "forces_mev_per_ang", "force MAE / meV/Å"),
        (energies, "energy_mev_per_atom", "energy MAE / meV/atom"),
    ):
        axes.bar(bars, [getattr(errors.mean, quantity).mae for errors in by_temperature], color=BLUE, label="mean")
        for bar, errors in zip(bars.tolist(), by_temperature, strict=True):
            values = [getattr(member, quantity).mae for member in errors.members]
            axes.plot([bar] * len(values), values, "_", ms=12, color=RED, label=None if bar else "members")
        axes.set_xticks(bars, ticks)
        axes.set_xlim(-1, len(by_temperature))
        axes.set(xlabel="temperature / K", ylabel=unit, title="By temperature")
        axes.legend(fontsize=8)
    return png(figure)


def _tick(errors: TemperatureErrors) -> str:
    """The label of a state point on the axis: name of the system, if it has one, and temperature."""
    system = f"{errors.system}\n" if errors.system else ""
    return f"{system}{'?' if errors.kelvin is None else f'{errors.kelvin:g}'}"


@dataclass(frozen=True, slots=True, eq=False)
class ScanPanel:
    """The scan of one bond, for its two panels in the plot of bond scans.

    Attributes:
        title: Title above the panels.
        lengths_ang: Bond lengths in Å, shape (P,).
        curve: Energies and errors at these lengths.
    """

    title: str
    lengths_ang: FloatArray
    curve: BondCurve


def scans_plot(scans: Sequence[ScanPanel]) -> bytes:
    """Two panels for each bond, one above the other: energies of labels and committee, and the committee's errors."""
    columns = min(SCAN_COLUMNS, len(scans))
    rows = -(-len(scans) // columns)
    figure = Figure(figsize=(3.2 * columns, 4.6 * rows), layout="constrained")
    panels = figure.subplots(2 * rows, columns, squeeze=False)
    for panel in panels.ravel():  # the last row may have places without a bond
        panel.set_visible(False)
    for number, scan in enumerate(scans):
        row, column = divmod(number, columns)
        energy, error = panels[2 * row, column], panels[2 * row + 1, column]
        lengths = scan.lengths_ang
        energy.set_visible(True)
        energy.plot(lengths, scan.curve.reference, "k-", lw=1.5, label="label")
        energy.plot(lengths, scan.curve.predicted, "--", color=RED, lw=1.5, label="committee mean")
        energy.set(title=scan.title, ylabel="energy / eV")
        error.set_visible(True)
        error.plot(lengths, scan.curve.force_mae, "o-", ms=3, color=BLUE, label="forces / meV/Å")
        error.plot(lengths, scan.curve.energy_mae, "s-", ms=3, color=RED, label="energy / meV/atom")
        error.plot(lengths, scan.curve.deviation, ":", color=GREY, label="max deviation / meV/Å")
        error.set_yscale("log")
        error.set(xlabel="bond length / Å", ylabel="mean absolute error")
    panels[0, 0].legend(fontsize=7)
    panels[1, 0].legend(fontsize=7)
    return png(figure)


def stability_plot(
    *,
    time_ps: FloatArray,
    surviving: FloatArray,
    stretch_ang: FloatArray,
    kinetic_kelvin: FloatArray,
    kelvin: float,
    collapse_ang: float,
) -> bytes:
    """Share of surviving replicas, and of each replica the most stretched bond and the temperature, against time.

    Args:
        time_ps: The S times at which the replicas were inspected in ps, shape (S,).
        surviving: Share of the B replicas that survive, shape (S,).
        stretch_ang: Largest deviation of a bond from its equilibrium length in Å, shape (S, B).
        kinetic_kelvin: Kinetic temperatures in K, shape (S, B).
        kelvin: Temperature of the thermostat in K.
        collapse_ang: Stretch in Å that counts as collapse.
    """
    figure = Figure(figsize=(11.5, 3.6), layout="constrained")
    alive, stretch, temperature = figure.subplots(1, 3)
    replicas = stretch_ang.shape[1]
    alive.step([0.0, *time_ps], [100.0, *(100.0 * surviving)], where="post", color=BLUE, lw=2)
    alive.set(ylim=(-3, 103), ylabel="surviving / %", title=f"Survivors of {replicas}")
    for replica in range(replicas):
        colour = warmth(replica / max(replicas - 1, 1))
        stretch.plot(time_ps, stretch_ang[:, replica], lw=0.8, color=colour)
        temperature.plot(time_ps, kinetic_kelvin[:, replica], lw=0.5, color=colour)
    stretch.axhline(collapse_ang, color=GREY, ls="--", lw=1, label="collapse")
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
