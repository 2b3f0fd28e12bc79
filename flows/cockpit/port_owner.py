"""The owner of a port of this machine: distinguishes this user's own Prefect server from other programs.

Other users of a login node have servers on the same ports, and the owner of a server sees its runs and may change them.
The owner is therefore read from the kernel; what the program answers is not trusted.
"""

import ipaddress
import os
import pwd
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

LISTENING = "0A"
"""State of a socket in `/proc/net/tcp`, proc_net(5)."""
CONNECT_S = 2.0
"""Time limit of a connection attempt, s."""
UNSEEN = "a program that cannot be seen from here, as in a container"


class Owner(Enum):
    """The kinds of owners of a port."""

    NOBODY = auto()
    """No program listens on the port."""
    OURS = auto()
    """A Prefect server of this user with this PREFECT_HOME; in a container, of the same container."""
    ANOTHER_USERS = auto()
    """A program of another user."""
    OTHER = auto()
    """Another program of this user, or a program that cannot be seen from here."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port and its owner.

    Attributes:
        number: Number of the port.
        owner: Its owner.
        who: The owner in words; empty for `NOBODY` and `OURS`.
    """

    number: int
    owner: Owner
    who: str = ""


@dataclass(frozen=True, slots=True)
class _Listener:
    """A listening socket: its address, the user id of its owner, and its inode."""

    address: Address
    uid: int
    inode: str


def port_owner(host: str, number: int, *, prefect_home: Path) -> Port:
    """Find the owner of a port.

    Args:
        host: Address of this machine under which the port is reached.
        number: The port.
        prefect_home: The folder in which this user's Prefect has its database.
    """
    listener = _listener(host, number)
    if listener is None:
        if is_taken(host, number):
            return Port(number, Owner.OTHER, UNSEEN)
        return Port(number, Owner.NOBODY)
    if listener.uid != os.geteuid():
        return Port(number, Owner.ANOTHER_USERS, f"user {_user(listener.uid)}")
    return _of_this_user(number, list(_processes(listener.inode)), prefect_home)


def _of_this_user(number: int, processes: Sequence[Path], prefect_home: Path) -> Port:
    """The owner of a port that these processes of this user hold."""
    if not processes:
        return Port(number, Owner.OTHER, UNSEEN)
    servers = [process for process in processes if _is_prefect_server(process)]
    if not servers:
        return Port(number, Owner.OTHER, f"another program ({_command(processes[0])}, process {processes[0].name})")
    if not any(_has_home(server, prefect_home) for server in servers):
        return Port(number, Owner.OTHER, f"your Prefect server of another PREFECT_HOME (process {servers[0].name})")
    return Port(number, Owner.OURS)


def is_taken(host: str, port: int) -> bool:
    """Whether a program listens on a port."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except OSError:
        return False
    return True


def _listener(host: str, port: int) -> _Listener | None:
    """The socket that receives connections to a port: a socket on the address itself, otherwise on all addresses."""
    wanted = _resolved(host)
    found = [listener for listener in _listeners(port) if _hears(listener.address, wanted)]
    return min(found, key=lambda listener: listener.address.is_unspecified, default=None)


def _resolved(host: str) -> set[Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found}


def _hears(address: Address, wanted: set[Address]) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    if address in wanted or mapped in wanted:
        return True
    is_for_all_versions = address.version == 6  # noqa: PLR2004 (`::` receives IPv4 too, by default)
    return address.is_unspecified and (is_for_all_versions or any(other.version == address.version for other in wanted))


def _listeners(port: int) -> Iterator[_Listener]:
    """All sockets of this network namespace that listen on a port."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if fields[3] == LISTENING and int(number, 16) == port:
                yield _Listener(_address(address), int(fields[7]), fields[9])


def _address(text: str) -> Address:
    """Decode an address of `/proc/net/tcp`: 32-bit words in the machine's byte order."""
    words = [int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8)]
    return ipaddress.ip_address(b"".join(words))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _processes(inode: str) -> Iterator[Path]:
    """The visible processes that have a socket open, as folders in /proc."""
    for process in Path("/proc").glob("[0-9]*"):
        if f"socket:[{inode}]" in _handles(process):
            yield process


def _handles(process: Path) -> Iterator[str]:
    """Targets of the open file descriptors of a process; empty if it is another user's, or gone."""
    with suppress(OSError):
        for handle in (process / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                yield str(handle.readlink())


def _arguments(process: Path) -> list[str]:
    return _strings(process / "cmdline")


def _strings(path: Path) -> list[str]:
    try:
        return [os.fsdecode(value) for value in path.read_bytes().split(b"\0") if value]
    except OSError:
        return []


def _command(process: Path) -> str:
    return Path(next(iter(_arguments(process)), "?")).name


def _is_prefect_server(process: Path) -> bool:
    """Whether a process is Prefect's server itself; a program that forwards the port to another machine is not."""
    try:
        program = (process / "exe").readlink().name
    except OSError:
        return False
    arguments = _arguments(process)
    started = "server" in arguments and any(Path(argument).name == "prefect" for argument in arguments)
    return program.startswith("python") and (
        started or any(argument.startswith("prefect.server.api.server") for argument in arguments)
    )


def _has_home(process: Path, prefect_home: Path) -> bool:
    """Whether the Prefect database of a process is in `prefect_home`; folders are compared, not the text of paths."""
    environment = dict(value.partition("=")[::2] for value in _strings(process / "environ"))
    user = Path(environment.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)
    named = environment.get("PREFECT_HOME")
    home = user / ".prefect" if not named else Path(named)
    if home.parts[:1] == ("~",):
        home = user.joinpath(*home.parts[1:])
    try:
        top = process / "root" if home.is_absolute() else process / "cwd"
        return top.joinpath(*home.parts[1:] if home.is_absolute() else home.parts).samefile(prefect_home)
    except OSError:
        return False
