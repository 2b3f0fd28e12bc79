"""What the folder of parts costs as it grows: publishing parts, finding them, and the index of the campaign.

The parts are copies of one small part, whatever their names; what they hold is not read.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from al_engine.campaign.campaign_file import CAMPAIGN_FILE
from al_engine.campaign.ledger import Ledger
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import validate_config
from al_engine.files.part_file import write_part
from al_engine.protocols import silent
from flows.compute.remote import RemoteExecutor
from flows.compute.stage_call import Output, StageCall, config_of_run

BESIDE = 100
"""Parts that are published beside those that exist."""
TIMES = 3
"""Number of times that a short operation is repeated."""


class Answering:
    """A cluster whose jobs have ended, with their parts written."""

    logs, grows = "", False

    @staticmethod
    def slots(_resources: object) -> int:
        """One job at a time."""
        return 1

    @staticmethod
    def answer(*_: object) -> dict[str, Any]:
        """The answer of a job that went well."""
        return {"result": None}

    def stop(self) -> None:
        """Do nothing."""


def measured_folder(count: int, at_once: int) -> dict[str, float]:
    """CPU seconds of what a campaign does with a folder of parts; `publish` in seconds on the clock.

    Args:
        count: Number of parts.
        at_once: Number of threads that publish parts at a time.

    Returns:
        `publish`: of a part that is written and synced while others are; `seen`: until the conducting process has
        seen the part of a job that has ended; `begin`: to read all parts, as at the start of a run; `finish`: to add
        a part to `campaign.h5`; `reader`: to list the parts, as for each step; `config`: to read the config, as each
        job does; and `index_bytes`, the size of `campaign.h5` in bytes.
    """
    with _campaign(count) as ledger:
        begin = _seconds(ledger.begin)
        start = time.perf_counter()
        _publish(ledger, at_once)
        publish = (time.perf_counter() - start) / BESIDE
        last = _name(count + BESIDE - 1)
        call = StageCall((Output(last, ""),), "x:y", (), {}, "compute")
        executor = RemoteExecutor(ledger.directory, execution=ledger.config.execution, cluster=Answering())
        return {
            "publish": publish,
            "seen": _median(lambda: executor.run(call, silent)),
            "begin": begin,
            "finish": _median(lambda: ledger.finish([last])),
            "reader": _median(ledger.reader),
            "config": _median(lambda: config_of_run(ledger.directory)),
            "index_bytes": float((ledger.directory / CAMPAIGN_FILE).stat().st_size),
        }


@contextmanager
def _campaign(count: int) -> Iterator[Ledger]:
    """A campaign with a number of parts, for as long as the block runs."""
    wanted = {"name": "saturation", "system": {"smiles": "C"}, "execution": {"executor": "dask"}}
    with tempfile.TemporaryDirectory(prefix="al-engine-saturation-") as folder:
        ledger = Ledger(Path(folder), validate_config(merged(PRESETS["quick"], wanted), source="benchmark"))
        ledger.write_config()
        ledger.parts_directory.mkdir()
        first = ledger.part_path(_name(0))
        _write(first)
        for number in range(1, count):
            shutil.copyfile(first, ledger.part_path(_name(number)))
        yield ledger


def _name(number: int) -> str:
    """The name of a part with labels."""
    return f"iter000-labels-{60 * number + 1}-{60 * number + 60}"


def _write(path: Path) -> None:
    with write_part(path, kind="labels", key="", once=True) as root:
        root["labelled"] = np.zeros(1)
        root.attrs["seconds"] = 0.0


def _publish(ledger: Ledger, at_once: int) -> None:
    """Publish parts, some of them at a time."""
    new = range(sum(1 for _ in ledger.parts_directory.iterdir()), 10**9)
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(_write, [ledger.part_path(_name(number)) for number in new[:BESIDE]]))


def _seconds(what: Callable[[], object]) -> float:
    """CPU seconds of a call: the machine may be busy with other work."""
    begin = time.process_time()
    what()
    return time.process_time() - begin


def _median(what: Callable[[], object]) -> float:
    return float(np.median([_seconds(what) for _ in range(TIMES)]))
