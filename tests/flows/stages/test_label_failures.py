"""Labels that fail say so in the terminal in their own words: the stage's line, the iteration's warning, `status`."""

import sys
from pathlib import Path

import pytest
from flow_runs import SMALLER
from stage_runs import begun

from al_engine.campaign import names
from al_engine.campaign.labels import Labels
from al_engine.campaign.ledger import Ledger
from al_engine.config.reader import parse_config
from al_engine.errors import InputError
from al_engine.structures.frames import Frame, LabelledFrame
from flows.pages.status import campaign_status, remarks
from flows.stages import training
from flows.stages.initial_set.assembling import refuse_failed_initial_set
from flows.stages.labels import labelling

sys.path.insert(0, str(Path(__file__).parents[1]))  # worker processes import failing_calculator by name
WORDS = (
    "`backend_error`: failing_calculator:FailingTBLite: RuntimeError: a licence server does not answer [/etc/licence]"
)
CONFIG = SMALLER.replace(
    "labels: {backend: tblite, chunk_frames: 20}",
    "labels: {backend: ase, ase_calculator: 'failing_calculator:FailingTBLite', ase_parameters: {verbosity: 0},"
    " chunk_frames: 20, max_failed_share: 0.01}",
)
ONE = LabelledFrame(Frame(numbers=[1], positions=[[0, 0, 0]]), 0.0, [[0, 0, 0]])


def labels(*failures):
    """The labels of a chunk: `ok`, or (reason, message)."""
    reasons, messages = zip(*[("ok", "") if one == "ok" else one for one in failures], strict=True)
    return Labels({i: ONE for i, reason in enumerate(reasons) if reason == "ok"}, reasons, messages)


def test_the_most_frequent_reason_speaks_with_what_most_of_its_labels_say():
    found = labels(
        "ok",
        ("time_limit", "too long"),
        *[("not_converged", "no luck")] * 2,
        ("not_converged", "less luck"),
    )
    assert found.failure_words() == "3 of them `not_converged`: no luck"
    assert labels(("bad_input", "a\n  b " + 500 * "x ")).failure_words().startswith("`bad_input`: a b x x")
    assert len(labels(("bad_input", 500 * "x ")).failure_words()) < 330
    assert labels("ok").failure_words() == ""


def test_an_initial_set_that_failed_says_why_and_what_can_be_done(tmp_path):
    ledger = Ledger(tmp_path / "mine", parse_config(SMALLER, source="test"))
    failed = labels("ok", "ok", "ok", ("bad_input", "pbc is [True, True, False]"))
    with pytest.raises(InputError) as caught:
        refuse_failed_initial_set(failed, ledger, n_train=2, n_test=1)
    message = str(caught.value)
    assert "1 of 4 initial labels failed, `bad_input`: pbc is [True, True, False]." in message
    assert f"al-engine resume {tmp_path}/mine --retry-failed-labels" in message
    assert "al-engine run COPY --dir NEW" in message


def test_an_iteration_whose_labels_fail_says_why(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    monkeypatch.setenv("BROKEN", str(broken))
    with begun(tmp_path / "campaign", CONFIG) as campaign:
        for member in range(campaign.config.training.members):
            campaign.run(training.plan(campaign.ledger, 0, member))
        broken.touch()
        verdict = campaign.iteration(0)
        record = campaign.ledger.history()[0]
        assert record.label_failures
        first, last = labelling.chunks(campaign.ledger.reader(), campaign.config, names.selection(0))[0]
        stage = labelling.plan(campaign.ledger, campaign.level, names.selection(0), first, last)
        assert f"{record.label_failures} failed ({WORDS})" in campaign.run(stage)
    asked = record.labelled + record.label_failures
    warning = f"{record.label_failures} of {asked} labels failed, {WORDS}"
    assert warning in record.warnings
    assert f"warning: {warning}" in remarks(campaign_status(tmp_path / "campaign"))
    assert verdict.kind == "failed"
    assert WORDS in verdict.evidence
