"""Candidates of one temperature are labelled while another is still sampled."""

import subprocess
import sys
from pathlib import Path


def test_a_temperature_is_labelled_while_another_is_sampled(prefect_server, tmp_path):
    script = Path(__file__).parents[1] / "overlapping_flow.py"
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "overlap")],
        env=prefect_server,
        capture_output=True,
        text=True,
        check=False,
    )
    order = ran.stdout.splitlines()
    sampled = [index for index, title in enumerate(order) if "sample" in title]
    assert "label ahead" in order, ran.stderr
    assert sampled[0] < order.index("label ahead") < sampled[1]
    assert "iter000-append" in order
