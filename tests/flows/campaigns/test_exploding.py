"""A campaign made to explode: ten frames, hardly any training, one label per iteration, then MD at 900 K."""

import torch
from stage_runs import begun

from al_engine.verdict.verdict import VerdictKind

torch.set_num_threads(1)

EXPLODING = """
name: exploding
seed: 3
system: {smiles: CCO}
initial: {frames: 10, test_frames: 4, duration_ps: 1.0, hot_kelvin: 400}
model:
  short: {cutoff_ang: 4.0, channels: 4, l_max: 1, radial_mlp: []}
  long: {cutoff_ang: 6.0, channels: 2, l_max: 0, radial_mlp: []}
training: {updates: 20, validation_interval: 10, members: 2, learning_rate: 0.0003}
sampling: {temperatures_kelvin: [900], replicas: 4, steps: 100, stride_steps: 10, cost_share: 0}
selection: {max_labels: 1}
labels: {backend: tblite}
stop: {max_iterations: 6}
"""


def test_it_ends_unstable_and_is_never_called_converged(tmp_path):
    verdicts, iteration = [], 0
    with begun(tmp_path, EXPLODING) as campaign:
        while not verdicts or verdicts[-1] is None:
            verdicts.append(campaign.iteration(iteration))
            iteration += 1
        history = campaign.ledger.history()
    assert verdicts[-1].kind is VerdictKind.UNSTABLE, verdicts[-1]
    assert set(verdicts[:-1]) == {None}
    last = history[-campaign.config.stop.unstable_iterations :]
    assert all(max(record.stopped_share, record.counts.rejected_share) > 0.5 for record in last)
