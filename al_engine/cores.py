"""Number of processor cores that this process may use: limited by its CPU affinity and by a container's CPU quota."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy, at least one.

    The CPU affinity of a process does not reflect a container's quota of processor time. With a quota of two cores on a
    host of 64, the processes of a pool with one process per core would be suspended most of the time.

    Args:
        root: Folder that contains `proc` and `sys`; tests use another folder than `/`.
    """
    bound = len(os.sched_getaffinity(0))
    return max(1, min([bound, *(math.ceil(quota) for quota in _quotas(root))]))


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted hierarchy of control groups: the control group at its top, the mount point, the cgroup version."""

    top: PurePosixPath
    folder: Path
    version: int


def _quotas(root: Path) -> Iterator[float]:
    """Quotas in cores of this process's control groups and of all their ancestors."""
    groups = _groups(root)
    for mount in _mounts(root):
        group = groups.get(mount.version)
        if group is None:
            continue
        # In a container the group may lie outside the mounted hierarchy; the mount point is then the container's group.
        inside = group.relative_to(mount.top) if group.is_relative_to(mount.top) else PurePosixPath()
        folder = mount.folder if ".." in inside.parts else mount.folder / inside
        for level in (folder, *folder.parents):
            quota = _quota(level, mount.version)
            if quota is not None:
                yield quota
            if level == mount.folder:
                break


def _groups(root: Path) -> dict[int, PurePosixPath]:
    """Control groups of this process that limit processor time, by cgroup version: `/proc/self/cgroup`, cgroups(7)."""
    groups = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if not controllers:
            groups[2] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            groups[1] = PurePosixPath(path)
    return groups


def _mounts(root: Path) -> Iterator[_Mount]:
    """Mounted hierarchies that limit processor time: `/proc/self/mountinfo`, proc_pid_mountinfo(5)."""
    for line in _lines(root / "proc/self/mountinfo"):
        place, _, kind = line.partition(" - ")
        version = {"cgroup": 1, "cgroup2": 2}.get(kind.partition(" ")[0])
        if version == 2 or (version == 1 and "cpu" in kind.split()[-1].split(",")):  # noqa: PLR2004 (cgroup v2)
            top, folder = (_unescaped(field) for field in place.split()[3:5])
            yield _Mount(PurePosixPath(top), root / folder.lstrip("/"), version)


def _unescaped(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def _quota(folder: Path, version: int) -> float | None:
    """Quota of a control group in cores; None without a quota."""
    if version == 2:  # noqa: PLR2004 (cgroup v2)
        fields = " ".join(_lines(folder / "cpu.max")).split()
    else:
        fields = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
    try:
        quota, period = (float(field) for field in fields)
    except ValueError:  # no such file, or `max`
        return None
    return quota / period if quota > 0 and period > 0 else None  # v1 writes -1 for no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
