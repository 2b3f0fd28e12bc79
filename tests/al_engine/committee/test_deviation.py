"""Deviations of forces and net forces: against numbers worked out by hand and against NumPy's standard deviation."""

import numpy as np
import pytest

from al_engine.committee.deviation import force_deviation, net_force_deviation


def test_by_hand():
    """Two members differ by 2 along x on atom 0: both are 1 from the mean. On atom 1 by (2, 4, 4): |d| = 6, so 3."""
    forces = np.array([[[1.0, 5.0, 0.0], [0.0, 0.0, 0.0]], [[3.0, 5.0, 0.0], [2.0, 4.0, 4.0]]])
    deviation = force_deviation(forces)
    np.testing.assert_allclose(deviation.norm, [1.0, 3.0], rtol=1e-15)
    np.testing.assert_allclose(deviation.component, [1.0, 2.0], rtol=1e-15)


def test_it_is_the_population_standard_deviation():
    """Four members at 0, 0, 0, 4 along one axis: variance 3 with ddof 0, 4 with ddof 1."""
    forces = np.zeros((4, 1, 3))
    forces[3, 0, 2] = 4.0
    np.testing.assert_allclose(force_deviation(forces).norm, [np.sqrt(3.0)], rtol=1e-15)


def test_matches_numpy():
    forces = np.random.default_rng(0).normal(size=(4, 6, 9, 3))
    deviation = force_deviation(forces)
    std = forces.std(axis=0)
    assert deviation.norm.shape == deviation.component.shape == (6, 9)
    np.testing.assert_allclose(deviation.norm, np.linalg.norm(std, axis=-1), rtol=1e-13)
    np.testing.assert_allclose(deviation.component, std.max(axis=-1), rtol=1e-13)


def test_norm_is_root_three_components_where_the_spread_is_isotropic():
    forces = np.random.default_rng(1).normal(size=(200_000, 1, 3))
    deviation = force_deviation(forces)
    assert deviation.norm[0] / deviation.component[0] == pytest.approx(np.sqrt(3.0), rel=0.01)
    along = np.array([[[0.7, 0.7, 0.7]], [[-0.7, -0.7, -0.7]]])
    exact = force_deviation(along)
    np.testing.assert_allclose(exact.norm, np.sqrt(3.0) * exact.component, rtol=1e-15)


def test_norm_is_invariant_under_rotation_and_both_under_a_common_force():
    rng = np.random.default_rng(2)
    forces = rng.normal(size=(4, 5, 3))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    np.testing.assert_allclose(force_deviation(forces @ rotation).norm, force_deviation(forces).norm, rtol=1e-13)
    shifted = force_deviation(forces + rng.normal(size=(5, 3)))
    np.testing.assert_allclose(shifted.norm, force_deviation(forces).norm, rtol=1e-12)
    np.testing.assert_allclose(shifted.component, force_deviation(forces).component, rtol=1e-12)


def test_members_that_agree_have_none():
    forces = np.broadcast_to(np.random.default_rng(3).normal(size=(1, 5, 3)), (4, 5, 3))
    np.testing.assert_allclose(force_deviation(forces).norm, 0.0, atol=1e-15)


def test_nan_of_one_member_reaches_its_atom_alone():
    forces = np.random.default_rng(4).normal(size=(4, 3, 3))
    forces[2, 1, 0] = np.nan
    deviation = force_deviation(forces)
    np.testing.assert_array_equal(np.isnan(deviation.norm), [False, True, False])
    np.testing.assert_array_equal(np.isnan(deviation.component), [False, True, False])


def test_net_force_by_hand():
    """Molecule 0: the members' net forces differ by (0, 6, 8), 10 long, so 5; in molecule 1 the difference cancels."""
    forces = np.zeros((2, 4, 3))
    forces[1, 0], forces[1, 2] = [0.0, 6.0, 1.0], [0.0, 0.0, 7.0]
    forces[1, 1], forces[1, 3] = [9.0, 0.0, 0.0], [-9.0, 0.0, 0.0]
    np.testing.assert_allclose(net_force_deviation(forces, np.array([0, 1, 0, 1])), [5.0, 0.0], rtol=1e-15)


def test_net_force_matches_numpy_molecule_by_molecule():
    rng = np.random.default_rng(5)
    molecule_of_atom = rng.permutation(np.repeat([0, 1, 2], [1, 5, 3]))
    forces = rng.normal(size=(4, 6, 9, 3))
    deviation = net_force_deviation(forces, molecule_of_atom)
    assert deviation.shape == (6, 3)
    for molecule in range(3):
        net = forces[:, :, molecule_of_atom == molecule].sum(axis=2)
        np.testing.assert_allclose(deviation[:, molecule], np.linalg.norm(net.std(axis=0), axis=-1), rtol=1e-13)


def test_net_force_of_single_atoms_is_their_force():
    forces = np.random.default_rng(6).normal(size=(4, 7, 3))
    np.testing.assert_allclose(net_force_deviation(forces, np.arange(7)), force_deviation(forces).norm, rtol=1e-14)


def test_internal_disagreement_does_not_reach_the_net_force():
    """Stiff bonds: forces of opposite sign on two bonded atoms, however much the members disagree on them."""
    rng = np.random.default_rng(7)
    pulls = rng.normal(scale=10.0, size=(4, 1, 3))
    forces = np.concatenate([pulls, -pulls], axis=1)
    assert force_deviation(forces).norm.min() > 1.0
    np.testing.assert_allclose(net_force_deviation(forces, np.array([0, 0])), [0.0], atol=1e-14)


def test_nan_of_one_member_reaches_its_molecule_alone():
    forces = np.random.default_rng(8).normal(size=(4, 4, 3))
    forces[2, 1, 0] = np.nan
    np.testing.assert_array_equal(np.isnan(net_force_deviation(forces, np.array([0, 0, 1, 1]))), [True, False])
