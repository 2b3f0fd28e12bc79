"""One process's run of one campaign."""

from dataclasses import dataclass

from al_engine.campaign.labels import LevelOfTheory
from al_engine.campaign.ledger import Ledger
from flows.compute.stage_call import Executor
from flows.pages.display import Display
from flows.session.interrupts import Interrupts


@dataclass(frozen=True, slots=True)
class Session:
    """A campaign that this process has locked, and the tools that run its stages.

    Attributes:
        ledger: Ledger of the campaign directory.
        level: The level of theory of the labels.
        executor: Runs stage calls.
        display: Shows the stages on the terminal.
        interrupts: Remembers Ctrl-C and SIGTERM.
    """

    ledger: Ledger
    level: LevelOfTheory
    executor: Executor
    display: Display
    interrupts: Interrupts
