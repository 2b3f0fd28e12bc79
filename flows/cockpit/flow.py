"""The Prefect flow of a campaign: a subflow for each iteration and each audit, and in it a task for each stage call.

A task only runs its stage call. The parts on disk are the only cache, so Prefect's cache is off everywhere.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import prefect
from prefect import Task, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TagsContext
from prefect.futures import PrefectFuture, as_completed, wait
from prefect.states import Cancelled, Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import Part
from al_engine.errors import CampaignLockedError
from al_engine.protocols import Progress
from al_engine.verdict.verdict import Verdict
from flows.cockpit.publish import publish_if_missing, publish_iteration, publish_page
from flows.cockpit.run_watch import ASK_S, RunWatch, watched
from flows.compute.stage_call import StageCall, finish, plan
from flows.pages.display import Display, duration_text, number_text
from flows.session.interrupts import interrupts_wait
from flows.session.prepare import Prepared, opened
from flows.session.resume import first_unfinished
from flows.session.session import Session
from flows.stages.audits import judging
from flows.stages.order import Step, audit_steps, initial_steps, iteration_steps
from flows.stages.search.planned_sampling import plan_text

LOG_INTERVAL_S = 10.0
"""Least time between two log lines of a task in the UI, s."""


class CampaignRun:
    """The tasks of one campaign, and the order in which they run.

    Args:
        session: The campaign, locked by this process.
        watch: Says whether the run was cancelled or paused on Prefect's pages.
    """

    def __init__(self, session: Session, watch: RunWatch) -> None:
        self._session = session
        self._watch = watch
        self._ledger = session.ledger
        self._name = session.ledger.config.name

    # -- the campaign -------------------------------------------------------------------------------------------

    def run_to_verdict(self) -> Verdict:
        """Run the campaign from its first unfinished iteration; returns why it stopped."""
        # As many tasks at a time as workers: a task that waits for a worker should not be shown as running. One more
        # labels ahead, with the workers that label.
        workers = self._session.executor.workers + int(self._ledger.config.execution.overlap)
        runner = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=workers))
        iterate = flow(
            name="iteration",
            flow_run_name="{campaign} · iteration {iteration}",
            task_runner=runner,
            validate_parameters=False,
        )(self._iteration)
        audit = flow(
            name="audit",
            flow_run_name="{campaign} · audit of iteration {iteration}",
            task_runner=runner,
            validate_parameters=False,
        )(self._audit)
        begin = flow(name="initial set", flow_run_name="{campaign} · initial set", validate_parameters=False)(
            self._initial_set
        )
        say = self._session.display.say
        verdict: Verdict | None = None
        with interrupts_wait():
            iteration = first_unfinished(self._ledger)
        with prefect.tags(f"campaign:{self._name}"):
            if iteration is None:
                say(("initial set", "bold"))
                begin(self._name)
                iteration = 0
            elif iteration > 0:
                say((f"iterations 0 to {iteration - 1} are finished", "dim"))
                with interrupts_wait():
                    publish_if_missing(self._ledger, iteration - 1, campaign=self._name)
                verdict = self._judge(iteration, audit)
            while verdict is None:
                say((f"iteration {iteration}", "bold"))
                with interrupts_wait():
                    plan = plan_text(self._ledger, iteration)
                if plan:
                    say((f"  {plan}", "dim"))
                with prefect.tags(f"iteration:{iteration}"):
                    iterate(self._name, iteration)
                with interrupts_wait():
                    self._say_iteration(iteration)
                iteration += 1
                verdict = self._judge(iteration, audit)
        return verdict

    def _judge(self, iterations: int, audit: Callable[[str, int], None]) -> Verdict | None:
        """The verdict after a number of iterations; committees that must be audited for it are audited first.

        Args:
            iterations: Number of finished iterations.
            audit: The flow that audits the committee of an iteration.
        """
        while True:
            with interrupts_wait():
                due = judging.due_audits(self._ledger, iterations)
                if not due:
                    return judging.verdict_after(self._ledger, iterations)
            self._session.display.say((f"audit of iteration {due[0]}", "bold"))
            with prefect.tags(f"iteration:{due[0]}"):
                audit(self._name, due[0])

    def _initial_set(self, campaign: str) -> None:
        """Make and label the initial set and the test set."""
        del campaign  # used in the name of the run
        with self._untagged(), self._watched_run():
            self._run(initial_steps(self._ledger, self._session.level, concurrency=self._session.executor.concurrency))

    def _iteration(self, campaign: str, iteration: int) -> None:
        """One iteration: train, sample, select, label, score, append."""
        session, start = self._session, time.perf_counter()
        steps = iteration_steps(
            self._ledger,
            session.level,
            iteration,
            concurrency=session.executor.concurrency,
            elapsed_s=lambda: time.perf_counter() - start,
        )
        with self._untagged(), self._watched_run():
            self._run(steps)
            with interrupts_wait():
                publish_iteration(self._ledger, iteration, campaign=campaign)

    def _audit(self, campaign: str, iteration: int) -> None:
        """The audit of an iteration's committee: draw accurate frames, label them, compare."""
        with self._untagged(), self._watched_run():
            concurrency = self._session.executor.concurrency
            self._run(audit_steps(self._ledger, self._session.level, iteration, concurrency=concurrency))
            with interrupts_wait():
                publish_page(self._ledger, iteration, campaign=campaign)

    def _say_iteration(self, iteration: int) -> None:
        """Print one line about an iteration, and the warnings of its record."""
        record = self._ledger.history()[iteration]
        self._session.display.say(
            "  ",
            (f"iteration {iteration}", "bold"),
            f": acceptance {record.counts.acceptance:.2%}, test forces "
            f"{number_text(record.test_force_mae_mev_per_ang)} meV/Å, {record.dataset_size} frames, "
            f"{duration_text(self._ledger.iteration_seconds(iteration))}",
        )
        for warning in record.warnings:
            self._session.display.say("  ", ("warning", "yellow"), f": {warning}")

    # -- stages -------------------------------------------------------------------------------------------------

    def _run(self, steps: Iterator[Step]) -> None:
        """Run steps in order; the calls of a step run side by side, each call in its own task.

        Finished stages are not computed again. The first failure is raised. Interrupts are delayed while the ledger is
        read or written, because h5py reports an interrupt within a call as damage.
        """
        while True:
            self._watch.wait_while_paused(self._session.interrupts.check)
            self._session.interrupts.check()
            with interrupts_wait():
                step = next(steps, None)
                calls = {} if step is None else self._planned(step)
            if step is None:
                return
            running = {title: self._submitted(title, call) for title, call in calls.items()}
            if step.ahead is not None:
                self._work_ahead(step, running)
            wait(list(running.values()))
            with interrupts_wait():  # also the calls that were completed beside a failed one
                finish(self._ledger, [calls[title] for title, future in running.items() if future.state.is_completed()])
            for future in running.values():
                future.result()

    def _work_ahead(self, step: Step, running: Mapping[str, PrefectFuture[None]]) -> None:
        """While calls of a step run, run what needs the parts of its finished calls only; returns when all have ended.

        What fails here is tried again when its own step comes.
        """
        titles = {future: title for title, future in running.items()}
        finished = set(step.calls) - set(running)
        ahead: PrefectFuture[None] | None = None
        for future in as_completed(list(titles)):
            if ahead is not None:
                ahead.wait()
            future.wait()  # otherwise its state is asked of the server, which learns of it later
            if not future.state.is_completed():
                return
            finished.add(titles[future])
            with interrupts_wait():
                call = None if len(finished) == len(step.calls) or step.ahead is None else step.ahead(finished)
            ahead = None if call is None else self._submitted(call.title, call)

    def _submitted(self, title: str, call: StageCall) -> PrefectFuture[None]:
        """The future of a task that executes a call."""
        return self._task(title).submit(str(self._ledger.directory), call.to_dict())

    def _planned(self, step: Step) -> dict[str, StageCall]:
        """The calls of a step that are to be executed, by title; finished stages are named on the terminal."""
        calls = {}
        for title, stages in step.calls.items():
            planned = plan(self._ledger, stages)
            if isinstance(planned, StageCall):
                calls[title] = planned
            else:
                self._say_done(title, [part.summary for part in planned])
        return calls

    def _task(self, title: str) -> Task[[str, dict[str, Any]], None]:
        """A task that executes a call; progress and summary go to the terminal and to the run's log in the UI."""

        @task(name=title.split(maxsplit=1)[0], task_run_name=title, cache_policy=NO_CACHE)
        def run(directory: str, call: dict[str, Any]) -> None:
            del directory  # the session knows it; an executor on another machine needs it
            self._session.interrupts.check()
            logger, planned = get_run_logger(), StageCall.from_dict(call)
            with self._session.display.step(title) as show:
                self._session.executor.run(planned, _logged(show, logger))
            summaries = [Part.load(self._ledger.part_path(output.name)).summary for output in planned.outputs]
            if summaries:
                logger.info("; ".join(summaries))
                self._say_done(title, summaries)

        return run

    def _say_done(self, title: str, summaries: Sequence[str]) -> None:
        text = "; ".join(summary or "finished by an earlier version" for summary in summaries)
        self._session.display.say("  ", ("✓", "green"), f" {title}: {text}")

    @contextmanager
    def _watched_run(self) -> Iterator[None]:
        """Watch the flow run of the block for Cancel and Pause, and kill the workers if the block raises.

        Without the kill Prefect would wait for its task threads, which wait for the workers.
        """
        self._watch.add(_run_id())
        try:
            yield
        except BaseException:
            self._session.executor.stop()
            raise

    @staticmethod
    def _untagged() -> TagsContext:
        """A context in which tasks do not inherit the tags of their run.

        The server looks up a concurrency limit for each tag before and after a task. While its SQLite database writes
        events it often refuses the first look-up, and the client then waits for two seconds.
        """
        return TagsContext(current_tags=set())


