"""The answer of `al-engine verify`: all problems of a campaign directory, and the repairs made."""

from pathlib import Path
from typing import Any

from al_engine.campaign.audit.counts import count_findings, gap_findings
from al_engine.campaign.audit.files import Finding, Problem, Verification, verify_files, worst_first
from al_engine.campaign.audit.repair import repair
from al_engine.campaign.ledger import CONFIG_FILE, Ledger
from al_engine.files.lock import is_locked
from al_engine.protocols import Progress, silent


def verify(directory: Path, *, repaired: bool, progress: Progress = silent) -> tuple[dict[str, Any], str]:
    """Verify a campaign directory, and repair it if asked to.

    Args:
        directory: The campaign directory. The campaign may be running, unless `repaired` is set.
        repaired: Whether to repair the directory, as far as possible. The answer then lists the problems that are left.
        progress: Receives the number of parts that have been read.

    Returns:
        The answer as JSON-able values and as text. In the values, `sound` is true if no problem is left.

    Raises:
        InputError: If the directory is not a campaign directory, or is to be repaired while the campaign is running.
        ResumableError: If the disk is full or can't be written to.
    """
    found = verify_files(directory, progress=progress)
    findings = _all_findings(directory, found)
    done: list[str] = []
    if repaired and findings:
        done = list(repair(directory, found))
        found = verify_files(directory, progress=progress)
        findings = _all_findings(directory, found)
    n_parts = len(found.parts)
    size = sum(part.path.stat().st_size for part in found.parts.values())
    if findings:
        state, details = "NOT sound", f", {len(findings)} finding{'s' if len(findings) > 1 else ''}"
    elif n_parts:
        state, details = "sound", ", all hashes, links and counts"
    else:
        state, details = "sound, not begun", ""
    lines = [
        *done,
        *(f"{finding.problem.value}: {finding}" for finding in findings),
        f"{directory}: {state}: {n_parts} parts, {size / 1e6:.1f} MB{details}",
    ]
    answer = {
        "directory": str(directory),
        "sound": not findings,
        "parts": n_parts,
        "bytes": size,
        "findings": [finding.to_dict() for finding in findings],
        "repaired": done,
    }
    return answer, "\n".join(lines)


def _all_findings(directory: Path, found: Verification) -> list[Finding]:
    """All problems, the most urgent first: of files, of counts, and parts that are missing between other parts."""
    if any(finding.file == CONFIG_FILE for finding in found.findings):
        findings = [*found.findings, *count_findings(found.parts)]
    else:
        config = Ledger.open(directory).config
        findings = [*found.findings, *count_findings(found.parts, inherited=config.inherited_iterations or 0)]
        known = {finding.file for finding in findings}
        findings += [finding for finding in gap_findings(found.parts, config) if finding.file not in known]
    if is_locked(directory):  # the campaign is running: a new part exists for a moment before campaign.h5 links it
        findings = [finding for finding in findings if finding.problem is not Problem.OUTDATED]
    return worst_first(findings)
