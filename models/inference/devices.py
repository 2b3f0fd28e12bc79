"""Choice of the device that models run on."""

import torch

from al_engine.errors import InputError


def resolve_device(name: str) -> torch.device:
    """The device of a config's `auto`, `cpu` or `cuda`.

    Raises:
        InputError: If `cuda` is asked for and torch finds no GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device is `cuda`, but torch finds no GPU; use `auto` or `cpu`, or install a CUDA build of torch"
        )
    return torch.device(name)
