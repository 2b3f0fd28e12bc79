"""The device and the number of workers of a campaign."""

from pathlib import Path

from al_engine.config import CampaignConfig
from al_engine.cores import usable_cores
from al_engine.errors import InputError

DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""Files of the drivers of GPUs that torch can use: NVIDIA's driver, and that of the Windows Subsystem for Linux."""


def choose_device(config: CampaignConfig) -> str:
    """`cuda` if `execution.device` is `cuda`, or is `auto` and a GPU is found; otherwise `cpu`.

    Raises:
        InputError: If `execution.device` is `cuda` and torch finds no GPU.
    """
    wanted = config.execution.device
    # Without such a file there is no GPU. The files are asked first, because torch is slow to import.
    if wanted == "cpu" or (wanted == "auto" and not any(driver.exists() for driver in DRIVERS)):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise InputError("execution.device is cuda, but torch finds no GPU; set it to auto or cpu")
    return "cpu"


def worker_counts(config: CampaignConfig, device: str) -> tuple[int, int]:
    """Number of worker processes that train and sample, and number of worker processes that label.

    Both are `execution.workers`, if it is set. Otherwise there is a worker for each usable core; on a GPU, a single
    worker trains and samples.

    Args:
        config: The campaign's config.
        device: `cpu` or `cuda`.
    """
    cores = usable_cores()
    wanted = config.execution.workers
    return wanted or (1 if device == "cuda" else cores), wanted or cores
