"""A limit of time: the campaign ends by itself, resumable, before a queue would kill it."""

import time

import pytest
from flow_runs import SMALLER, CommandLine

from al_engine.errors import InputError
from flows.cli.time_limit import TimeLimit, parse_duration
from flows.pages.status import campaign_status


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7h50m", 28200.0), ("90m", 5400.0), ("1d", 86400.0), ("45s", 45.0), (" 1d2h3m4s ", 93784.0)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "7", "7:50:00", "-1h", "1.5h", "50m7h", "7 h", "h", "nan"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(InputError, match="7h50m"):
        parse_duration(text)


def test_a_block_that_ends_in_time_is_left_alone():
    with TimeLimit(0.05) as limit:
        pass
    time.sleep(0.1)
    assert not limit.reached


def test_a_wrong_limit_is_refused_before_anything_is_written(refused, tmp_path):
    (tmp_path / "work" / "tiny.yaml").write_text(SMALLER)
    assert "--time-limit soon" in refused("run", "tiny.yaml", "--dir", "tiny", "--time-limit", "soon")


def test_a_campaign_stops_at_its_limit_and_can_be_resumed(prefect_server, tmp_path):
    (tmp_path / "long.yaml").write_text(SMALLER.replace("updates: 20", "updates: 100000"))
    command_line = CommandLine(prefect_server, tmp_path)
    start = time.monotonic()
    answer = command_line("run", "long.yaml", "--dir", "long", "--time-limit", "12s")
    assert answer.returncode == 4
    assert 12.0 <= time.monotonic() - start < 60.0
    assert "time limit" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert campaign_status(tmp_path / "long")["state"] in (
        "interrupted",
        "new",
    )  # a busy machine finishes nothing by then


def test_the_limit_counts_from_the_start_and_holds_for_several_blocks(monkeypatch):
    sent = []
    monkeypatch.setattr("flows.cli.time_limit.os.kill", lambda *_: sent.append(time.monotonic()))
    limit = TimeLimit(0.3)
    begun = time.monotonic()
    with limit:
        pass
    with limit:
        time.sleep(0.6)
    assert limit.reached
    assert [0.3 <= at - begun < 0.6 for at in sent] == [True]
