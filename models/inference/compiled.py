"""Energies and forces as a compiled graph, shared by all models of an architecture and by frames of all sizes.

The derivative is taken while tracing (make_fx), so that the compiler sees forward and backward pass as a single graph;
the weights of a model are inputs. All sizes are symbols from the first trace to the compiled code, so that a single
compilation serves all sizes. `torch.compile` would make constants of sizes that are 0, 1 or equal by chance, and
compile again for other sizes. Inductor caches compiled code on disk, for later processes.
"""

import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.utils.stateless import _reparametrize_module

from al_engine.config import ModelConfig
from models.graph.graph import Graph
from models.layers.kernels import use_kernels
from models.layers.operators import is_plain
from models.ms_mace import MSMACE

if TYPE_CHECKING:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Largest accepted difference of forces from the uncompiled model's, relative to the largest force."""
TRACE_SIZES = range(101, 1000)
"""Example values of the symbolic sizes while tracing, all different."""
Compiled: TypeAlias = Callable[..., Sequence[Tensor]]
"""A function that gives energies and forces from the tensors of `arguments`."""

_log = logging.getLogger(__name__)


def inductor(graph: torch.fx.GraphModule) -> Compiled:
    """Compile a traced graph for its device and for all sizes.

    Raises:
        Exception: Of any type, if compilation fails. Versions of torch before 2.8 cannot compile for all sizes.
    """
    example = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
    compiled: Compiled = torch._inductor.standalone_compile(graph, example)  # noqa: SLF001  # as torch documents it
    return compiled


