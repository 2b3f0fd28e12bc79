"""Energies and forces as one compiled graph, shared by all models of one architecture and by frames of all sizes.

The derivative is taken while tracing (make_fx), so that the compiler sees forward and backward pass as one graph; a
model's weights are inputs of it. Inductor keeps what it compiled on disk, for the next process. Sizes are symbols;
torch may still compile twice, for the first size it sees and for all others, and once more for sizes of 0 or 1.
"""

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.nn.utils.stateless import _reparametrize_module

from models.acceleration import use_kernels
from models.graph import NeighbourGraph
from models.ms_mace import MSMACE

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Largest difference of forces from the uncompiled model's, relative to the largest force."""
TRACE_SIZES = range(101, 1000)
"""Hints for the symbols that sizes are while tracing."""

_log = logging.getLogger(__name__)


class CompiledForces:
    """`MSMACE.energy_and_forces`, compiled for an architecture at its first call.

    If compilation fails, or the first result differs from the uncompiled model's, a warning says so and the uncompiled
    model is used from then on.
    """

    def __init__(self, *, backend: str = "inductor") -> None:
        """Nothing is compiled yet.

        Args:
            backend: What `torch.compile` hands the graph to.
        """
        self.backend = backend
        self._compiled: Callable[..., tuple[Tensor, Tensor]] | None = None
        self._failed = False

    @property
    def ready(self) -> bool:
        """Whether the compiled graph is in use."""
        return self._compiled is not None

    def __call__(self, model: MSMACE, graph: NeighbourGraph, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (B,) in eV and forces (T, 3) in eV/Å at atom positions (T, 3) in Å, float64."""
        if self._failed:
            return model.energy_and_forces(graph, positions)
        if self._compiled is None:
            return self._compile(model, graph, positions)
        with torch.no_grad():  # derivatives are in the graph
            return self._compiled(*arguments(model, graph, positions))

    def _compile(self, model: MSMACE, graph: NeighbourGraph, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compile, compare on a real graph, and return what the uncompiled model gives."""
        energies, expected = model.energy_and_forces(graph, positions)
        started = time.perf_counter()
        try:
            compiled = torch.compile(trace(model, positions.device), dynamic=True, backend=self.backend)
            with torch.no_grad():
                _, forces = compiled(*arguments(model, graph, positions))
        except Exception as error:  # noqa: BLE001  # compilers fail in many ways, and none may stop a campaign
            self._give_up(f"their compilation failed: {str(error).strip()}".split("\n")[0])
            return energies, expected
        difference = float((forces - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
        if not difference <= TOLERANCES[model.dtype]:
            self._give_up(f"compiled forces differ by {difference:.1e} of the largest")
        else:
            self._compiled = compiled
            _log.info("energies and forces were compiled in %.0f s", time.perf_counter() - started)
        return energies, expected

    def _give_up(self, reason: str) -> None:
        self._failed = True
        warnings.warn(f"models run uncompiled: {reason}", RuntimeWarning, stacklevel=3)


def trace(model: MSMACE, device: torch.device) -> torch.fx.GraphModule:
    """The graph of energies and forces of an architecture, for frames of any size; its inputs are `arguments`."""
    twin = MSMACE(model.config, model.constants, seed=0).to(device)  # never frozen: weights are inputs
    if any(geometry.kernel for geometry in model.geometries):
        use_kernels(twin)
    names = [name for name, _ in _weights(model)]
    mode = FakeTensorMode(shape_env=ShapeEnv(duck_shape=False, specialize_zero_one=False), allow_non_fake_inputs=True)
    numbers = _symbolic_sizes(model, mode, device)
    with mode:
        example = _example(model, numbers, device)
        return make_fx(partial(_energy_and_forces, twin, names), _allow_non_fake_inputs=True)(*example)


def _weights(model: MSMACE) -> list[tuple[str, Tensor]]:
    """All that differs between models of one architecture, but for their scale."""
    named = [(name, weight.detach()) for name, weight in model.named_parameters()]
    named.append(("reference_energies", model.reference_energies))
    if model.repulsion is not None:  # of a strength of its own in each model
        named.append(("repulsion.charges", model.repulsion.get_buffer("charges")))
    return named


def _energy_and_forces(  # noqa: PLR0917  # the inputs of a graph have no names
    twin: MSMACE,
    names: list[str],
    weights: list[Tensor],
    scale: Tensor,
    positions: Tensor,
    neighbours: Tensor,
    offsets: Tensor,
    nodes: list[Tensor],
    sizes: list[Tensor],
) -> tuple[Tensor, Tensor]:
    """`MSMACE.energy_and_forces` as a function of tensors alone; the lengths of `sizes` stand for numbers."""
    n_frames, *numbers = (size.shape[0] for size in sizes)
    n_columns = len(twin.cutoffs) - 1
    order, inverse, species, frame_index = nodes
    atoms: Any = SimpleNamespace(  # as much of an AtomBatch as a model asks for, with symbols for numbers
        n_frames=n_frames,
        order=order,
        inverse=inverse,
        species=species,
        species_counts=numbers[n_columns:],
        frame_index=frame_index,
    )
    columns = (*numbers[:n_columns], neighbours.shape[1])
    graph = NeighbourGraph(atoms=atoms, neighbours=neighbours, offsets=offsets, columns=columns)
    twin.constants = replace(twin.constants, scale=scale)  # type: ignore[arg-type]  # a number as far as it matters
    with _reparametrize_module(twin, dict(zip(names, weights, strict=True))):
        return twin.energy_and_forces(graph, positions)


def arguments(model: MSMACE, graph: NeighbourGraph, positions: Tensor) -> tuple[Any, ...]:
    """What the compiled graph is called with."""
    atoms = graph.atoms
    offsets = graph.offsets
    if offsets is None:
        offsets = positions.new_zeros(()).expand(*graph.neighbours.shape, 3).contiguous()
    numbers = (atoms.n_frames, *graph.columns[:-1], *atoms.species_counts)
    return (
        [weight for _, weight in _weights(model)],
        positions.new_tensor(model.constants.scale),
        positions,
        graph.neighbours,
        offsets,
        [atoms.order, atoms.inverse, atoms.species, atoms.frame_index],
        [positions.new_empty(number) for number in numbers],
    )


def _symbolic_sizes(model: MSMACE, mode: FakeTensorMode, device: torch.device) -> list[Tensor]:
    """Tensors whose lengths are symbols: for the number of frames, columns of every path, atoms of every species."""
    context: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC])
    hints = TRACE_SIZES[: 1 + len(model.cutoffs) + len(model.constants.elements)]
    return [
        mode.from_tensor(torch.empty(hint, dtype=torch.float64, device=device), symbolic_context=context)
        for hint in hints
    ]


def _example(model: MSMACE, numbers: list[Tensor], device: torch.device) -> tuple[Any, ...]:
    """Inputs whose sizes are symbols, except for those of weights."""
    n_columns = len(model.cutoffs)
    frames, columns, counts = numbers[0], numbers[1 : 1 + n_columns], numbers[1 + n_columns :]
    T, K = sum(count.shape[0] for count in counts), columns[-1].shape[0]
    return (
        [torch.empty_like(weight) for _, weight in _weights(model)],
        torch.empty((), dtype=torch.float64, device=device),
        torch.empty(T, 3, dtype=torch.float64, device=device),
        torch.empty(T, K, dtype=torch.int64, device=device),
        torch.empty(T, K, 3, dtype=torch.float64, device=device),
        [torch.empty(T, dtype=torch.int64, device=device) for _ in range(4)],
        [frames, *columns[:-1], *counts],
    )
