"""Energies and forces as a compiled graph, shared by all models of an architecture and by frames of all sizes.

Inductor caches compiled code on disk, for later processes.
"""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from al_engine.config import ModelConfig
from models.graph.graph import Graph
from models.inference.symbolic import forces_arguments, trace_forces
from models.layers.operators import is_plain
from models.ms_mace import MSMACE

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Largest accepted difference of forces from the uncompiled model's, relative to the largest force."""
Compiled: TypeAlias = Callable[..., Sequence[Tensor]]
"""A function that gives energies and forces from the tensors of `forces_arguments`."""

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
            energies, forces = self._compiled(*forces_arguments(model, graph, positions))
        return energies, forces

    def _check(self, model: MSMACE, graph: Graph, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Compile at the first call, compare the forces, and return the results of the uncompiled model."""
        energies, expected = model.energy_and_forces(graph, positions)
        try:
            if self._compiled is None:
                started = time.perf_counter()
                _log.info("compiling energies and forces, which takes about a minute")
                self._compiled = self.compiler(trace_forces(model, positions.device))
                _log.info("energies and forces were compiled in %.0f s", time.perf_counter() - started)
            with torch.no_grad():
                _, forces = self._compiled(*forces_arguments(model, graph, positions))
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
    return tuple(min(size, 2) for size in (graph.n_frames, *graph.neighbours.shape, *graph.numbers))
