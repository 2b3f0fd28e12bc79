"""The state of a campaign, read from its directory; the campaign may be running and is not disturbed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from al_engine.campaign.labels import read_labels, stored_level
from al_engine.campaign.ledger import Ledger
from al_engine.errors import typed
from al_engine.files.lock import is_locked
from al_engine.verdict.records import IterationRecord
from flows.pages.display import duration_text, number_text
from labelers.backends.earlier_levels import known_fault


def campaign_status(directory: Path) -> dict[str, Any]:
    """The campaign's state as JSON-able values; the keys are a contract of `status --json`.

    Raises:
        InputError: If the directory is not a campaign directory, or a file in it is damaged.
    """
    ledger = Ledger.open(directory)
    history = ledger.history()
    verdict = ledger.verdict()
    has_dataset = bool(ledger.reader().dataset_parts())
    parts = ledger.parts()
    level = stored_level(ledger)
    return {
        "campaign": ledger.config.name,
        "directory": str(directory),
        "state": _state(directory, begun=bool(parts), finished=verdict is not None),
        "verdict": None if verdict is None else verdict.kind.value,
        "evidence": None if verdict is None else verdict.evidence,
        "dataset_size": ledger.dataset_size(),
        "dataset_digest": ledger.dataset_digest() if has_dataset else None,
        "label_failures": ledger.label_failures(),
        "audit": _newest_audit(history),
        "missing_parts": ledger.missing_parts(),
        "label_fault": None if level is None else known_fault(level),
        "label_failure_words": _failure_words(ledger, history),
        "last_part": max(parts, key=lambda part: part.path.stat().st_mtime).name if parts else None,
        "iterations": [
            {**record.summary(), "seconds": ledger.iteration_seconds(record.iteration)} for record in history
        ],
    }


def _newest_audit(history: Sequence[IterationRecord]) -> dict[str, Any] | None:
    """The newest audit as JSON-able values; None without audits."""
    audits = [record.audit for record in history if record.audit is not None]
    return audits[-1].summary() if audits else None


def _failure_words(ledger: Ledger, history: Sequence[IterationRecord]) -> str:
    """Most frequent reason of failed labels of the last iteration; without iterations, of the initial set."""
    return history[-1].failure_words if history else read_labels(ledger.initial_label_parts()).failure_words()


def _state(directory: Path, *, begun: bool, finished: bool) -> str:
    if is_locked(directory):
        return "running"
    if finished:
        return "finished"
    return "interrupted" if begun else "new"


def status_table(status: Mapping[str, Any]) -> Table:
    """The iterations as a table for the terminal; fits 80 columns."""
    table = Table(title=Text(f"{status['campaign']}: {status['state']}"), title_justify="left", box=SIMPLE, padding=0)
    for header in (
        "iter",
        "sampled",
        "accur.",
        "cand.",
        "rej.",
        "accept.",
        "labels",
        "failed",
        "data",
        "new*",
        "test*",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for row in status["iterations"]:
        table.add_row(
            f"{row['iteration']}{'!' if row['warnings'] else ''}",
            *(str(row[key]) for key in ("sampled", "accurate", "candidate", "rejected")),
            f"{row['acceptance']:.2%}",
            *(str(row[key]) for key in ("labelled", "label_failures", "dataset_size")),
            number_text(row["error_before_training_mev_per_ang"]),
            number_text(row["test_force_mae_mev_per_ang"]),
            duration_text(row["seconds"]),
        )
    table.caption = "* force MAE in meV/Å: on new labels before training on them, and on the test set"
    table.caption_justify = "left"
    return table


def missing_remarks(status: Mapping[str, Any]) -> list[str]:
    """A line about missing parts; empty if no part is missing."""
    gone = status["missing_parts"]
    if not gone:
        return []
    subject = f"parts/{gone[0]}.h5 is" if len(gone) == 1 else f"{len(gone)} parts, such as {gone[0]}, are"
    return [f"warning: {subject} missing; `al-engine verify {typed(Path(status['directory']))}` says what to do"]


def remarks(status: Mapping[str, Any]) -> list[str]:
    """Remarks, a line each: faults of the labels; calibration and warnings of the last iteration; the newest audit."""
    fault = status["label_fault"]
    lines = [] if fault is None else [f"warning: labels: {fault}; `resume` refuses, and says how to start over"]
    if not status["iterations"]:
        words = status["label_failure_words"]
        return [*lines, f"warning: labels of the initial set failed, {words}"] if words else lines
    last = status["iterations"][-1]
    meant = (last["calibration"] or {}).get("lower_means")
    if meant is not None and last["window"] is not None:
        lines.append(
            f"a deviation of {last['window']['lower_mev_per_ang']:.0f} meV/Å meant a true error of {meant['low']:.0f}-"
            f"{meant['high']:.0f} (typically {meant['typical']:.0f}) meV/Å on the worst atom"
        )
    audit = status["audit"]
    if audit is not None:
        outcome = "passed" if audit["passed"] else "failed, its frames joined the data set"
        lines.append(f"audit of iteration {audit['iteration']} {outcome}: {audit['statement']}")
    return [*lines, *(f"warning: {warning}" for warning in last["warnings"])]
