"""The plots of an iteration, as PNG bytes. Drawn without a display and without global state."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from al_engine.config import SelectionConfig
from al_engine.frames import FloatArray
from al_engine.records import IterationRecord

DPI = 110
BLUE, RED, GREY = "#2b6cb0", "#c53030", "#718096"


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def acceptance_plot(history: Sequence[IterationRecord], threshold: float) -> bytes:
    """Acceptance of each temperature and of all, iteration by iteration."""
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    iterations = [record.iteration for record in history]
    kelvins = [t.temperature_kelvin for t in history[-1].temperatures]
    colours = [RED if len(kelvins) == 1 else _warmth(i / (len(kelvins) - 1)) for i in range(len(kelvins))]
    for index, (kelvin, colour) in enumerate(zip(kelvins, colours, strict=True)):
        values = [100 * record.temperatures[index].counts.acceptance for record in history]
        axes.plot(iterations, values, "o-", ms=4, lw=1, color=colour, label=f"{kelvin:g} K")
    axes.plot(iterations, [100 * r.counts.acceptance for r in history], "ks-", ms=5, lw=2, label="all")
    axes.axhline(100 * threshold, color=GREY, ls="--", lw=1, label=f"stop {threshold:.1%}")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(0, 120)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(iterations)
    axes.set(xlabel="iteration", ylabel="acceptance / %", title="Acceptance by temperature")
    axes.legend(fontsize=8)
    return _png(figure)


def _warmth(fraction: float) -> tuple[float, float, float]:
    return (0.17 + 0.6 * fraction, 0.42 - 0.23 * fraction, 0.69 - 0.5 * fraction)


def deviation_plot(deviation: FloatArray, config: SelectionConfig) -> bytes:
    """Histogram of the frames' force deviation (eV/Å) with the window."""
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    finite = 1e3 * deviation[np.isfinite(deviation) & (deviation > 0)]
    if len(finite):
        low, high = min(finite.min(), config.lower_mev_per_ang), max(finite.max(), config.upper_mev_per_ang)
        axes.hist(finite, bins=np.geomspace(0.9 * low, 1.1 * high, 50).tolist(), color=BLUE)
    axes.axvspan(config.lower_mev_per_ang, config.upper_mev_per_ang, color=RED, alpha=0.12, label="candidates")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel="max force deviation / meV/Å", ylabel="frames", title="Deviation of the sampled frames")
    axes.legend(fontsize=8)
    return _png(figure)


def parity_plot(
    test: tuple[FloatArray, FloatArray], new: tuple[FloatArray, FloatArray], *, mae_mev_per_ang: float
) -> bytes:
    """Predicted against reference force components (eV/Å), of the test set and of the new labels."""
    figure = Figure(figsize=(4.2, 3.9), layout="constrained")
    axes = figure.subplots()
    for (reference, predicted), colour, name in ((new, RED, "new labels, before training"), (test, BLUE, "test set")):
        if len(reference):
            axes.plot(reference.ravel(), predicted.ravel(), ".", ms=3, alpha=0.5, color=colour, label=name)
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color=GREY, lw=1)
    axes.set(
        xlabel="GFN2 force / eV/Å",
        ylabel="committee mean / eV/Å",
        title=f"Forces: test MAE {mae_mev_per_ang:.1f} meV/Å",
    )
    axes.legend(fontsize=8)
    return _png(figure)
