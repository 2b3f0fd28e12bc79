"""MS-MACE and its committee: training, molecular dynamics, an ASE calculator.

`load_committee` is all a user of a finished campaign needs:

    from al_engine import load_committee

    atoms.calc = load_committee("runs/ethanol")
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from al_engine.config import Acceleration
    from models.inference.calculator import CommitteeCalculator

__all__ = ["load_committee"]


def load_committee(
    path: str | Path,
    *,
    device: str = "auto",
    iteration: int | None = None,
    members: "Sequence[int] | None" = None,
    stride: int = 1,
    acceleration: "Acceleration" = "auto",
) -> "CommitteeCalculator":
    """The committee of a campaign as an ASE calculator; the committee itself is its attribute `committee`.

    What the campaign says of the committee is its attribute `card`; `print(calculator.card.text())` shows it.

    Args:
        path: A campaign directory, its `campaign.h5`, or one HDF5 part with trained members.
        device: `cpu`, `cuda`, or `auto`: the GPU if torch finds a GPU, otherwise the CPU.
        iteration: Number of the iteration; None for the latest iteration whose training is complete.
        members: Members whose mean gives energies and forces, such as `[0]` for MD that costs a quarter; None: all.
        stride: Number of calculations from one evaluation of the whole committee, which gives the force deviation, to
            the next, if some of the members drive. ASE can ask for the deviation at any time.
        acceleration: As `execution.acceleration` of a config; `auto`: C++ kernels, and small molecules are traced after
            a hundred calculations and replayed.

    Raises:
        InputError: If the file, the iteration or a member does not exist, a weight is damaged, or there is a stride and
            all members drive.
    """
    from al_engine.campaign.card import card_beside
    from models.inference.calculator import CommitteeCalculator, load_models
    from models.inference.committee import REPLAY_PAYS_AFTER, Committee
    from models.inference.devices import resolve_device
    from models.inference.force_field import ForceField

    torch_device = resolve_device(device)
    models = load_models(Path(path), iteration=iteration, device=torch_device)
    committee = Committee(models, device=torch_device, acceleration=acceleration, evaluations=REPLAY_PAYS_AFTER)
    card = card_beside(Path(path), iteration=iteration)
    return CommitteeCalculator(ForceField(committee, members=members, stride=stride, card=card))
