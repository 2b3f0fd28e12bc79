"""Run the campaign flow in this process, and close the runs that killed processes left in Prefect's database."""

import os

import httpx
import prefect
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.exceptions import CancelledRun, PrefectException, TerminationSignal
from prefect.states import Crashed

from al_engine.errors import AlEngineError, ResumableError
from flows.cockpit.flow import campaign_flow
from flows.cockpit.loopback import without_password
from flows.cockpit.server import server_works
from flows.cockpit.watchdog import watch_for_dead_runs
from flows.session.session import Session


class ServerLostError(ResumableError):
    """The Prefect server does not answer, answers with errors, or no longer knows the run."""


def run_flow(session: Session) -> None:
    """Run the campaign flow to its end.

    Raises:
        KeyboardInterrupt: If stopped by Ctrl-C or SIGTERM, or cancelled in the UI.
        ServerLostError: If the server was lost during the run; finished stages are on disk.
        Exception: The error that a task raised.
    """
    try:
        _run_flow(session)
    except CancelledRun:
        raise KeyboardInterrupt from None
    except AlEngineError:
        raise
    except Exception as error:
        session.interrupts.check()  # an interrupt makes Prefect raise an error while it sets up a task
        if isinstance(error, httpx.HTTPError | PrefectException) or not server_works():
            raise _lost(error) from error
        raise


def _lost(error: Exception) -> ServerLostError:
    reason = " ".join(str(error).split()).split(" - Response")[0][:200] or type(error).__name__
    message = (
        f"the Prefect server at {os.environ['PREFECT_API_URL']} failed ({reason}). Nothing finished is lost: start "
        "the server again or unset PREFECT_API_URL, then run `al-engine resume`"
    )
    return ServerLostError(without_password(message))


def _run_flow(session: Session) -> None:
    ledger = session.ledger
    # Prefect's parameters are text, but a path may contain bytes that are not valid text
    directory = os.fsencode(ledger.directory.resolve()).decode("utf-8", "backslashreplace")
    watch_for_dead_runs()
    if close_dead_runs(ledger.config.name, directory):
        session.display.say(("an earlier run was interrupted; continuing after its last finished stage", "dim"))
    try:
        with prefect.tags(f"campaign:{ledger.config.name}"):
            state = campaign_flow(session, directory)
    except TerminationSignal:
        raise KeyboardInterrupt from None
    if state.is_cancelled():
        raise KeyboardInterrupt
    if not state.is_completed():
        state.result()


def close_dead_runs(campaign: str, directory: str) -> bool:
    """Mark unfinished earlier runs of this campaign as crashed; returns whether any was found.

    This process holds the campaign's lock, so the processes of earlier runs are dead.
    """
    running = {"type": {"any_": [StateType.RUNNING, StateType.PENDING, StateType.PAUSED, StateType.CANCELLING]}}
    with get_client(sync_client=True) as client:
        tagged = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"tags": {"all_": [f"campaign:{campaign}"]}, "state": running})
        )
        dead = {run.id for run in tagged if run.parameters.get("directory") == directory}
        if not dead:
            return False
        children = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"parent_flow_run_id": {"any_": list(dead)}, "state": running})
        )
        for run_id in dead | {run.id for run in children}:
            client.set_flow_run_state(
                run_id, Crashed(message="its process died; a later run continues the campaign"), force=True
            )
    return True
