"""Compiled graph of energies and forces: correct for all frames and members; without it models run uncompiled."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from al_engine.config import PathConfig
from models.graph.graph import AtomBatch, neighbour_graph
from models.inference.acceleration import accelerate
from models.inference.committee import GRAPH_PAYS_AFTER, Committee, wants_graph
from models.inference.compiled import CompiledForces, _architecture, inductor
from models.inference.symbolic import forces_arguments, trace_forces
from models.ms_mace import MSMACE

SMALL = {
    "layers": 1,
    "hidden_l_max": 0,
    "correlation": 2,
    "short": PathConfig(cutoff_ang=3.0, channels=2, l_max=1, radial_mlp=[]),
}
"""Options of a model that is traced in a second or two."""
DEEP = {
    "layers": 2,
    "hidden_l_max": 1,
    "short": PathConfig(cutoff_ang=3.0, channels=2, l_max=1, radial_mlp=[8]),
}
"""Options of a model whose second layer passes messages of vectors."""
LONG = PathConfig(cutoff_ang=5.0, channels=2, l_max=0, radial_mlp=[])


@pytest.fixture(scope="module")
def traced_once():
    """`trace`, but for each architecture once in this file."""
    made = {}

    def trace_or_find(model, device):
        key = _architecture(model)
        if key not in made:
            made[key] = trace_forces(model, device)
        return made[key]

    return trace_or_find


@pytest.fixture(autouse=True)
def _traced_once(traced_once, monkeypatch):
    monkeypatch.setattr("models.inference.compiled.trace_forces", traced_once)


@pytest.mark.parametrize(
    ("kind", "kernels"), [("mace", False), ("mace", True), ("energy", False), ("zbl", True), ("ms-nequip", False)]
)
def test_a_traced_graph_fits_all_sizes_and_members(kind, kernels, *, tiny_config, tiny_model, random_cluster, graph_of):
    """Other sizes, numbers of frames and compositions, another member's weights, with and without kernels."""
    changes = {"energy": SMALL | {"long": LONG}, "ms-nequip": DEEP | {"long": LONG}}.get(kind, DEEP)
    models = [tiny_model(tiny_config(kind, **changes), seed=seed) for seed in (1, 2)]
    frames = [random_cluster(n, seed=n) for n in (5, 9, 14)]
    if kernels:
        assert all(accelerate(model) for model in models)
    traced = trace_forces(models[0], torch.device("cpu"))
    for chosen in ([frames[0]], frames, [frames[2], frames[2]]):
        for model in models:
            graph, positions = graph_of(model, *chosen, skin=0.3)
            expected = model.energy_and_forces(graph, positions)
            for ours, theirs in zip(traced(*forces_arguments(model, graph, positions)), expected, strict=True):
                assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_traced_graph_fits_members_with_repulsions_of_other_strength(
    tiny_config, tiny_model, random_cluster, graph_of, traced_once
):
    plain = tiny_model(tiny_config("zbl", **SMALL))
    scaled = MSMACE(plain.config, replace(plain.constants, repulsion_strength=0.3), seed=3).freeze()
    graph, positions = graph_of(plain, random_cluster())
    (energy, _), (expected, expected_forces) = (m.energy_and_forces(graph, positions) for m in (plain, scaled))
    assert abs(float(energy - expected)) > 0.01  # eV
    ours, forces = traced_once(plain, torch.device("cpu"))(*forces_arguments(scaled, graph, positions))
    assert torch.allclose(ours, expected, rtol=1e-10, atol=1e-10)
    assert torch.allclose(forces, expected_forces, rtol=1e-10, atol=1e-10)


@pytest.fixture
def small(tiny_config, tiny_model):
    return tiny_model(tiny_config("mace", **SMALL))


