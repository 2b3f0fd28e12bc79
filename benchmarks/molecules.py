"""Campaigns on twelve systems that nobody tuned for: minutes, processor time, iterations, labels, verdict.

Runs a campaign with the preset `quick` for each system by `al-engine run`, one after another, and writes
`results/molecules.json` and `molecules.md`. Every campaign is a directory under `--data`: the same command resumes an
interrupted benchmark, and `--report` makes the table from the campaigns as they are.

    python benchmarks/molecules.py
    python benchmarks/molecules.py --only 'acetone x 2' --engine ../older --label before --minutes 60

Results are kept by label, so that the table shows versions of the engine side by side.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from al_engine.campaign.ledger import Ledger
from al_engine.errors import ExitStatus
from al_engine.files.atomic import write_file
from flows.pages.status import campaign_status
from jobs import log
from machine import circumstances, versions
from pages import origin, page, publish
from pages import parser as page_parser
from result_tables import table

HERE = Path(__file__).resolve().parent
NAME = "molecules"
PACKAGES = ("al-engine", "torch", "numpy", "tblite", "openmm", "rdkit", "prefect")
SYSTEMS: Mapping[str, Mapping[str, str | int]] = {
    "acetamide x 2": {"smiles": "CC(=O)N", "molecules": 2},
    "acetone x 2": {"smiles": "CC(C)=O", "molecules": 2},
    "formic acid x 2": {"smiles": "OC=O", "molecules": 2},
    "N-methylacetamide": {"smiles": "CC(=O)NC"},
    "pyridine": {"smiles": "c1ccncc1"},
    "ethylene glycol": {"smiles": "OCCO"},
    "chloroform x 3": {"smiles": "ClC(Cl)Cl", "molecules": 3},
    "thiophene x 2": {"smiles": "c1ccsc1", "molecules": 2},
    "urea x 2": {"smiles": "NC(=O)N", "molecules": 2},
    "imidazolium": {"smiles": "c1c[nH]c[nH+]1"},
    "glycine zwitterion": {"smiles": "[NH3+]CC(=O)[O-]"},
    "methyl radical x 2": {"smiles": "[CH3]", "molecules": 2, "unpaired_electrons": 2},
}
"""The `system` section of each campaign, by the name in the table."""
STAGES = {"initial-frames": "initial", "labels": "label", "member": "train", "sample": "sample"}
"""Stage in the table, by a word of the part's name; all others are `other`."""
CLOCK, MESSAGES, RESULT = "clock.json", "messages.log", "result.json"
ENDED = (ExitStatus.DONE, ExitStatus.NOT_CONVERGED, ExitStatus.INTERRUPTED)
"""Exit statuses of a campaign whose figures can be tabulated."""
SECONDS_PER_MINUTE = 60.0
PERCENT = 100.0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = page_parser(__doc__ or "", name=NAME, data=HERE / ".cache" / NAME)
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", choices=list(SYSTEMS), help="run only these systems")
    parser.add_argument("--engine", type=Path, default=HERE.parent, help="checkout of the engine that is measured")
    parser.add_argument("--label", default="now", help="name of this version of the engine in the table")
    parser.add_argument("--minutes", type=float, help="end a campaign without a verdict after this time")
    return parser.parse_args(arguments)


def run(
    folder: Path,
    engine: Path,
    *init: str,
    change: Mapping[str, int] | None = None,
    minutes: float | None = None,
) -> None:
    """Run or resume a campaign to its verdict or to a limit of time, and add the time to its clock.

    Without a config, the measured engine itself writes one by `al-engine init --preset quick`, so that its own preset
    is measured.

    Args:
        folder: Folder of the campaign directory and its clock.
        engine: Checkout of the engine.
        init: Options of `al-engine init`.
        change: New values of options in the section `stop`.
        minutes: Limit of the time on the clock, after which the campaign is interrupted.

    Raises:
        SystemExit: If the campaign is interrupted before its limit. Any other end without a verdict is a result too.
    """
    directory, clock = folder / "campaign", folder / CLOCK
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    before = json.loads(clock.read_text())["seconds"] if clock.exists() else 0.0
    limit = None if minutes is None else SECONDS_PER_MINUTE * minutes
    status = 0
    config = directory / "campaign.yaml"
    if not config.exists():
        status = _al_engine(folder, engine, "init", str(directory), "--preset=quick", *init)
    if status == 0 and change:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
        values["stop"].update(change)
        write_file(config, yaml.safe_dump(values, sort_keys=False).encode())
    if status == 0 and limit is not None and before >= limit:
        status = ExitStatus.INTERRUPTED
    elif status == 0:
        left = None if limit is None else limit - before
        status = _al_engine(folder, engine, "run", str(directory), seconds=left)
    seconds = before + time.monotonic() - begun
    write_file(clock, json.dumps({"seconds": seconds, "status": status}).encode())
    if status == ExitStatus.INTERRUPTED and (limit is None or seconds < limit):
        raise SystemExit(f"{folder}: interrupted; the same command resumes the campaign")


