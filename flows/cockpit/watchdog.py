"""An automation of the Prefect server that marks a run as Crashed when the heartbeats of the run stop.

A killed process cannot report its end, so its run would show as Running for ever. Every run sends a heartbeat each
`PREFECT_FLOWS_HEARTBEAT_FREQUENCY` seconds (`flows.cockpit.server`; deployments say so to
their workers), and the server watches for it.
"""

from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

NAME = "al-engine: campaigns without a heartbeat are crashed"
SILENCE_S = 90
"""Time without a heartbeat after which a run counts as crashed: three missed heartbeats, s."""
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")
"""Final states, after which no heartbeat is expected."""


def watch_for_dead_runs() -> None:
    """Create the automation, unless the server has it already. It covers only runs with the tag of a campaign."""
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(NAME):
            client.create_automation(_automation())


def _automation() -> AutomationCore:
    """The automation: after a heartbeat, it expects another heartbeat or a final state within `SILENCE_S`."""
    heartbeat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=NAME,
        description="A killed process cannot report its end. `al-engine resume` continues its campaign in a new run.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{end}" for end in ENDS)},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.campaign:*"},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(seconds=SILENCE_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message=f"no heartbeat for {SILENCE_S} s; run `al-engine resume`"
            )
        ],
    )
