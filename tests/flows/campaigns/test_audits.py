"""A campaign that is audited before it is called converged: on the command line, in Prefect, after a loss."""

from flow_runs import SMALLER, api

from al_engine.campaign.audit.verify import verify
from al_engine.campaign.ledger import Ledger
from flows.pages.status import campaign_status, remarks

AUDITED = SMALLER.replace("name: smaller", "name: audited").replace(
    "selection: {max_labels: 10}",
    "selection: {max_labels: 10, lower_mev_per_ang: 1.0e+6, upper_mev_per_ang: 1.0e+7}",  # every frame is accurate
)
AUDITED = AUDITED.replace(
    "stop: {max_iterations: 2}",
    "stop: {iterations: 1, acceptance: 0.5, confidence: 0.6, max_rejected_share: 1.0, max_stopped_share: 1.0,"
    " audit_labels: 8, verdicts: 1}",
)


def test_a_campaign_is_audited_before_it_is_called_converged(finished, tmp_path):
    command_line, _, _ = finished
    (tmp_path / "audited.yaml").write_text(AUDITED)
    directory = tmp_path / "audited"
    result = command_line("run", tmp_path / "audited.yaml", "--dir", directory)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("converged: ")
    assert "0 of 8 accurate frames that were drawn at random" in result.stdout
    assert "audit of iteration 0" in result.stderr
    state = campaign_status(directory)
    assert state["audit"]["passed"]
    assert [t["labelled"] for t in state["audit"]["temperatures"]] == [4, 4]
    assert state["label_failures"] == 0
    assert any(line.startswith("audit of iteration 0 passed: 0 of 8") for line in remarks(state))
    assert verify(directory, repaired=False)[0]["sound"]

    ours = {"flow_runs": {"tags": {"all_": ["campaign:audited"]}}}
    flows = {run["name"] for run in api(command_line.environment, "/flow_runs/filter", ours)}
    assert {"audited · iteration 0", "audited · audit of iteration 0"} <= flows
    pages = {"artifacts": {"key": {"any_": ["audited-iteration-0"]}}, "sort": "CREATED_DESC"}
    assert "## Audit" in api(command_line.environment, "/artifacts/filter", pages)[0]["data"]

    parts = {part.name: part.content_hash for part in Ledger.open(directory).parts()}
    for name in ("iter000-audited", "iter000-audit-labels-00001-00008"):
        (directory / "parts" / f"{name}.h5").unlink()
    assert not verify(directory, repaired=False)[0]["sound"]
    again = command_line("resume", directory)
    assert again.stdout == result.stdout, again.stderr
    assert {part.name: part.content_hash for part in Ledger.open(directory).parts()} == parts
