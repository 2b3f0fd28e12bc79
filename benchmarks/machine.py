"""The machine and the package versions of a measurement."""

import contextlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from al_engine.cores import usable_cores


def machine() -> str:
    """CPU, cores and memory."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = usable_cores()
    return f"{names[0] if names else platform.machine()}, {cores} cores, {memory:.0f} GiB of memory"


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of the installed packages among those named."""
    found = {"Python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def circumstances() -> dict[str, Any]:
    """Date, command, machine and load average, for result files."""
    return {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "command": " ".join(["python", os.path.relpath(sys.argv[0], Path(__file__).parents[1]), *sys.argv[1:]]),
        "machine": machine(),
        "load_average_before": round(os.getloadavg()[0], 2),
    }
