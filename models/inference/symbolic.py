"""Traced graphs of an architecture for frames of any size: all sizes are symbols, and the weights are inputs.

The derivative is taken while tracing (make_fx), so that a graph holds forward and backward pass. `torch.compile` would
make constants of sizes that are 0, 1 or equal by chance, and compile again for other sizes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.stateless import _reparametrize_module

from models.graph.graph import Graph
from models.layers.kernels import use_kernels
from models.layers.operators import is_plain
from models.ms_mace import MSMACE

if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

TRACE_SIZES = range(101, 1000)
"""Example values of the symbolic sizes while tracing, all different."""


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The sizes of a graph while it is traced, as tensors of these lengths: only the sizes of tensors can be symbols.

    Attributes:
        frames: Number of frames.
        columns: Number of columns of every path.
        species: Number of atoms of every species.
    """

    frames: Tensor
    columns: Sequence[Tensor]
    species: Sequence[Tensor]

    @property
    def atoms(self) -> Any:
        """Number of atoms."""
        return sum(count.shape[0] for count in self.species)

    @property
    def width(self) -> Any:
        """Number of columns of the widest path."""
        return self.columns[-1].shape[0]

    @property
    def inputs(self) -> list[Tensor]:
        """The sizes that other inputs do not show: inputs of the graph."""
        return [self.frames, *self.columns[:-1], *self.species]


