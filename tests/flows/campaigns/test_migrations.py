"""Campaigns of earlier versions: one of each schema is kept, read, verified, and gone on with.

Each was made by `al-engine run` of its time from the config of `flow_runs.TINY`, then cut off: the last two parts and
campaign.h5's knowledge of them are gone, as after a kill.
"""

import tarfile
from pathlib import Path

import pytest
from flow_runs import with_one_worker

from al_engine.campaign.audit.verify import verify
from al_engine.campaign.ledger import Ledger
from al_engine.files.part_file import READABLE_SCHEMAS, SCHEMA_VERSION
from flows.pages.status import campaign_status

DATA = Path(__file__).parents[1] / "data"
OLD = [schema for schema in READABLE_SCHEMAS if schema < SCHEMA_VERSION]


def test_there_is_a_campaign_of_every_schema_before_this_one():
    assert OLD
    assert sorted(path.name for path in DATA.glob("campaign-schema*")) == [f"campaign-schema{k}.tar.xz" for k in OLD]


@pytest.mark.parametrize("schema", OLD)
def test_a_campaign_of_an_earlier_schema_is_read_verified_and_continued(schema, finished, tmp_path):
    command_line, _, _ = finished
    with tarfile.open(DATA / f"campaign-schema{schema}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    campaign = tmp_path / "campaign"
    before = {path: path.read_bytes() for path in (campaign / "parts").glob("*.h5")}
    state = campaign_status(campaign)
    assert state["state"] == "interrupted"
    assert state["dataset_size"] > 0
    assert len(state["iterations"]) == 1
    assert verify(campaign, repaired=False)[0]["sound"]
    assert Ledger.open(campaign).config.training.optimizer == "adam"  # the option is newer
    with_one_worker(campaign)
    resumed = command_line("resume", campaign)
    assert resumed.returncode in (0, 3), resumed.stderr
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(Ledger.open(campaign).history()) == 2
    assert Ledger.open(campaign).config.training.optimizer == "adam"
    assert verify(campaign, repaired=False)[0]["sound"]
