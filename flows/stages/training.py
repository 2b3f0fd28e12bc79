"""Stage `iterNNN-memberM`: train one member of the committee on all frames labelled before the iteration."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.part_reader import PartReader
from al_engine.config import CampaignConfig, TrainingConfig
from al_engine.seeds import derived_seed
from al_engine.units import MEV_PER_EV
from al_engine.verdict.records import IterationRecord
from flows.compute.stage_call import Stage, Work, summarise
from flows.stages.initial_set.isolated_atoms import read_isolated_atoms
from models.storage.member_files import members_hash

if TYPE_CHECKING:
    from models.inference.committee import Committee
    from models.storage.weights import TrainedMember


def groups(config: CampaignConfig, calls: int | None) -> list[list[int]]:
    """The members that each call trains.

    Args:
        config: The campaign's config.
        calls: Number of calls among which the members are shared out; None: each member has a call of its own.
    """
    members = config.training.members
    calls = members if calls is None else min(calls, members)
    return [list(range(members * k // calls, members * (k + 1) // calls)) for k in range(calls)]


def title(members: list[int]) -> str:
    """Name of the training of some members, for the terminal and the UI."""
    return f"train member {members[0]}" if len(members) == 1 else f"train members {members[0]}-{members[-1]}"


FULL_GROWTH = 0.1
"""Growth of the data set, by the labels of an iteration, from which the next iteration takes all updates."""


def updates(training: TrainingConfig, iteration: int, last: IterationRecord | None) -> int:
    """Gradient updates per member in an iteration: in proportion to what is new, if members go on from trained weights.

    Args:
        training: The options.
        iteration: The iteration.
        last: The iteration before; None: all updates.
    """
    share = 1.0
    if last is not None and training.warm_start and not last.failed_audit:
        growth = last.labelled / (last.dataset_size - last.labelled)
        share = max(training.least_updates_share, min(1.0, growth / FULL_GROWTH))
    return round(share * training.updates * (1.0 + training.updates_growth * iteration))


def planned_updates(ledger: Ledger, iteration: int) -> int:
    """Gradient updates per member in an iteration of a campaign."""
    history = ledger.history()[:iteration]
    last = history[-1] if history else None
    if last is not None and iteration == ledger.config.inherited_iterations:
        new = ledger.reader().dataset_size(before=iteration) - last.dataset_size  # frames that a fork brings
        last = replace(last, labelled=last.labelled + new, dataset_size=last.dataset_size + new)
    return updates(ledger.config.training, iteration, last)


def plan(ledger: Ledger, iteration: int, member: int) -> Stage:
    """The stage of one member; the stages of several members can be run as one call."""
    config, count = ledger.config, planned_updates(ledger, iteration)
    inputs: dict[str, Any] = {
        "model": config.model.model_dump(mode="json"),
        "training": {  # the content of `start` is hashed below, not its path
            name: value for name, value in config.training.key_values().items() if name != "start"
        },
        "updates": count,
        "seed": derived_seed(config.seed, "train", iteration, member),
    }
    parents = ledger.dataset_before(iteration)
    if iteration > 0 and config.training.warm_start:
        parents.append(names.member(iteration - 1, member))
    elif config.training.start is not None:
        inputs["start"] = members_hash(ledger.directory / config.training.start)
    return Stage(
        name=names.member(iteration, member),
        job=f"{__name__}:train",
        inputs=inputs,
        parents=tuple(parents),
        arguments={"iteration": iteration, "updates": count},
    )


def train(work: Work, *, iteration: int, updates: int) -> None:
    """Train the members whose parts the call writes, several members together; resumes from checkpoints."""
    from models.storage.weights import write_member
    from models.training.training import MemberTask, train_members

    config = work.config
    members = [names.member_index(output.name) for output in work.outputs]
    trained = train_members(
        frames=work.parts.dataset(before=iteration),
        model=config.model,
        training=config.training,
        tasks=[
            MemberTask(
                seed=derived_seed(config.seed, "train", iteration, member),
                start=_start(work, iteration, member),
                checkpoint=work.helper(".checkpoint", output),
                key=output.key,
            )
            for member, output in zip(members, work.outputs, strict=True)
        ],
        updates=updates,
        device=work.device,
        kernels=config.execution.acceleration != "off",
        isolated_atoms=read_isolated_atoms(work.parts, config),
        progress=work.progress,
    )
    seconds = work.seconds / len(members)
    for output, result in zip(work.outputs, trained, strict=True):
        with work.write(output) as root:
            group = root.create_group("member")
            write_member(group, result)
            root.attrs["seconds"] = seconds
            done = group["history/updates"][-1]
            error = MEV_PER_EV * group["history/validation_force_mae"][()].min()
            summarise(root, f"{done:.0f} updates, validation force MAE {error:.1f} meV/Å, {seconds:.0f} s")
        work.helper(".checkpoint", output).unlink(missing_ok=True)


def _start(work: Work, iteration: int, member: int) -> "TrainedMember | None":
    """The member that training starts from: of the iteration before, or of `training.start`; None: random weights."""
    from models.training.start import read_start

    training = work.config.training
    if training.warm_start and iteration > 0:
        return read_trained(work.parts, names.member(iteration - 1, member))
    return None if training.start is None else read_start(work.directory / training.start, member)


def read_trained(parts: PartReader, name: str) -> "TrainedMember":
    """A trained member from its part.

    Raises:
        LedgerError: If the part is missing or damaged.
    """
    from models.storage.weights import read_member

    with parts.open(name) as root:
        return read_member(root["member"])


def load_committee(
    parts: PartReader,
    config: CampaignConfig,
    iteration: int,
    device: str,
    *,
    evaluations: int,
    members: int | None = None,
) -> "Committee":
    """The committee of an iteration.

    Args:
        parts: The parts, including those of the members.
        config: The campaign's config.
        iteration: The iteration.
        device: `cpu` or `cuda`.
        evaluations: Number of planned evaluations; decides whether compiling a graph pays.
        members: Number of members to load, counted from the first; None: all.
    """
    from models.inference.committee import Committee

    count = config.training.members if members is None else members
    return Committee(
        [read_trained(parts, names.member(iteration, member)).model for member in range(count)],
        device=device,
        acceleration=config.execution.acceleration,
        evaluations=evaluations,
    )
