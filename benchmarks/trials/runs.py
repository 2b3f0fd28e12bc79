"""A campaign in a single process, to measure the CPU time of each stage, and tests of its committees.

The stages are the engine's own, without Prefect. The campaign directory is kept, so that an interrupted campaign can
continue; the result is stored in it too.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.campaign.ledger import Ledger
from al_engine.committee.calibration import ScoredFrames, agreement
from al_engine.committee.predictions import score_frames
from al_engine.files.atomic import write_file
from al_engine.files.lock import campaign_lock
from al_engine.files.part_file import part_key
from al_engine.verdict.records import IterationRecord
from flows.compute.stage_call import InlineExecutor, run_stages
from flows.evaluation.verb import evaluate
from flows.pages.display import Display
from flows.stages.order import initial_steps, iteration_steps
from flows.stages.training import load_committee
from jobs import log
from labelers.backends.registry import level_of_theory
from labelers.pool.pool import LabelPool
from learning.curves import errors
from learning.data import MOLECULES, DataSource, FrameSet, rows_by_temperature
from trials.variants import SECTIONS, STRETCHING, VARIANTS, Plan, config

MILLI = 1000.0
BATCH = 32
METRICS = 1
"""Version of the results; raise it when other results are computed for a finished campaign."""
TEST_MOLECULE = MOLECULES["ethanol"]
COSTS, RESULT = "costs.json", "result.json"
COUNTED = {"build": "frames", "train": "train", "sample": "sample", "select": "select", "score": "evaluate"}
"""Steps whose CPU time is counted, and the name under which it is kept."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A campaign to be run.

    Attributes:
        variant: Name in `VARIANTS`.
        seed: Seed of the campaign.
        plan: Sizes of the campaign.
        folder: Folder of the campaign directories.
    """

    variant: str
    seed: int
    plan: Plan
    folder: Path

    @property
    def title(self) -> str:
        """Name of the campaign in messages."""
        return f"{self.variant}, seed {self.seed}"

    @property
    def directory(self) -> Path:
        """The campaign directory."""
        words = "".join(c if c.isascii() and c.isalnum() else " " for c in self.title).split()
        return self.folder / "-".join(words)

    def ledger(self) -> Ledger:
        """The campaign's ledger."""
        return Ledger(self.directory, config(self.plan, VARIANTS[self.variant], seed=self.seed))

    def key(self, test_digest: str) -> str:
        """Key of the inputs that determine the result."""
        inputs = {
            "metrics": METRICS,
            "plan": self.plan.as_dict(),
            "config": self.ledger().config.model_dump(mode="json"),
        }
        return part_key("trial", inputs, [test_digest])


@dataclass(slots=True)
class Costs:
    """CPU seconds of a campaign by iteration and stage, over all its launches; stored on disk after every stage."""

    path: Path
    seconds: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.seconds = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}

    def count(self, stage: str, work: Callable[[], object]) -> None:
        """Run a function that is part of a stage, and add its CPU time."""
        start = time.process_time()
        work()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.process_time() - start
        write_file(self.path, json.dumps(self.seconds, indent=1).encode())


def run_trial(trial: Trial, source: DataSource) -> None:
    """Run a campaign and test its committees, unless its result exists."""
    test = source.load(TEST_MOLECULE, "test")
    if read_result(trial, test) is not None:
        return
    trial.directory.mkdir(parents=True, exist_ok=True)
    ledger = trial.ledger()
    with campaign_lock(trial.directory):
        ledger.begin()
        ledger.write_config()
        costs = _run_campaign(trial, ledger)
    result = {
        "key": trial.key(test.digest),
        "costs": costs,
        "iterations": [
            {**_recorded(record), "test": _scores(ledger, record.iteration, test)} for record in ledger.history()
        ],
        "evaluations": _evaluations(trial),
    }
    write_file(trial.directory / RESULT, (json.dumps(result, indent=1) + "\n").encode())


def read_result(trial: Trial, test: FrameSet) -> dict[str, Any] | None:
    """The result of a finished trial; None if there is no result for this plan, config and test set."""
    path = trial.directory / RESULT
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found if found["key"] == trial.key(test.digest) else None


