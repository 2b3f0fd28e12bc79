"""The committee: members that differ in their seed, bound to frames for molecular dynamics, or evaluated on frames."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from al_engine.config import Acceleration
from al_engine.errors import InputError
from al_engine.structures.frames import FloatArray, Frame
from models.graph.graph import AtomBatch, Graph, neighbour_graph
from models.inference.acceleration import accelerate
from models.inference.batches import batches
from models.inference.chunked import evaluate_chunked, largest_whole_frame
from models.inference.compiled import CompiledForces
from models.ms_mace import MSMACE, Prediction
from models.tracing.replay import Replay

DEFAULT_SKIN = 0.5
"""Skin in Å: neighbour lists are rebuilt when an atom has moved by half of this distance."""
ALL_PAIRS_ATOMS = 32
"""Largest cluster whose lists hold all pairs and are never rebuilt."""
UNBOUNDED_SKIN = 1000.0
"""Skin in Å that includes every pair of a small cluster."""
Evaluate: TypeAlias = Callable[[MSMACE, Graph, Tensor], tuple[Tensor, Tensor]]
"""`MSMACE.energy_and_forces`, or a compiled equivalent."""
REPLAY_PAYS_AFTER = 2000
"""Planned evaluations on a CPU from which `auto` traces and replays a member: a second or two for the trace of each
member and batch, against some ms per evaluation."""
EVALUATIONS_BEFORE_REPLAY = 100
"""Evaluations of a member on a batch before it is traced: a batch may soon lose trajectories and be bound anew."""
GRAPH_PAYS_AFTER = 10_000
"""Planned evaluations on a GPU from which `auto` compiles: a minute of compilation against some ms per evaluation. An
estimate, not a measurement."""


def wants_graph(acceleration: Acceleration, device: torch.device, *, evaluations: int) -> bool:
    """Whether energies and forces are compiled as a graph.

    Decided from the planned step count, not from measured times, so that reruns choose the same path. On a CPU with
    kernels the graph saves a tenth of an evaluation, too little for `auto`.
    """
    if acceleration == "auto":
        return device.type == "cuda" and evaluations >= GRAPH_PAYS_AFTER
    return acceleration == "graph"


class BoundCommittee:
    """A committee bound to T atoms in B frames; implements `al_engine.protocols.BoundCommittee` with torch tensors."""

    def __init__(
        self,
        models: Sequence[MSMACE],
        frames: Sequence[Frame],
        *,
        skin: float,
        device: torch.device,
        evaluate: Evaluate = MSMACE.energy_and_forces,
        replays: bool = False,
    ) -> None:
        self.models = models
        self._evaluators: list[Evaluate] = [evaluate] * len(models)
        self._device, self._replays = device, replays
        self.atoms = AtomBatch.of(frames, models[0].constants.elements, device=device)
        self._small = max(self.atoms.sizes) <= ALL_PAIRS_ATOMS and not self.atoms.pbc.any()
        self.skin = UNBOUNDED_SKIN if self._small else skin
        self.all_pairs = False  # whether the lists have all pairs, so that they are never built again
        self._sizes = torch.tensor(self.atoms.sizes, device=device)
        self._graph: Graph | None = None
        self._built_at: Tensor | None = None
        self._last: tuple[int, Tensor, tuple[Tensor, Tensor]] | None = None  # member, positions, energies and forces

    def graph(self, positions: Tensor) -> Graph:
        """The neighbour graph, rebuilt if an atom has moved by more than half the skin since the last search.

        On a CPU the order of a frame's neighbours depends only on that frame's positions, so that rounding, and hence a
        trajectory, does not depend on the other frames of the batch. Frames in which no atom has moved far keep the
        positions at which their neighbours were found. On a GPU sums have no fixed order.
        """
        built_at = self._built_at
        if self._graph is None or built_at is None:
            built_at = positions.clone()
        elif self.all_pairs:
            return self._graph
        else:
            moved = ~((positions - built_at).square().sum(1) <= (0.5 * self.skin) ** 2)  # also from where it was NaN
            if not bool(moved.any()):
                return self._graph
            if self._device.type == "cpu":
                stale = torch.segment_reduce(moved.double(), "max", lengths=self._sizes) > 0.0
                built_at = torch.where(stale.repeat_interleave(self._sizes)[:, None], positions, built_at)
            else:
                built_at = positions.clone()
        self._graph = neighbour_graph(self.atoms, built_at, cutoffs=self.models[0].cutoffs, skin=self.skin)
        self._built_at = built_at
        self.all_pairs = self._small and float(built_at.max() - built_at.min()) < 0.5 * self.skin  # False for NaN
        if self._replays and self.all_pairs:
            self._evaluators = [_ReplayedForces(model, self._graph) for model in self.models]
        return self._graph

    def replaying(self, member: int) -> bool:
        """Whether the forces of a member are those of a traced graph by now."""
        evaluator = self._evaluators[member]
        return isinstance(evaluator, _ReplayedForces) and evaluator.active

    def _evaluate(self, member: int, graph: Graph, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and forces of a member."""
        return self._evaluators[member](self.models[member], graph, positions)

    def energy_and_forces(self, positions: Tensor, member: int | None) -> tuple[Tensor, Tensor]:
        """Energies (B,) in eV and forces (T, 3) in eV/Å of a member at positions (T, 3) in Å, float64.

        With `member` None, the mean over all M members, which costs M evaluations.
        """
        graph = self.graph(positions)
        if member is not None:
            self._last = member, positions.clone(), self._evaluate(member, graph, positions)
            return self._last[2]
        energies, forces = zip(*(self._evaluate(k, graph, positions) for k in range(len(self.models))), strict=True)
        return torch.stack(energies).mean(0), torch.stack(forces).mean(0)

    def member_forces(self, positions: Tensor) -> Tensor:
        """All members' forces in eV/Å, shape (M, T, 3), at positions (T, 3) in Å.

        A member that was just evaluated at these positions, as MD evaluates its driver, is not evaluated again.
        """
        graph = self.graph(positions)
        known: dict[int, tuple[Tensor, Tensor]] = {}
        if self._last is not None and torch.equal(self._last[1], positions):
            known[self._last[0]] = self._last[2]
        members = range(len(self.models))
        return torch.stack([(known.get(k) or self._evaluate(k, graph, positions))[1] for k in members])

    def predictions(self, positions: Tensor) -> list[Prediction]:
        """Energies, forces and stresses of every member at positions (T, 3) in Å."""
        return [self.prediction(member, positions) for member in range(len(self.models))]

    def prediction(self, member: int, positions: Tensor) -> Prediction:
        """Energies, forces and stresses of a member at positions (T, 3) in Å."""
        graph = self.graph(positions)
        if not self.atoms.pbc.any():  # no frame has a stress
            energies, forces = self._evaluate(member, graph, positions)
            none = energies.new_full((len(energies), 3, 3), torch.nan)
            return Prediction(energies, forces, none, none)
        return self.models[member].predict(graph, positions)


