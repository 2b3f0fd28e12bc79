"""How often the verdict `converged` is wrong, and how often it is right, on simulated campaigns.

    python benchmarks/verdict.py --campaigns 100 --publish

A campaign is simulated by the deviation of its sampled frames alone; records, planning and verdict are those of a real
campaign. The logarithm of the deviation has a fast part and a slow part, each a first-order autoregressive process. The
window is placed so that the true acceptance is a given multiple of the limit at every temperature, or at one of them.
With an infinite correlation time, the slow part is a constant of each trajectory: the trajectory never leaves its
basin. In further cases all candidates are in a rare conformer, outside of which the deviation is far below the window.
Such a deviation is not a monotone function of a Gaussian process, which the estimate of the correlation assumes.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter
from scipy.stats import norm

from al_engine.config import SamplingConfig, SelectionConfig, StatePoint, StopConfig, presets
from al_engine.config.presets import merged
from al_engine.config.reader import validate_config
from al_engine.selection.fates import Fate
from al_engine.structures.frames import BoolArray, FloatArray, IntArray
from al_engine.verdict.evidence import judged_together
from al_engine.verdict.records import IterationRecord, TemperatureRecord, Trajectory, temperature_record
from al_engine.verdict.sampling_plan import sampling_plan
from al_engine.verdict.verdict import VerdictKind, judge
from machine import circumstances, versions
from pages import origin, page, publish

KELVINS = (300.0, 500.0, 700.0, 900.0)
POINTS = [StatePoint("", kelvin) for kelvin in KELVINS]
PRESETS = ("quick", "standard")
"""Presets whose rules are simulated. In an iteration a trajectory has 30 frames (`quick`) or 100 (`standard`)."""
FAST_PHI = 0.3
"""Autocorrelation of the fast part at a distance of one stride."""
LOWER_EV_PER_ANG = 0.1
CONFORMER_SHARE = 0.1
"""Share of the time in the rare conformer."""


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of campaign.

    Attributes:
        preset: Preset that gives the rules of the verdict and the length of the MD.
        slow_share: Share of the variance of the logarithm of the deviation that is slow.
        correlation_strides: Correlation time of the slow part, strides; infinite: two strides never differ.
        limit_factor: True acceptance in units of the limit.
        one_temperature: Whether only the last temperature has this acceptance, and the others a tenth of the limit.
        rare_conformer: Whether all candidates are in a conformer that holds `CONFORMER_SHARE` of the frames and lasts
            for the correlation time; the slow share is then ignored.
    """

    preset: str
    slow_share: float
    correlation_strides: float
    limit_factor: float
    one_temperature: bool = False
    rare_conformer: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """The result of the campaigns of a case."""

    preset: str
    slow_share: float
    correlation_strides: float | None
    limit_factor: float
    one_temperature: bool
    rare_conformer: bool
    campaigns: int
    converged: int
    mean_iterations: float
    mean_frames_per_temperature: float


class _Temperature:
    """The trajectories at one temperature."""

    def __init__(self, case: Case, factor: float, replicas: int, stop: StopConfig, rng: np.random.Generator) -> None:
        self._case, self._rng, self._replicas = case, rng, replicas
        # The deviation at the lower end of the window is exceeded with the probability of the true acceptance.
        exceeded = factor * stop.acceptance / (CONFORMER_SHARE if case.rare_conformer else 1.0)
        self._shift = math.log(LOWER_EV_PER_ANG) - 0.3 * float(norm.ppf(1.0 - exceeded))
        self._slow, self._fast = rng.normal(size=(2, replicas))
        self._rare = rng.random(replicas) < CONFORMER_SHARE
        self.identity = np.arange(replicas)
        self._next = replicas

    def run(self, strides: int, fresh: int) -> FloatArray:
        """Deviations of the next iteration, shape (replicas, strides)."""
        slots = self._rng.permutation(self._replicas)[:fresh]
        self._slow[slots], self._fast[slots] = self._rng.normal(size=(2, len(slots)))
        self._rare[slots] = self._rng.random(len(slots)) < CONFORMER_SHARE
        self.identity[slots] = self._next + np.arange(len(slots))
        self._next += len(slots)
        phi = math.exp(-1.0 / self._case.correlation_strides)
        slow, fast = self._part(self._slow, phi, strides), self._part(self._fast, FAST_PHI, strides)
        self._slow, self._fast = slow[:, -1].copy(), fast[:, -1].copy()
        if self._case.rare_conformer:
            common = 1.0 * ~self._conformers(strides)  # a factor of e on the deviation: far below the window
            rare: FloatArray = np.exp(self._shift + 0.3 * fast - common)
            return rare
        weight = self._case.slow_share
        deviation: FloatArray = np.exp(self._shift + 0.3 * (math.sqrt(weight) * slow + math.sqrt(1.0 - weight) * fast))
        return deviation

    def _conformers(self, strides: int) -> BoolArray:
        """Whether each frame is in the rare conformer, shape (replicas, strides)."""
        leaves = self._rng.random((strides, self._replicas)) < 1.0 / self._case.correlation_strides
        entered = self._rng.random((strides, self._replicas)) < CONFORMER_SHARE
        found = np.empty((self._replicas, strides), dtype=bool)
        for stride in range(strides):
            self._rare = np.where(leaves[stride], entered[stride], self._rare)
            found[:, stride] = self._rare
        return found

    def _part(self, start: FloatArray, phi: float, strides: int) -> FloatArray:
        noise = math.sqrt(1.0 - phi**2) * self._rng.normal(size=(self._replicas, strides))
        series: FloatArray = lfilter([1.0], [1.0, -phi], noise, axis=1, zi=phi * start[:, None])[0]
        return series


