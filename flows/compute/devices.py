"""On which device, and with how many workers, a campaign is computed."""

from pathlib import Path

from al_engine.config import CampaignConfig
from al_engine.cores import usable_cores
from al_engine.errors import InputError


def choose_device(config: CampaignConfig) -> str:
    """`cuda` if asked for, or if `auto` and there is one; else `cpu`.

    Raises:
        InputError: If a GPU is asked for and there is none.
    """
    wanted = config.execution.device
    if wanted == "cpu" or (wanted == "auto" and not Path("/dev/nvidiactl").exists()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise InputError("execution.device is cuda, but torch finds no GPU; set it to auto or cpu")
    return "cpu"


def worker_counts(config: CampaignConfig, device: str) -> tuple[int, int]:
    """Worker processes that compute, and that label."""
    cores = usable_cores()
    wanted = config.execution.workers
    return wanted or (1 if device == "cuda" else cores), wanted or cores
