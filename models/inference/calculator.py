"""A committee as an ASE calculator."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from al_engine.committee.deviation import force_deviation
from al_engine.structures.frames import Frame
from models.inference.chunked import evaluate_chunked, largest_whole_frame
from models.inference.committee import BoundCommittee, Committee
from models.ms_mace import MSMACE, Prediction
from models.storage.member_files import open_members
from models.storage.weights import read_member


class CommitteeCalculator(Calculator):
    """Mean energy (eV), forces (eV/Å) and stress (eV/Å³) of a committee, and the disagreement of its members.

    Frames may have any size: large frames are evaluated in bounded memory (`models.inference.chunked`).

    In addition to ASE's own properties, `results` holds

    - `force_deviation`, kind `norm`, in eV/Å, shape (N,), and `max_force_deviation`, its maximum over the atoms;
    - `energy_std`, the population standard deviation of the energy over the members, in eV;
    - `member_energies` in eV, shape (M,), and `member_forces` in eV/Å, shape (M, N, 3).

    `stress` is absent unless all axes are periodic.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "forces",
        "stress",
        "force_deviation",
        "max_force_deviation",
        "energy_std",
        "member_energies",
        "member_forces",
    ]

    def __init__(self, committee: Committee, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.committee = committee
        self._bound: tuple[Frame, BoundCommittee] | None = None  # the committee, bound to the elements of a frame

    def calculate(
        self,
        atoms: Any = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute all properties; ASE calls this method.

        Raises:
            InputError: If the structure has an element that the members do not know.
        """
        super().calculate(atoms, properties, system_changes)
        frame = Frame.from_atoms(self.atoms)
        predictions = self._predictions(frame)
        energies = np.array([float(p.energies) for p in predictions])  # (M,)
        forces = np.stack([p.forces.cpu().numpy() for p in predictions])  # (M, N, 3)
        deviation = force_deviation(forces).norm  # (N,)
        self.results = {
            "energy": float(energies.mean()),
            "free_energy": float(energies.mean()),
            "forces": forces.mean(0),
            "force_deviation": deviation,
            "max_force_deviation": float(deviation.max()),
            "energy_std": float(energies.std()),
            "member_energies": energies,
            "member_forces": forces,
        }
        if frame.pbc.all():
            stress = np.mean([p.stresses[0].cpu().numpy() for p in predictions], axis=0)
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    def _predictions(self, frame: Frame) -> list[Prediction]:
        """Predictions of every member, domain by domain if the frame is too large for memory."""
        if len(frame) > largest_whole_frame(self.committee.device):
            return [evaluate_chunked(model, frame) for model in self.committee.models]
        # ASE's list of changes would not do: after a calculation that failed it is empty
        if self._bound is None or not _differ_by_positions_alone(self._bound[0], frame):
            self._bound = frame, self.committee.bind([frame])
        return self._bound[1].predictions(torch.tensor(frame.positions, device=self.committee.device))


def _differ_by_positions_alone(first: Frame, second: Frame) -> bool:
    """Whether two frames have the same elements in the same order, the same cell and the same periodicity."""
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("numbers", "cell", "pbc"))


def load_models(path: Path, *, iteration: int | None, device: torch.device) -> list[MSMACE]:
    """Read the members of an iteration of a campaign, or of a file of members.

    Args:
        path: As `open_members` takes it.
        iteration: Number of an iteration of a campaign; None for the latest iteration that has all its members.
        device: Device of the models.

    Raises:
        InputError: If the file, the iteration or a member does not exist, or a weight is damaged.
    """
    with open_members(path, iteration=iteration) as groups:
        return [read_member(group, device=device).model for group in groups]
