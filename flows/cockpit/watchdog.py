"""Dead runs shown as dead: an automation of the Prefect server that marks a run Crashed once its heartbeat stays away.

A killed process can't say that it ended, and its run would show as Running for ever. Runs beat every
`PREFECT_FLOWS_HEARTBEAT_FREQUENCY` seconds (`flows.cockpit.server`), and the server watches.
"""

from datetime import timedelta

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

NAME = "al-engine: campaigns without a heartbeat are crashed"
SILENCE_S = 90
"""Three beats missed."""
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


def watch_for_dead_runs() -> None:
    """Make the automation, unless the server has it. Runs of campaigns alone are looked after, told by their tags."""
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(NAME):
            client.create_automation(_automation())


def _automation() -> AutomationCore:
    heartbeat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=NAME,
        description="A process that was killed cannot say so. Going on with its campaign starts a run of its own.",
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
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"no heartbeat for {SILENCE_S} s; resume it")],
    )
