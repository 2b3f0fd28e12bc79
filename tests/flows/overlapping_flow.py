"""A campaign in the directory of the first argument, one of whose temperatures waits for labels of the other.

Prints the titles of the calls in the order in which they ended.
"""

import sys
import threading
from pathlib import Path

from stage_runs import SMALL, begun

from flows.cockpit.flow import campaign_flow
from flows.pages.display import Display
from flows.session.interrupts import Interrupts
from flows.session.session import Session

TEXT = SMALL.replace("[300]", "[300, 900]").replace("max_labels: 3", "max_labels: 50") + "execution: {overlap: true}\n"


class OneSampleWaits:
    """An executor with which the last temperature is not sampled before labels of the others are ready."""

    workers = 2

    def __init__(self, executor):
        self.inner, self.concurrency, self.stop = executor, executor.concurrency, executor.stop
        self.labelled, self.order, self.samples = threading.Event(), [], threading.Semaphore(1)
        self.one_at_a_time = threading.Lock()

    def run(self, call, progress):
        if call.kind == "sample" and not self.samples.acquire(blocking=False):
            assert self.labelled.wait(60), "nothing was labelled ahead"
        with self.one_at_a_time:
            self.inner.run(call, progress)
            self.order.append(call.title)
        if call.title == "label ahead":
            self.labelled.set()


with begun(Path(sys.argv[1]), TEXT) as campaign, Interrupts() as interrupts, Display(quiet=True) as display:
    executor = OneSampleWaits(campaign.executor)
    campaign_flow(Session(campaign.ledger, campaign.level, executor, display, interrupts), "overlap")
    sys.stdout.write("\n".join(executor.order))
