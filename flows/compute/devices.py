"""The device and the number of workers of a campaign."""

import os
from collections.abc import Mapping
from pathlib import Path

from al_engine.config import CampaignConfig
from al_engine.cores import usable_cores
from al_engine.errors import InputError

DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""Files of the drivers of GPUs that torch can use: NVIDIA's driver, and that of the Windows Subsystem for Linux."""


def choose_device(config: CampaignConfig) -> str:
    """`cuda` if `execution.device` is `cuda`, or is `auto` and a GPU is found; otherwise `cpu`.

    Raises:
        InputError: If `execution.device` is `cuda`, and torch finds no GPU or `execution.gpus` is 0.
    """
    wanted = config.execution.device
    if config.execution.gpus == 0:
        if wanted == "cuda":
            raise InputError("execution.device is cuda, but execution.gpus is 0; leave one of them out")
        return "cpu"
    # Without such a file there is no GPU. The files are asked first, because torch is slow to import.
    if wanted == "cpu" or (wanted == "auto" and not any(driver.exists() for driver in DRIVERS)):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise InputError("execution.device is cuda, but torch finds no GPU; set it to auto or cpu")
    return "cpu"


def visible_gpus(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them; empty without a GPU.

    Args:
        environment: Environment variables.
        devices: Folder of the device files; tests use another folder than `/dev`.
    """
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    # CUDA counts the GPUs that it finds, from 0: a container that has only /dev/nvidia2 has the GPU 0.
    count = sum(1 for _ in devices.glob("nvidia[0-9]*")) or int((devices / "dxg").exists())
    return [str(number) for number in range(count)]


def worker_counts(config: CampaignConfig, device: str) -> tuple[int, int]:
    """Number of worker processes that train and sample, and number of worker processes that label.

    Both are `execution.workers`, if it is set. Otherwise there is a worker for each usable core; on GPUs, a worker for
    each GPU trains and samples.

    Args:
        config: The campaign's config.
        device: `cpu` or `cuda`.
    """
    cores = usable_cores()
    wanted = config.execution.workers
    gpus = len(visible_gpus()[: config.execution.gpus])
    return wanted or (max(1, gpus) if device == "cuda" else cores), wanted or cores
