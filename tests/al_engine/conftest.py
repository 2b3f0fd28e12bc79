"""Made-up molecules, records, configs and campaigns: random where the value must not matter."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import Part
from al_engine.config import CampaignConfig
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import validate_config
from al_engine.files.frames_hdf5 import write_labelled
from al_engine.files.part_file import write_part
from al_engine.selection.fates import Counts
from al_engine.structures.frames import Frame, LabelledFrame
from al_engine.verdict.records import IterationRecord, TemperatureRecord


@pytest.fixture
def random_frame() -> Callable[..., Frame]:
    """A frame with nothing at its default."""

    def make(seed: int, n_atoms: int = 4) -> Frame:
        rng = np.random.default_rng(seed)
        return Frame(
            numbers=rng.integers(1, 87, size=n_atoms),
            positions=rng.normal(size=(n_atoms, 3)),
            cell=rng.normal(size=(3, 3)) + 10.0 * np.eye(3),
            pbc=rng.random(3) < 0.5,
            charge=int(rng.integers(-3, 4)),
            unpaired_electrons=int(rng.integers(0, 4)),
        )

    return make


@pytest.fixture
def random_labelled(random_frame) -> Callable[..., list[LabelledFrame]]:
    """Labelled frames of 1 to 6 atoms."""

    def make(count: int, seed: int = 0) -> list[LabelledFrame]:
        rng = np.random.default_rng(seed)
        frames = [random_frame(int(rng.integers(2**31)), int(rng.integers(1, 7))) for _ in range(count)]
        return [
            LabelledFrame(frame=frame, energy=float(rng.normal()), forces=rng.normal(size=(len(frame), 3)))
            for frame in frames
        ]

    return make


@pytest.fixture
def make_config() -> Callable[..., CampaignConfig]:
    """A preset with a molecule, and overrides as nested mappings."""

    def make(preset: str = "quick", **overrides) -> CampaignConfig:
        base = {"name": "ethanol", "system": {"smiles": "CCO"}}
        return validate_config(merged(base, PRESETS[preset], overrides), source="test")

    return make


@pytest.fixture
def make_record() -> Callable[..., IterationRecord]:
    """An iteration whose frames fell as told, one entry per temperature; converged unless changed."""

    def make(
        iteration: int = 0,
        *,
        counts: Sequence[tuple[int, int, int]] = ((1000, 0, 0),),
        decorrelated: float = 1000.0,
        replicas: int = 8,
        stopped: int = 0,
        labelled: int = 10,
        label_failures: int = 0,
        **others,
    ) -> IterationRecord:
        temperatures = tuple(
            TemperatureRecord(
                temperature_kelvin=300.0 + 200.0 * index,
                counts=Counts(
                    sampled=accurate + candidate + rejected, accurate=accurate, candidate=candidate, rejected=rejected
                ),
                decorrelated=decorrelated / len(counts),
                replicas=replicas,
                stopped=stopped,
            )
            for index, (accurate, candidate, rejected) in enumerate(counts)
        )
        return IterationRecord(
            iteration=iteration,
            temperatures=temperatures,
            labelled=labelled,
            label_failures=label_failures,
            dataset_size=100 + 10 * iteration,
            error_before_training_mev_per_ang=55.5,
            test_force_mae_mev_per_ang=33.25,
            test_energy_mae_mev_per_atom=1.5,
            **others,
        )

    return make


@pytest.fixture
def open_ledger(tmp_path, make_config):
    """A ledger that has begun, in tmp_path/run; overrides go to its config."""

    def make(directory=None, **overrides) -> Ledger:
        ledger = Ledger(directory or tmp_path / "run", make_config(**overrides))
        ledger.write_config()
        ledger.begin()
        return ledger

    return make


def _compute_part(ledger, name, fill, *, inputs=None, parents=()):
    """A part that is computed unless it is finished, as a session does it."""
    key = ledger.key(name, inputs=inputs or {}, parents=parents)
    found = ledger.find(name, key)
    if found is not None:
        return found
    with write_part(ledger.part_path(name), kind=name, key=key) as root:
        fill(root)
    return ledger.finish([name])[0]


@pytest.fixture
def compute_part():
    return _compute_part


@pytest.fixture
def add_labels(random_labelled, make_record):
    """Append parts as a campaign does: the initial set, then one per iteration."""

    def add(ledger: Ledger, iteration: int | None, *, count: int = 3, labelled=None) -> Part:
        name = "initial-dataset" if iteration is None else f"iter{iteration:03d}-append"
        number = 0 if iteration is None else iteration + 1
        frames = random_labelled(count, seed=number) if labelled is None else labelled

        def fill(root):
            write_labelled(root.create_group("labelled"), frames)
            if iteration is not None:
                root.attrs["record"] = make_record(iteration).to_json()
                root.attrs["iteration_seconds"] = 60.0 + iteration
            root.attrs["seconds"] = 1.5

        parents = [part for part in ledger.parts() if part.has_labels][:number]
        return _compute_part(ledger, name, fill, inputs={"seed": 1}, parents=parents)

    return add
