"""mace-torch with the defaults of `mace_run_train`, except for the setting; runs in its own environment.

Batatia et al., MACE, NeurIPS (2022); https://github.com/ACEsuit/mace.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from e3nn import o3
from mace import data, modules, tools
from mace.calculators import MACECalculator
from mace.tools import torch_geometric
from torch_ema import ExponentialMovingAverage

from contestants.structures import Structure
from contestants.worker import Task, serve


class Mace:
    """ScaleShiftMACE with random weights.

    The setting has `cutoff_ang`, `channels`, `l_max`, `hidden_l_max`, `correlation`, `layers`, `radial_mlp`, `dtype`
    and `cueq`, which uses NVIDIA's cuEquivariance kernels. For molecular dynamics it also has `members`, `kelvin`,
    `stride`, `timestep_fs`, `friction_per_ps` and `scale`, the scale of the energy in eV.
    """

    def __init__(self, setting: Mapping[str, Any], training: Sequence[Structure], device: torch.device) -> None:
        self.setting, self.device = setting, device
        torch.set_default_dtype(getattr(torch, setting["dtype"]))
        numbers = sorted({int(z) for item in training for z in item.numbers})
        self.elements = tools.AtomicNumberTable(numbers)
        self.cutoff = float(setting["cutoff_ang"])
        self.neighbours = float(np.mean([self._data(item).edge_index.shape[1] / len(item) for item in training]))
        self.model = self._model(seed=0)

    def _model(self, *, seed: int) -> Any:
        torch.manual_seed(seed)
        setting = self.setting
        hidden = " + ".join(
            f"{setting['channels']}x{degree}{'eo'[degree % 2]}" for degree in range(setting["hidden_l_max"] + 1)
        )
        block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        model = modules.ScaleShiftMACE(
            r_max=self.cutoff,
            num_bessel=8,
            num_polynomial_cutoff=5,
            max_ell=setting["l_max"],
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=setting["layers"],
            num_elements=len(self.elements),
            hidden_irreps=o3.Irreps(hidden),
            MLP_irreps=o3.Irreps("16x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=np.zeros(len(self.elements)),
            avg_num_neighbors=self.neighbours,
            atomic_numbers=list(self.elements.zs),
            correlation=setting["correlation"],
            radial_MLP=list(setting["radial_mlp"]),
            atomic_inter_scale=float(setting.get("scale", 1.0)),
            atomic_inter_shift=0.0,
        )
        if setting.get("cueq"):
            from mace.cli.convert_e3nn_cueq import run

            model = run(model, device=str(self.device), return_model=True)
        return model.to(self.device)

    def describe(self) -> dict[str, Any]:
        """Versions, size and setting."""
        packages = ("mace-torch", "e3nn", "torch", "numpy")
        return {
            "versions": {name: version(name) for name in packages},
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "setting": dict(self.setting),
        }

    def modules(self) -> dict[str, torch.nn.Module]:
        """The modules of eager code; modules inside TorchScript do not call hooks."""
        scripted = (torch.jit.ScriptModule, torch.jit.ScriptFunction)
        return {name: item for name, item in self.model.named_modules() if name and not isinstance(item, scripted)}

    def task(self, name: str, structures: Sequence[Structure]) -> Task:
        """See `Contestant`; also molecular dynamics, a trajectory by ASE's Langevin that every call continues.

        `md_always`: a step by mace-torch's ASE calculator of the committee, whose mean drives. `md_stride`: `stride`
        steps by a calculator of one member, and the forces of the other members after the last step.
        """
        if name.startswith("md_"):
            return self._dynamics(structures[0], always=name == "md_always")
        if name == "neighbours":
            return lambda: self._batch([self._data(item) for item in structures])
        if name == "forces":
            batch = self._batch([self._data(item) for item in structures]).to_dict()

            def evaluate() -> tuple[torch.Tensor, torch.Tensor]:
                output = self.model(batch, training=False, compute_force=True)
                return output["energy"].detach(), output["forces"].detach()

            return evaluate
        if name == "training":
            return self._training([self._data(item) for item in structures])
        raise KeyError(name)

    def _dynamics(self, item: Structure, *, always: bool) -> Task:
        setting = self.setting
        models = [self.model, *(self._model(seed=seed) for seed in range(1, setting["members"]))]
        driver = self._calculator(models if always else models[:1])
        others = None if always else self._calculator(models[1:])
        atoms = Atoms(numbers=item.numbers, positions=item.positions, cell=item.cell, pbc=item.pbc, calculator=driver)
        rng = np.random.default_rng(0)
        MaxwellBoltzmannDistribution(atoms, temperature_K=setting["kelvin"], rng=rng)
        Stationary(atoms)
        dynamics = Langevin(
            atoms,
            timestep=setting["timestep_fs"] * units.fs,
            temperature_K=setting["kelvin"],
            friction=setting["friction_per_ps"] / (1000.0 * units.fs),
            rng=rng,
        )

        def advance() -> Any:
            dynamics.run(1 if always else setting["stride"])
            if others is None:
                return driver.results["forces_comm"].std(axis=0)
            others.calculate(atoms)
            return np.concatenate([driver.results["forces"][None], others.results["forces_comm"]]).std(axis=0)

        return advance

    def _calculator(self, models: Sequence[Any]) -> Any:
        return MACECalculator(models=list(models), device=str(self.device), default_dtype=self.setting["dtype"])

    def _data(self, item: Structure) -> Any:
        """A structure with its neighbour list."""
        configuration = data.Configuration(
            atomic_numbers=item.numbers,
            positions=item.positions,
            properties={"energy": float(item.energy), "forces": item.forces},
            property_weights={"energy": 1.0, "forces": 1.0},
            cell=item.cell,
            pbc=tuple(bool(axis) for axis in item.pbc),
        )
        return data.AtomicData.from_config(configuration, z_table=self.elements, cutoff=self.cutoff)

    def _batch(self, items: Sequence[Any]) -> Any:
        return torch_geometric.Batch.from_data_list(list(items)).to(self.device)

    def _training(self, items: Sequence[Any]) -> Task:
        """An update as in `mace.tools.train`: collation, loss, double backward, clipping, Adam, moving average."""
        loss_function = modules.WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=100.0)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01, amsgrad=True)
        average = ExponentialMovingAverage(self.model.parameters(), decay=0.99)

        def update() -> None:
            batch = self._batch(items)
            optimizer.zero_grad(set_to_none=True)
            output = self.model(batch.to_dict(), training=True, compute_force=True)
            loss_function(pred=output, ref=batch).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=10.0)
            optimizer.step()
            average.update()

        return update


if __name__ == "__main__":
    serve(Mace)
