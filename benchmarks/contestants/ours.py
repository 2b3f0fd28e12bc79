"""This project's models."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from al_engine.config import Acceleration, ModelConfig, TrainingConfig
from al_engine.structures.frames import Frame, LabelledFrame
from contestants.structures import Structure
from contestants.worker import Task, serve
from models.graph.graph import AtomBatch, Graph, neighbour_graph
from models.inference.acceleration import accelerate
from models.inference.committee import Committee
from models.ms_mace import MSMACE
from models.training.constants import constants_from_data
from models.training.dataset import TrainingSet
from models.training.stacked import StackedTrainer, isolated_atom_frames
from models.training.trainer import Trainer
from samplers.dynamics.langevin import run_langevin
from samplers.dynamics.limits import StopReason
from samplers.dynamics.settings import Integration, StopRules, Surroundings
from samplers.dynamics.walls import SphericalWall


class Ours:
    """A committee with random weights, of which one member is timed unless a task says otherwise.

    The setting has `model` (a config's `model` section), `mode`, and for some tasks `members`, `stride` and others. The
    modes are values of `execution.acceleration`. `kernels`: the C++ kernels of `models.native`. `graph`: energy and
    forces compiled as a whole by `models.inference.compiled`, on a CPU with the C++ kernels. `plain`, which is called
    `off` in a config: PyTorch's operators.
    """

    def __init__(self, setting: Mapping[str, Any], training: Sequence[Structure], device: torch.device) -> None:
        self.setting, self.device = setting, device
        self.config = ModelConfig.model_validate(setting["model"])
        self.constants = constants_from_data(self._labelled(training), self.config)
        self._graph: Any = None
        self.models = [self._model(seed).freeze() for seed in range(setting.get("members", 1))]

    def describe(self) -> dict[str, Any]:
        """Versions, size and setting."""
        packages = ("al-engine", "e3nn", "torch", "numpy")
        return {
            "versions": {name: version(name) for name in packages},
            "parameters": sum(p.numel() for p in self.models[0].parameters()),
            "setting": {**self.setting, "model": self.config.model_dump()},
        }

    def modules(self) -> dict[str, torch.nn.Module]:
        """All modules of the first member."""
        return {name: module for name, module in self.models[0].named_modules() if name}

    def task(self, name: str, structures: Sequence[Structure]) -> Task:
        """See `Contestant`; also the tasks of a committee.

        - `training_each`, `training_together`: an update of every member, one after another or stacked.
        - `committee_one`: an MD step by one member.
        - `committee_stride`: `stride` MD steps by one member, and the last step by the other members too.
        - `committee_always`: an MD step by all members.
        - `ladder`: the sampler with its start, for `steps` steps of `replicas` replicas at each of
          `temperatures_kelvin`, within a spherical wall of `wall_radius_ang` if that is given. Sampled frames are
          dropped at once unless `kept` is true.
        """
        if name == "training":
            return self._training(structures)
        if name in {"training_each", "training_together"}:
            return self._training_members(structures, together=name == "training_together")
        frames = [_frame(item) for item in structures]
        if name == "ladder":
            return self._ladder(frames)
        atoms = AtomBatch.of(frames, self.constants.elements, device=self.device)
        positions = torch.from_numpy(np.concatenate([frame.positions for frame in frames])).to(self.device)
        model = self.models[0]
        if name == "neighbours":
            return lambda: neighbour_graph(atoms, positions, cutoffs=model.cutoffs)
        if name == "forces":
            return self._forces(neighbour_graph(atoms, positions, cutoffs=model.cutoffs), positions)
        return self._committee(name, frames, positions)

    def _model(self, seed: int) -> MSMACE:
        model = MSMACE(self.config, self.constants, seed=seed).to(self.device)
        if self.setting["mode"] != "plain" and not accelerate(model) and self.setting["mode"] == "kernels":
            raise RuntimeError("the C++ kernels cannot be used on this machine; the warning above has the reason")
        return model

    def _forces(self, graph: Graph, positions: torch.Tensor) -> Task:
        """Energy and forces of the first member; in mode `graph` by a single graph for all structures."""
        model = self.models[0]
        if self.setting["mode"] != "graph":
            return lambda: model.energy_and_forces(graph, positions)
        if self._graph is None:
            from models.inference.compiled import CompiledForces

            self._graph = CompiledForces()
        compiled = self._graph
        compiled(model, graph, positions)
        if not compiled.ready:  # otherwise uncompiled forces would be timed
            raise RuntimeError("the model cannot be compiled on this machine; the warning above has the reason")
        return lambda: compiled(model, graph, positions)

    def _all_members(self) -> Committee:
        acceleration: Acceleration = "off" if self.setting["mode"] == "plain" else self.setting["mode"]
        return Committee(self.models, device=self.device, acceleration=acceleration)

    def _ladder(self, frames: Sequence[Frame]) -> Task:
        """The sampler, without a limit of the deviation; a trajectory that stops early ends the measurement."""
        committee, setting = self._all_members(), self.setting
        radius = setting.get("wall_radius_ang")
        wall = None if radius is None else SphericalWall(radius_ang=radius)
        kelvins = np.repeat(setting["temperatures_kelvin"], setting["replicas"])
        starts = [frame for frame in frames for _ in kelvins]

        def sample() -> None:
            sampled = run_langevin(
                committee,
                starts,
                temperatures_kelvin=np.tile(kelvins, len(frames)),
                integration=Integration(
                    steps=setting["steps"],
                    stride_steps=setting["stride"],
                    timestep_fs=setting["timestep_fs"],
                    friction_per_ps=setting["friction_per_ps"],
                ),
                stop=StopRules(stop_deviation=np.inf),
                surroundings=Surroundings(wall=wall),
                seed=0,
                device=self.device,
                sink=None if setting.get("kept", True) else lambda _: None,
            )
            if any(reason is not StopReason.COMPLETED for reason in sampled.stop_reason):
                raise RuntimeError(f"trajectories were stopped: {', '.join(sorted(set(sampled.stop_reason)))}")

        return sample

    def _committee(self, name: str, frames: Sequence[Frame], positions: torch.Tensor) -> Task:
        """Forces of steps of molecular dynamics, without the integrator."""
        committee = self._all_members().bind(frames)

        def stride() -> None:
            for _ in range(self.setting["stride"] - 1):
                committee.energy_and_forces(positions, 0)
            committee.member_forces(positions)

        tasks: dict[str, Task] = {
            "committee_one": lambda: committee.energy_and_forces(positions, 0),
            "committee_stride": stride,
            "committee_always": lambda: committee.member_forces(positions),
        }
        return tasks[name]

    def _training(self, structures: Sequence[Structure]) -> Task:
        """An update as in `models.training.training`: batch, loss, double backward, Adam, moving average."""
        network = self._model(0)
        training_set = TrainingSet(self._labelled(structures), network, device=self.device)
        trainer = Trainer(
            network, TrainingConfig(optimizer="adam", batch_size=len(structures)), peak=0.01, updates=10_000
        )
        everything = np.arange(len(structures))
        return lambda: trainer.update(training_set.batch(everything))

    def _training_members(self, structures: Sequence[Structure], *, together: bool) -> Task:
        """An update of every member in plain torch, as in `models.training.training.train_members`."""
        networks = [MSMACE(self.config, self.constants, seed=k).to(self.device) for k in range(len(self.models))]
        frames = [*self._labelled(structures), *isolated_atom_frames(self.constants.elements)]
        data = TrainingSet(frames, *networks, device=self.device)
        training = TrainingConfig(optimizer="adam", batch_size=len(structures))
        trainers = [Trainer(network, training, peak=0.01, updates=10_000) for network in networks]
        everything = [np.arange(len(structures)) + member * len(data) for member in range(len(networks))]
        if together:
            stacked = StackedTrainer(trainers)
            return lambda: stacked.update(data, everything)
        return lambda: [
            trainer.update(data.batch(chosen)) for trainer, chosen in zip(trainers, everything, strict=True)
        ]

    @staticmethod
    def _labelled(structures: Sequence[Structure]) -> list[LabelledFrame]:
        return [LabelledFrame(_frame(item), float(item.energy), item.forces) for item in structures]


def _frame(item: Structure) -> Frame:
    return Frame(numbers=item.numbers, positions=item.positions, cell=item.cell, pbc=item.pbc)


if __name__ == "__main__":
    serve(Ours)
