"""The plots of an iteration, as PNG bytes; drawing needs neither a display nor global state."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from al_engine.committee.calibration import ScoredFrames, error_line
from al_engine.selection.window import Window
from al_engine.structures.frames import FloatArray
from al_engine.units import MEV_PER_EV
from al_engine.verdict.records import IterationRecord
from flows.pages.display import number_text

DPI = 110
"""Resolution of the plots, dots per inch."""
MARGINS_IN = (0.75, 0.12, 0.5, 0.32)
"""Space for labels at the left, right, bottom and top of the axes, inches."""
BLUE, RED, GREY = "#2b6cb0", "#c53030", "#718096"
LONG_LEGEND = 6
"""Number of state points above which the legend stands beside the plot, where it hides nothing."""
STYLES = ("-", "--", ":", "-.")
"""Line styles of the systems of a campaign."""


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file, equal for equal figures."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _figure(width_in: float, height_in: float, *, beside_in: float = 0.0) -> tuple[Figure, Axes]:
    """A figure with one pair of axes and fixed margins; a computed layout would draw everything twice.

    Args:
        width_in: Width without the space for a long legend, inches.
        height_in: Height, inches.
        beside_in: Width of the space for a long legend on the right, inches.
    """
    width_in += beside_in
    figure = Figure(figsize=(width_in, height_in))
    left, right, bottom, top = MARGINS_IN
    right += beside_in
    margins = (left / width_in, bottom / height_in, 1 - (left + right) / width_in, 1 - (bottom + top) / height_in)
    return figure, figure.add_axes(margins)


def acceptance_plot(history: Sequence[IterationRecord], threshold: float) -> bytes:
    """Acceptance of each state point and of all together, against the iteration.

    Args:
        history: Finished iterations, oldest first.
        threshold: Acceptance below which a campaign may stop (`stop.acceptance`).
    """
    points = [t.point for t in history[-1].temperatures]
    legend_beside = len(points) > LONG_LEGEND
    figure, axes = _figure(5.2, 3.4, beside_in=1.7 if legend_beside else 0.0)
    iterations = [record.iteration for record in history]
    systems = list(dict.fromkeys(point.system for point in points))
    for index, point in enumerate(points):
        kelvins = [other.temperature_kelvin for other in points if other.system == point.system]
        rank = kelvins.index(point.temperature_kelvin)  # from 0, the coldest
        values = [100 * record.temperatures[index].counts.acceptance for record in history]
        axes.plot(
            iterations,
            values,
            "o" + STYLES[systems.index(point.system) % len(STYLES)],
            ms=4,
            lw=1,
            color=RED if len(kelvins) == 1 else warmth(rank / (len(kelvins) - 1)),
            label=str(point),
        )
    axes.plot(iterations, [100 * r.counts.acceptance for r in history], "ks-", ms=5, lw=2, label="all")
    axes.axhline(100 * threshold, color=GREY, ls="--", lw=1, label=f"stop {threshold:.1%}")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(0, 120)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(iterations)
    axes.set(
        xlabel="iteration",
        ylabel="acceptance / %",
        title="Acceptance by temperature" + (" and system" if len(systems) > 1 else ""),
    )
    placed: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0)} if legend_beside else {}
    axes.legend(fontsize=8 if len(points) <= 2 * LONG_LEGEND else 6, **placed)
    return png(figure)


def warmth(fraction: float) -> tuple[float, float, float]:
    """A colour from blue for 0 (cold) to red for 1 (hot), as red, green and blue from 0 to 1."""
    return (0.17 + 0.6 * fraction, 0.42 - 0.23 * fraction, 0.69 - 0.5 * fraction)


def deviation_plot(deviation: FloatArray, window: Window) -> bytes:
    """Histogram of the force deviations of the sampled frames (eV/Å, shape (S,)), with the window."""
    figure, axes = _figure(5.2, 3.4)
    finite = MEV_PER_EV * deviation[np.isfinite(deviation) & (deviation > 0)]
    if len(finite):
        low, high = min(finite.min(), window.lower_mev_per_ang), max(finite.max(), window.upper_mev_per_ang)
        axes.hist(finite, bins=np.geomspace(0.9 * low, 1.1 * high, 50).tolist(), color=BLUE)
    axes.axvspan(window.lower_mev_per_ang, window.upper_mev_per_ang, color=RED, alpha=0.12, label="candidates")
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="max force deviation / meV/Å", ylabel="frames", title="Deviation of the sampled frames")
    axes.legend(fontsize=8)
    return png(figure)


def _plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10, ..."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def calibration_plot(test: ScoredFrames, new: ScoredFrames, window: Window) -> bytes:
    """True error of labelled frames against their force deviation, with the window and the fit of `error_line`."""
    figure, axes = _figure(5.2, 3.9)
    axes.axvspan(window.lower_mev_per_ang, window.upper_mev_per_ang, color=RED, alpha=0.12, label="candidates")
    for frames, colour, name in ((new, RED, "new labels, before training"), (test, BLUE, "test set")):
        finite = frames.where_finite()
        if len(finite):
            x, y = MEV_PER_EV * finite.deviation, MEV_PER_EV * finite.error
            axes.plot(x, y, ".", ms=5, alpha=0.6, color=colour, label=name)
    together = (test + new).where_finite()
    line = error_line(together)
    if line is not None:
        x = np.geomspace(together.deviation.min(), together.deviation.max(), 50)
        spreads = [line.error_at(float(deviation)) for deviation in x]
        axes.fill_between(
            MEV_PER_EV * x,
            [MEV_PER_EV * s.low for s in spreads],
            [MEV_PER_EV * s.high for s in spreads],
            color="k",
            alpha=0.1,
        )
        axes.plot(MEV_PER_EV * x, [MEV_PER_EV * s.typical for s in spreads], "k-", lw=1, label="typical error, 16-84 %")
    ends = [window.lower_mev_per_ang, window.upper_mev_per_ang]
    if len(together):
        ends += [MEV_PER_EV * float(together.deviation.min()), MEV_PER_EV * float(together.deviation.max())]
    low, high = 0.9 * min(ends), 1.1 * max(ends)
    axes.plot([low, high], [low, high], color=GREY, ls="--", lw=1, label="error = deviation")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    _plain_numbers(axes.xaxis)
    _plain_numbers(axes.yaxis)
    axes.set(
        xlabel="max force deviation / meV/Å", ylabel="max force error / meV/Å", title="True error against deviation"
    )
    axes.legend(fontsize=8)
    return png(figure)


def parity_plot(
    test: tuple[FloatArray, FloatArray], new: tuple[FloatArray, FloatArray], *, mae_mev_per_ang: float | None
) -> bytes:
    """Predicted against reference force components of the test set and of the new labels.

    Args:
        test: Reference and predicted forces of the test set in eV/Å, each of shape (T, 3) for T atoms.
        new: Reference and predicted forces of the new labels, as `test`.
        mae_mev_per_ang: Mean absolute error of the force components of the test set, meV/Å; None if it is unknown.
    """
    figure, axes = _figure(4.2, 3.9)
    for (reference, predicted), colour, name in ((new, RED, "new labels, before training"), (test, BLUE, "test set")):
        if len(reference):
            axes.plot(reference.ravel(), predicted.ravel(), ".", ms=3, alpha=0.5, color=colour, label=name)
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color=GREY, lw=1, label="equal")
    axes.set(
        xlabel="reference force / eV/Å",
        ylabel="committee mean / eV/Å",
        title=f"Forces: test MAE {number_text(mae_mev_per_ang)} meV/Å",
    )
    axes.legend(fontsize=8)
    return png(figure)
