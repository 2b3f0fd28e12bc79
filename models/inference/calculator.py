"""A committee as an ASE calculator."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from al_engine.campaign.card import Card
from al_engine.structures.frames import Frame
from models.inference.committee import Committee
from models.inference.force_field import ForceField
from models.ms_mace import MSMACE
from models.storage.member_files import open_members
from models.storage.weights import read_member

COMMITTEE_PROPERTIES = {"force_deviation", "max_force_deviation", "energy_std", "member_energies", "member_forces"}
"""Properties that need the whole committee."""
STATEMENTS = {"charge", "unpaired_electrons"}
"""Keys of `atoms.info` by which a user states the charge and spin of a structure."""


class CommitteeCalculator(Calculator):
    """Mean energy (eV), forces (eV/Å) and stress (eV/Å³) of a committee, and the disagreement of its members.

    Frames may have any size: large frames are evaluated in bounded memory (`models.inference.chunked`).

    In addition to ASE's own properties, `results` holds, if the whole committee was evaluated,

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

    def __init__(self, force_field: ForceField, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.force_field = force_field

    @property
    def committee(self) -> Committee:
        """The committee."""
        return self.force_field.committee

    @property
    def card(self) -> Card | None:
        """What the campaign says of the committee: method, systems, temperatures, verdict; None if it is not known."""
        return self.force_field.card

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
        found = self.force_field.evaluate(
            Frame.from_atoms(self.atoms),
            whole=not COMMITTEE_PROPERTIES.isdisjoint(properties or []),
            stated=not STATEMENTS.isdisjoint(self.atoms.info),
        )
        self.results = {"energy": found.energy, "free_energy": found.energy, "forces": found.forces}
        if found.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress)
        deviation = found.deviation
        if deviation is not None and found.member_energies is not None:
            self.results |= {
                "force_deviation": deviation,
                "max_force_deviation": float(deviation.max()),
                "energy_std": float(found.member_energies.std()),
                "member_energies": found.member_energies,
                "member_forces": found.member_forces,
            }


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
