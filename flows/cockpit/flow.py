"""The Prefect flow: campaign -> one subflow per iteration -> coarse tasks with names a chemist reads.

Tasks only call the stages; the parts on disk are the only cache, so Prefect's is off everywhere.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import prefect
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TagsContext
from prefect.futures import PrefectFuture, wait
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from al_engine.protocols import Progress
from al_engine.verdict.verdict import Verdict
from flows.cockpit.publish import publish_iteration
from flows.pages.display import duration_text, number_text
from flows.session.session import session

Stage = Callable[[Progress], str]

LOG_INTERVAL_S = 10.0  # between two lines of one task in the UI


def _run_stage(name: str, stage: Stage) -> None:
    """Run a stage; its progress and its one-line summary go to the terminal and to the run's log in the UI."""
    session().interrupts.check()
    logger = get_run_logger()
    last_line = time.monotonic()
    with session().display.step(name) as show:

        def progress(done: int, total: int, note: str = "") -> None:
            nonlocal last_line
            show(done, total, note)
            if note and time.monotonic() - last_line > LOG_INTERVAL_S:
                last_line = time.monotonic()
                logger.info("%d of %d, %s", done, total, note)

        summary = stage(progress)
    logger.info(summary)
    session().display.say("  ", ("✓", "green"), f" {name}: {summary}")


@task(name="build and anneal", task_run_name="build and anneal", cache_policy=NO_CACHE)
def initial_frames_task() -> None:
    """Make the initial and test frames."""
    _run_stage("build and anneal", session().campaign.initial_frames)


@task(name="label", task_run_name="label {first}-{last}", cache_policy=NO_CACHE)
def label_task(iteration: int | None, first: int, last: int) -> None:
    """Label a chunk of frames."""
    campaign = session().campaign
    _run_stage(f"label {first}-{last}", lambda progress: campaign.label(iteration, first, last, progress))


@task(name="assemble", task_run_name="assemble data set", cache_policy=NO_CACHE)
def assemble_task() -> None:
    """Assemble the initial data set and the test set."""
    _run_stage("assemble data set", lambda _: session().campaign.assemble())


@task(name="train", task_run_name="{title}", cache_policy=NO_CACHE)
def train_task(title: str, iteration: int, members: list[int]) -> None:
    """Train one committee member, or several side by side."""
    campaign = session().campaign
    _run_stage(title, lambda progress: campaign.train(iteration, members, progress))


@task(name="sample", task_run_name="sample {kelvin:g} K", cache_policy=NO_CACHE)
def sample_task(iteration: int, temperature_index: int, kelvin: float) -> None:
    """Run the replicas of one temperature."""
    campaign = session().campaign
    _run_stage(f"sample {kelvin:g} K", lambda progress: campaign.sample(iteration, temperature_index, progress))


@task(name="select", task_run_name="select frames", cache_policy=NO_CACHE)
def select_task(iteration: int) -> None:
    """Decide the fate of every sampled frame."""
    campaign = session().campaign
    _run_stage("select frames", lambda progress: campaign.select(iteration, progress))


@task(name="evaluate", task_run_name="evaluate committee", cache_policy=NO_CACHE)
def evaluate_task(iteration: int) -> None:
    """Score the committee on test set and new labels."""
    campaign = session().campaign
    _run_stage("evaluate committee", lambda progress: campaign.evaluate(iteration, progress))


@task(name="append", task_run_name="append labels", cache_policy=NO_CACHE)
def append_task(iteration: int, seconds: float) -> None:
    """Add the new labels to the data set."""
    _run_stage("append labels", lambda _: session().campaign.append(iteration, seconds))


@contextmanager
def _workers_end_with_us() -> Iterator[None]:
    """Kill the workers when a flow is cut off: Prefect waits for its task threads, and they wait for the workers."""
    try:
        yield
    except BaseException:
        session().campaign.abandon()
        raise


def _untagged() -> TagsContext:
    """A context in which tasks do not inherit their run's tags.

    For each tag of a task the server looks up a limit before and after it, and while it writes events its SQLite often
    refuses that at first: the client then waits for two seconds.
    """
    return TagsContext(current_tags=set())


def _all(futures: list[PrefectFuture[None]]) -> None:
    """Wait for tasks that run side by side; the first failure is raised."""
    wait(futures)
    for future in futures:
        future.result()


@flow(name="initial set", flow_run_name="{campaign} · initial set", validate_parameters=False)
def initial_flow(campaign: str) -> None:
    """Make and label the initial set and the test set."""
    del campaign  # in the run's name
    with _untagged(), _workers_end_with_us():
        initial_frames_task()
        for first, last in session().campaign.initial_chunks():
            label_task(None, first, last)
        assemble_task()


def _training(members: list[int]) -> str:
    """What the training of some members is called."""
    return f"train member {members[0]}" if len(members) == 1 else f"train members {members[0]}-{members[-1]}"


@flow(name="iteration", flow_run_name="{campaign} · iteration {iteration}", validate_parameters=False)
def iteration_flow(campaign: str, iteration: int) -> None:
    """One iteration: train, sample, select, label, evaluate, append."""
    stages, start = session().campaign, time.perf_counter()
    temperatures = stages.config.sampling.temperatures_kelvin
    with _untagged(), _workers_end_with_us():
        _all([train_task.submit(_training(group), iteration, group) for group in stages.training_groups()])
        _all([sample_task.submit(iteration, index, kelvin) for index, kelvin in enumerate(temperatures)])
        select_task(iteration)
        for first, last in stages.chunks(iteration):
            label_task(iteration, first, last)
        evaluate_task(iteration)
        append_task(iteration, round(time.perf_counter() - start, 1))
        publish_iteration(stages.ledger, iteration, campaign=campaign)


@flow(name="active-learning campaign", flow_run_name="{campaign}", validate_parameters=False)
def campaign_flow(campaign: str, directory: str) -> State[str]:
    """Run a campaign from where its directory stands to a verdict."""
    del directory  # shown with the run
    current = session()
    stages, display = current.campaign, current.display
    # As many tasks at a time as there are workers: one that waits for a worker should not show as running.
    runner = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=stages.workers))
    side_by_side = iteration_flow.with_options(task_runner=runner)
    with prefect.tags(f"campaign:{campaign}"):
        display.say(("initial set", "bold"))
        initial_flow(campaign)
        iteration = 0
        verdict: Verdict | None = None
        while verdict is None:
            display.say((f"iteration {iteration}", "bold"))
            with prefect.tags(f"iteration:{iteration}"):
                side_by_side(campaign, iteration)
            seconds = stages.ledger.iteration_seconds(iteration)
            record = stages.ledger.history()[iteration]
            display.say(
                "  ",
                (f"iteration {iteration}", "bold"),
                f": acceptance {record.counts.acceptance:.2%}, test forces "
                f"{number_text(record.test_force_mae_mev_per_ang)} meV/Å, {record.dataset_size} frames, "
                f"{duration_text(seconds)}",
            )
            for warning in record.warnings:
                display.say("  ", ("warning", "yellow"), f": {warning}")
            iteration += 1
            verdict = stages.judge(iteration)
    get_run_logger().info("%s: %s", verdict.kind.value, verdict.evidence)
    return Completed(name=verdict.kind.value.replace("_", " ").capitalize(), message=verdict.evidence)