def _record(kelvin: float, pieces: Sequence[tuple[FloatArray, IntArray]], *, limit: float = 0.0) -> TemperatureRecord:
    """The record of a temperature in successive iterations; trajectories of equal identity are joined."""
    joined: dict[int, list[FloatArray]] = {}
    for deviation, identity in pieces:
        for series, number in zip(deviation, identity.tolist(), strict=True):
            joined.setdefault(number, []).append(series)
    trajectories = []
    for series in joined.values():
        deviation = np.concatenate(series)
        fates = np.where(deviation > LOWER_EV_PER_ANG, int(Fate.CORRELATED), int(Fate.ACCURATE))
        trajectories.append(Trajectory(deviation, fates))
    return temperature_record(
        StatePoint("", kelvin),
        trajectories,
        replicas=len(trajectories),
        stopped=0,
        lower=LOWER_EV_PER_ANG,
        limit=limit,
        stride_ps=0.01,
    )


def rules(preset: str) -> tuple[StopConfig, SamplingConfig]:
    """The rules of the verdict and the sampling of a preset."""
    values = merged(presets.PRESETS[preset], {"name": "simulated", "system": {"smiles": "C"}})
    config = validate_config(values, source=preset)
    # the simulated committee has no true errors
    return config.stop.model_copy(update={"audit_labels": 0}), config.sampling


