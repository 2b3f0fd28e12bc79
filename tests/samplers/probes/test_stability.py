"""The stability test: bonded molecules survive, and a collapse is distinguished from other ends of a trajectory."""

import numpy as np
import pytest

from al_engine.structures.bonds import Bonds
from al_engine.structures.frames import Frame
from samplers.dynamics.limits import StopReason
from samplers.dynamics.settings import Integration, Surroundings
from samplers.probes.stability import StabilityConditions, run_stability, surviving

PAIR = np.array([[0, 1]])


def molecules(count, length):
    positions = np.array([[0.0, 0, 0], [length, 0, 0]])
    return [Frame(numbers=np.array([6, 8]), positions=positions) for _ in range(count)]


def run(potential, frames, *, steps=400, kelvin=800.0):
    return run_stability(
        potential,
        frames,
        conditions=StabilityConditions(
            kelvin=kelvin,
            integration=Integration(steps=steps, stride_steps=20, timestep_fs=0.5, friction_per_ps=10.0),
        ),
        surroundings=Surroundings(bonds=Bonds(pairs=PAIR, lengths=np.array([1.2]))),
        seed=5,
    )


def test_a_strong_bond_survives_and_its_stretch_is_thermal(pair_potential):
    """A Morse bond of 4 eV: in the harmonic limit its mean squared stretch is kT / 2 D a²."""
    seen = run(pair_potential(kind="morse"), molecules(6, 1.2), steps=4000)
    assert set(seen.stop_reason) == {StopReason.COMPLETED}
    assert seen.stretch_ang.shape == (200, 6)
    assert np.isfinite(seen.stretch_ang).all()
    expected = 8.617e-5 * 800.0 / (2 * 4.0 * 2.0**2)
    later = seen.stretch_ang[20:]
    assert np.mean(later**2) == pytest.approx(expected, rel=0.5)  # about 100 independent samples of an anharmonic bond
    assert seen.kinetic_kelvin[20:].mean() == pytest.approx(800.0, rel=0.25)
    np.testing.assert_array_equal(seen.step, 20 * np.arange(1, 201))
    np.testing.assert_allclose(seen.deviation, 0.0, atol=1e-12)


def test_a_molecule_without_a_bond_collapses(pair_potential):
    """Atoms that hardly interact fly apart: their trajectory ends at the first stride past 5 Å."""
    seen = run(pair_potential(kind="morse", depth=1e-3), molecules(4, 1.2), steps=20000)
    for replica, (reason, step) in enumerate(zip(seen.stop_reason, seen.stop_step, strict=True)):
        assert reason in {StopReason.BOND_BROKEN, StopReason.ESCAPED}
        last = int(step) // 20 - 1
        assert np.isnan(seen.stretch_ang[last + 1 :, replica]).all()
        assert (seen.stretch_ang[:last, replica] <= 5.0).all()
        assert (seen.stretch_ang[last, replica] > 5.0) == (reason is StopReason.BOND_BROKEN)
    assert StopReason.BOND_BROKEN in seen.stop_reason


def test_survivors_by_hand():
    share = surviving(
        ["completed", "bond_broken", "too_hot", "completed"], np.array([100, 40, 60, 100]), np.arange(20, 120, 20)
    )
    np.testing.assert_allclose(share, [1.0, 0.75, 0.5, 0.5, 0.5])
