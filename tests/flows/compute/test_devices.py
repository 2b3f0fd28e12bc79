"""The GPUs of this machine, as CUDA counts them."""

import pytest

from flows.compute.devices import visible_gpus


@pytest.mark.parametrize(
    ("files", "gpus"),
    [
        ([], []),
        (["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"], ["0", "1"]),
        (["nvidia2", "nvidiactl"], ["0"]),  # a container that was given the third GPU of its machine
        (["nvidia3", "nvidia10"], ["0", "1"]),
        (["dxg"], ["0"]),
    ],
)
def test_gpus_are_counted_as_cuda_counts_them(files, gpus, tmp_path):
    for name in files:
        (tmp_path / name).touch()
    assert visible_gpus({}, tmp_path) == gpus


def test_the_environment_names_the_gpus(tmp_path):
    (tmp_path / "nvidia0").touch()
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "2, GPU-5"}, tmp_path) == ["2", "GPU-5"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) == []
