"""`al-engine evaluate`: choose the evaluation, check its options, and run it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_engine.errors import InputError
from flows.evaluation import scans, stability, test_set
from flows.evaluation.subject import opened
from flows.pages.display import Display

OPTIONS: Mapping[str, Mapping[str, str]] = {
    test_set.WHAT: {},
    scans.WHAT: {
        "system": "--system",
        "of": "--of",
        "frames": "--frames",
        "bonds": "--bonds",
        "points": "--points",
    },
    stability.WHAT: {
        "system": "--system",
        "steps": "--steps",
        "kelvin": "--kelvin",
        "replicas": "--replicas",
        "driver": "--driver",
    },
}
"""Options of each evaluation: name of the option in `evaluate`, and its name on the command line."""


def evaluate(
    directory: Path,
    what: str,
    *,
    iteration: int | None = None,
    output: Path | None = None,
    options: Mapping[str, Any],
    display: Display,
) -> tuple[dict[str, Any], str]:
    """Evaluate a campaign's committee.

    Args:
        directory: The campaign directory.
        what: A key of `OPTIONS`.
        iteration: Iteration of the committee; None: the newest complete committee.
        output: Folder for the results; None: `evaluation` in the campaign directory.
        options: Values of the options, by name; None: the option was not given.
        display: Shows the progress.

    Returns:
        The result as JSON-able values, and as text.

    Raises:
        InputError: If an option belongs to another evaluation, the campaign has no finished iteration, or it has
            several systems and none of them is named.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in OPTIONS[what]:
            owner = next(other for other, names in OPTIONS.items() if name in names)
            raise InputError(f"{OPTIONS[owner][name]} is an option of --what {owner}, not of --what {what}")
    with opened(directory, iteration=iteration, output=output) as subject, display:
        if what == test_set.WHAT:
            with display.step("predict") as progress:
                answer = test_set.evaluate_errors(subject, progress)
            return answer, test_set.errors_text(answer)
        of_system = subject.of_system(given.pop("system", None))
        if what == scans.WHAT:
            answer = scans.evaluate_bond_length(of_system, scans.ScanOptions(**given), display)
            return answer, scans.bond_length_text(answer)
        answer = stability.evaluate_stability(of_system, stability.StabilityOptions(**given), display)
        return answer, stability.stability_text(answer)
