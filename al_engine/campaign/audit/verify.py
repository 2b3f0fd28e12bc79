"""What `al-engine verify` answers."""

from pathlib import Path
from typing import Any

from al_engine.campaign.audit.counts import count_findings, gap_findings
from al_engine.campaign.audit.files import Finding, Problem, Verification, verify_files, worst_first
from al_engine.campaign.audit.repair import repair
from al_engine.campaign.ledger import CONFIG_FILE, Ledger
from al_engine.files.lock import is_locked
from al_engine.protocols import Progress, silent


def verify(directory: Path, *, repaired: bool, progress: Progress = silent) -> tuple[dict[str, Any], str]:
    """Verify a campaign directory, and repair it if that is wanted.

    Args:
        directory: The campaign directory; it may be running unless it is to be repaired.
        repaired: Whether to repair what can be.
        progress: Told how many parts are read.

    Returns:
        The answer as JSON-able values, of which `sound` says whether all is well now, and as text.

    Raises:
        InputError: If it is no campaign directory, or is to be repaired while it is being run.
        ResumableError: If the disk is full or can't be written to.
    """
    found = verify_files(directory, progress=progress)
    findings = _all_findings(directory, found)
    done: list[str] = []
    if repaired and findings:
        done = list(repair(directory, found))
        found = verify_files(directory, progress=progress)
        findings = _all_findings(directory, found)
    sound, parts = not findings, len(found.parts)
    size = sum(part.path.stat().st_size for part in found.parts.values())
    lines = [
        *done,
        *(f"{finding.problem.value}: {finding}" for finding in findings),
        f"{directory}: {_state(len(findings), parts)}: {parts} parts, {size / 1e6:.1f} MB"
        + (f", {len(findings)} findings" if findings else ", all hashes, links and counts" if parts else ""),
    ]
    answer = {
        "directory": str(directory),
        "sound": sound,
        "parts": parts,
        "bytes": size,
        "findings": [finding.to_dict() for finding in findings],
        "repaired": done,
    }
    return answer, "\n".join(lines)


def _state(findings: int, parts: int) -> str:
    if findings:
        return "NOT sound"
    return "sound" if parts else "sound, and not begun"


def _all_findings(directory: Path, found: Verification) -> list[Finding]:
    """What is wrong with the files, their records and what should be there, worst first."""
    findings = [*found.findings, *count_findings(found.parts)]
    if not any(finding.file == CONFIG_FILE for finding in findings):
        known = {finding.file for finding in findings}
        gaps = gap_findings(found.parts, Ledger.open(directory).config)
        findings += [finding for finding in gaps if finding.file not in known]
    if is_locked(directory):  # a part is there a moment before it is linked
        findings = [finding for finding in findings if finding.problem is not Problem.OUTDATED]
    return worst_first(findings)
