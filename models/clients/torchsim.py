"""The force field in TorchSim: many systems in a batch, with the committee's force deviation.

`CommitteeModel("runs/ethanol")` is a model for `torch_sim.integrate` and `torch_sim.optimize`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_sim
from torch import Tensor
from torch_sim.models.interface import ModelInterface

from al_engine.structures.frames import Frame
from models import load_committee
from models.inference.committee import BoundCommittee


class CommitteeModel(ModelInterface):
    """Mean energies, forces and stresses of a committee, and `force_deviation` of each atom (eV/Å, shape (T,))."""

    def __init__(self, path: str | Path, *, device: str = "auto", iteration: int | None = None) -> None:
        """A committee; the arguments are those of `load_committee`."""
        super().__init__()
        self.committee = load_committee(path, device=device, iteration=iteration).committee
        self._device, self._dtype = self.committee.device, torch.float64
        self._compute_forces = self._compute_stress = True
        self._memory_scales_with = "n_atoms_x_density"
        self._bound: tuple[tuple[Any, ...], BoundCommittee] | None = None

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Energies (B,) in eV, forces (T, 3) in eV/Å and stresses (B, 3, 3) in eV/Å³ of a state.

        The stress of a system that is not periodic along all axes is zero.
        """
        if not isinstance(state, torch_sim.SimState):
            state = torch_sim.SimState(**state, masses=torch.ones_like(state["positions"]))
        predictions = self._committee_of(state).predictions(state.positions.to(torch.float64))
        forces = torch.stack([each.forces for each in predictions])
        centred = forces - forces.mean(0)
        return {
            "energy": torch.stack([each.energies for each in predictions]).mean(0),
            "forces": forces.mean(0),
            "stress": torch.nan_to_num(torch.stack([each.stresses for each in predictions]).mean(0)),
            "force_deviation": centred.square().mean(0).sum(-1).sqrt(),
        }

    def _committee_of(self, state: Any) -> BoundCommittee:
        """The committee, bound to the systems of a state; it is bound anew if elements, cells or systems change."""
        cells = state.row_vector_cell.to(torch.float64).cpu().numpy()
        numbers, systems = state.atomic_numbers.cpu().numpy(), state.system_idx.cpu().numpy()
        pbc = np.broadcast_to(np.asarray(torch.as_tensor(state.pbc).cpu()), 3)
        key = (numbers.tobytes(), systems.tobytes(), cells.tobytes(), pbc.tobytes())
        if self._bound is None or self._bound[0] != key:
            positions = state.positions.to(torch.float64).cpu().numpy()
            cell = cells if pbc.any() else np.zeros_like(cells)
            frames = [
                Frame(numbers=numbers[systems == k], positions=positions[systems == k], cell=cell[k], pbc=pbc)
                for k in range(len(cells))
            ]
            self._bound = key, self.committee.bind(frames)
        return self._bound[1]
