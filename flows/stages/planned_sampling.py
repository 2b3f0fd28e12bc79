"""How long an iteration samples each temperature, from the campaign's history and config."""

from al_engine.campaign import names
from al_engine.campaign.ledger import Ledger
from al_engine.campaign.samples import stored_plan
from al_engine.config import CampaignConfig
from al_engine.units import FS_PER_PS
from al_engine.verdict.sampling_plan import (
    SamplingPlan,
    Search,
    affordable_steps,
    sampling_plan,
)
from flows.stages.judging import evidence_of
from flows.stages.training import updates


def planned_sampling(ledger: Ledger, iteration: int) -> dict[float, SamplingPlan]:
    """How an iteration samples each temperature.

    A temperature that has been sampled keeps its plan, even if the stop rules have changed since.
    """
    parts, config, history = ledger.reader(), ledger.config, ledger.history()[:iteration]
    evidence = evidence_of(ledger, history)
    search = _search(config, iteration)
    return {
        kelvin: stored_plan(parts, name)
        if (name := names.sample(iteration, kelvin)) in parts.names
        else sampling_plan(history, evidence, config.sampling, config.stop, kelvin, search=search)
        for kelvin in config.sampling.temperatures_kelvin
    }


def _search(config: CampaignConfig, iteration: int) -> Search | None:
    """How far an iteration may go on in search of candidates; None if it does not go on."""
    most_steps = longest_search(config, iteration)
    if not most_steps:
        return None
    return Search(most_steps, max_labels=config.selection.max_labels)


def longest_search(config: CampaignConfig, iteration: int) -> int:
    """Largest number of MD steps of each replica in an iteration that searches for candidates at every temperature.

    It is 0 without a window that is known beforehand, as in iteration 0 with an adaptive window.
    """
    sampling, training = config.sampling, config.training
    if config.selection.adaptive.enabled and iteration == 0:
        return 0
    trained_frames = updates(training, iteration) * training.batch_size * training.members
    return affordable_steps(sampling, trained_frames=trained_frames, members=training.members)


def plan_text(ledger: Ledger, iteration: int) -> str:
    """What an iteration samples beyond `sampling.steps`, for the terminal; empty if nothing."""
    sampling, plans = ledger.config.sampling, planned_sampling(ledger, iteration)
    step_ps = sampling.timestep_fs / FS_PER_PS
    searching = {kelvin: plan for kelvin, plan in plans.items() if plan.most_steps}
    if searching:
        plan = next(iter(searching.values()))
        return (
            f"MD in search of candidates at {', '.join(f'{kelvin:g}' for kelvin in searching)} K, per replica: "
            f"{sampling.steps * step_ps:.3g} ps, and up to {plan.most_steps * step_ps:.3g} ps with fewer than "
            f"{plan.enough} different candidates at a temperature"
        )
    longer = {kelvin: plan for kelvin, plan in plans.items() if plan.steps > sampling.steps}
    fresh = max(plan.fresh for plan in plans.values())
    if not longer and not fresh:
        return ""
    times = ", ".join(f"{plan.steps * step_ps:.3g} ps at {kelvin:g} K" for kelvin, plan in longer.items())
    more = f"longer MD as evidence, per replica: {times}" if longer else "MD as evidence"
    return f"{more}; {fresh} of {sampling.replicas} trajectories at each temperature start afresh"
