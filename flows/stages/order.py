"""The order of the stages: of the initial set, of an iteration, and of an audit."""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from al_engine.campaign import names
from al_engine.campaign.labels import LevelOfTheory
from al_engine.campaign.ledger import Ledger
from flows.compute.stage_call import Concurrency, Stage, StageCall
from flows.stages import appending, training
from flows.stages.audits import auditing, drawing
from flows.stages.initial_set import assembling, importing, initial
from flows.stages.labels import labelling, labelling_ahead
from flows.stages.search import sampling, scoring, selecting
from flows.stages.search.planned_sampling import planned_sampling

ONE_BY_ONE = Concurrency()
"""A call for each member; chunks of labels one after another."""
ROUNDS = 8
"""Chunks in a step for each chunk that is labelled at the same time."""


@dataclass(frozen=True, slots=True)
class Step:
    """Calls that may run side by side, because none of them reads a part of another.

    Attributes:
        kind: The kind of work, in one word.
        calls: The stages of each call, by the title of the call.
        ahead: Plans a call that can run while calls of the step are still running, because it needs the parts of
            finished calls only; takes the titles of the finished calls. None: there is no such call.
    """

    kind: str
    calls: dict[str, list[Stage]]
    ahead: Callable[[Container[str]], StageCall | None] | None = None


def initial_steps(ledger: Ledger, level: LevelOfTheory, *, concurrency: Concurrency = ONE_BY_ONE) -> Iterator[Step]:
    """The steps of the initial set; each is planned when the steps before are finished."""
    systems = ledger.config.by_system
    titles = {system: f"build and anneal{f' {system}' if system else ''}" for system in systems}
    # MD by the reference method takes all workers that label; the others take a core each.
    by_reference = [system for system, own in systems.items() if own.initial.source == "reference"]
    others = [system for system in systems if system not in by_reference]
    for group in ([others] if others else []) + [[system] for system in by_reference]:
        yield Step("build", {titles[system]: [initial.plan(ledger, level, system)] for system in group})
    if ledger.config.data:
        yield Step("read", {"read data": [importing.plan(ledger, level)]})
    for source in names.initial_sources(ledger.config):
        yield from _label(ledger, level, source, concurrency)
    yield Step("assemble", {"assemble data set": [assembling.plan(ledger, level)]})


def iteration_steps(
    ledger: Ledger,
    level: LevelOfTheory,
    iteration: int,
    *,
    concurrency: Concurrency = ONE_BY_ONE,
    elapsed_s: Callable[[], float] = lambda: 0.0,
) -> Iterator[Step]:
    """The steps of an iteration; each is planned when the steps before are finished.

    Args:
        ledger: The campaign.
        level: The level of theory of its labels.
        iteration: The iteration.
        concurrency: How many calls of a kind run side by side.
        elapsed_s: Gives the wall-clock time since the iteration was started or resumed, s; stored for information.
    """
    config = ledger.config
    yield Step(
        "train",
        {
            training.title(group): [training.plan(ledger, iteration, member) for member in group]
            for group in training.groups(config, concurrency.trainings)
        },
    )
    plans = planned_sampling(ledger, iteration)
    # The longest MD begins first: otherwise a worker would still run it while the others wait.
    longest_first = sorted(enumerate(plans), key=lambda item: -plans[item[1]].longest)
    titles = {index: f"sample {point}" for index, point in longest_first}

    def label_ahead(finished: Container[str]) -> StageCall | None:
        sampled = sorted(index for index, title in titles.items() if title in finished)
        return labelling_ahead.plan(ledger, level, iteration, sampled)

    yield Step(
        "sample",
        {title: [sampling.plan(ledger, iteration, index, list(plans.values()))] for index, title in titles.items()},
        ahead=label_ahead if config.execution.overlap else None,
    )
    yield Step("select", {"select frames": [selecting.plan(ledger, iteration)]})
    yield from _label(ledger, level, names.selection(iteration), concurrency)
    yield Step("score", {"score committee": [scoring.plan(ledger, iteration)]})
    yield Step("append", {"append labels": [appending.plan(ledger, iteration, seconds=round(elapsed_s(), 1))]})


def audit_steps(
    ledger: Ledger, level: LevelOfTheory, iteration: int, *, concurrency: Concurrency = ONE_BY_ONE
) -> Iterator[Step]:
    """The steps of the audit of a finished iteration; each is planned when the steps before are finished."""
    yield Step("draw", {"draw accurate frames": [drawing.plan(ledger, iteration)]})
    yield from _label(ledger, level, names.audit(iteration), concurrency)
    yield Step("audit", {"audit committee": [auditing.plan(ledger, iteration)]})


def _label(ledger: Ledger, level: LevelOfTheory, source: str, concurrency: Concurrency) -> Iterator[Step]:
    """The chunks of a part: one after another where a chunk takes all workers, otherwise many of them in a step."""
    system = f"{names.system_of_initial(source)} " if names.system_of_initial(source) else ""
    chunks = labelling.chunks(ledger.reader(), ledger.config, source)
    # a step is finished before the next one begins: with several rounds in it, workers seldom wait for its last chunk
    size = 1 if concurrency.labels == 1 else ROUNDS * concurrency.labels
    for start in range(0, len(chunks), size):
        yield Step(
            "label",
            {
                f"label {system}{first}-{last}": [labelling.plan(ledger, level, source, first, last)]
                for first, last in chunks[start : start + size]
            },
        )
