"""The file of Wigner 3j symbols is e3nn's, bit for bit; neither e3nn nor PyTorch's compiler is loaded to train."""

import subprocess
import sys

import pytest
import torch
from e3nn import o3

from models.graph.coupling_table import HIGHEST, tabulated, wigner_3j

TRAINED = """
import sys
import numpy as np
from al_engine.config import ModelConfig, PathConfig, TrainingConfig
from al_engine.structures.frames import Frame, LabelledFrame
from models.training.training import train_member
rng = np.random.default_rng(0)
frames = [
    LabelledFrame(Frame(numbers=[6, 8, 1], positions=2.0 * np.eye(3) + rng.normal(scale=0.1, size=(3, 3))), 0.0,
                  rng.normal(size=(3, 3)))
    for _ in range(6)
]
path = PathConfig(cutoff_ang=3.0, channels=2, l_max=4, radial_mlp=[])
train_member(frames=frames, model=ModelConfig(kind="mace", short=path), training=TrainingConfig(batch_size=2), seed=0,
             updates=2)
print(*sys.modules, sep="\\n")
"""


def test_the_symbols_are_those_of_e3nn():
    for degrees in tabulated():
        assert torch.equal(wigner_3j(*degrees), o3.wigner_3j(*degrees, dtype=torch.float64)), degrees


@pytest.mark.parametrize("degrees", [(HIGHEST + 1, HIGHEST + 1, 2), (2, HIGHEST + 1, HIGHEST + 2)])
def test_what_is_not_in_the_file_is_computed(degrees):
    assert degrees not in tabulated()
    assert torch.equal(wigner_3j(*degrees), o3.wigner_3j(*degrees, dtype=torch.float64))


def test_training_loads_neither_e3nn_nor_the_compiler():
    done = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert not {"e3nn", "torch._dynamo"} & loaded
