"""How long an iteration samples each temperature, from the campaign's history and config."""

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.samples import expected_window, stored_plan, stored_plans
from al_engine.campaign.system import StoredSystem
from al_engine.config import CampaignConfig
from al_engine.units import FS_PER_PS
from al_engine.verdict.sampling_plan import (
    SamplingPlan,
    Search,
    affordable_steps,
    sampling_plan,
)
from flows.stages.judging import evidence_of
from flows.stages.training import planned_updates


def planned_sampling(ledger: Ledger, iteration: int) -> dict[float, SamplingPlan]:
    """How an iteration samples each temperature.

    Once a temperature has been sampled, all temperatures keep the plans that were made with it, even if the options or
    the rules have changed since.
    """
    parts, config, history = ledger.reader(), ledger.config, ledger.history()[:iteration]
    kelvins = config.sampling.temperatures_kelvin
    sampled = [name for name in names.samples(iteration, kelvins) if name in parts.names]
    if sampled and (plans := stored_plans(parts, sampled[0])):
        return dict(zip(kelvins, plans, strict=True))
    evidence, search = evidence_of(ledger, history, coming=1), _search(ledger, iteration)
    return {
        kelvin: stored_plan(parts, name)
        if name in sampled
        else sampling_plan(history, evidence, config.sampling, config.stop, kelvin, search=search)
        for kelvin, name in zip(kelvins, names.samples(iteration, kelvins), strict=True)
    }


def _search(ledger: Ledger, iteration: int) -> Search | None:
    """How far an iteration may go on in search of candidates; None if it does not go on.

    An adaptive window is known before the sampling only if its lower end has reached its floor.
    """
    parts, config = ledger.reader(), ledger.config
    adaptive = config.selection.adaptive
    if adaptive.enabled:
        window = expected_window(parts, config, iteration)
        if window is None or window.lower_mev_per_ang > adaptive.floor_mev_per_ang:
            return None
    with parts.open(names.INITIAL_FRAMES) as root:
        system = StoredSystem.read(root)
    labelled = system.frame if system.cluster is None else system.cluster
    trained_share = len(labelled) / len(system.frame)
    most_steps = longest_search(config, planned_updates(ledger, iteration), trained_share=trained_share)
    return Search(most_steps, max_labels=config.selection.max_labels)


def longest_search(config: CampaignConfig, updates: int, *, trained_share: float) -> int:
    """Largest number of MD steps of each replica in an iteration that searches for candidates at every temperature.

    Args:
        config: The campaign's config.
        updates: Gradient updates of each member in the iteration.
        trained_share: Number of atoms of a labelled structure divided by that of a frame of the MD.
    """
    training = config.training
    trained_frames = trained_share * updates * training.batch_size * training.members
    return affordable_steps(config.sampling, trained_frames=trained_frames, members=training.members)


def plan_text(ledger: Ledger, iteration: int) -> str:
    """What an iteration samples beyond `sampling.steps`, for the terminal; empty if nothing."""
    sampling, plans = ledger.config.sampling, planned_sampling(ledger, iteration)
    step_ps = sampling.timestep_fs / FS_PER_PS
    searching = {kelvin: plan for kelvin, plan in plans.items() if plan.most_steps}
    if searching:
        plan = next(iter(searching.values()))  # all temperatures that search have the same plan
        return (
            f"MD in search of candidates at {', '.join(f'{kelvin:g}' for kelvin in searching)} K, per replica: "
            f"{plan.steps * step_ps:.3g} ps, and up to {plan.most_steps * step_ps:.3g} ps with fewer than "
            f"{plan.enough} different candidates at a temperature"
        )
    longer = {kelvin: plan for kelvin, plan in plans.items() if plan.steps > sampling.steps}
    fresh = max(plan.fresh for plan in plans.values())
    if not longer and not fresh:
        return ""
    times = ", ".join(f"{plan.steps * step_ps:.3g} ps at {kelvin:g} K" for kelvin, plan in longer.items())
    more = f"longer MD as evidence, per replica: {times}" if longer else "MD as evidence"
    return f"{more}; {fresh} of {sampling.replicas} trajectories at each temperature start afresh"
