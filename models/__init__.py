"""MS-MACE and its committee: training, molecular dynamics, an ASE calculator.

`load_committee` is all a user of a finished campaign needs:

    from al_engine import load_committee

    atoms.calc = load_committee("runs/ethanol")
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.inference.calculator import CommitteeCalculator

__all__ = ["load_committee"]


def load_committee(path: str | Path, *, device: str = "auto", iteration: int | None = None) -> "CommitteeCalculator":
    """The committee of a campaign as an ASE calculator; the committee itself is its attribute `committee`.

    Args:
        path: A campaign directory, its `campaign.h5`, or one HDF5 part with trained members.
        device: `cpu`, `cuda`, or `auto`: the GPU if torch finds a GPU, otherwise the CPU.
        iteration: Number of the iteration; None for the latest iteration whose training is complete.

    Raises:
        InputError: If the file, the iteration or a member does not exist, or a weight is damaged.
    """
    from models.inference.calculator import CommitteeCalculator, load_models
    from models.inference.committee import Committee
    from models.inference.devices import resolve_device

    torch_device = resolve_device(device)
    models = load_models(Path(path), iteration=iteration, device=torch_device)
    return CommitteeCalculator(Committee(models, device=torch_device))
