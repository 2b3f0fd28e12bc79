"""A campaign over three hosts (`make cluster-test`): hosts are cut off, clocks differ, the digest stays.

The hosts are network namespaces of this machine. One has the campaign, its Prefect server and Dask's scheduler; two
have a worker each, one of them with a clock that is an hour ahead.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from hosts import hosts, is_possible, processes

from campaigns import digest, ended, start, wait_for_part

pytestmark = [
    pytest.mark.skipif(not is_possible(), reason="needs root and network namespaces"),
    pytest.mark.skipif(shutil.which("faketime") is None, reason="needs faketime"),
    pytest.mark.timeout(900),
]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "15s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "15s",
    "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
}
"""A host that is cut off is given up within seconds, not minutes."""
PORT = 8786
MOST_BEGUN = """
import sys
from collections import Counter
from distributed import Client
with Client(sys.argv[1]) as client:
    events = [event for _, event in client.get_events("al-engine-progress")]
print(max(Counter(event[0] for event in events if len(event) == 1).values()))
"""
"""Prints how often the job was begun that was begun most often: its first event has nothing but its key."""
EXECUTION = """
execution:
  executor: dask
  device: cpu
  stages: {{all: {{at_once: 2, retries: 3}}}}
  cluster: {{address: "{scheduler}"}}
"""


def dask(host, log, *arguments, before=()):
    """A program of Dask on a host."""
    with log.open("wb") as output:
        return subprocess.Popen(
            host.command(*before, sys.executable, "-m", "dask", *arguments),
            env=ENVIRONMENT,
            stdout=output,
            stderr=output,
        )


def test_hosts_that_are_cut_off_and_clocks_that_differ_change_nothing(undisturbed, tmp_path):
    logs, campaign_folder = tmp_path / "logs", tmp_path / "campaign"
    logs.mkdir()
    with hosts("al-main", "al-one", "al-two") as (main, one, two):
        scheduler = f"tcp://{main.address}:{PORT}"
        dask(main, logs / "scheduler", "scheduler", "--host", main.address, "--port", PORT, "--no-dashboard")
        worker = ("worker", scheduler, "--nthreads", "1", "--no-dashboard", "--local-directory")
        dask(one, logs / "one", *worker, tmp_path / "one")
        dask(two, logs / "two", *worker, tmp_path / "two", before=("faketime", "-f", "+1h"))
        time.sleep(5)
        execution = EXECUTION.format(scheduler=scheduler)
        campaign = start(campaign_folder, execution, ENVIRONMENT, before=main.command())
        wait_for_part(campaign_folder, "initial-labels-*.journal", campaign)
        one.cut_off()
        wait_for_part(campaign_folder, "initial-dataset.h5", campaign)
        one.connect()
        dask(one, logs / "one-again", *worker, tmp_path / "one")  # a worker without a scheduler ends
        wait_for_part(campaign_folder, "iter000-member*.checkpoint", campaign)
        two.cut_off()
        kill_prefect_server(main)
        wait_for_part(campaign_folder, "iter000-append.h5", campaign)
        two.connect()
        ended(campaign, campaign_folder)
        assert most_begun(main, scheduler) > 1, "no job was lost and run again"
        assert digest(campaign_folder, ENVIRONMENT) == undisturbed


def most_begun(host, scheduler):
    """How often the job was begun that was begun most often."""
    command = host.command(sys.executable, "-c", MOST_BEGUN, scheduler)
    return int(subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout)


def kill_prefect_server(host):
    """Kill the Prefect server of a host; the campaign starts it again."""
    listed = subprocess.run(["pgrep", "-f", "prefect server"], capture_output=True, text=True, check=True)
    servers = set(listed.stdout.split()) & set(processes(host.name))
    assert servers
    for pid in servers:
        os.kill(int(pid), signal.SIGKILL)
