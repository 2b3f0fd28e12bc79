"""Campaigns stage by stage in the tests' own process: no Prefect, real labels."""

from contextlib import contextmanager, nullcontext

from al_engine.campaign.ledger import Ledger
from al_engine.config.reader import parse_config
from flows.compute.stage_call import InlineExecutor, run_stages
from flows.session.preflight import preflight
from flows.stages.audits.judging import due_audits, verdict_after
from flows.stages.order import audit_steps, initial_steps, iteration_steps
from labelers.backends.registry import level_of_theory
from labelers.pool.pool import LabelPool

SMALL = """
name: small
seed: 5
system: {smiles: O}
initial: {frames: 9, test_frames: 3, duration_ps: 0.1}
labels: {chunk_frames: 4}
model:
  kind: mace
  short: {cutoff_ang: 3.0, channels: 4, l_max: 1, radial_mlp: []}
training: {members: 2, updates: 10}
sampling:
  {temperatures_kelvin: [300], replicas: 2, steps: 20, timestep_fs: 0.05, stride_steps: 5, cost_share: 0,
   stop_deviation_mev_per_ang: 1.0e+9}
selection: {lower_mev_per_ang: 1.0e-9, upper_mev_per_ang: 1.0e+9, max_labels: 3}
stop: {max_iterations: 1}
"""
"""One iteration of seconds: two members that are hardly trained, and MD in which every frame is a candidate."""


class StageRuns:
    """A campaign whose stages are run in this process."""

    def __init__(self, ledger, *, level=None, label_pool=None):
        self.ledger, self.level, self.label_pool = ledger, level, label_pool
        self.executor = InlineExecutor(ledger.directory, label_pool=lambda: nullcontext(self.label_pool))

    @property
    def config(self):
        return self.ledger.config

    def run(self, *stages, **options):
        """Run stages as one call; their summaries."""
        return "; ".join(part.summary for part in run_stages(self.ledger, self.executor, stages, **options))

    def run_all(self, steps):
        """Run steps in order."""
        for step in steps:
            for stages in step.calls.values():
                self.run(*stages)

    def initial_set(self):
        self.run_all(initial_steps(self.ledger, self.level))

    def iteration(self, iteration):
        """One iteration, and the verdict after it."""
        self.run_all(iteration_steps(self.ledger, self.level, iteration))
        return self.judge(iteration + 1)

    def judge(self, iterations):
        """The audits that are due after a number of iterations, then the verdict."""
        while due := due_audits(self.ledger, iterations):
            self.run_all(audit_steps(self.ledger, self.level, due[0]))
        return verdict_after(self.ledger, iterations)


@contextmanager
def begun(directory, text):
    """A campaign whose initial set is labelled."""
    ledger = Ledger(directory, preflight(parse_config(text, source="test"), base_dir=directory).config)
    ledger.begin()
    ledger.write_config()
    config = ledger.config
    level = level_of_theory(config.labels, periodic=config.labels_boxes)
    with LabelPool(config.labels, workers=1, periodic=config.labels_boxes) as pool:
        campaign = StageRuns(ledger, level=level, label_pool=pool)
        campaign.initial_set()
        yield campaign