def _logged(show: Progress, logger: Logger | LoggerAdapter[Logger]) -> Progress:
    """Progress that is shown, and written into the log of the run every `LOG_INTERVAL_S`."""
    last_line = time.monotonic()

    def progress(done: int, total: int, note: str = "") -> None:
        nonlocal last_line
        show(done, total, note)
        if note and time.monotonic() - last_line > LOG_INTERVAL_S:
            last_line = time.monotonic()
            logger.info("%d of %d, %s", done, total, note)

    return progress


def _run_id() -> UUID | None:
    """Id of the current flow run; None outside a flow run."""
    context = FlowRunContext.get()
    return None if context is None or context.flow_run is None else context.flow_run.id


def campaign_flow(session: Session, directory: str) -> State[str]:
    """Run a campaign, which this process has locked, in a new flow run; `directory` is shown with the run."""

    @flow(name="active-learning campaign", flow_run_name="{campaign}", validate_parameters=False)
    def run(campaign: str, directory: str) -> State[str]:
        del campaign, directory  # Prefect shows them with the run
        return _run_to_end(session)

    return cast("State[str]", run(session.ledger.config.name, directory, return_state=True))


@flow(name="active-learning campaign", flow_run_name="{campaign}", validate_parameters=False)
def deployed_flow(campaign: str = "", directory: str = "") -> State[str]:
    """Run the campaign in a directory, for deployments: the flow opens the campaign itself, without the command line.

    A deployment always gives both arguments. They have defaults because Prefect's pages ask for those that have none
    at every Quick run.

    Args:
        campaign: Name of the campaign, for the name of the run.
        directory: The campaign directory.
    """
    del campaign
    with _opened_in_turn(Path(directory)) as session:
        return _run_to_end(session)


@contextmanager
def _opened_in_turn(directory: Path) -> Iterator[Session]:
    """Open a campaign as soon as no other process runs it.

    After Suspend and Resume the process that was suspended may still be in the middle of a stage.
    """
    said = False
    with ExitStack() as opening:
        while True:
            try:
                session = opening.enter_context(opened(Prepared(Ledger.open(directory)), Display(quiet=True)))
                break
            except CampaignLockedError as error:
                if not said:
                    get_run_logger().info("waits until the other process has ended: %s", error)
                    said = True
                time.sleep(ASK_S)
        yield session


def _run_to_end(session: Session) -> State[str]:
    """Run a campaign to its verdict, or until its run is cancelled; returns the state that the run ends in."""

    def stop() -> None:
        session.interrupts.request()
        session.executor.stop()

    with watched(_run_id(), stop) as watch:
        try:
            verdict = CampaignRun(session, watch).run_to_verdict()
        except BaseException:
            if not watch.cancelled:
                raise
            return Cancelled(message="Nothing finished is lost: `al-engine resume` continues the campaign")
    get_run_logger().info("%s: %s", verdict.kind.value, verdict.evidence)
    return Completed(name=verdict.kind.value.replace("_", " ").capitalize(), message=verdict.evidence)