def simulate(case: Case, seed: int) -> tuple[bool, int, float]:
    """Whether a campaign is called converged, its number of iterations, and its frames per temperature."""
    stop, sampling = rules(case.preset)
    rng = np.random.default_rng(seed)
    factors = [0.1] * (len(KELVINS) - 1) if case.one_temperature else [case.limit_factor] * (len(KELVINS) - 1)
    sources = {
        kelvin: _Temperature(case, factor, sampling.replicas, stop, rng)
        for kelvin, factor in zip(KELVINS, [*factors, case.limit_factor], strict=True)
    }
    history: list[IterationRecord] = []
    sampled: dict[float, list[tuple[FloatArray, IntArray]]] = {kelvin: [] for kelvin in KELVINS}
    frames = 0

    def together(coming: int) -> tuple[TemperatureRecord, ...]:
        count = len(judged_together(history, stop, coming=coming))
        return tuple(_record(kelvin, pieces[-count:], limit=stop.acceptance) for kelvin, pieces in sampled.items())

    for iteration in range(stop.max_iterations):
        gathered = together(coming=1) if history else ()
        for kelvin, source in sources.items():
            plan = sampling_plan(history, gathered, sampling, stop, StatePoint("", kelvin), points=POINTS)
            deviation = source.run(plan.steps // sampling.stride_steps, plan.fresh)
            sampled[kelvin].append((deviation, source.identity.copy()))
            frames += deviation.size
        records = tuple(_record(kelvin, pieces[-1:]) for kelvin, pieces in sampled.items())
        history.append(IterationRecord(iteration, records, 10, 0, 100 + 10 * iteration, 50.0, 10.0, 1.0))
        verdict = judge(
            history, stop, selection=SelectionConfig(), temperatures=together(coming=0), max_failed_share=0.2
        )
        if verdict is not None:
            return verdict.kind is VerdictKind.CONVERGED, len(history), frames / len(KELVINS)
    raise AssertionError("a campaign ends at stop.max_iterations")


def cases(presets: Sequence[str], factors: Sequence[float]) -> Iterator[Case]:
    """The cases of the table."""
    for preset in presets:
        for factor in factors:
            yield Case(preset, 0.0, 1.0, factor)
            for share in (0.4, 0.6, 0.8):
                for strides in (10.0, 100.0, 1000.0, math.inf):
                    yield Case(preset, share, strides, factor)
        for factor in (factor for factor in factors if factor > 1.0):
            yield Case(preset, 0.0, 1.0, factor, one_temperature=True)
            yield Case(preset, 0.6, 100.0, factor, one_temperature=True)
        for factor in factors:
            for strides in (10.0, 100.0):
                yield Case(preset, 0.0, strides, factor, rare_conformer=True)


def run(case: Case, campaigns: int) -> Row:
    """Simulate the campaigns of a case."""
    results = [simulate(case, seed) for seed in range(campaigns)]
    converged, iterations, frames = zip(*results, strict=True)
    finite = math.isfinite(case.correlation_strides)
    return Row(
        **{**asdict(case), "correlation_strides": case.correlation_strides if finite else None},
        campaigns=campaigns,
        converged=sum(converged),
        mean_iterations=float(np.mean(iterations)),
        mean_frames_per_temperature=float(np.mean(frames)),
    )


INTRODUCTION = (
    "Campaigns are simulated by the deviations of their frames alone; records, planning and verdict are the code of a "
    "real campaign. Each number is the count of campaigns called `converged`, of {campaigns}, within the iterations "
    "that the preset allows ({iterations}). At 0.5 and 0.9 times the limit `converged` is right, from 1.1 times on it "
    "is wrong. The deviation has a slow part with the share of the variance and the correlation time given; `never`: a "
    "trajectory never leaves its basin. Strides per iteration before MD is lengthened: 30 (`quick`), 100 (`standard`)."
)
COST = (
    "Mean number of iterations, and of frames sampled at each temperature; campaigns that were not called `converged` "
    "are included."
)


def _allowed(rows: Sequence[Row]) -> str:
    presets_of_rows = dict.fromkeys(row.preset for row in rows)
    return ", ".join(f"{rules(preset)[0].max_iterations} of `{preset}`" for preset in presets_of_rows)


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page of a result."""
    rows = [Row(**row) for row in result["rows"]]
    lines = [
        "# How often the verdict is wrong",
        "",
        INTRODUCTION.format(campaigns=rows[0].campaigns, iterations=_allowed(rows)),
        "",
        *origin(result),
    ]
    sections = {
        "True acceptance at every temperature": (False, False),
        "True acceptance at 900 K; 0.1 times the limit at the other temperatures": (True, False),
        f"All candidates in a conformer that holds {CONFORMER_SHARE:.0%} of the frames": (False, True),
    }
    for title, kind in sections.items():
        chosen = [row for row in rows if (row.one_temperature, row.rare_conformer) == kind]
        factors = sorted({row.limit_factor for row in chosen})
        lines += ["", f"## {title}", "", _cells(["iterations", "slow share", "strides", *factors])]
        lines.append(_cells(["---", *["---:"] * (2 + len(factors))]))
        for preset, share, strides in dict.fromkeys((r.preset, r.slow_share, r.correlation_strides) for r in chosen):
            found = {
                row.limit_factor: row
                for row in chosen
                if (row.preset, row.slow_share, row.correlation_strides) == (preset, share, strides)
            }
            time = f"{strides:g}" if kind[1] else _time(share, strides)
            lines.append(_cells([preset, f"{share:.0%}", time, *(found[factor].converged for factor in factors)]))
    right = [row for row in rows if row.limit_factor < 1.0 and not (row.one_temperature or row.rare_conformer)]
    lines += [
        "",
        "## What a right verdict costs",
        "",
        COST,
        "",
        _cells(["iterations", "slow share", "strides", "times the limit", "mean iterations", "frames"]),
        _cells(["---", *["---:"] * 5]),
    ]
    for row in right:
        time = _time(row.slow_share, row.correlation_strides)
        cost = (f"{row.mean_iterations:.1f}", f"{row.mean_frames_per_temperature:.0f}")
        lines.append(_cells([row.preset, f"{row.slow_share:.0%}", time, row.limit_factor, *cost]))
    return page(lines, reading=reading)


def _time(slow_share: float, strides: float | None) -> str:
    """The correlation time of the slow part, for a table."""
    if not slow_share:
        return "-"
    return "never" if strides is None else f"{strides:g}"


def _cells(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def main() -> None:
    """Simulate all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=100, help="campaigns of each case")
    parser.add_argument("--preset", nargs="+", choices=PRESETS, default=list(PRESETS), help="lengths of an iteration")
    parser.add_argument(
        "--factors", nargs="+", type=float, default=[0.5, 0.9, 1.1, 1.5], help="true acceptances, in units of the limit"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a line per case")
    parser.add_argument("--publish", action="store_true", help="write benchmarks/verdict.md and its result file")
    options = parser.parse_args()
    about, rows = circumstances(), []
    found = list(cases(options.preset, options.factors))
    with ProcessPoolExecutor(options.jobs) as pool:
        for row in pool.map(run, found, [options.campaigns] * len(found)):
            rows.append(asdict(row))
            print(_line(row), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps(rows, indent=1))
    if options.publish:
        publish(
            {**about, "versions": versions(["numpy", "scipy"]), "rows": rows},
            markdown,
            output=Path(__file__).parent,
            name="verdict",
        )


def _line(row: Row) -> str:
    strides = "never" if row.correlation_strides is None else f"{row.correlation_strides:.0f}"
    where = "one temperature" if row.one_temperature else "every temperature"
    where += " in a rare conformer" if row.rare_conformer else ""
    return (
        f"{row.preset:9} slow {row.slow_share:.0%}, {strides:>5} strides, {row.limit_factor} x limit at {where}: "
        f"{row.converged} of {row.campaigns} converged, {row.mean_iterations:.1f} iterations, "
        f"{row.mean_frames_per_temperature:.0f} frames per temperature"
    )


if __name__ == "__main__":
    main()
