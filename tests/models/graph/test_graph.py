"""Neighbour lists: results do not depend on batching, padding, skins and periodic images."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from models.graph.domains import DomainDecomposition
from models.graph.graph import AtomBatch, neighbour_graph
from models.inference.committee import ALL_PAIRS_ATOMS, Committee


def periodic_frame(random_cluster, n_atoms=8):
    cluster = random_cluster(n_atoms, side=4.2)
    cell = np.array([[4.8, 0, 0], [0.6, 5.0, 0], [-0.4, 0.3, 5.3]])
    return Frame(numbers=cluster.numbers, positions=cluster.positions, cell=cell, pbc=[True] * 3)


def test_a_batch_is_its_frames(model, evaluate, graph_of, random_cluster):
    """Frames of different sizes, with and without periodicity, so that lists are padded."""
    frames = [random_cluster(5, seed=1), periodic_frame(random_cluster), random_cluster(9, seed=2), random_cluster(5)]
    energies, forces = model.energy_and_forces(*graph_of(model, *frames))
    start = 0
    for k, frame in enumerate(frames):
        energy, expected = evaluate(model, frame)
        assert abs(float(energies[k]) - energy) < 1e-10
        assert np.abs(forces[start : start + len(frame)].numpy() - expected).max() < 1e-10
        start += len(frame)


def test_wider_lists_change_nothing(model, graph_of, random_cluster):
    frames = [random_cluster(9, side=8.0), periodic_frame(random_cluster)]
    plain = model.energy_and_forces(*graph_of(model, *frames))
    wide_graph, positions = graph_of(model, *frames, skin=2.0)
    assert wide_graph.neighbours.shape[1] > graph_of(model, *frames)[0].neighbours.shape[1]
    wide = model.energy_and_forces(wide_graph, positions)
    assert (plain[0] - wide[0]).abs().max() < 1e-10
    assert (plain[1] - wide[1]).abs().max() < 1e-10


@pytest.mark.parametrize("periodic", [False, True])
def test_skin_list_follows_moving_atoms(model, evaluate, random_cluster, periodic):
    frame = periodic_frame(random_cluster) if periodic else random_cluster(ALL_PAIRS_ATOMS + 4, side=10.0)
    bound = Committee([model], skin_ang=1.0).bind([frame])
    rng = np.random.default_rng(0)
    positions = frame.positions.copy()
    graphs = []
    for _ in range(6):
        positions = positions + rng.normal(scale=0.1, size=positions.shape)
        energy, forces = bound.energy_and_forces(torch.from_numpy(positions), 0)
        expected_energy, expected = evaluate(model, frame.with_positions(positions))
        assert abs(float(energy) - expected_energy) < 1e-10
        assert np.abs(forces.numpy() - expected).max() < 1e-10
        graphs.append(bound.graph(torch.from_numpy(positions)))
    assert 1 < len({id(graph) for graph in graphs}) < 6  # reused, and rebuilt when it had to be


def test_supercell_repeats_the_forces(model, evaluate, random_cluster):
    frame = periodic_frame(random_cluster)
    energy, forces = evaluate(model, frame)
    repeated = frame.to_atoms() * (2, 1, 2)
    energy_repeated, forces_repeated = evaluate(model, Frame.from_atoms(repeated))
    assert abs(4 * energy - energy_repeated) < 1e-9
    assert np.abs(np.tile(forces, (4, 1)) - forces_repeated).max() < 1e-10


def test_wrapping_atoms_changes_nothing(model, evaluate, random_cluster):
    frame = periodic_frame(random_cluster)
    shifts = np.random.default_rng(0).integers(-2, 3, (len(frame), 3))
    energy, forces = evaluate(model, frame)
    energy_shifted, forces_shifted = evaluate(model, frame.with_positions(frame.positions + shifts @ frame.cell))
    assert abs(energy - energy_shifted) < 1e-9
    assert np.abs(forces - forces_shifted).max() < 1e-9


def pairs(graph, positions, cell, reach):
    """All pairs (atom, neighbour, image) of a frame within reach."""
    order = graph.atoms
    lengths = graph.vectors(positions[order]).norm(dim=-1)
    offsets = torch.zeros(*lengths.shape, 3, dtype=torch.float64) if graph.offsets is None else graph.offsets
    found = set()
    for node, column in (lengths < reach).nonzero().tolist():
        image = np.rint(np.linalg.solve(cell.T, offsets[node, column].numpy())).astype(int)
        assert np.allclose(image @ cell, offsets[node, column].numpy(), atol=1e-10)
        found.add((int(order[node]), int(order[graph.neighbours[node, column]]), *image.tolist()))
    assert len(found) == int((lengths < reach).sum())  # none twice
    return found


TRICLINIC = np.array([[4.8, 0, 0], [0.6, 5.0, 0], [-2.4, 0.3, 5.3]])


@pytest.mark.parametrize("pbc", [[False] * 3, [True] * 3, [True, False, True], [False, True, False]])
@pytest.mark.parametrize("limit", [0, 1000])
def test_same_pairs_as_ase(random_cluster, monkeypatch, pbc, limit):
    """In a cell smaller than the cut-off, with atoms outside the cell; by the k-d tree and from all pairs."""
    monkeypatch.setattr("models.graph.graph.DENSE_LIMIT", limit)
    frame = random_cluster(12, side=5.0)
    wandered = frame.positions + np.random.default_rng(0).integers(-2, 3, (12, 3)) * pbc @ TRICLINIC
    frame = Frame(numbers=frame.numbers, positions=wandered, cell=TRICLINIC, pbc=pbc)
    positions = torch.from_numpy(wandered.copy())
    graph = neighbour_graph(AtomBatch.of([frame], [1, 6, 8]), positions, cutoffs=[2.5, 5.5])
    lengths = graph.vectors(graph.to_nodes(positions)).norm(dim=-1)
    assert not (lengths[:, graph.columns[0] :] < 2.5).any()
    atoms = Atoms(frame.numbers, wandered, cell=TRICLINIC, pbc=pbc)
    i, j, images = neighbor_list("ijS", atoms, 5.5)
    expected = {(a, b, *image) for a, b, image in zip(i.tolist(), j.tolist(), images.tolist(), strict=True)}
    assert pairs(graph, positions, TRICLINIC, 5.5) == expected
    again = neighbour_graph(AtomBatch.of([frame], [1, 6, 8]), positions.clone(), cutoffs=[2.5, 5.5])
    assert torch.equal(graph.neighbours, again.neighbours)


@pytest.mark.parametrize("lost", [[3], range(8)])
def test_an_atom_that_is_nowhere_has_no_neighbours_and_disturbs_nobody(random_cluster, lost):
    frame = periodic_frame(random_cluster)
    there = [k for k in range(8) if k not in lost]
    positions = torch.from_numpy(frame.positions.copy())
    positions[list(lost)] = torch.nan
    graph = neighbour_graph(AtomBatch.of([frame], [1, 6, 8]), positions, cutoffs=[3.0])
    expected = set()
    if there:
        others = Frame(numbers=frame.numbers[there], positions=frame.positions[there], cell=frame.cell, pbc=frame.pbc)
        kept = positions[there]
        alone = neighbour_graph(AtomBatch.of([others], [1, 6, 8]), kept, cutoffs=[3.0])
        for a, b, *image in pairs(alone, kept, frame.cell, 3.0):
            expected.add((there[a], there[b], *image))
    assert pairs(graph, positions, frame.cell, 3.0) == expected


def test_unknown_element_is_named(model):
    with pytest.raises(InputError, match="atom 1 has atomic number 9"):
        Committee([model]).bind([Frame(numbers=[1, 9], positions=np.eye(3)[:2])])


def summed_over_pairs(graph, positions):
    """Forces on nodes and the virial of E = Σ_i Σ_{j<3 Å} (3 - r_ij)³, and the energies of the receivers."""
    vectors = graph.vectors(positions).requires_grad_()
    energies = (3.0 - vectors.norm(dim=-1)).clamp_min(0.0).pow(3).sum(1)
    (gradients,) = torch.autograd.grad(energies.sum(), vectors)
    vectors = vectors.detach()
    return graph.forces(gradients), graph.virials(vectors, gradients), energies.detach()


def test_domains_are_graphs_that_add_up_to_the_graph_of_the_frame(random_cluster):
    """Forces on halo atoms and images count, and so do their virials, as in the whole periodic frame."""
    frame = periodic_frame(random_cluster)
    species = np.searchsorted([1, 6, 8], frame.numbers)
    positions = torch.from_numpy(frame.positions.copy())
    whole = neighbour_graph(AtomBatch.of([frame], [1, 6, 8]), positions, cutoffs=[2.0, 3.0])
    forces, virial, energies = summed_over_pairs(whole, whole.to_nodes(positions))
    forces, energies = whole.to_atoms(forces), whole.to_atoms(energies)
    found, found_virial, found_energies = torch.zeros_like(forces), torch.zeros_like(virial), torch.zeros_like(energies)
    domains = DomainDecomposition(frame, species, cutoffs=[2.0, 3.0], size=3, n_species=3, device=torch.device("cpu"))
    assert len(domains) > 2
    for domain in domains:
        graph = domain.graph
        assert len(graph.neighbours) < len(graph.atoms)
        own_forces, own_virial, own_energies = summed_over_pairs(graph, domain.positions)
        found.index_add_(0, graph.atoms, own_forces)
        found_virial += own_virial
        found_energies[domain.receiving_atoms] = own_energies
        assert graph.kinds.bincount(minlength=3).tolist() == graph.species_counts
    torch.testing.assert_close(found, forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(found_virial, virial, rtol=0, atol=1e-11)
    torch.testing.assert_close(found_energies, energies, rtol=0, atol=1e-12)
    assert forces.abs().max() > 0.1


def test_values_of_a_domain_are_not_taken_for_those_of_a_frame(random_cluster):
    frame = random_cluster(9)
    species = np.searchsorted([1, 6, 8], frame.numbers)
    domains = DomainDecomposition(frame, species, cutoffs=[3.0], size=4, n_species=3, device=torch.device("cpu"))
    domain = next(iter(domains))
    with pytest.raises(ValueError, match="a domain lacks atoms"):
        domain.graph.to_atoms(domain.positions)


def test_columns_hold_all_neighbours_within_their_cutoff(random_cluster):
    frame = random_cluster(12)
    positions = torch.from_numpy(frame.positions.copy())
    graph = neighbour_graph(AtomBatch.of([frame], [1, 6, 8]), positions, cutoffs=[2.0, 4.0])
    nodes = graph.to_nodes(positions)
    short = graph.vectors(nodes, columns=graph.columns[0])
    assert torch.equal(short, graph.vectors(nodes)[:, : graph.columns[0]])
    assert (short.norm(dim=-1) < 2.0).sum() == (graph.vectors(nodes).norm(dim=-1) < 2.0).sum()
