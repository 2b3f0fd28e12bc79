"""The iteration at which a campaign resumes: the first iteration that lacks a part."""

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from flows.stages.labels import labelling


def first_unfinished(ledger: Ledger) -> int | None:
    """The first iteration that lacks a part; None if the initial set lacks a part.

    The stages of finished iterations are not run again; their parts are read only as parents of later stages.
    """
    parts, config = ledger.reader(), ledger.config
    existing = set(parts.names)

    def is_complete(source: str, expected: list[list[str]]) -> bool:
        """Whether all expected parts and all labels of the frames of the part `source` exist."""
        if not existing.issuperset(name for stage in expected for name in stage):
            return False
        chunks = labelling.chunks(parts, config, source)
        return existing.issuperset(names.labels(source, first, last) for first, last in chunks)

    if not all(is_complete(source, [[source], [names.INITIAL_DATASET]]) for source in names.initial_sources(config)):
        return None
    iteration = 0
    while is_complete(names.selection(iteration), names.of_iteration(iteration, config)):
        iteration += 1
    return iteration
