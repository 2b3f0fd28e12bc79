"""A stage call as a job of a worker process, which has no label pool of its campaign."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from al_engine.config import LabelsConfig
from al_engine.protocols import Progress
from flows.compute.devices import choose_device
from flows.compute.stage_call import InlineExecutor, StageCall, config_of_run
from labelers.pool.pool import LabelPool


def run_call(
    *, call: Mapping[str, Any], directory: str, device: str | None, label_workers: int, progress: Progress
) -> None:
    """Run a stage call; if it labels, with workers of this process.

    Args:
        call: The call as JSON-able values.
        directory: The campaign directory.
        device: `cpu` or `cuda`; None: as this machine has it.
        label_workers: Number of workers that label.
        progress: Receives the progress of the job.

    Raises:
        AlEngineError: As the job raises.
    """
    config, planned = config_of_run(Path(directory)), StageCall.from_dict(call)

    @contextmanager
    def label_pool() -> Iterator[LabelPool]:
        if planned.kind == "label":
            yield _kept_pool(config.labels.model_dump_json(), workers=label_workers, periodic=config.labels_boxes)
            return
        with LabelPool(config.labels, workers=label_workers, periodic=config.labels_boxes) as pool:
            yield pool

    executor = InlineExecutor(
        Path(directory), device=device or choose_device(config), label_pool=label_pool, label_workers=label_workers
    )
    executor.run(planned, progress)


@cache
def _kept_pool(labels: str, *, workers: int, periodic: bool) -> LabelPool:
    """A pool for the labels of a config (JSON), kept for the next chunk: starting its workers takes half a second.

    Its processes end with this process.
    """
    return LabelPool(LabelsConfig.model_validate_json(labels), workers=workers, periodic=periodic)