def trace_forces(model: MSMACE, device: torch.device) -> torch.fx.GraphModule:
    """Trace energies and forces of an architecture, for frames of any size; the graph takes `forces_arguments`.

    Raises:
        RuntimeError: If the graph would be valid only for some sizes.
    """

    def example(sizes: _Sizes) -> list[Tensor]:
        T, K = sizes.atoms, sizes.width
        return [
            torch.empty(T, 3, dtype=torch.float64, device=device),
            torch.empty(T, K, 3, dtype=torch.float64, device=device),
            *(torch.empty(T, dtype=torch.int64, device=device) for _ in range(2)),
        ]

    def body(twin: MSMACE, graph: Graph, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        positions, offsets, atoms, receivers = inputs
        return twin.energy_and_forces(replace(graph, offsets=offsets, atoms=atoms, receivers=receivers), positions)

    return _trace(model, device, example, body)


def forces_arguments(model: MSMACE, graph: Graph, positions: Tensor) -> list[Tensor]:
    """Arguments of the graph of `trace_forces`, for atom positions (T, 3) in Å.

    Raises:
        ValueError: If the graph is that of a domain.
    """
    offsets = graph.offsets
    if graph.receivers is None:
        raise ValueError("a domain is not a whole frame: only the energies of whole frames are compiled")
    if offsets is None:
        offsets = positions.new_zeros(()).expand(*graph.neighbours.shape, 3).contiguous()
    return [
        *model_inputs(model, positions),
        graph.neighbours,
        graph.species,
        graph.frame_index,
        *(positions.new_empty(number) for number in (graph.n_frames, *graph.numbers)),
        *(positions, offsets, graph.atoms, graph.receivers),
    ]


def trace_atomic_energies(model: MSMACE, device: torch.device) -> torch.fx.GraphModule:
    """Trace the energies of single atoms, and the derivative of their sum over chosen atoms, for any number of atoms.

    The graph takes `model_inputs`; neighbours (T, K), species (T,) and the numbers 0 .. T - 1 of the nodes; tensors
    whose lengths are T, the number of columns of every path except the last, and the number of nodes of every species;
    neighbour vectors (T, K, 3) in Å, float64; and which atoms are chosen: 1 or 0, shape (T,), float64.

    It gives the energy of each atom with E0 and fixed terms, (T,) in eV, float64, and the derivative of the sum of
    those of the chosen atoms by the vectors, (T, K, 3) in eV/Å. The engines of programs that divide a system among
    several processes choose the atoms of each process.

    Raises:
        RuntimeError: If the graph would be valid only for some sizes.
    """

    def example(sizes: _Sizes) -> list[Tensor]:
        T, K = sizes.atoms, sizes.width
        return [
            torch.empty(T, K, 3, dtype=torch.float64, device=device),
            torch.empty(sizes.frames.shape[0], dtype=torch.float64, device=device),  # each atom is a frame of its own
        ]

    def body(twin: MSMACE, graph: Graph, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        vectors, chosen = inputs
        return twin.energy_gradients(graph, vectors, frame_weights=chosen)

    return _trace(model, device, example, body)


def model_inputs(model: MSMACE, like: Tensor) -> list[Tensor]:
    """The tensors in which models of an architecture differ; `like` has the device of the scale, and its precision."""
    return [*(weight for _, weight in _weights(model)), like.new_tensor(model.constants.scale)]


def _trace(
    model: MSMACE,
    device: torch.device,
    example: Callable[[_Sizes], list[Tensor]],
    body: Callable[[MSMACE, Graph, Sequence[Tensor]], tuple[Tensor, Tensor]],
) -> torch.fx.GraphModule:
    """Trace a function of a model, a graph, and further inputs.

    Args:
        model: A model of the architecture.
        device: Where the graph will run.
        example: Gives an example of the further inputs.
        body: The function.
    """
    traced_model = MSMACE(model.config, model.constants, seed=0).to(device)  # not frozen: weights are inputs
    if not is_plain(model):
        use_kernels(traced_model)
    names = [name for name, _ in _weights(model)]

    def function(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        weights, (scale, neighbours, species, frame_index, *rest) = inputs[: len(names)], inputs[len(names) :]
        n_sizes = len(traced_model.cutoffs) + len(traced_model.constants.elements)
        n_frames, *numbers = (size.shape[0] for size in rest[:n_sizes])
        n_columns = len(traced_model.cutoffs) - 1
        graph = Graph(
            atoms=species,
            receivers=None,
            species=species,
            species_counts=numbers[n_columns:],
            frame_index=frame_index,
            n_frames=n_frames,
            neighbours=neighbours,
            offsets=None,
            columns=(*numbers[:n_columns], neighbours.shape[1]),
        )
        constants = replace(traced_model.constants, scale=scale)  # type: ignore[arg-type]  # a tensor, so that it is an input
        traced_model.constants = constants
        with _reparametrize_module(traced_model, dict(zip(names, weights, strict=True))):
            return body(traced_model, graph, rest[n_sizes:])

    # With SymPy, these imports take half a second, which every process that only evaluates a model would pay.
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    shape_env = ShapeEnv(duck_shape=False, specialize_zero_one=False)
    mode = FakeTensorMode(shape_env=shape_env, allow_non_fake_inputs=True)
    sizes = _symbolic_sizes(model, mode, device)
    with mode:
        T, K = sizes.atoms, sizes.width
        inputs = [
            *(torch.empty_like(weight) for _, weight in _weights(model)),
            torch.empty((), dtype=torch.float64, device=device),
            torch.empty(T, K, dtype=torch.int64, device=device),
            *(torch.empty(T, dtype=torch.int64, device=device) for _ in range(2)),
            *sizes.inputs,
            *example(sizes),
        ]
        graph = make_fx(function, _allow_non_fake_inputs=True)(*inputs)
    lengths = [sizes.frames, *sizes.columns, *sizes.species]
    symbols = [length.shape[0].node.expr for length in lengths]  # type: ignore[attr-defined]
    _refuse_constants(shape_env, {symbol: 10 * hint for symbol, hint in zip(symbols, TRACE_SIZES, strict=False)})
    return graph


def _refuse_constants(shape_env: "ShapeEnv", other_sizes: Mapping[Any, int]) -> None:
    """Refuse a trace that assumes something about its sizes, as `len(tensor)` does: it makes a size constant.

    Args:
        shape_env: The assumptions of the trace.
        other_sizes: Sizes by symbol, unlike those of the trace.

    Raises:
        RuntimeError: If an assumption does not hold for the other sizes.
    """
    assumed = [guard.expr for guard in shape_env.guards]
    if broken := [str(expression) for expression in assumed if not expression.subs(other_sizes)]:
        raise RuntimeError(f"sizes have become constants: {', '.join(broken)}")


def _weights(model: MSMACE) -> list[tuple[str, Tensor]]:
    """Tensors in which models of an architecture differ, by name; they also differ in their scale."""
    named = [(name, weight.detach()) for name, weight in model.named_parameters()]
    named.append(("reference_energies", model.reference_energies))
    if model.repulsion is not None:  # each model has its own strength
        named.append(("repulsion.charges", model.repulsion.get_buffer("charges")))
    if model.cohesion is not None:
        named.append(("cohesion.energies", model.cohesion.get_buffer("energies")))
    return named


def _symbolic_sizes(model: MSMACE, mode: "FakeTensorMode", device: torch.device) -> _Sizes:
    from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

    context: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC])
    n_columns = len(model.cutoffs)
    frames, *others = [
        mode.from_tensor(torch.empty(hint, dtype=torch.float64, device=device), symbolic_context=context)
        for hint in TRACE_SIZES[: 1 + n_columns + len(model.constants.elements)]
    ]
    return _Sizes(frames, others[:n_columns], others[n_columns:])
