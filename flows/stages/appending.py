"""Stage `iterNNN-append`: new labels join the data set; the fates of all sampled frames and the record are written."""

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.record import write_iteration
from flows.compute.stage_call import Stage, Work, summarise


def plan(ledger: Ledger, iteration: int, *, seconds: float = 0.0) -> Stage:
    """The stage that ends an iteration.

    Args:
        ledger: The campaign.
        iteration: The iteration.
        seconds: Wall-clock time since the iteration was started or resumed, s; stored for information.
    """
    parents = (
        *ledger.dataset_before(iteration),
        names.selection(iteration),
        *(path.stem for path in ledger.label_parts(names.selection(iteration))),
        names.evaluation(iteration),
    )
    return Stage(
        name=names.append(iteration),
        job=f"{__name__}:append",
        inputs={},
        parents=parents,
        also=tuple(names.samples(iteration, ledger.config.state_points)),
        arguments={"iteration": iteration, "seconds": seconds},
        needs="nothing",
    )


def append(work: Work, *, iteration: int, seconds: float) -> None:
    """Write the new labels, the fates and the record of an iteration."""
    with work.write() as root:
        record = write_iteration(root, work.parts, work.config, iteration=iteration, seconds=seconds)
        summarise(
            root,
            f"{record.labelled} new labels, {record.dataset_size} in all, acceptance {record.counts.acceptance:.2%}",
        )
