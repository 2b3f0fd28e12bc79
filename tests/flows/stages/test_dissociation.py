"""A campaign whose candidates can never be labelled: it says so from the first iteration on, and ends saying so."""

import json

import pytest
import torch
from stage_runs import begun

from al_engine.campaign import names
from al_engine.campaign.audit.verify import verify
from al_engine.files.part_file import open_part
from al_engine.verdict.verdict import VerdictKind
from flows.cockpit.publish import iteration_markdown
from flows.pages.status import campaign_status, remarks

torch.set_num_threads(1)

# Every bond of a vibrating molecule is longer than 1.001 times its equilibrium length at some time.
WATER = """
name: dissociating
seed: 4
system: {smiles: O, molecules: 2}
initial: {source: anneal, frames: 8, test_frames: 4, duration_ps: 0.2, hot_kelvin: 500}
model:
  short: {cutoff_ang: 3.5, channels: 4, l_max: 1, radial_mlp: [8]}
  long: {cutoff_ang: 5.0, channels: 2, l_max: 0, radial_mlp: []}
training: {optimizer: adam, updates: 20, validation_interval: 10, members: 2}
sampling: {temperatures_kelvin: [300, 500], replicas: 2, steps: 100, stride_steps: 20, timestep_fs: 0.1, cost_share: 0,
  stop_deviation_mev_per_ang: 1.0e+6}
selection: {lower_mev_per_ang: 0.001, upper_mev_per_ang: 1.0e+6, max_bond_factor: 1.001}
labels: {backend: tblite, chunk_frames: 20}
stop: {stall_iterations: 1}
"""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """The ledger, the verdicts, and the remarks of `status` after each of two iterations."""
    verdicts, remarked = [], []
    with begun(tmp_path_factory.mktemp("water"), WATER) as runs:
        for iteration in range(2):
            verdicts.append(runs.iteration(iteration))
            remarked.append(remarks(campaign_status(runs.ledger.directory)))
    return runs.ledger, verdicts, remarked


def test_it_ends_with_a_verdict_that_says_so(campaign):
    ledger, (first, last), _ = campaign
    assert first is None
    assert last.kind is VerdictKind.STALLED
    assert "can never be labelled" in last.evidence
    assert "the system dissociates at 300 and 500 K" in last.evidence
    assert "1.001 times their equilibrium length (selection.max_bond_factor)" in last.evidence
    assert campaign_status(ledger.directory)["evidence"] == last.evidence


def test_status_and_the_page_warn_from_the_first_iteration_on(campaign):
    ledger, _, remarked = campaign
    for iteration, lines in enumerate(remarked):
        (warning,) = [line for line in lines if "can never be labelled" in line]
        assert warning.startswith("warning: ")
        page = iteration_markdown(ledger, iteration)
        assert f"> **Warning**: {warning.removeprefix('warning: ')}" in page
        fates = ledger.history()[iteration].candidate_fates
        assert f"| fates of the candidates | {fates['fragmented']} fragmented" in page


def test_counts_by_reason_are_stored_and_verified(campaign):
    ledger, _, _ = campaign
    for row in campaign_status(ledger.directory)["iterations"]:
        assert sum(row["candidate_fates"].values()) == row["candidate"] == row["sampled"]
        assert [sum(t["candidate_fates"].values()) for t in row["temperatures"]] == [10, 10]
    with open_part(ledger.part_path(names.append(0))) as root:
        stored = json.loads(root.attrs["record"])
    assert stored["temperatures"][0]["candidate_fates"]["fragmented"] >= 9
    assert verify(ledger.directory, repaired=False)[0]["sound"]
