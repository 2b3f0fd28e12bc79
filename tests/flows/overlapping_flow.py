"""A campaign in the directory of the first argument, one of whose temperatures waits for labels of the other.

Prints the titles of the calls in the order in which they ended.
"""

import sys
import threading
from pathlib import Path

from stage_runs import begun

from flows.cockpit.flow import campaign_flow
from flows.pages.display import Display
from flows.session.interrupts import Interrupts
from flows.session.session import Session

TEXT = """
name: overlap
seed: 5
system: {smiles: O}
initial: {frames: 9, test_frames: 3, duration_ps: 0.1}
labels: {chunk_frames: 4}
model:
  kind: mace
  short: {cutoff_ang: 3.0, channels: 4, l_max: 1, radial_mlp: []}
training: {members: 2, updates: 10}
sampling:
  {temperatures_kelvin: [300, 900], replicas: 2, steps: 20, timestep_fs: 0.05, stride_steps: 5, cost_share: 0,
   stop_deviation_mev_per_ang: 1.0e+9}
selection: {lower_mev_per_ang: 1.0e-9, upper_mev_per_ang: 1.0e+9, max_labels: 50}
stop: {max_iterations: 1}
execution: {overlap: true}
"""


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
