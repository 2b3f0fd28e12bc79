import sys
from pathlib import Path

import numpy as np
import pytest

# benchmarks are scripts: their folder is the import path of what they share
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.fixture
def rng():
    return np.random.default_rng(7)
