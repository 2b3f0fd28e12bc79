"""Many campaigns from a table of molecules: their directories, and the runs side by side, each in its own process."""

import csv
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from al_engine.campaign.ledger import CONFIG_FILE, Ledger
from al_engine.config.presets import PRESETS, merged
from al_engine.config.reader import differences, validate_config
from al_engine.errors import AlEngineError, ExitStatus, InputError
from al_engine.verdict.verdict import VerdictKind
from flows.pages.status import campaign_status
from flows.session.new_campaign import new_campaign

COLUMNS: Mapping[str, type] = {"name": str, "smiles": str, "count": int, "charge": int, "unpaired_electrons": int}
"""Columns of the table, with the type of their values; `name` and `smiles` must be there."""
KEYS = {"smiles": "smiles", "count": "molecules", "charge": "charge", "unpaired_electrons": "unpaired_electrons"}
"""Options of `system` by column."""
SYSTEM_KEYS = {f"system.{key}" for key in KEYS.values()}
LOG = "run.log"
"""File of a campaign directory with the messages of its run."""
POLL_S = 0.2
"""Time between two looks at a run, s."""


@dataclass(frozen=True, slots=True)
class Row:
    """A molecule of the table: name of its campaign, and options of its system."""

    name: str
    system: Mapping[str, Any]


