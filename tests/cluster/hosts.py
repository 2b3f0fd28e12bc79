"""Hosts of their own on this machine: network namespaces that a bridge connects. They share the file system.

It needs root, and Debian's package iproute2.
"""

import os
import shutil
import subprocess
from contextlib import contextmanager

BRIDGE = "al-bridge"
ADDRESS = "10.77.0.{}"


def is_possible():
    """Whether namespaces can be made here."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    made = subprocess.run(["ip", "netns", "add", "al-try"], capture_output=True, check=False).returncode == 0
    if made:
        _ip("netns del al-try")
    return made


def _ip(command):
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def processes(name):
    """Ids of the processes in a namespace; they are those of the whole machine."""
    return subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True).stdout.split()


class Host:
    """A host: its name and address."""

    def __init__(self, name, number):
        self.name, self.address = name, ADDRESS.format(number)

    def command(self, *arguments):
        """A command that runs on the host."""
        return ["ip", "netns", "exec", self.name, *map(str, arguments)]

    def cut_off(self):
        """Take the network away: connections stay open, and nothing comes through."""
        _ip(f"-n {BRIDGE} link set {self.name} down")

    def connect(self):
        _ip(f"-n {BRIDGE} link set {self.name} up")


@contextmanager
def hosts(*names):
    """Hosts that reach each other, with the addresses 10.77.0.1 and so on."""
    made = [BRIDGE]
    try:
        _ip(f"netns add {BRIDGE}")
        _ip(f"-n {BRIDGE} link add bridge type bridge")
        _ip(f"-n {BRIDGE} link set bridge up")
        found = []
        for number, name in enumerate(names, start=1):
            host = Host(name, number)
            _ip(f"netns add {name}")
            made.append(name)
            _ip(f"-n {name} link set lo up")
            _ip(f"-n {BRIDGE} link add {name} type veth peer name eth0 netns {name}")
            _ip(f"-n {BRIDGE} link set {name} master bridge up")
            _ip(f"-n {name} addr add {host.address}/24 dev eth0")
            _ip(f"-n {name} link set eth0 up")
            found.append(host)
        yield found
    finally:
        for name in reversed(made):
            for pid in processes(name):
                subprocess.run(["kill", "-9", pid], check=False)
            _ip(f"netns del {name}")
