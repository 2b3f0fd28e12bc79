"""Lets the tests import `one_node_slurm` by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