class _ReplayedForces:
    """`MSMACE.energy_and_forces` of a frozen model for a graph that never changes, traced and replayed."""

    def __init__(self, model: MSMACE, graph: Graph) -> None:
        self._replay = Replay(partial(model.energy_and_forces, graph), after=EVALUATIONS_BEFORE_REPLAY)

    @property
    def active(self) -> bool:
        """Whether evaluations are replayed by now."""
        return self._replay.active

    def __call__(self, _model: MSMACE, _graph: Graph, positions: Tensor) -> tuple[Tensor, Tensor]:
        energies, forces = self._replay(positions)
        return energies, forces


class Committee:
    """Models that differ only in their random seed; implements `al_engine.protocols.Committee` with torch tensors."""

    def __init__(
        self,
        models: Sequence[MSMACE],
        *,
        device: torch.device | str = "cpu",
        acceleration: Acceleration = "auto",
        evaluations: int = 0,
        skin_ang: float = DEFAULT_SKIN,
    ) -> None:
        """A committee of trained models.

        The committee moves, freezes and accelerates copies of the models. The copies share the weights of the models
        where the device is the same. The models themselves stay as they are.

        Args:
            models: The members, at least one.
            device: Device of the models, of positions and of forces.
            acceleration: As `execution.acceleration`.
            evaluations: Planned number of evaluations; `auto` compiles only if they outweigh the compilation.
            skin_ang: Skin of the neighbour lists in Å.

        Raises:
            InputError: If there are no models, or they differ in elements or cut-offs.
        """
        if not models:
            raise InputError("a committee needs at least one model; train one first")
        kinds = {(model.constants.elements, model.cutoffs) for model in models}
        if len(kinds) > 1:
            raise InputError(f"members of a committee must share elements and cut-offs (Å); they have {sorted(kinds)}")
        self.device = torch.device(device)
        self.skin = skin_ang
        self.models = [model.weight_sharing_copy().to(self.device) for model in models]
        for model in self.models:
            if acceleration != "off":
                accelerate(model)
            model.freeze()
        graph = wants_graph(acceleration, self.device, evaluations=evaluations)
        self._evaluate: Evaluate = CompiledForces() if graph else MSMACE.energy_and_forces
        self._replays = acceleration == "auto" and self.device.type == "cpu" and evaluations >= REPLAY_PAYS_AFTER

    @property
    def n_members(self) -> int:
        """Number of members M."""
        return len(self.models)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of the members' species."""
        return self.models[0].constants.elements

    def bind(self, frames: Sequence[Frame]) -> BoundCommittee:
        """Bind to the atoms, cells and periodicity of frames; positions are arguments of each call.

        Raises:
            InputError: If a frame has an element that the members do not know.
        """
        return BoundCommittee(
            self.models, frames, skin=self.skin, device=self.device, evaluate=self._evaluate, replays=self._replays
        )

    def stresses(self, frames: Sequence[Frame], *, batch_size: int = 32) -> FloatArray:
        """Mean stresses of the members in eV/Å³ with ASE's sign, shape (F, 3, 3); NaN unless all axes are periodic.

        Raises:
            InputError: If a frame has an element that the members do not know.
        """
        found = [np.empty((0, 3, 3))]
        for batch in batches(frames, most_frames=batch_size):
            members = [prediction.stresses for prediction in self._predictions(batch)]
            found.append(torch.stack(members).mean(0).detach().cpu().numpy())
        return np.concatenate(found)

    def predict(
        self,
        frames: Sequence[Frame],
        *,
        batch_size: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[FloatArray, list[FloatArray]]:
        """All members' energies in eV, shape (M, F), and forces in eV/Å, one array (M, N, 3) per frame.

        Args:
            frames: The F frames, of any size.
            batch_size: Largest number of frames that are evaluated at once.
            progress: Called with the number of finished frames and the total number.
        """
        energies: list[FloatArray] = [np.empty((self.n_members, 0))]
        forces: list[FloatArray] = []
        for batch in batches(frames, most_frames=batch_size):
            results = self._energies_and_forces(batch)
            energies.append(torch.stack([e for e, _ in results]).cpu().numpy())
            stacked = torch.stack([f for _, f in results]).cpu().numpy()  # (M, T, 3)
            forces.extend(np.split(stacked, np.cumsum([len(frame) for frame in batch])[:-1], axis=1))
            if progress is not None:
                progress(len(forces), len(frames))
        return np.concatenate(energies, axis=1), forces

    def _energies_and_forces(self, batch: Sequence[Frame]) -> list[tuple[Tensor, Tensor]]:
        """Energies (B,) and forces (T, 3) of each member; of a frame that is too large for memory, domain by domain."""
        if self._is_too_large(batch):
            return [(found.energies, found.forces) for found in self._predictions(batch)]
        atoms = AtomBatch.of(batch, self.elements, device=self.device)
        positions = torch.from_numpy(np.concatenate([frame.positions for frame in batch])).to(self.device)
        graph = neighbour_graph(atoms, positions, cutoffs=self.models[0].cutoffs)
        return [model.energy_and_forces(graph, positions) for model in self.models]

    def _predictions(self, batch: Sequence[Frame]) -> list[Prediction]:
        """Predictions of each member; of a frame that is too large for memory, domain by domain."""
        if self._is_too_large(batch):
            return [evaluate_chunked(model, batch[0]) for model in self.models]
        positions = torch.from_numpy(np.concatenate([frame.positions for frame in batch])).to(self.device)
        return self.bind(batch).predictions(positions)

    def _is_too_large(self, batch: Sequence[Frame]) -> bool:
        return len(batch) == 1 and len(batch[0]) > largest_whole_frame(self.device)
