"""One process's run of one campaign: it plans stages, has them executed, and takes their parts into the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass

from al_engine.campaign.labels import LevelOfTheory
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import Part
from al_engine.protocols import Progress, silent
from flows.compute.stage_call import Executor, Stage, StageCall, plan
from flows.pages.display import Display
from flows.session.interrupts import Interrupts


@dataclass(frozen=True, slots=True)
class Session:
    """A campaign that this process has locked, and what runs its stages.

    Attributes:
        ledger: The campaign directory.
        level: The level of theory of the labels.
        device: `cpu` or `cuda`.
        executor: Runs stage calls.
        display: Shows the stages on the terminal.
        interrupts: Remembers Ctrl-C and SIGTERM.
    """

    ledger: Ledger
    level: LevelOfTheory
    device: str
    executor: Executor
    display: Display
    interrupts: Interrupts

    def run(self, stages: Sequence[Stage], progress: Progress = silent) -> list[Part]:
        """Have stages computed as one call in this thread, unless their parts are finished.

        Raises:
            AlEngineError: With a message for the user.
        """
        planned = plan(self.ledger, stages)
        if isinstance(planned, StageCall):
            self.executor.run(planned, progress)
            self.finish(planned)
        return [self.ledger.sound_part(stage.name) for stage in stages]

    def finish(self, call: StageCall) -> None:
        """Take the parts of an executed call into the ledger."""
        for output in call.outputs:
            self.ledger.finish(output.name)
