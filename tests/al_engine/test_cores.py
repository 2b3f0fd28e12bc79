"""Cores by affinity and by the quotas of control groups, as hosts, containers and queues lay them out."""

import os

import pytest

from al_engine import cores
from al_engine.cores import usable_cores

V2 = "31 23 0:28 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
OTHERS = (
    "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "33 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "34 31 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "35 31 0:33 / /mnt/with\\040space rw - tmpfs tmpfs rw\n"
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A made-up machine with 64 cores; files by path."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))

    def make(groups, mounts, **files):
        everything = {"proc/self/cgroup": groups, "proc/self/mountinfo": OTHERS + mounts}
        everything |= {f"sys/fs/cgroup/{path}": text for path, text in files.items()}
        for path, text in everything.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return usable_cores(tmp_path)

    return make


@pytest.mark.parametrize(
    ("limit", "count"),
    [("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 64), ("99900000 100000", 64)],
)
def test_a_container_sees_its_own_group_as_the_top(limit, count, machine):
    assert machine("0::/\n", V2.format(top="/"), **{"cpu.max": f"{limit}\n"}) == count


def test_the_smallest_quota_on_the_way_up_counts(machine):
    files = {
        "system.slice/cpu.max": "400000 100000\n",
        "system.slice/job.scope/cpu.max": "max 100000\n",
        "system.slice/job.scope/task/cpu.max": "800000 100000\n",
        "user.slice/cpu.max": "100000 100000\n",
    }
    assert machine("0::/system.slice/job.scope/task\n", V2.format(top="/"), **files) == 4


def test_version_1(machine):
    groups = "12:memory:/\n4:cpu,cpuacct:/slurm/uid_7/job_9\n1:name=systemd:/init.scope\n0::/\n"
    files = {
        "cpu,cpuacct/slurm/uid_7/job_9/cpu.cfs_quota_us": "350000\n",
        "cpu,cpuacct/slurm/uid_7/job_9/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/slurm/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/slurm/cpu.cfs_period_us": "100000\n",
    }
    assert machine(groups, V1.format(top="/"), **files) == 4


@pytest.mark.parametrize("top", ["/docker/abc", "/docker", "/other"])
def test_a_container_that_sees_the_hosts_path_of_its_group(top, machine):
    """The path of /proc/self/cgroup is the host's, and only the container's part of the tree is mounted."""
    folder = {"/docker/abc": "", "/docker": "abc/", "/other": ""}[top]
    files = {
        f"cpu,cpuacct/{folder}cpu.cfs_quota_us": "300000\n",
        f"cpu,cpuacct/{folder}cpu.cfs_period_us": "100000\n",
    }
    assert machine("4:cpu,cpuacct:/docker/abc\n0::/\n", V1.format(top=top), **files) == 3


def test_a_group_outside_of_the_namespace(machine):
    assert machine("0::/../../job\n", V2.format(top="/"), **{"cpu.max": "500000 100000\n"}) == 5


def test_both_versions_at_once(machine):
    files = {
        "cpu.max": "900000 100000\n",
        "cpu,cpuacct/cpu.cfs_quota_us": "700000\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    assert machine("4:cpu,cpuacct:/\n0::/\n", V2.format(top="/") + V1.format(top="/"), **files) == 7


@pytest.mark.parametrize("limit", ["", "rubbish\n", "0 0\n", "1 2 3\n", "-5 100000\n"])
def test_what_is_no_limit(limit, machine):
    assert machine("0::/\n", V2.format(top="/"), **{"cpu.max": limit}) == 64


def test_a_machine_without_control_groups(tmp_path):
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_fewer_cores_than_the_quota(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert machine("0::/\n", V2.format(top="/"), **{"cpu.max": "800000 100000\n"}) == 1


def test_this_machine():
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    assert usable_cores() == usable_cores(cores.ROOT)
