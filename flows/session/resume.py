"""The iteration at which a campaign resumes: the first iteration that lacks a part."""

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from flows.stages import labelling


def first_unfinished(ledger: Ledger) -> int | None:
    """The first iteration that lacks a part; None if the initial set lacks a part.

    Finished iterations are left alone: their parts are read only as parents of later stages.
    """
    if not _is_complete(ledger, None, [[names.INITIAL_FRAMES], [names.INITIAL_DATASET]]):
        return None
    iteration = 0
    while _is_complete(ledger, iteration, names.of_iteration(iteration, ledger.config)):
        iteration += 1
    return iteration


def _is_complete(ledger: Ledger, iteration: int | None, expected: list[list[str]]) -> bool:
    """Whether all parts of an iteration exist, its labels included; iteration None: the initial set."""
    parts = ledger.reader()
    if not {name for step in expected for name in step} <= set(parts.names):
        return False
    chunks = labelling.chunks(parts, ledger.config, iteration)
    return {names.labels(iteration, first, last) for first, last in chunks} <= set(parts.names)