def test_inductor_compiles_once_for_all_sizes(tiny_config, tiny_model, random_cluster, graph_of):
    """For any first frame, and with sizes of 0 and 1, which compilers treat as constants by default.

    The model has scalars only, which shortens the compilation. The sizes that vary are those of atoms and neighbours.
    """
    scalars = PathConfig(cutoff_ang=3.0, channels=2, l_max=0, radial_mlp=[])
    small = tiny_model(tiny_config("mace", **SMALL | {"short": scalars, "correlation": 1}))
    counted = []

    def count(graph):
        counted.append(graph)
        return inductor(graph)

    assert accelerate(small)
    compiled = CompiledForces(compiler=count)
    one_oxygen, no_oxygen = random_cluster(6, seed=4), random_cluster(6)
    assert [np.count_nonzero(frame.numbers == 8) for frame in (one_oxygen, no_oxygen)] == [1, 0]
    frames = [random_cluster(n, seed=n) for n in (9, 14)]
    for chosen in ([one_oxygen], [frames[1]], frames, [no_oxygen], [frames[0]], [frames[1]] * 9, [one_oxygen] * 2):
        graph, positions = graph_of(small, *chosen)
        expected = small.energy_and_forces(graph, positions)
        compiled(small, graph, positions)
        assert compiled.ready
        for ours, theirs in zip(compiled(small, graph, positions), expected, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    assert len(counted) == 1


def test_a_graph_of_another_kind_is_checked_too(small, random_cluster, graph_of):
    """Compiled code that relies on an element missing in the first graph is detected."""

    def assuming(graph_module):
        def run(*inputs):
            energies, forces = graph_module(*inputs)
            return energies, forces * (1.0 + 0.001 * len(inputs[-5]))  # atoms of the last element

        return run

    compiled = CompiledForces(compiler=assuming)
    graph, positions = graph_of(small, random_cluster(6))
    for _ in range(2):
        compiled(small, graph, positions)
    assert compiled.ready
    graph, positions = graph_of(small, random_cluster(6, seed=4))
    with pytest.warns(RuntimeWarning, match="differ"):
        _, forces = compiled(small, graph, positions)
    assert not compiled.ready
    assert torch.equal(forces, small.energy_and_forces(graph, positions)[1])


def test_a_compiler_that_fails_is_a_warning(small, random_cluster, graph_of):
    def broken(*_):
        raise RuntimeError("on purpose")

    graph, positions = graph_of(small, random_cluster())
    compiled = CompiledForces(compiler=broken)
    expected = small.energy_and_forces(graph, positions)
    with pytest.warns(RuntimeWarning, match="uncompiled: their compilation failed"):
        assert torch.equal(compiled(small, graph, positions)[1], expected[1])
    assert torch.equal(compiled(small, graph, positions)[1], expected[1])
    assert not compiled.ready


def test_a_compiler_that_is_wrong_is_a_warning(small, random_cluster, graph_of):
    def wrong(graph_module):
        def run(*inputs):
            *others, forces = graph_module(*inputs)
            return *others, 1.001 * forces

        return run

    graph, positions = graph_of(small, random_cluster())
    compiled = CompiledForces(compiler=wrong)
    expected = small.energy_and_forces(graph, positions)
    with pytest.warns(RuntimeWarning, match="differ"):
        assert torch.equal(compiled(small, graph, positions)[1], expected[1])
    assert torch.equal(compiled(small, graph, positions)[1], expected[1])
    assert not compiled.ready


def test_a_committee_uses_what_it_is_told(tiny_config, tiny_model, random_cluster, monkeypatch):
    monkeypatch.setattr(
        "models.inference.committee.CompiledForces", lambda: CompiledForces(compiler=lambda graph: graph)
    )
    frame = random_cluster()
    positions = torch.tensor(frame.positions)
    forces = []
    for acceleration in ("off", "kernels", "graph"):
        members = [tiny_model(tiny_config("mace", **SMALL), seed=seed) for seed in (1, 2)]
        bound = Committee(members, acceleration=acceleration).bind([frame])
        bound.member_forces(positions)
        forces.append(bound.member_forces(positions).numpy())
    assert np.abs(forces[1] - forces[0]).max() < 1e-10
    assert np.abs(forces[2] - forces[0]).max() < 1e-10


def as_traced(graph):
    """A compiler that returns the traced graph."""
    return graph


@pytest.mark.parametrize("differs", ["envelope_power", "channels", "elements"])
def test_members_of_other_architectures_have_graphs_of_their_own(
    tiny_config, tiny_model, random_cluster, monkeypatch, differs
):
    """Members that differ in the envelope's power, in the weights' shapes, and in the elements of the repulsion."""
    monkeypatch.setattr("models.inference.committee.CompiledForces", lambda: CompiledForces(compiler=as_traced))
    first = tiny_model(tiny_config("zbl", **SMALL))
    if differs == "elements":
        others = replace(first.constants, elements=(1, 6, 9))
        members = [first, MSMACE(first.config, others, seed=3).freeze()]
        compiled = CompiledForces(compiler=as_traced)
        evaluators = [compiled] * 2
    else:
        short = PathConfig(cutoff_ang=3.0, channels=3, l_max=1, radial_mlp=[])
        changes = {"envelope_power": {"envelope_power": 5}, "channels": {"short": short}}[differs]
        members = [first, tiny_model(tiny_config("zbl", **SMALL | changes))]
        committee = Committee(members, acceleration="graph")
        evaluators = [committee._evaluate] * 2
    frame = random_cluster()
    frame = replace(frame, numbers=np.where(frame.numbers == 8, 6, frame.numbers))
    for _ in range(2):  # the first call is checked, the second is not
        for member, evaluate in zip(members, evaluators, strict=True):
            atoms = AtomBatch.of([frame], member.constants.elements)
            positions = torch.from_numpy(frame.positions)
            graph = neighbour_graph(atoms, positions, cutoffs=member.cutoffs)
            expected = member.energy_and_forces(graph, positions)
            for ours, theirs in zip(evaluate(member, graph, positions), expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert evaluators[0].ready


def test_an_exploded_frame_does_not_end_compilation(small, random_cluster, graph_of):
    """Forces that are not finite cannot be compared; the next graph is compared instead."""
    compiled = CompiledForces(compiler=as_traced)
    graph, positions = graph_of(small, random_cluster())
    broken = positions.clone()
    broken[0] = torch.nan
    compiled(small, graph, broken)
    compiled(small, graph, positions)
    assert compiled.ready


def test_compiling_is_planned():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert not wants_graph("auto", cpu, evaluations=10 * GRAPH_PAYS_AFTER)
    assert wants_graph("auto", gpu, evaluations=GRAPH_PAYS_AFTER)
    assert not wants_graph("auto", gpu, evaluations=GRAPH_PAYS_AFTER - 1)
    assert wants_graph("graph", cpu, evaluations=1)
    assert not wants_graph("off", gpu, evaluations=10 * GRAPH_PAYS_AFTER)
