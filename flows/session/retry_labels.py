"""Compute failed labels again: existing labels are kept, and parts made without the failed labels are made again.

Only the newest labels can be computed again. They are fixed as soon as the iteration that trains on them has begun.
"""

from collections.abc import Iterator
from pathlib import Path

from al_engine.campaign import names
from al_engine.campaign.audit.quarantine import set_aside
from al_engine.campaign.labels import LabelOutcome, LabelReason
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part import iteration_of
from al_engine.errors import InputError
from al_engine.files.frames_hdf5 import read_labelled
from al_engine.files.part_file import open_part
from flows.stages.labels.labelling import frames_to_label
from labelers.pool.journal import LabelJournal


def retry_failed_labels(ledger: Ledger) -> Iterator[str]:
    """Prepare the newest failed labels to be computed again when the campaign resumes; yields a line for each change.

    Args:
        ledger: The campaign, locked by this process.

    Raises:
        InputError: If none of the newest labels has failed, or the iteration that trains on them has begun.
    """
    sources = _newest(ledger)
    source = sources[0]
    chunks = [path for each in sources for path in ledger.label_parts(each) if _failures(path)]
    where = _words(source)
    if not chunks:
        raise InputError(f"--retry-failed-labels: no label of {where}, the newest of this campaign, has failed")
    for path in chunks:
        failed = _failures(path)
        _keep_labels(ledger, path)
        yield f"{failed} failed labels of {where} are tried again ({set_aside(path)})"
    iteration = iteration_of(source)
    later = [names.joined(source)]
    if iteration is not None and source == names.selection(iteration):
        later = [names.evaluation(iteration), *later, names.audit(iteration)]
    for name in later:
        if ledger.part_path(name).exists():
            yield f"{name} is made again ({set_aside(ledger.part_path(name))})"


def _words(source: str) -> str:
    """The frames of a part in words."""
    iteration = iteration_of(source)
    if iteration is None:
        return "the initial set"
    return f"{'the audit of ' if source == names.audit(iteration) else ''}iteration {iteration}"


def _newest(ledger: Ledger) -> list[str]:
    """The parts whose frames were labelled last: an audit, a selection, or the frames of the initial sets.

    Raises:
        InputError: If the iteration that trains on the newest labels has begun.
    """
    iterations = {part.iteration for part in ledger.parts() if part.iteration is not None}
    labelled = {k for k in iterations if ledger.label_parts(names.selection(k))}
    newest = max(labelled, default=None)
    begun = max(iterations, default=None)
    if begun is not None and (newest is None or begun > newest):
        raise InputError(
            f"--retry-failed-labels: iteration {begun} has begun, which trains on the present labels; failed labels "
            "can be tried again only before the next iteration begins; leave out the option"
        )
    if newest is None:
        return names.initial_sources(ledger.config)
    return [names.audit(newest) if ledger.label_parts(names.audit(newest)) else names.selection(newest)]


def _failures(path: Path) -> int:
    with open_part(path) as root:
        return sum(reason.decode() != LabelReason.OK for reason in root["reason"][()])


def _keep_labels(ledger: Ledger, path: Path) -> None:
    """Write the successful labels of a chunk into its journal, from which the chunk resumes."""
    with open_part(path, verify=True) as root:
        key = str(root.attrs["key"])
        reasons = [LabelReason(reason.decode()) for reason in root["reason"][()]]
        rescue = [rung.decode() for rung in root["rescue"][()]] if "rescue" in root else [""] * len(reasons)
        labelled = iter(read_labelled(root["labelled"]))
    chunk = names.label_range(path.stem)
    if chunk is None:
        raise InputError(f"{path}: its name is not that of a part of labels; restore the name, or remove the file")
    source, first, last = chunk
    frames = frames_to_label(ledger.reader(), source)[first - 1 : last]
    with LabelJournal(path.with_suffix(".journal"), key=key, frames=frames) as journal:
        for index, (reason, rung) in enumerate(zip(reasons, rescue, strict=True)):
            if reason is LabelReason.OK:
                journal.record(index, LabelOutcome(reason, "", next(labelled), 0.0, rescue=rung))