def read_table(path: Path) -> list[Row]:
    """The molecules of a CSV file with a header.

    Raises:
        InputError: If the file cannot be read, a column is unknown or missing, or a row is wrong; every wrong row is
            named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header, rows = list(reader.fieldnames or []), [(reader.line_num, values) for values in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from None
    unknown, missing = [name for name in header if name not in COLUMNS], {"name", "smiles"} - set(header)
    if unknown or missing:
        raise InputError(
            f"{path}: the first line must name the columns: name and smiles, and if needed count, charge, "
            f"unpaired_electrons; it names {', '.join(map(repr, header)) or 'nothing'}"
        )
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise InputError(f"{path}: the first line names the column {doubled[0]!r} twice")
    found: dict[str, Row] = {}
    wrong = []
    for number, values in rows:
        try:
            row = _row(values)
            if row.name in found:
                raise InputError(f"name {row.name!r} is given twice")  # noqa: TRY301 (told together with the others)
            found[row.name] = row
        except InputError as error:
            wrong.append(f"{path}: line {number}: {error}")
    if wrong or not found:
        raise InputError("\n".join(wrong) or f"{path}: has no molecules")
    return list(found.values())


def _row(values: Mapping[str, Any]) -> Row:
    """A row of the table; refused if no campaign can be made of it."""
    if None in values:
        raise InputError("has more values than columns")
    given = {name: text.strip() for name, text in values.items() if text and text.strip()}
    try:
        typed = {name: COLUMNS[name](text) for name, text in given.items()}
    except ValueError:
        raise InputError("count, charge and unpaired_electrons must be whole numbers") from None
    if "name" not in typed or "smiles" not in typed:
        raise InputError("name or smiles is missing")
    system = {KEYS[name]: value for name, value in typed.items() if name in KEYS}
    validate_config({"name": typed["name"], "system": system}, source="the campaign")
    return Row(typed["name"], system)


def make_campaigns(rows: Sequence[Row], folder: Path, *, preset: str, workers: int) -> list[Path]:
    """The campaign directories of the molecules; in those that exist, only the number of workers is set.

    Args:
        rows: The molecules.
        folder: Folder of the campaign directories, which have the names of the molecules.
        preset: Preset of the configs.
        workers: Worker processes of each campaign.

    Raises:
        InputError: If an existing directory is the campaign of another system.
    """
    directories = []
    for row in rows:
        directory = folder / row.name
        own = {"name": row.name, "system": row.system, "execution": {"workers": workers}}
        config = validate_config(merged(PRESETS[preset], own), source=row.name)
        if not (directory / CONFIG_FILE).exists():
            folder.mkdir(parents=True, exist_ok=True)
            new_campaign(config, source=folder, directory=directory)
        elif (ledger := _readable(directory)) is not None:
            if differences(ledger.config, config).keys() & SYSTEM_KEYS:
                raise InputError(f"{directory}: is the campaign of another system; give another name, or another --dir")
            _set_workers(ledger, workers)
        directories.append(directory)
    return directories


def _readable(directory: Path) -> Ledger | None:
    """An existing campaign; None if its config cannot be read, which its run will tell, and the others go on."""
    try:
        return Ledger.open(directory)
    except AlEngineError:
        return None


def _set_workers(ledger: Ledger, workers: int) -> None:
    """Give an existing campaign a number of worker processes."""
    if ledger.config.execution.workers != workers:
        execution = ledger.config.execution.model_copy(update={"workers": workers})
        ledger.config = ledger.config.model_copy(update={"execution": execution})
        ledger.write_config()


def verdict_status(directory: Path) -> ExitStatus | None:
    """The exit status of a campaign that has its verdict, with the config that it has now; None if it is to be run."""
    try:
        ledger = Ledger.open(directory)
        verdict, launched = ledger.verdict(), ledger.launched_config()
    except AlEngineError:  # its run says what is wrong
        return None
    if verdict is None or launched is None:
        return None
    changed = differences(launched, ledger.config)  # such as `stop.max_iterations`, so that it goes on
    if any(not name.startswith("execution.") for name in changed):
        return None
    return ExitStatus.DONE if verdict.kind is VerdictKind.CONVERGED else ExitStatus.NOT_CONVERGED


def outcome(directory: Path, status: int | None) -> dict[str, Any]:
    """One line of the table of results; a damaged campaign has the error instead of a verdict.

    Args:
        directory: The campaign directory.
        status: Exit status of its run; None: it has not ended.
    """
    try:
        found = campaign_status(directory)
    except AlEngineError as error:
        said = str(error).partition("\n")[0]
        found = {"verdict": f"cannot be read: {said}", "iterations": [], "dataset_size": 0}
    iterations = found["iterations"]
    newest: Mapping[str, Any] = iterations[-1] if iterations else {}
    failed = status is not None and status not in (ExitStatus.DONE, ExitStatus.NOT_CONVERGED)
    return {
        "name": directory.name,
        "verdict": found["verdict"] or (f"exit {status}: {last_error(directory)}" if failed else found["state"]),
        "iterations": len(iterations),
        "frames": found["dataset_size"],
        "acceptance": newest.get("acceptance"),
        "test_force_mae_mev_per_ang": newest.get("test_force_mae_mev_per_ang"),
        "minutes": sum(each["seconds"] for each in iterations) / 60,
    }


def last_error(directory: Path) -> str:
    """The last line of the messages of a run, which names the error of a run that failed."""
    try:
        lines = (directory / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError as error:
        return str(error)
    return lines[-1].removeprefix("error: ") if lines else ""


def shares(gpus: Sequence[str], at_once: int) -> list[str]:
    """The GPUs of each of the campaigns that run at a time, as `CUDA_VISIBLE_DEVICES` names them.

    Args:
        gpus: The GPUs that this process may use.
        at_once: Campaigns at a time.

    Returns:
        A share for each campaign; campaigns have the same GPU if there are more of them than GPUs. Empty for one GPU or
        none, and for one campaign at a time, which has all GPUs.
    """
    if len(gpus) <= 1 or at_once == 1:
        return []
    return [",".join(gpus[number::at_once]) or gpus[number % len(gpus)] for number in range(at_once)]


class Runs:
    """Runs of campaigns side by side, in the order of their list.

    Every campaign runs in a process of its own, so that the failure of one ends no other. The processes end with this
    process.

    Args:
        at_once: Campaigns at a time.
        gpus: The GPUs, as `CUDA_VISIBLE_DEVICES` names them, which are shared out among the campaigns.
    """

    def __init__(self, at_once: int, *, gpus: Sequence[str] = ()) -> None:
        self._at_once = at_once
        self._stopped = threading.Event()
        self._shares: SimpleQueue[dict[str, str]] = SimpleQueue()
        for share in shares(gpus, at_once) or [""] * at_once:
            self._shares.put({"CUDA_VISIBLE_DEVICES": share} if share else {})

    def run(self, directories: Sequence[Path], say: Callable[[Path, int], None]) -> dict[Path, int]:
        """Run the campaigns to their verdicts; returns the exit status of each.

        Args:
            directories: The campaign directories.
            say: Called with a campaign that has ended and its exit status, in this thread.

        Raises:
            KeyboardInterrupt: If this process is interrupted; the campaigns are stopped, and can be resumed.
        """
        ended: dict[Path, int] = {}
        with ThreadPoolExecutor(self._at_once, thread_name_prefix="campaign") as threads:
            futures = {threads.submit(self._one, directory): directory for directory in directories}
            try:
                for future in as_completed(futures):
                    directory = futures[future]
                    ended[directory] = future.result()
                    say(directory, ended[directory])
            except BaseException:
                self.stop()
                raise
        return ended

    def stop(self) -> None:
        """Interrupt all campaigns; those that have not begun do not begin."""
        self._stopped.set()

    def _one(self, directory: Path) -> int:
        """Run a campaign in a process, which is interrupted if the runs are stopped."""
        if self._stopped.is_set():
            return ExitStatus.INTERRUPTED
        command = [sys.executable, "-P", "-m", "flows.session.campaign_process", str(os.getpid()), str(directory)]
        share = self._shares.get()  # there is one for each thread
        try:
            with (directory / LOG).open("ab") as log:
                status = self._status(command, log, {**os.environ, **share})
        except OSError:  # no log can be written: see `last_error`
            status = ExitStatus.BAD_INPUT
        finally:
            self._shares.put(share)
        ended = status in (ExitStatus.DONE, ExitStatus.NOT_CONVERGED)
        # a process that was interrupted while it started has another status
        return ExitStatus.INTERRUPTED if self._stopped.is_set() and not ended else status

    def _status(self, command: Sequence[str], log: IO[bytes], environment: Mapping[str, str]) -> int:
        """The exit status of a process, which is interrupted if the runs are stopped."""
        process = subprocess.Popen(  # noqa: S603 (this interpreter and one of our modules)
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once
        )
        while process.poll() is None:
            if self._stopped.wait(POLL_S):
                process.terminate()  # not SIGINT, which programs ignore that a script has started in the background
                process.wait()
        return process.returncode
