"""How long an iteration takes on a node with GPUs and cores, and what is idle, with and without `execution.overlap`.

    python benchmarks/overlap.py runs/ethanol runs/thiophene

This is a simulation. Finished campaigns give the durations of trainings and MD, and the number of labels at each
temperature. The time of a label is varied, from that of GFN2-xTB to half a minute. A GPU runs one training or one
temperature at a time, and a core one label.
"""

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from jobs import log
from machine import circumstances, versions
from pages import origin, page, publish
from pages import parser as page_parser
from result_tables import table

HERE = Path(__file__).resolve().parent
NAME = "overlap"
PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class Iteration:
    """The work of an iteration.

    Attributes:
        trainings: Duration of the training of each member, s.
        samplings: Duration of the MD of each state point, s, and the number of its frames that were labelled.
        candidates: Number of candidates that could be labelled, over all state points.
        max_labels: Largest number of labels.
        other: Duration of the selection and all else that runs alone, s.
    """

    trainings: tuple[float, ...]
    samplings: tuple[tuple[float, int], ...]
    candidates: int
    max_labels: int
    other: float


@dataclass(frozen=True, slots=True)
class Node:
    """A machine.

    Attributes:
        gpus: Number of GPUs.
        cores: Number of cores, each of which labels one frame at a time.
        gpu_speed: Speed of a GPU in units of that of the process that was measured.
        label_s: Duration of a label, s.
    """

    gpus: int
    cores: int
    gpu_speed: float
    label_s: float


@dataclass(frozen=True, slots=True)
class Timing:
    """How long iterations take, and how long all GPUs and all cores are busy, in s."""

    seconds: float
    gpu_busy: float
    core_busy: float

    def idle(self, node: Node) -> tuple[float, float]:
        """Idle share of the GPUs and of the cores."""
        return 1 - self.gpu_busy / (node.gpus * self.seconds), 1 - self.core_busy / (node.cores * self.seconds)


def ends(jobs: Iterable[tuple[float, float]], machines: int) -> list[float]:
    """When jobs end that are started in order, each on the machine that is free first.

    Args:
        jobs: When each job can begin, and its duration, both in s.
        machines: Number of machines.
    """
    free = [0.0] * machines
    found = []
    for ready, duration in jobs:
        begun = max(heapq.heappop(free), ready)
        heapq.heappush(free, begun + duration)
        found.append(begun + duration)
    return found


def simulated(iterations: Sequence[Iteration], node: Node, *, overlap: bool) -> Timing:
    """The timing of iterations one after another.

    With overlap, the labels of a temperature that is sampled begin at once, unless there are more candidates than
    labels; the labels of the temperature that ends last wait for the selection in any case.
    """
    seconds = gpu_busy = core_busy = 0.0
    for each in iterations:
        trainings = [duration / node.gpu_speed for duration in each.trainings]
        longest_first = sorted(each.samplings, reverse=True)
        samplings = [duration / node.gpu_speed for duration, _ in longest_first]
        trained = max(ends([(0.0, duration) for duration in trainings], node.gpus), default=0.0)
        ended = ends([(trained, duration) for duration in samplings], node.gpus)
        sampled = max(ended, default=trained)
        selected = sampled + each.other
        ahead = overlap and each.candidates <= each.max_labels
        ready = sorted(
            time if ahead and time < sampled else selected
            for time, (_, labels) in zip(ended, longest_first, strict=True)
            for _ in range(labels)
        )
        labelled = max(ends([(time, node.label_s) for time in ready], node.cores), default=0.0)
        seconds += max(selected, labelled)
        gpu_busy += sum(trainings) + sum(samplings)
        core_busy += node.label_s * len(ready)
    return Timing(seconds, gpu_busy, core_busy)


def iterations_of(directory: Path) -> list[Iteration]:
    """The work of each finished iteration of a campaign."""
    ledger = Ledger.open(directory)
    config, reader = ledger.config, ledger.reader()
    seconds = {part.name: part.seconds for part in ledger.parts()}
    found = []
    for iteration in range(len(ledger.history())):
        samples = names.samples(iteration, config.state_points)
        with reader.open(names.selection(iteration)) as root:
            point = root["source"][()][root["chosen"][()], 0]
            candidates = int((root["rank"][()] >= 0).sum())
        others = (names.selection(iteration), names.evaluation(iteration), names.append(iteration))
        found.append(
            Iteration(
                trainings=tuple(seconds[name] for name in names.members(iteration, config.training.members)),
                samplings=tuple((seconds[name], int((point == k).sum())) for k, name in enumerate(samples)),
                candidates=candidates,
                max_labels=config.selection.max_labels,
                other=sum(seconds[name] for name in others),
            )
        )
    return found


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page."""
    lines = [
        "# Labelling while the MD goes on",
        "",
        (
            "Simulated: all iterations of a campaign on a node with GPUs that are "
            f"{result['gpu_speed']:g} times as fast as the core that was measured, and {result['cores']} cores that "
            "label. Time in minutes; idle shares of GPUs and cores in %; each without and with `execution.overlap`."
        ),
    ]
    for name, rows in result["campaigns"].items():
        cells = [
            [
                str(row["gpus"]),
                f"{row['label_s']:g}",
                *(f"{row[mode]['seconds'] / 60:.1f}" for mode in ("strict", "overlap")),
                *(
                    " / ".join(f"{PERCENT * share:.0f}" for share in row[mode]["idle"])
                    for mode in ("strict", "overlap")
                ),
            ]
            for row in rows
        ]
        head = ["GPUs", "label, s", "min, strict", "min, overlap", "idle, strict", "idle, overlap"]
        lines += ["", f"## {name}", "", table(head, cells)]
    return page([*lines, "", *origin(result["about"])], reading=reading)


def main() -> None:
    """Simulate all cases, and write the page."""
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache" / NAME)
    parser.add_argument("campaigns", type=Path, nargs="+", help="directories of finished campaigns")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--cores", type=int, default=16)
    parser.add_argument("--gpu-speed", type=float, default=10.0)
    parser.add_argument("--label-s", type=float, nargs="+", default=[0.01, 1.0, 30.0])
    options = parser.parse_args()
    result: dict[str, Any] = {
        "about": {**circumstances(), "versions": versions(("al-engine", "numpy"))},
        "gpu_speed": options.gpu_speed,
        "cores": options.cores,
        "campaigns": {},
    }
    for directory in options.campaigns:
        iterations = iterations_of(directory)
        rows = []
        for gpus, label_s in itertools.product(options.gpus, options.label_s):
            node = Node(gpus, options.cores, options.gpu_speed, label_s)
            row: dict[str, Any] = {"gpus": gpus, "label_s": label_s}
            for mode in ("strict", "overlap"):
                timing = simulated(iterations, node, overlap=mode == "overlap")
                row[mode] = {"seconds": timing.seconds, "idle": list(np.round(timing.idle(node), 4))}
            rows.append(row)
        result["campaigns"][directory.name] = rows
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    log(f"written: {publish(result, markdown, output=options.output, name=NAME)}")


if __name__ == "__main__":
    main()
