"""The rescue ladder: every rung gives the label of a calculation with enough cycles, or the frame is a failure."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from al_engine.config import LabelsConfig, SelectionConfig, SystemConfig
from al_engine.structures.frames import Frame
from labelers import LabelError, LabelReason, create_labeler
from labelers.backends.rescue import PLAIN, WARM, Rescuer, label_or_rescue
from labelers.pool.chunk import label_chunk
from labelers.pool.pool import LabelPool
from samplers.building.system import build_system

BACKENDS = ["xtb", "tblite"]
RUNGS = [(backend, rung) for backend in BACKENDS for rung in create_labeler(LabelsConfig(backend=backend)).rungs]


def labeler(backend, cycles=250):
    return create_labeler(LabelsConfig(backend=backend, max_scf_iterations=cycles))


@pytest.mark.parametrize("name", ["ethanol", "methyl", "acetate"])
@pytest.mark.parametrize(("backend", "rung"), RUNGS, ids=[f"{backend} {rung.name}" for backend, rung in RUNGS])
def test_every_rung_converges_to_the_same_label(backend, rung, name, molecules):
    energy, forces, _ = labeler(backend).label(molecules[name])
    rescued_energy, rescued_forces, _ = labeler(backend).label_on(rung, molecules[name])
    assert rescued_energy == pytest.approx(energy, abs=1e-4)
    np.testing.assert_allclose(rescued_forces, forces, atol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_too_few_cycles_are_rescued_by_more(backend, molecules):
    few = labeler(backend, cycles=8)
    with pytest.raises(LabelError):
        few.label(molecules["ethanol"])
    (energy, forces, _), rung = label_or_rescue(few, molecules["ethanol"])
    assert rung in {rung.name for rung in few.rungs}
    expected, expected_forces, _ = labeler(backend).label(molecules["ethanol"])
    assert energy == pytest.approx(expected, abs=1e-9)  # threads add up in any order
    np.testing.assert_allclose(forces, expected_forces, atol=1e-9)


SALT = Frame(
    numbers=[3, 9, 3, 3, 9],
    positions=[
        *([2.43, 4.92, 4.82], [3.64, 2.72, 1.39], [0.81, 4.87, 2.59]),
        *([0.58, 3.13, 3.9], [3.08, 4.6, 0.2]),
    ],
    charge=-1,
)
"""Scattered lithium and fluorine: tblite's SCF needs 41 cycles, xtb's 43 from the orbitals at 3000 K, but 140 or more
from the usual start; how many is chance.
"""


def test_a_frame_that_needs_rescue_in_one_program_gets_the_label_of_the_other():
    outcomes = {}
    for backend in BACKENDS:
        config = LabelsConfig(backend=backend)
        with LabelPool(config, workers=1) as pool:
            (outcomes[backend],) = label_chunk(pool, [SALT], config, SelectionConfig())
    assert outcomes["xtb"].rescue.startswith("started at")
    assert outcomes["tblite"].rescue == ""
    rescued, expected = outcomes["xtb"].labelled, outcomes["tblite"].labelled
    assert rescued.energy == pytest.approx(expected.energy, abs=1e-5)
    np.testing.assert_allclose(rescued.forces, expected.forces, atol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_frame_that_converges_on_no_rung_is_a_failure_that_names_the_rungs(backend, molecules):
    hopeless = labeler(backend, cycles=1)
    with pytest.raises(LabelError, match=r"nor by rescue \(started at 3000 K, .*more cycles") as caught:
        label_or_rescue(hopeless, molecules["ethanol"])
    assert caught.value.reason is LabelReason.NOT_CONVERGED


class Failing:
    """A labeler that fails for another reason than its SCF."""

    rungs = WARM

    def label(self, frame):
        return self.label_on(PLAIN, frame)

    def label_on(self, rung, _):
        assert not rung.name
        raise LabelError(LabelReason.BAD_INPUT, "no")


def test_only_unconverged_frames_are_tried_again(molecules):
    assert isinstance(Failing(), Rescuer)
    with pytest.raises(LabelError, match="no"):
        label_or_rescue(Failing(), molecules["ethanol"])


def test_the_rung_comes_back_from_the_workers(molecules):
    config = LabelsConfig(backend="tblite", max_scf_iterations=8)
    with LabelPool(config, workers=1) as pool:
        (outcome,) = label_chunk(pool, [molecules["ethanol"]], config, SelectionConfig())
    assert outcome.ok
    assert outcome.rescue in {rung.name for rung in create_labeler(config).rungs}


@pytest.mark.parametrize("smiles", ["[Mg+2].[Cl-].[Cl-]", "[Na+].[Cl-].O.O.O"])
def test_salts_in_vacuum_converge_from_a_warm_start_to_the_plain_solution(smiles):
    """Some of their frames do not converge in hundreds of plain cycles; those that do have the same energy."""
    gfn2 = labeler("tblite")
    plain = []
    for seed in range(1, 7):
        frame = build_system(SystemConfig(smiles=smiles), base_dir=Path(), seed=seed).frame
        (energy, *_), rung = label_or_rescue(gfn2, frame)
        assert rung in {"", *(rung.name for rung in WARM)}
        with suppress(LabelError):
            plain.append((gfn2.label(frame).energy, energy))
    assert len(plain) in range(1, 7)
    np.testing.assert_allclose(*np.transpose(plain), atol=1e-4)
