"""A committee in one file that metatomic loads, without this package: for ASE, i-PI, TorchSim, LAMMPS and others.

metatomic is an interface between models and simulation programs (https://docs.metatensor.org/metatomic). Its models are
TorchScript files.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from al_engine.errors import InputError
from models.inference.symbolic import model_inputs, trace_atomic_energies
from models.layers.operators import use_plain
from models.ms_mace import MSMACE
from models.tracing.torchscript import Source, source_of

REQUIRED = "metatomic-torch"
"""The package that writes and reads these files."""
N_NODE_INPUTS, N_LAST_INPUTS = 3, 2
"""Inputs of the traced graph between the weights and the sizes (neighbours, species, own numbers), and after the sizes
(vectors, chosen atoms)."""


def write_metatomic(
    path: Path, models: Sequence[MSMACE], *, name: str, description: str, references: Mapping[str, Sequence[str]]
) -> None:
    """Write a committee as a metatomic model.

    Args:
        path: The file, which ends with `.pt`.
        models: The members.
        name: Name of the force field.
        description: What the force field was trained for, and how far it can be trusted.
        references: Publications, by `model`, `architecture` and `implementation`.

    Raises:
        InputError: If metatomic is not installed.
    """
    try:
        import metatomic.torch as metatomic

        from models.interop.metatomic_model import DEVIATION, ENSEMBLE_OUTPUTS, CommitteeModel
    except ImportError as error:
        raise InputError(f"{REQUIRED} is not installed ({error}); pip install 'al-engine[clients]'") from None
    members = [model.weight_sharing_copy() for model in models]
    for model in members:
        use_plain(model)
        model.freeze()
    first = members[0]
    like = torch.zeros((), dtype=torch.float64)
    inputs = [model_inputs(model, like) for model in members]
    source = source_of(trace_atomic_energies(first, torch.device("cpu")))
    module = CommitteeModel(
        _core(source, n_weights=len(inputs[0])),
        weights=inputs,
        constants=list(source.constants.values()),
        elements=first.constants.elements,
        cutoffs=first.cutoffs,
    )
    outputs = {output: metatomic.ModelOutput(unit="eV", sample_kind="system") for output in ENSEMBLE_OUTPUTS}
    outputs[DEVIATION] = metatomic.ModelOutput(unit="eV/angstrom", sample_kind="atom")
    capabilities = metatomic.ModelCapabilities(
        outputs=outputs,
        atomic_types=list(first.constants.elements),
        interaction_range=first.config.layers * first.cutoffs[-1],
        length_unit="angstrom",
        supported_devices=["cpu", "cuda"],
        dtype="float64",
    )
    metadata = metatomic.ModelMetadata(
        name=name, description=description, references={key: list(entries) for key, entries in references.items()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which metatomic is made of
        metatomic.AtomisticModel(module.eval(), metadata, capabilities).save(str(path))


def _core(source: Source, *, n_weights: int) -> torch.jit.ScriptModule:
    """The traced graph as a module that takes its inputs as lists."""
    n_sizes = len(source.inputs) - n_weights - N_NODE_INPUTS - N_LAST_INPUTS
    groups = {"weights": n_weights, "nodes": N_NODE_INPUTS, "sizes": n_sizes, "last": N_LAST_INPUTS}
    return source.module(groups)
