"""Evaluation in domains equals the evaluation of the whole frame, in memory that does not grow with the frame."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from al_engine.errors import InputError
from al_engine.structures.frames import Frame
from models.graph.domains import DomainDecomposition
from models.inference.acceleration import accelerate
from models.inference.chunked import evaluate_chunked
from models.native.build import find_compiler

TRICLINIC = np.array([[7.0, 0.0, 0.0], [1.5, 6.5, 0.0], [-2.0, 1.0, 8.0]])
SMALL_CELL = np.array([[3.5, 0.0, 0.0], [0.5, 3.0, 0.0], [0.0, 1.0, 4.0]])


@pytest.fixture(params=["molecule", "cluster", "triclinic", "slab", "wire", "smaller than the cut-off"])
def frame(request, random_cluster):
    """Frames of H, C and O; the cut-off is 5 Å."""
    crowd = random_cluster(30, side=6.0)
    moved = crowd.positions - 4.0  # atoms on both sides of the cell's faces
    plane = np.array([[7.0, 0.0, 0.0], [1.0, 7.0, 0.0], [0.0, 0.0, 0.0]])
    line = np.array([[0.0, 0.0, 0.0], [1.0, 7.0, 0.0], [0.0, 0.0, 0.0]])
    few = random_cluster(4, side=2.5)
    return {
        "molecule": random_cluster(5),
        "cluster": random_cluster(60, side=10.0),
        "triclinic": Frame(numbers=crowd.numbers, positions=moved, cell=TRICLINIC, pbc=[True] * 3),
        "slab": Frame(numbers=crowd.numbers, positions=moved, cell=plane, pbc=[True, True, False]),
        "wire": Frame(numbers=crowd.numbers, positions=moved, cell=line, pbc=[False, True, False]),
        "smaller than the cut-off": Frame(few.numbers, few.positions, cell=SMALL_CELL, pbc=[True] * 3),
    }[request.param]


def agree(model, frame, graph_of, **options):
    expected = model.predict(*graph_of(model, frame))
    found = evaluate_chunked(model, frame, **options)
    assert float(found.energies) == pytest.approx(float(expected.energies), rel=1e-12)
    assert (found.forces - expected.forces).abs().max() < 1e-10 * expected.forces.abs().max()
    scale = expected.stresses.abs().max().nan_to_num()
    assert torch.allclose(found.stresses, expected.stresses, rtol=0, atol=1e-10 * float(scale), equal_nan=True)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_domains_of_any_size_give_what_the_whole_gives(frame, size, tiny_config, tiny_model, graph_of):
    agree(tiny_model(tiny_config()), frame, graph_of, domain_atoms=size)


@pytest.mark.parametrize("layers", [1, 3])
def test_any_number_of_layers(layers, tiny_config, tiny_model, graph_of, random_cluster):
    agree(tiny_model(tiny_config(layers=layers)), random_cluster(40, side=8.0), graph_of, domain_atoms=7)


def test_every_kind_of_model(model, graph_of, random_cluster):
    crowd = random_cluster(30, side=6.0)
    agree(model, Frame(crowd.numbers, crowd.positions, cell=TRICLINIC, pbc=[True] * 3), graph_of, domain_atoms=11)


@pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")
def test_every_kind_of_model_with_kernels(model, graph_of, random_cluster):
    assert accelerate(model)
    agree(model.freeze(), random_cluster(40, side=8.0), graph_of, domain_atoms=11)


def test_forces_are_minus_the_derivative_of_the_energy(tiny_config, tiny_model, random_cluster):
    model, frame, step = tiny_model(tiny_config("energy", zbl=True)), random_cluster(20, side=6.0), 1e-4
    forces = evaluate_chunked(model, frame, domain_atoms=6).forces.numpy()
    for atom, axis in [(0, 0), (7, 2)]:
        displaced = []
        for sign in (1, -1):
            positions = frame.positions.copy()
            positions[atom, axis] += sign * step
            moved = evaluate_chunked(model, frame.with_positions(positions), domain_atoms=6)
            displaced.append(float(moved.energies))
        assert forces[atom, axis] == pytest.approx((displaced[1] - displaced[0]) / (2 * step), rel=1e-5)


def test_atoms_are_split_evenly_and_each_belongs_to_one_domain():
    rng = np.random.default_rng(0)
    positions = np.concatenate([rng.uniform(0, 5, (900, 3)), rng.uniform(0, 100, (100, 3))])  # dense and dilute
    species = rng.integers(0, 3, 1000)
    frame = Frame(numbers=species + 6, positions=positions)
    domains = list(
        DomainDecomposition(frame, species, cutoffs=[2.0, 4.0], size=64, n_species=3, device=torch.device("cpu"))
    )
    assert sorted(torch.cat([domain.receiving_atoms for domain in domains]).tolist()) == list(range(1000))
    sizes = [len(domain.receiving_atoms) for domain in domains]
    assert max(sizes) <= 64
    assert min(sizes) >= 32
    for domain in domains:
        kinds = torch.from_numpy(species)[domain.receiving_atoms]
        assert torch.equal(kinds, domain.graph.kinds)
        assert (kinds.diff() >= 0).all()


def test_lists_that_are_kept_are_the_lists(random_cluster):
    frame = random_cluster(60, side=10.0)
    species = np.searchsorted([1, 6, 8], frame.numbers)
    options = {"cutoffs": [3.0, 5.0], "size": 20, "n_species": 3, "device": torch.device("cpu")}
    kept = DomainDecomposition(frame, species, keep_lists=True, **options)
    list(kept)
    for again, found in zip(kept, DomainDecomposition(frame, species, **options), strict=True):
        assert torch.equal(again.graph.neighbours, found.graph.neighbours)
        assert again.graph.neighbours.dtype == found.graph.neighbours.dtype
        vectors = [d.graph.vectors(d.positions, columns=d.graph.columns[0]) for d in (again, found)]
        assert torch.equal(*vectors)


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest result of any operation."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for item in tree_leaves(result):
            if isinstance(item, torch.Tensor):
                self.bytes = max(self.bytes, item.untyped_storage().nbytes())
        return result


def largest_tensor(function, *args, **options):
    with LargestTensor() as largest:
        function(*args, **options)
    return largest.bytes


def test_tensors_do_not_grow_with_the_frame(tiny_config, tiny_model, graph_of, random_cluster):
    model, crowd = tiny_model(tiny_config()), random_cluster(30, side=6.0)

    def box(n):
        images = np.stack(np.meshgrid(*[np.arange(n)] * 3), axis=-1).reshape(-1, 1, 3) @ TRICLINIC
        positions = (crowd.positions + images).reshape(-1, 3)
        return Frame(np.tile(crowd.numbers, n**3), positions, cell=n * TRICLINIC, pbc=[True] * 3)

    def growth(evaluate):
        return largest_tensor(evaluate, box(4)) / largest_tensor(evaluate, box(2))

    assert growth(lambda frame: model.predict(*graph_of(model, frame))) > 7
    assert growth(lambda frame: evaluate_chunked(model, frame, domain_atoms=64)) < 1.5


def test_steps_are_counted(tiny_config, tiny_model, random_cluster):
    calls = []
    model = tiny_model(tiny_config("zbl"))
    evaluate_chunked(model, random_cluster(20), domain_atoms=5, progress=lambda *call: calls.append(call))
    assert calls == [(k + 1, len(calls)) for k in range(16)]  # 4 domains; 2 layers, one of them twice; repulsion


def test_too_little_memory_is_said_with_how_much_suffices(tiny_config, tiny_model, random_cluster):
    model, frame = tiny_model(tiny_config()), random_cluster(60, side=10.0)
    with pytest.raises(InputError, match=r"memory_mib=\d+ or more") as error:
        evaluate_chunked(model, frame, memory_mib=0.1)
    evaluate_chunked(model, frame, memory_mib=float(str(error.value).split("=")[1].split()[0]))


def test_a_broken_frame_is_an_error(tiny_config, tiny_model):
    positions = np.array([[0.0, 0.0, 0.0], [0.0, np.nan, 0.0]])
    with pytest.raises(InputError, match="atom 1 has a position"):
        evaluate_chunked(tiny_model(tiny_config()), Frame(numbers=[6, 6], positions=positions))


def test_an_unknown_element_is_an_error(tiny_config, tiny_model):
    with pytest.raises(InputError, match="atomic number 7"):
        evaluate_chunked(tiny_model(tiny_config()), Frame(numbers=[6, 7], positions=np.eye(3)[:2]))
