"""The executor of this machine: worker processes that train and sample, and a pool of workers that label."""

from contextlib import nullcontext
from pathlib import Path

from al_engine.protocols import Progress
from flows.compute.job import run_call
from flows.compute.stage_call import Concurrency, InlineExecutor, StageCall
from flows.compute.worker_pool import ComputePool
from labelers.pool.pool import LabelPool


class LocalExecutor:
    """Runs stage calls on this machine.

    Calls that compute go to worker processes. Calls that label, or need nothing, run in the caller's thread. Calls that
    label share one pool of workers.

    Args:
        directory: The campaign directory.
        device: `cpu` or `cuda`.
        compute: Workers that compute.
        label_pool: Workers that label.
        label_workers: Number of workers that a computing job may start for labels of its own.
    """

    def __init__(
        self, directory: Path, *, device: str, compute: ComputePool, label_pool: LabelPool, label_workers: int
    ) -> None:
        self._directory, self._device = directory, device
        self._compute, self._label_pool, self._label_workers = compute, label_pool, label_workers
        self._here = InlineExecutor(directory, label_pool=lambda: nullcontext(label_pool), label_workers=label_workers)

    @property
    def workers(self) -> int:
        """Number of calls that are computed side by side."""
        return self._compute.workers

    @property
    def concurrency(self) -> Concurrency:
        """Each GPU trains a share of the members at once. A chunk of labels takes all workers that label."""
        return Concurrency(trainings=self.workers if self._device == "cuda" else None)

    def run(self, call: StageCall, progress: Progress) -> None:
        """Run a call and wait for it; may be called from several threads.

        Raises:
            ResumableError: If its worker died, and the worker of the second attempt too.
            AlEngineError: As the job raises.
        """
        if call.needs == "compute":
            self._compute.run(
                run_call,
                progress=progress,
                call=call.to_dict(),
                directory=str(self._directory),
                device=self._device,
                label_workers=self._label_workers,
            )
            return
        self._here.run(call, progress)

    def stop(self) -> None:
        """Kill all workers at once: running calls are lost, finished parts are on disk."""
        self._compute.kill()
        self._label_pool.close()