def _al_engine(folder: Path, engine: Path, *arguments: str, seconds: float | None = None) -> int:
    """Run a command of the measured engine; its messages are added to a file; returns the exit status.

    After `seconds` the command is interrupted, as by a user.
    """
    with (folder / MESSAGES).open("ab") as messages:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter)
            [sys.executable, "-P", "-m", "flows.cli.app", *arguments],
            env={**os.environ, "PYTHONPATH": str(engine.resolve())},
            stdout=messages,
            stderr=messages,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            return process.wait()


def result_of(folder: Path) -> dict[str, Any]:
    """The figures of a campaign that `run` has run to its end or to the limit of time.

    Minutes include the start of the processes; processor seconds are sums over the workers, which have a thread each.
    """
    clock = json.loads((folder / CLOCK).read_text())
    directory = folder / "campaign"
    if clock["status"] not in ENDED:
        lines = (folder / MESSAGES).read_text(encoding="utf-8").strip().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        return {
            "verdict": f"exit {clock['status']}",
            "minutes": clock["seconds"] / SECONDS_PER_MINUTE,
            "error": errors[-1:],
        }
    status = campaign_status(directory)
    seconds: defaultdict[str, float] = defaultdict(float)
    for part in Ledger.open(directory).parts():
        seconds[next((stage for word, stage in STAGES.items() if word in part.name), "other")] += part.seconds
    audit = status["audit"]
    return {
        "verdict": status["verdict"] or "none yet",
        "evidence": status["evidence"],
        "minutes": clock["seconds"] / SECONDS_PER_MINUTE,
        "stage_seconds": dict(seconds),
        "dataset_size": status["dataset_size"],
        "labels": sum(each["labelled"] for each in status["iterations"]),
        "acceptance": [each["acceptance"] for each in status["iterations"]],
        "test_force_mae_mev_per_ang": [each["test_force_mae_mev_per_ang"] for each in status["iterations"]],
        "claim_mev_per_ang": audit["overall"]["bound_mev_per_ang"] if audit else None,
    }


def markdown(result: Mapping[str, Any], *, reading: str) -> str:
    """The page."""
    lines = [
        "# Twelve systems that nobody tuned for",
        "",
        (
            "A campaign with the preset `quick` for each system, from its SMILES, to its verdict, on two cores. "
            "Minutes are those on the clock, with the start of all processes. Seconds are sums over the workers. Test "
            "error: mean absolute error of the force components after the last training. Claim: 95 % of the accurate "
            "frames have forces within this of GFN2-xTB on every atom, by the audit."
        ),
    ]
    for label, version in result["versions"].items():
        rows = [[name, *_cells(found)] for name, found in version["systems"].items()]
        head = ["", "verdict", "min", "train, s", "sample, s", "label, s", "labels", "acceptance, %", "test, meV/Å"]
        ended = list(version["systems"].values())
        converged = [found for found in ended if found["verdict"] == "converged"]
        median = statistics.median(found["minutes"] for found in ended)
        lines += [
            "",
            f"## {label}",
            "",
            f"{len(converged)} of {len(ended)} converged; median {median:.1f} min.",
            "",
            table([*head, "claim, meV/Å"], rows),
            "",
            *origin(version["about"]),
        ]
    return page(lines, reading=reading)


def _cells(found: Mapping[str, Any]) -> list[str]:
    if "stage_seconds" not in found:
        return [found["verdict"], f"{found['minutes']:.1f}", *[""] * 7]
    seconds, claim = found["stage_seconds"], found["claim_mev_per_ang"]
    tests = [error for error in found["test_force_mae_mev_per_ang"] if error is not None]
    return [
        found["verdict"],
        f"{found['minutes']:.1f}",
        *(f"{seconds.get(stage, 0.0):.0f}" for stage in ("train", "sample", "label")),
        str(found["labels"]),
        ", ".join(f"{PERCENT * acceptance:.2f}" for acceptance in found["acceptance"]),
        f"{tests[-1]:.1f}" if tests else "",
        "" if claim is None else f"{claim:.0f}",
    ]


def main() -> None:
    """Run the campaigns one after another, and write the table after each."""
    options = parse_arguments()
    about = {**circumstances(), "versions": versions(PACKAGES)}
    folder = options.data / options.label
    (options.output / "results").mkdir(parents=True, exist_ok=True)
    stored = options.output / "results" / f"{NAME}.json"
    result: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {"versions": {}}
    for name in options.only or SYSTEMS:
        own = folder / "-".join(name.split())
        if not options.report and not (own / RESULT).exists():
            log(f"{name}: begins")
            system = [f"--{key.replace('_', '-')}={value}" for key, value in SYSTEMS[name].items()]
            run(own, options.engine, *system, minutes=options.minutes)
            write_file(own / RESULT, json.dumps(result_of(own)).encode())
        if (own / RESULT).exists():
            version = result["versions"].setdefault(options.label, {"systems": {}})
            version["about"] = about
            version["systems"][name] = json.loads((own / RESULT).read_text())
            log(
                f"{name}: {version['systems'][name]['verdict']}; written: "
                f"{publish(result, markdown, output=options.output, name=NAME)}"
            )
    if options.json:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
