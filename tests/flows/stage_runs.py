"""Campaigns stage by stage in the tests' own process: no Prefect, real labels."""

from contextlib import contextmanager

from al_engine.campaign.ledger import Ledger
from al_engine.config.reader import parse_config
from al_engine.protocols import silent
from flows.session.preflight import preflight
from flows.stages.campaign import Campaign
from labelers.backends.registry import level_of_theory
from labelers.pool.pool import LabelPool


class InThisProcess:
    """Runs jobs where it is."""

    workers = 1

    def run(self, job, *, progress=silent, **arguments):
        return job(**arguments, progress=progress)


@contextmanager
def begun(directory, text):
    """A campaign whose initial set is labelled."""
    ledger = Ledger(directory, preflight(parse_config(text, source="test"), base_dir=directory).config)
    ledger.begin()
    ledger.write_config()
    config = ledger.config
    level = level_of_theory(config.labels, periodic=config.labels_boxes)
    with LabelPool(config.labels, workers=1, periodic=config.labels_boxes) as pool:
        campaign = Campaign(ledger, compute=InThisProcess(), label_pool=pool, level=level, device="cpu")
        campaign.initial_frames()
        for first, last in campaign.initial_chunks():
            campaign.label(None, first, last)
        campaign.assemble()
        yield campaign


def run_iteration(campaign, iteration):
    """One iteration, and the verdict after it."""
    for group in campaign.training_groups():
        campaign.train(iteration, group)
    for index in range(len(campaign.config.sampling.temperatures_kelvin)):
        campaign.sample(iteration, index)
    campaign.select(iteration)
    for first, last in campaign.chunks(iteration):
        campaign.label(iteration, first, last)
    campaign.evaluate(iteration)
    campaign.append(iteration)
    return campaign.judge(iteration + 1)
