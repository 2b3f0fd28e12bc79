"""Plan of the sampling of an iteration: the number of MD steps at each state point, from the history and the config."""

from collections.abc import Iterable

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.samples import expected_window, stored_plan, stored_plans
from al_engine.campaign.system import StoredSystem
from al_engine.config import CampaignConfig, StatePoint
from al_engine.units import FS_PER_PS
from al_engine.verdict.sampling_plan import (
    SamplingPlan,
    Search,
    affordable_steps,
    sampling_plan,
)
from flows.stages.audits.judging import evidence_of
from flows.stages.training import planned_updates


def planned_sampling(ledger: Ledger, iteration: int) -> dict[StatePoint, SamplingPlan]:
    """The sampling plan of each state point in an iteration.

    Plans are made for all state points together. Once one of them has been sampled, all of them keep the plans that
    were stored with it, even if the options or the rules have changed since.
    """
    parts, config, history = ledger.reader(), ledger.config, ledger.own_history(before=iteration)
    points = config.state_points
    sampled = [name for name in names.samples(iteration, points) if name in parts.names]
    if sampled and (plans := stored_plans(parts, sampled[0])):
        return dict(zip(points, plans, strict=True))
    # Nothing is sampled, or the sample parts are of an earlier version and hold only the plan of their own state point.
    evidence, search = evidence_of(ledger, history, coming=1), _search(ledger, iteration)
    return {
        point: stored_plan(parts, name)
        if name in sampled
        else sampling_plan(history, evidence, config.sampling, config.stop, point, points=points, search=search)
        for point, name in zip(points, names.samples(iteration, points), strict=True)
    }


def _search(ledger: Ledger, iteration: int) -> Search | None:
    """The limits of an iteration's search for candidates; None if the iteration does not search.

    A search needs to know the window. An adaptive window is known before the sampling only if its lower end has reached
    its floor.
    """
    parts, config = ledger.reader(), ledger.config
    adaptive = config.selection.adaptive
    if adaptive.enabled:
        window = expected_window(parts, config, iteration)
        if window is None or window.lower_mev_per_ang > adaptive.floor_mev_per_ang:
            return None
    points = len(config.state_points)
    labelled_atoms = md_atoms = 0
    for point in config.state_points:
        with parts.open(names.initial_frames(point.system)) as root:
            system = StoredSystem.read(root)
        labelled_atoms += len(system.frame if system.cluster is None else system.cluster)
        md_atoms += len(system.frame)
    most_steps = longest_search(
        config, planned_updates(ledger, iteration), points=points, trained_share=labelled_atoms / md_atoms
    )
    return Search(most_steps, max_labels=config.selection.max_labels, points=points)


def longest_search(config: CampaignConfig, updates: int, *, points: int, trained_share: float) -> int:
    """Largest number of MD steps of each replica in a search for candidates at every state point.

    The MD then costs `sampling.cost_share` of the training of the iteration (`affordable_steps`).

    Args:
        config: The campaign's config.
        updates: Number of training updates of each member in the iteration.
        points: Number of state points of the campaign.
        trained_share: Number of atoms of a labelled structure divided by that of a frame of the MD, both averaged over
            the state points.
    """
    training = config.training
    trained_frames = trained_share * updates * training.batch_size * training.members
    return affordable_steps(config.sampling, trained_frames=trained_frames, members=training.members, points=points)


def plan_text(ledger: Ledger, iteration: int) -> str:
    """The plan of an iteration in words, for the terminal; empty without additional steps and fresh trajectories."""
    sampling, plans = ledger.config.sampling, planned_sampling(ledger, iteration)
    step_ps = sampling.timestep_fs / FS_PER_PS
    searching = {point: plan for point, plan in plans.items() if plan.most_steps}
    if searching:
        plan = next(iter(searching.values()))  # all state points that search have the same plan
        return (
            f"MD in search of candidates at {_listed(searching)}, per replica: "
            f"{plan.steps * step_ps:.3g} ps, and up to {plan.most_steps * step_ps:.3g} ps with fewer than "
            f"{plan.enough} different candidates at {'a state point' if ledger.config.systems else 'a temperature'}"
        )
    longer = {point: plan for point, plan in plans.items() if plan.steps > sampling.steps}
    fresh = max(plan.fresh for plan in plans.values())
    if not longer and not fresh:
        return ""
    times = ", ".join(f"{plan.steps * step_ps:.3g} ps at {point}" for point, plan in longer.items())
    more = f"longer MD as evidence, per replica: {times}" if longer else "MD as evidence"
    return f"{more}; {fresh} of {sampling.replicas} trajectories at each temperature start afresh"


def _listed(points: Iterable[StatePoint]) -> str:
    """State points in words: `300, 500 K`, or `monomer at 300, 500 K and dimer at 300 K`."""
    ladders: dict[str, list[str]] = {}
    for point in points:
        ladders.setdefault(point.system, []).append(f"{point.temperature_kelvin:g}")
    listed = [f"{f'{system} at ' if system else ''}{', '.join(ladder)} K" for system, ladder in ladders.items()]
    return " and ".join(listed)
