"""The C++ kernels against the plain torch path: values, first and second derivatives, whole models, training."""

import shutil
import subprocess

import numpy as np
import pytest
import torch

from al_engine.config import ModelConfig, PathConfig
from models.graph.graph import NodeSpecies
from models.graph.spherical import SphericalHarmonics
from models.inference.acceleration import accelerate
from models.layers.geometry import EdgeFeatures, PathGeometry
from models.layers.kernels import use_kernels
from models.layers.message import PathMessage
from models.layers.parameters import Initializer
from models.layers.product import ProductBasis
from models.native import build
from models.native.build import KernelError
from models.native.geometry import GeometryKernel, harmonic_polynomials
from models.native.kernel import _from_key
from models.native.message import MessageKernel
from models.native.product import ProductKernel

pytestmark = pytest.mark.skipif(build.find_compiler() is None, reason="there is no C++ compiler")


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def initializer(dtype=torch.float64):
    return Initializer(torch.Generator().manual_seed(0), dtype)


def first_and_second_derivatives(function, inputs, *, cotangent, directions, weights):
    """Value, derivatives by the inputs, and directional derivatives of these by inputs and weights."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    value = function(*inputs)
    first = torch.autograd.grad((value * cotangent).sum(), inputs, create_graph=True)
    along = sum((d * v).sum() for d, v in zip(first, directions, strict=True))
    second = torch.autograd.grad(along, [*inputs, *weights], materialize_grads=True)
    return [value, *first, *second]


@pytest.mark.parametrize(
    ("l_max", "l_hidden", "channels", "mlp", "others"),
    [(2, 1, 3, [], 0), (3, 1, 16, [], 0), (1, 0, 8, [20], 3), (2, 2, 4, [5], 3)],
)
def test_message_kernel_is_the_plain_message_twice_differentiable(l_max, l_hidden, channels, mlp, others):
    """Also with nodes that are neighbours but not receivers."""
    n, k, basis = 7, 5, 4
    path = PathConfig(cutoff_ang=4.0, channels=channels, l_max=l_max, radial_mlp=mlp)
    message = PathMessage(path, l_hidden=l_hidden, hidden_channels=6, l_message=2, n_basis=basis, init=initializer())
    present = (random(n, k, 1, seed=5) > -0.7).double()  # some slots are padding
    neighbours = torch.randint(n + others, (n, k), generator=torch.Generator().manual_seed(1))
    inputs = [
        random((l_hidden + 1) ** 2, n + others, 6),
        random(n, k, (l_max + 1) ** 2, seed=2),
        random(n, k, basis, seed=3),
    ]
    directions = [random(*x.shape, seed=10 + j) for j, x in enumerate(inputs)]

    def flat(h, harmonics, radial):
        parts = message(h, neighbours, EdgeFeatures(harmonics * present, radial * present))
        return torch.cat([part.flatten() for part in parts])

    def run():
        return first_and_second_derivatives(
            flat,
            inputs,
            cotangent=random(sum((2 * d + 1) * w for d, w in enumerate(message.widths)) * n, seed=4),
            directions=directions,
            weights=list(message.parameters()),
        )

    plain = run()
    use_kernels(message)
    for ours, theirs in zip(run(), plain, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("correlation", [1, 2, 3])
@pytest.mark.parametrize("channels", [3, 16])
def test_product_kernel_is_the_plain_product_twice_differentiable(correlation, channels):
    basis = ProductBasis(l_max=2, l_out=1, correlation=correlation, channels=channels, n_species=3, init=initializer())
    index = torch.tensor([0, 0, 2, 2, 2, 2])
    species = NodeSpecies(index, torch.eye(3, dtype=torch.float64)[index], [2, 0, 4])

    def run():
        return first_and_second_derivatives(
            lambda a: basis(a, species),
            [random(9, 6, channels)],
            cotangent=random(4, 6, channels, seed=1),
            directions=[random(9, 6, channels, seed=2)],
            weights=list(basis.parameters()),
        )

    plain = run()
    use_kernels(basis)
    for ours, theirs in zip(run(), plain, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-11)
    basis.freeze()
    assert torch.allclose(basis(random(9, 6, channels), species), plain[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("l_max", [0, 1, 3, 4])
def test_geometry_kernel_is_the_plain_geometry(l_max, dtype):
    """Also at and beyond the cut-off, at zero length, and for a number of vectors that does not fill a register."""
    path = PathConfig(cutoff_ang=4.0, channels=2, l_max=l_max, radial_mlp=[])
    geometry = PathGeometry(path, ModelConfig(), dtype=dtype)
    vectors = random(37, 3, dtype=dtype) * 2.0
    special = [[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 0.3], [0.0, 2000.0, 0.0]]
    vectors[:5] = torch.tensor(special, dtype=dtype)
    cotangents = [random(37, n, seed=n, dtype=dtype) for n in ((l_max + 1) ** 2, 8)]
    tangent = random(37, 3, seed=9, dtype=dtype)

    def run():
        v = vectors.clone().requires_grad_()
        features = geometry(v)
        scalars = [c.clone().requires_grad_() for c in cotangents]
        total = sum((part * scalar).sum() for part, scalar in zip(features, scalars, strict=True))
        (back,) = torch.autograd.grad(total, v, create_graph=geometry.is_plain)
        again = back if geometry.is_plain else geometry.pull_back(vectors, EdgeFeatures(*scalars), None)
        forward = torch.autograd.grad(again, scalars, tangent, materialize_grads=True)
        return [*features, back, *forward]

    plain = run()
    use_kernels(geometry)
    near = torch.linalg.vector_norm(vectors, dim=1) < 4.0  # beyond, harmonics are never used
    tolerance = {torch.float32: 2e-5, torch.float64: 1e-11}[dtype]
    for ours, theirs in zip(run(), plain, strict=True):
        assert torch.isfinite(ours).all()
        scale = theirs[near].abs().amax(dim=1, keepdim=True).clamp_min(1.0)
        assert ((ours - theirs)[near].abs() / scale).max() < tolerance
    assert (geometry(vectors)[1][~near] == 0).all()


def test_polynomials_are_the_harmonics():
    directions = torch.nn.functional.normalize(random(20, 3))
    expected = SphericalHarmonics(4, dtype=torch.float64)(directions)
    for k, polynomial in enumerate(harmonic_polynomials(4)):
        value = sum(c * (directions ** torch.tensor(powers)).prod(1) for powers, c in polynomial.items())
        assert torch.allclose(value, expected[:, k], atol=1e-12)


def test_an_accelerated_model_gives_the_same(config, tiny_model, random_cluster, evaluate):
    frame = random_cluster(12)
    model = tiny_model(config)
    energy, forces = evaluate(model, frame)
    assert accelerate(model)
    fast_energy, fast_forces = evaluate(model.freeze(), frame)
    assert fast_energy == pytest.approx(energy, rel=1e-12)
    assert np.abs(fast_forces - forces).max() < 1e-11


def test_a_model_whose_kernels_fail_stays_on_the_plain_path(model, random_cluster, evaluate, monkeypatch):
    frame = random_cluster(12)
    expected = evaluate(model, frame)[1]

    def broken(source, header):
        return build.load_library(source, f"#error on purpose\n{header}")

    monkeypatch.setattr("models.native.kernel.load_library", broken)
    monkeypatch.setattr("models.native.kernel._from_key", _from_key.__wrapped__)  # no kernel of an earlier test
    with pytest.warns(RuntimeWarning, match="kernels are not used"):
        assert not accelerate(model)
    assert np.array_equal(evaluate(model, frame)[1], expected)


def test_a_kernel_that_gives_something_else_is_not_used(model, random_cluster, evaluate, monkeypatch):
    frame = random_cluster(12)
    expected = evaluate(model, frame)[1]
    monkeypatch.setattr("models.inference.acceleration.TOLERANCES", {torch.float64: 0.0})
    monkeypatch.setattr("models.inference.acceleration.ROUNDINGS", 0.0)
    with pytest.warns(RuntimeWarning, match="differ"):
        assert not accelerate(model)
    assert np.array_equal(evaluate(model, frame)[1], expected)


def test_a_kernel_may_differ_by_some_roundings(tiny_config, tiny_model, monkeypatch, recwarn):
    """For example in a random network whose forces are a thousand times those of molecules."""
    monkeypatch.setattr("models.inference.acceleration.TOLERANCES", {torch.float32: 0.0})
    assert accelerate(tiny_model(tiny_config(dtype="float32")))
    assert [str(each.message) for each in recwarn if issubclass(each.category, RuntimeWarning)] == []
    monkeypatch.setattr("models.inference.acceleration.ROUNDINGS", 0.1)
    with pytest.warns(RuntimeWarning, match="differ"):
        assert not accelerate(tiny_model(tiny_config(dtype="float32")))


def test_without_a_home_there_are_no_kernels(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(KernelError, match="XDG_CACHE_HOME"):
        build.cache_directory()


def test_a_kernel_that_does_not_compile_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(KernelError, match="failed"):
        build.load_library("product.cpp", "#error on purpose\n")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(KernelError, match="no C\\+\\+ compiler"):
        build.load_library("product.cpp", "#error on purpose\n")


NM = shutil.which("nm")


@pytest.mark.skipif(NM is None, reason="there is no nm")
@pytest.mark.parametrize("function", ["message", "product", "features"])
def test_libraries_share_nothing_but_names_of_functions(function):
    """Several libraries are loaded into a process: other exported symbols might be taken from the wrong library."""
    kernel = {
        "message": MessageKernel(1, 1, 0, 1, 8, 20, torch.float32),
        "product": ProductKernel(1, 1, 2, 8, torch.float32),
        "features": GeometryKernel(1, 4, 6, 3.0, 1e-3, torch.float32),
    }[function]
    path = kernel.prepared().library._name
    listed = subprocess.run([NM, "-D", "--defined-only", path], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    ours = {name for name in names if not name.startswith(("_ZNSt", "_ZSt", "_ZNKSt", "_init", "_fini"))}  # std's apart
    assert function in ours
    assert all(name.startswith(function) for name in ours)


def test_loading_a_kernel_leaves_small_numbers_alone():
    """A library linked with -ffast-math would make the whole process round denormal numbers to zero."""
    GeometryKernel(1, 4, 6, 3.0, 1e-3, torch.float64).prepared()
    tiny = torch.tensor([2.0**-1070], dtype=torch.float64)
    assert (tiny * 0.5 * 2.0 == tiny).all()
    assert float(tiny) > 0.0


def test_vectors_are_as_wide_as_the_registers_that_torch_finds():
    text = build.REGISTERS + "width: REGISTER_BYTES"
    command = [build.find_compiler(), "-march=native", "-E", "-P", "-x", "c++", "-"]
    printed = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    width = {"AVX512": 64, "AVX2": 32}
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in width:
        pytest.skip(f"{capability} says nothing about the width of registers")
    assert int(printed.rsplit(maxsplit=1)[-1]) == width[capability]
