"""Members trained in one worker, side by side, are the parts that members trained one by one are."""

import h5py
import numpy as np
import pytest
from stage_runs import StageRuns

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.config import TrainingConfig
from al_engine.config.reader import parse_config
from al_engine.errors import ResumableError
from al_engine.files.frames_hdf5 import write_labelled
from al_engine.files.part_file import open_part, write_part
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.verdict.records import IterationRecord
from flows.stages import training

CONFIG = """
name: side
system: {smiles: CO}
labels: {backend: tblite}
execution: {acceleration: "off"}
model:
  dtype: float64
  short: {cutoff_ang: 3.0, channels: 4, l_max: 1, radial_mlp: []}
  long: {cutoff_ang: 4.0, channels: 2, l_max: 1, radial_mlp: []}
training: {members: 3, updates: 6, validation_interval: 2, batch_size: 2}
"""


class Killed:
    """Progress of a job that dies after some reports."""

    def __init__(self, dies_after):
        self.left = dies_after

    def __call__(self, *_):
        self.left -= 1
        if not self.left:
            raise ResumableError("killed")


def campaign(directory):
    ledger = Ledger(directory, parse_config(CONFIG, source="test"))
    ledger.write_config()
    ledger.begin()
    path = ledger.part_path(names.INITIAL_DATASET)
    if not path.exists():
        rng = np.random.default_rng(0)
        frames = [Frame(numbers=[6, 8, 1], positions=2.0 * np.eye(3) + rng.normal(0, 0.1, (3, 3))) for _ in range(8)]
        labelled = [LabelledFrame(frame, -100.0 + rng.normal(), rng.normal(size=(3, 3))) for frame in frames]
        with write_part(path, kind=names.INITIAL_DATASET, key="a") as root:
            write_labelled(root.create_group("labelled"), labelled)
    return StageRuns(ledger)


def content(stages, member):
    with open_part(stages.ledger.part_path(names.member(0, member))) as root:
        weights = [weight[()].ravel() for weight in root["member/weights"].values() if isinstance(weight, h5py.Dataset)]
        return root.attrs["key"], np.concatenate([*weights, root["member/history/validation_loss"][()]])


def test_one_worker_per_member_on_a_cpu_and_one_for_all_on_a_gpu(tmp_path):
    config = campaign(tmp_path).config
    assert training.groups(config, None) == [[0], [1], [2]]
    assert training.groups(config, 1) == [[0, 1, 2]]
    assert training.groups(config, 2) == [[0], [1, 2]]
    assert training.groups(config, 8) == [[0], [1], [2]]


def train(stages, *members, **options):
    return stages.run(*(training.plan(stages.ledger, 0, member) for member in members), **options)


def test_parts_are_the_same_side_by_side_and_after_a_kill(tmp_path):
    alone, together = campaign(tmp_path / "alone"), campaign(tmp_path / "together")
    for member in range(3):
        train(alone, member)
    summary = train(together, 0, 1, 2)
    assert summary.count("6 updates, validation force MAE ") == 3

    with pytest.raises(ResumableError):
        train(campaign(tmp_path / "killed"), 0, 1, 2, progress=Killed(2))
    killed = campaign(tmp_path / "killed")
    parts = killed.ledger.parts_directory
    assert len(list(parts.glob("*.checkpoint"))) == 3
    train(killed, 1)  # one is finished before the others go on
    assert train(killed, 0, 1, 2).count("6 updates") == 3
    assert not list(parts.glob("*.checkpoint"))
    for member in range(3):
        key, values = content(alone, member)
        for other in (together, killed):
            other_key, other_values = content(other, member)
            assert other_key == key
            np.testing.assert_allclose(other_values, values, rtol=0, atol=1e-8)
    with h5py.File(together.ledger.directory / "campaign.h5") as root:
        assert {"member0", "member1", "member2"} <= set(root["iterations/000"])


@pytest.mark.parametrize(
    ("labelled", "warm_start", "share"),
    [(0, True, 0.3), (20, True, 0.3), (50, True, 0.5), (100, True, 1.0), (900, True, 1.0), (20, False, 1.0)],
)
def test_updates_are_in_proportion_to_what_is_new(labelled, warm_start, share):
    """A data set of 1000 frames is enlarged; members that start from random weights learn it all anew."""
    last = IterationRecord(
        iteration=0,
        temperatures=(),
        labelled=labelled,
        label_failures=0,
        dataset_size=1000 + labelled,
        error_before_training_mev_per_ang=None,
        test_force_mae_mev_per_ang=None,
        test_energy_mae_mev_per_atom=None,
    )
    config = TrainingConfig(updates=1000, updates_growth=0.0, least_updates_share=0.3, warm_start=warm_start)
    assert training.updates(config, 0, None) == 1000
    assert training.updates(config, 1, last) == round(1000 * share)