def _run_campaign(trial: Trial, ledger: Ledger) -> dict[str, float]:
    """Run all stages of all iterations; returns the CPU seconds by `<iteration>/<stage>`."""
    costs, settings = Costs(trial.directory / COSTS), ledger.config
    with LabelPool(settings.labels, workers=1) as label_pool:
        executor = InlineExecutor(ledger.directory, label_pool=lambda: nullcontext(label_pool))
        level = level_of_theory(settings.labels)
        done = len(ledger.history())
        steps = [(f"{k}", iteration_steps(ledger, level, k)) for k in range(done, trial.plan.iterations)]
        for iteration, of_iteration in [("initial", initial_steps(ledger, level)), *steps]:
            for step in of_iteration:
                for stages in step.calls.values():
                    run = partial(run_stages, ledger, executor, stages)
                    if step.kind in COUNTED:
                        costs.count(f"{iteration}/{COUNTED[step.kind]}", run)
                    else:
                        run()
            log(f"{trial.title}, {iteration}: finished")
    return costs.seconds


def _recorded(record: IterationRecord) -> dict[str, Any]:
    """Values from the campaign's own record of an iteration."""
    counts = record.counts
    return {
        "acceptance": counts.acceptance,
        "rejected_share": counts.rejected_share,
        "stopped_share": record.stopped_share,
        "acceptance_by_kelvin": {f"{t.temperature_kelvin:g}": t.counts.acceptance for t in record.temperatures},
        "labelled": record.labelled,
        "dataset_size": record.dataset_size,
        "error_before_training_mev_per_ang": record.error_before_training_mev_per_ang,
    }


def _scores(ledger: Ledger, iteration: int, test: FrameSet) -> dict[str, Any]:
    """The committee of an iteration on the test set: errors by temperature, deviation, and their agreement."""
    committee = load_committee(ledger.reader(), ledger.config, iteration, "cpu", evaluations=0)
    energies, forces = committee.predict([item.frame for item in test.frames], batch_size=BATCH)
    mean = [each.mean(axis=0) for each in forces]
    scores = score_frames(forces, [item.forces for item in test.frames], members=committee.n_members)
    deviation, error = scores.deviation_norm, scores.force_error
    both = agreement(ScoredFrames(deviation, error, scores.member_force_error.mean(axis=0)))
    groups = {f"{kelvin:g}": rows for kelvin, rows in rows_by_temperature(test.kelvin).items()}
    groups["all"] = np.arange(len(test.frames))
    return {
        "errors": {
            name: errors(energies.mean(axis=0)[rows], [mean[k] for k in rows], [test.frames[k] for k in rows])
            for name, rows in groups.items()
        },
        "deviation_mev_per_ang": MILLI * float(np.median(deviation)),
        "worst_atom_error_mev_per_ang": MILLI * float(np.median(error)),
        "error_over_deviation": None if both is None else both.error_over_deviation.typical,
        "rank_correlation": None if both is None else both.rank_correlation,
    }


def _evaluations(trial: Trial) -> dict[str, dict[str, Any]]:
    """Bond-length scans and stability of the first and the last committee, for variants that compare stretching."""
    if trial.variant not in SECTIONS[STRETCHING]:
        return {}
    plan = trial.plan
    wanted: Mapping[str, dict[str, Any]] = {
        "bond-length": {"points": plan.scan_points},
        "stability": {"steps": plan.stability_steps, "replicas": plan.stability_replicas},
    }
    found: dict[str, dict[str, Any]] = {}
    for iteration in sorted({0, plan.iterations - 1}):
        for subject, options in wanted.items():
            answer, _ = evaluate(
                trial.directory, subject, iteration=iteration, options=options, display=Display(quiet=True)
            )
            found.setdefault(str(iteration), {})[subject] = _reported(subject, answer)
    return found


def _reported(subject: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an evaluation that the tables show."""
    if subject == "stability":
        names = ("steps", "kelvin", "replicas", "picoseconds", "survived", "collapsed", "stopped_otherwise")
        return {name: answer[name] for name in names}
    return {
        "labelled": answer["labelled"],
        "ranges": [
            {
                "from": part["from"],
                "to": part["to"],
                "force_mae_mev_per_ang": part["errors"] and part["errors"]["forces_mev_per_ang"]["mae"],
                "energy_mae_mev_per_atom": part["errors"] and part["errors"]["energy_mev_per_atom"]["mae"],
            }
            for part in answer["ranges"]
        ],
    }
