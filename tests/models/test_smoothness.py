"""Forces and stress are derivatives of the energy, and the energy is smooth at both cut-offs."""

import numpy as np
import pytest
import torch
from ase.data import covalent_radii

from al_engine.structures.frames import Frame
from models.inference.committee import Committee

COVALENT_RADII_CO = float(covalent_radii[6] + covalent_radii[8])
"""Å. Where the repulsion of carbon and oxygen ends."""


def test_forces_are_finite_differences(model, evaluate, random_cluster):
    frame = random_cluster(7)
    _, forces = evaluate(model, frame)
    step = 1e-4
    for atom, axis in ((0, 0), (3, 1), (6, 2)):
        energies = []
        for sign in (1, -1):
            positions = frame.positions.copy()
            positions[atom, axis] += sign * step
            energies.append(evaluate(model, frame.with_positions(positions))[0])
        assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-6)


def test_stress_is_the_strain_derivative(model, evaluate, graph_of, random_cluster):
    cluster = random_cluster(7, side=4.0)
    cell = np.array([[4.6, 0, 0], [0.4, 4.9, 0], [-0.3, 0.5, 5.1]])
    frame = Frame(numbers=cluster.numbers, positions=cluster.positions, cell=cell, pbc=[True] * 3)
    graph, positions = graph_of(model, frame)
    stress = model.predict(graph, positions).stresses[0].numpy()
    step = 1e-5
    for a, b in ((0, 0), (1, 2), (2, 2), (0, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            strained = Frame(
                numbers=frame.numbers, positions=frame.positions @ strain, cell=cell @ strain, pbc=frame.pbc
            )
            energies.append(evaluate(model, strained)[0])
        expected = (energies[0] - energies[1]) / (2 * step) / abs(np.linalg.det(cell))
        assert stress[a, b] == pytest.approx(expected, abs=1e-7)
    assert np.abs(stress).max() > 1e-5  # far above the tolerance


CUTOFFS = [("mace", 3.0), ("message", 3.0), ("message", 5.0), ("energy", 5.0), ("nequip", 3.0)]
CUTOFFS += [("ms-nequip", 3.0), ("ms-nequip", 5.0), ("zbl", COVALENT_RADII_CO)]


@pytest.mark.parametrize(("kind", "cutoff"), CUTOFFS)
def test_energy_is_twice_differentiable_at_a_cutoff(kind, cutoff, evaluate, tiny_config, tiny_model):
    """A kink in the force would be a jump of its slope at the cut-off that does not shrink with the step."""
    model = tiny_model(tiny_config(kind))

    def force(distance):
        frame = Frame(numbers=[6, 8, 1], positions=[[0, 0, 0], [distance, 0, 0], [0, 1.0, 0]])
        return evaluate(model, frame)[1][1, 0]

    def slope_jump(h):
        return abs((force(cutoff + 2 * h) - force(cutoff + h)) - (force(cutoff - h) - force(cutoff - 2 * h))) / h

    def jump(h):
        return abs(force(cutoff + h) - force(cutoff - h))

    assert abs(force(cutoff - 1.0)) > 1e-6
    assert slope_jump(1e-3) < 0.2 * slope_jump(1e-2) + 1e-9
    assert jump(1e-6) < 0.2 * jump(1e-5) + 1e-11


def test_atoms_on_top_of_each_other_give_finite_numbers(model, evaluate):
    frame = Frame(numbers=[1, 6, 8], positions=[[0, 0, 0], [0, 0, 0], [1, 0, 0]])
    energy, forces = evaluate(model, frame)
    assert np.isfinite(energy)
    assert np.isfinite(forces).all()


def test_padded_entries_give_no_nan_in_second_derivatives(graph_of, random_cluster, tiny_config, tiny_model):
    model = tiny_model(tiny_config())
    near = random_cluster(6)
    lonely = Frame(numbers=[1, 8], positions=[[0, 0, 0], [50.0, 0, 0]])
    graph, positions = graph_of(model, near, lonely)
    vectors = graph.vectors(graph.to_nodes(positions)).requires_grad_()
    energy = model.network_energies(graph, model.edge_features(vectors, graph.columns)).sum()
    (gradient,) = torch.autograd.grad(energy, vectors, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), vectors)
    assert torch.isfinite(second).all()
    assert graph.offsets is not None
    padded = graph.offsets.abs().sum(-1) > 0
    assert padded.any()
    assert gradient[padded].abs().max() == 0.0
    assert second[padded].abs().max() == 0.0


@pytest.mark.parametrize("envelope_power", [6, 14, 20])
def test_padding_of_unequal_clusters_gives_no_nan_for_any_envelope(
    envelope_power, tiny_config, tiny_model, random_cluster
):
    """Lists of small clusters hold all pairs, with padding at 2000 Å, where x^p would overflow in float32."""
    config = tiny_config("zbl", envelope_power=envelope_power, dtype="float32")
    frames = [random_cluster(5), random_cluster(9)]
    positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames]))
    committee = Committee([tiny_model(config)], acceleration="off")
    energies, forces = committee.bind(frames).energy_and_forces(positions, 0)
    apart = [committee.bind([frame]).energy_and_forces(torch.from_numpy(frame.positions), 0) for frame in frames]
    torch.testing.assert_close(energies, torch.cat([energy for energy, _ in apart]), rtol=1e-5, atol=0)
    expected = torch.cat([force for _, force in apart])
    torch.testing.assert_close(forces, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
