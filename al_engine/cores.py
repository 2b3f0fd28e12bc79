"""How many processor cores this process may use: of those it is bound to, as many as a container's quota pays for."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy, at least one.

    A container's quota of processor time does not show in the number of cores that the process is bound to: with two
    cores' worth of time on a host of 64, a process per core would be stopped most of the time.

    Args:
        root: Where `/proc` and `/sys` are; another one than `/` in tests.
    """
    bound = len(os.sched_getaffinity(0))
    return max(1, min([bound, *(math.ceil(quota) for quota in _quotas(root))]))


@dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted hierarchy of control groups: the group at its top, where that is mounted, and the version."""

    top: PurePosixPath
    folder: Path
    version: int


def _quotas(root: Path) -> Iterator[float]:
    """The limits in cores of the control groups that this process is in, and of all that these are in."""
    groups = _groups(root)
    for mount in _mounts(root):
        group = groups.get(mount.version)
        if group is None:
            continue
        # Seen from inside a container, a group may lie outside of what is mounted there: its top is the container's.
        inside = group.relative_to(mount.top) if group.is_relative_to(mount.top) else PurePosixPath()
        folder = mount.folder if ".." in inside.parts else mount.folder / inside
        for level in (folder, *folder.parents):
            quota = _quota(level, mount.version)
            if quota is not None:
                yield quota
            if level == mount.folder:
                break


def _groups(root: Path) -> dict[int, PurePosixPath]:
    """The control groups of this process that limit processor time, by version: `/proc/self/cgroup`, cgroups(7)."""
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
    """Where those groups are mounted: `/proc/self/mountinfo`, proc_pid_mountinfo(5)."""
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
    """The limit of one group in cores; None where it has none."""
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