class CompiledForces:
    """`MSMACE.energy_and_forces`, compiled for each architecture at its first call.

    Compiled forces are compared with those of the uncompiled model for the first graph of each kind. Two graphs are of
    the same kind if the same sizes are 0 and the same sizes are 1, such as the number of atoms of an element: the trace
    saw no such size. If the uncompiled forces on a graph are not finite, the next graph of its kind is compared
    instead. If compilation fails or the forces differ, a warning says so, and from then on models of that architecture
    run uncompiled.
    """

    def __init__(self, *, compiler: Callable[[torch.fx.GraphModule], Compiled] = inductor) -> None:
        """Compile nothing yet.

        Args:
            compiler: Turns a traced graph into a fast function.
        """
        self.compiler = compiler
        self._graphs: dict[str, _CompiledGraph] = {}
        self._graph_of: WeakKeyDictionary[MSMACE, tuple[ModelConfig, _CompiledGraph]] = WeakKeyDictionary()

    @property
    def ready(self) -> bool:
        """Whether at least one compiled graph is in use, and none failed."""
        return bool(self._graphs) and all(each.ready for each in self._graphs.values())

    def __call__(self, model: MSMACE, graph: Graph, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (B,) in eV and forces (T, 3) in eV/Å at atom positions (T, 3) in Å, float64."""
        config, compiled = self._graph_of.get(model, (None, None))
        if compiled is None or config is not model.config:  # a new model, or moved to another precision
            compiled = self._graphs.setdefault(_architecture(model), _CompiledGraph(self.compiler))
            self._graph_of[model] = model.config, compiled
        return compiled(model, graph, positions)


def _architecture(model: MSMACE) -> str:
    """Key of a traced graph: models with equal keys differ only in the inputs to the graph."""
    constants = model.constants
    return f"{model.config.model_dump_json()} {constants.elements} {model.cohesion is None} {is_plain(model)}"


class _CompiledGraph:
    """Energies and forces of the models of one architecture: compiled, or uncompiled after a failure."""

    def __init__(self, compiler: Callable[[torch.fx.GraphModule], Compiled]) -> None:
        self.compiler = compiler
        self._compiled: Compiled | None = None
        self._checked: set[tuple[int, ...]] = set()
        self._failed = False

    @property
    def ready(self) -> bool:
        """Whether the compiled graph is in use."""
        return self._compiled is not None and not self._failed

    def __call__(self, model: MSMACE, graph: Graph, positions: Tensor) -> tuple[Tensor, Tensor]:
        if self._failed:
            return model.energy_and_forces(graph, positions)
        if self._compiled is None or _kind(graph) not in self._checked:
            return self._check(model, graph, positions)
        with torch.no_grad():  # derivatives are in the graph
            energies, forces = self._compiled(*arguments(model, graph, positions))
        return energies, forces

    def _check(self, model: MSMACE, graph: Graph, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compile at the first call, compare the forces, and return the results of the uncompiled model."""
        energies, expected = model.energy_and_forces(graph, positions)
        try:
            if self._compiled is None:
                started = time.perf_counter()
                _log.info("compiling energies and forces, which takes about a minute")
                self._compiled = self.compiler(trace(model, positions.device))
                _log.info("energies and forces were compiled in %.0f s", time.perf_counter() - started)
            with torch.no_grad():
                _, forces = self._compiled(*arguments(model, graph, positions))
        except Exception as error:  # noqa: BLE001  # compilers fail in many ways; a campaign continues uncompiled
            self._give_up(f"their compilation failed: {str(error).strip()}".split("\n")[0])
            return energies, expected
        if not bool(expected.isfinite().all()):
            return energies, expected
        difference = float((forces - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
        if not difference <= TOLERANCES[model.dtype]:
            self._give_up(f"compiled forces differ from uncompiled forces by {difference:.1e} of the largest force")
        self._checked.add(_kind(graph))
        return energies, expected

    def _give_up(self, reason: str) -> None:
        self._failed = True
        warnings.warn(f"models run uncompiled: {reason}", RuntimeWarning, stacklevel=2)


def _kind(graph: Graph) -> tuple[int, ...]:
    """The sizes of a graph, where 2 stands for all larger sizes; graphs of equal kind are compared once."""
    return tuple(min(size, 2) for size in (graph.n_frames, *graph.neighbours.shape, *_numbers(graph)))


def trace(model: MSMACE, device: torch.device) -> torch.fx.GraphModule:
    """Trace energies and forces of an architecture, for frames of any size; the graph takes `arguments`.

    Raises:
        RuntimeError: If the graph would be valid only for some sizes.
    """
    traced_model = MSMACE(model.config, model.constants, seed=0).to(device)  # not frozen: weights are inputs
    if not is_plain(model):
        use_kernels(traced_model)
    names = [name for name, _ in _weights(model)]
    # With SymPy, these imports take half a second, which every process that only evaluates a model would pay.
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    shape_env = ShapeEnv(duck_shape=False, specialize_zero_one=False)
    mode = FakeTensorMode(shape_env=shape_env, allow_non_fake_inputs=True)
    numbers = _symbolic_sizes(model, mode, device)
    with mode:
        example = _example(model, numbers, device)
        graph = make_fx(partial(_energy_and_forces, traced_model, names), _allow_non_fake_inputs=True)(*example)
    symbols = [number.shape[0].node.expr for number in numbers]  # type: ignore[attr-defined]
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


def _energy_and_forces(traced_model: MSMACE, names: list[str], *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """`MSMACE.energy_and_forces` as a function of `arguments`.

    The last arguments pass numbers by their lengths, because only the sizes of tensors can be symbols.
    """
    weights, inputs = inputs[: len(names)], inputs[len(names) :]
    scale, positions, neighbours, offsets, atoms, receivers, species, frame_index, *sizes = inputs
    n_frames, *numbers = (size.shape[0] for size in sizes)
    n_columns = len(traced_model.cutoffs) - 1
    graph = Graph(
        atoms=atoms,
        receivers=receivers,
        species=species,
        species_counts=numbers[n_columns:],
        frame_index=frame_index,
        n_frames=n_frames,
        neighbours=neighbours,
        offsets=offsets,
        columns=(*numbers[:n_columns], neighbours.shape[1]),
    )
    traced_model.constants = replace(traced_model.constants, scale=scale)  # type: ignore[arg-type]  # a tensor, so that it is an input
    with _reparametrize_module(traced_model, dict(zip(names, weights, strict=True))):
        return traced_model.energy_and_forces(graph, positions)


def _numbers(graph: Graph) -> tuple[int, ...]:
    """The number of columns of every path except the last, then the number of atoms of every species."""
    return (*graph.columns[:-1], *graph.species_counts)


def arguments(model: MSMACE, graph: Graph, positions: Tensor) -> list[Tensor]:
    """Arguments of the compiled graph, for atom positions (T, 3) in Å.

    Raises:
        ValueError: If the graph is that of a domain.
    """
    offsets = graph.offsets
    if graph.receivers is None:
        raise ValueError("a domain is not a whole frame: only the energies of whole frames are compiled")
    if offsets is None:
        offsets = positions.new_zeros(()).expand(*graph.neighbours.shape, 3).contiguous()
    return [
        *(weight for _, weight in _weights(model)),
        positions.new_tensor(model.constants.scale),
        positions,
        graph.neighbours,
        offsets,
        *(graph.atoms, graph.receivers, graph.species, graph.frame_index),
        *(positions.new_empty(number) for number in (graph.n_frames, *_numbers(graph))),
    ]


def _symbolic_sizes(model: MSMACE, mode: "FakeTensorMode", device: torch.device) -> list[Tensor]:
    """Tensors whose lengths are symbols: number of frames, columns of every path, atoms of every species."""
    from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

    context: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC])
    hints = TRACE_SIZES[: 1 + len(model.cutoffs) + len(model.constants.elements)]
    return [
        mode.from_tensor(torch.empty(hint, dtype=torch.float64, device=device), symbolic_context=context)
        for hint in hints
    ]


def _example(model: MSMACE, numbers: list[Tensor], device: torch.device) -> list[Tensor]:
    """Example `arguments`, whose sizes are the symbols of `_symbolic_sizes`; only sizes of weights are numbers."""
    n_columns = len(model.cutoffs)
    frames, columns, counts = numbers[0], numbers[1 : 1 + n_columns], numbers[1 + n_columns :]
    T, K = sum(count.shape[0] for count in counts), columns[-1].shape[0]
    return [
        *(torch.empty_like(weight) for _, weight in _weights(model)),
        torch.empty((), dtype=torch.float64, device=device),
        torch.empty(T, 3, dtype=torch.float64, device=device),
        torch.empty(T, K, dtype=torch.int64, device=device),
        torch.empty(T, K, 3, dtype=torch.float64, device=device),
        *(torch.empty(T, dtype=torch.int64, device=device) for _ in range(4)),
        *(frames, *columns[:-1], *counts),
    ]
