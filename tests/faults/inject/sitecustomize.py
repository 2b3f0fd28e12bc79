"""Makes every Python process of a campaign die at a chosen file event: found on PYTHONPATH, imported at start-up.

An audit hook sees what Python is about to do to files in the campaign directory, before it is done. Events are
counted in one log that all processes of a launch append to; the first that is a target delivers the first blow, another
the next.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

EVENTS = {"os.rename": 1, "os.remove": 0, "open": 0}
"""Audited event -> which of its arguments is the path that counts."""
TRANSIENT = (".lock", ".tmp")


class Saboteur:
    """Watches one process; `plan` is what `kills.Trial.launch` writes."""

    def __init__(self, plan):
        self.directory = plan["directory"]
        self.log = plan["log"]
        self.targets = {tuple(target) for target in plan["targets"]}
        self.ways = plan["ways"]
        self.delay_s = plan["delay_s"]
        self.struck = plan["log"] + ".struck"
        self.last_part = "start"
        self.armed = None
        self.busy = threading.local()

    def __call__(self, event, arguments):
        thread = threading.get_ident()
        if self.armed is not None and self.armed[0] == thread:
            point, self.armed = self.armed[1], None
            self.strike(point)
        if event in EVENTS and not getattr(self.busy, "now", False):
            self.busy.now = True
            try:
                self.look(event, arguments, thread)
            finally:
                self.busy.now = False

    def look(self, event, arguments, thread):
        label = self.label(event, arguments)
        if label is None:
            return
        self.write(label)
        for moment in ("before", "after", "later"):
            point = (label, moment)
            if point not in self.targets:
                continue
            if moment == "before":
                self.strike(point)
            elif moment == "after":
                self.armed = thread, point  # this thread's next event comes when the file is there
            else:
                threading.Timer(self.delay_s, self.strike, [point]).start()
            return

    def label(self, event, arguments):
        """What is about to happen, as a name that does not depend on the launch; None if it does not count."""
        path = arguments[EVENTS[event]]
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        path = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (a Path is made of events itself)
        name = path.removeprefix(self.directory + os.sep)
        if name == path or name.endswith(TRANSIENT):
            return None
        if event == "open":
            mode = arguments[1]
            writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
            return f"begin {name}" if writes and name.endswith(".journal") else None
        if event == "os.remove":
            return f"remove {name}"
        if name.startswith("parts") and name.endswith(".h5"):
            self.last_part = Path(name).stem
        return f"publish {name}" if name != "campaign.h5" else f"publish {name} with {self.newest()}"

    def newest(self):
        """The part published last in this launch, by any of its processes."""
        lines = Path(self.log).read_text(encoding="utf-8").splitlines() if Path(self.log).exists() else []
        parts = [line.split("/")[-1].removesuffix(".h5") for line in lines if line.endswith(".h5") and "/" in line]
        return parts[-1] if parts else "nothing new"

    def write(self, line):
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)

    def strike(self, point):
        """Deliver the next blow, one for each point."""
        self.busy.now = True
        try:
            number = self.claim(point)
        finally:
            self.busy.now = False
        if number is None:
            return
        way = self.ways[number]
        main = os.getpgrp()  # every launch leads a group of its own
        victim = self.worker(main) if way == "kill a worker" else main
        if victim is None:  # the blow is left to a later point
            os.remove(f"{self.struck}{number}")  # noqa: PTH107 (a Path is made of events)
            return
        with open(f"{self.struck}{number}", "w", encoding="utf-8") as handle:  # noqa: PTH123 (a Path is made of events)
            json.dump([*point, time.monotonic()], handle)
        if way == "kill the group":
            os.killpg(main, signal.SIGKILL)
        elif way == "SIGTERM":
            os.kill(main, signal.SIGTERM)
        elif way == "Ctrl-C":
            os.killpg(main, signal.SIGINT)
        else:
            os.kill(victim, signal.SIGKILL)

    def claim(self, point):
        """The number of the blow that this process may deliver at the point; None if others have delivered all."""
        for number in range(len(self.ways)):
            try:
                os.close(os.open(f"{self.struck}{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                try:
                    struck = Path(f"{self.struck}{number}").read_text(encoding="utf-8")
                except FileNotFoundError:  # just given up by another process, for want of a worker
                    return None
                if not struck or tuple(json.loads(struck)[:2]) == point:  # it is just being delivered, or tried again
                    return None
            else:
                return number
        return None

    def worker(self, main):
        """This process if it is a worker, else the main process's youngest worker, or None before there is one."""
        if os.getpid() != main:
            return os.getpid()
        children = Path(f"/proc/{main}/task").glob("*/children")
        found = [int(child) for tids in children for child in tids.read_text().split()]
        workers = [pid for pid in found if b"worker" in command(pid) or b"spawn_main" in command(pid)]
        return max(workers, default=None)


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


if "FAULT_PLAN" in os.environ:
    with open(os.environ["FAULT_PLAN"], encoding="utf-8") as handle:  # noqa: PTH123 (before anything is imported)
        sys.addaudithook(Saboteur(json.load(handle)))
