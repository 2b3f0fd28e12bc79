"""The Prefect server on this machine: found, or started and left running for the user. Nothing leaves the machine."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from al_engine.errors import InputError, ResumableError

HOST = "127.0.0.1"
"""What the server listens on, unless PREFECT_SERVER_API_HOST says otherwise: nobody else's machine reaches it."""
ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 (recognised, not chosen)
DEFAULT_PORT = 4200
PORTS_TRIED = 10
START_LIMIT_S = 120.0
CHECK_S = 5.0
"""Time between two looks at whether the server still answers."""

QUIET_SETTINGS: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # the v2 page asks an outside host for its analytics settings
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the terminal has our own progress and errors
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # it tries again by itself
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # s, the least Prefect takes; see flows.watchdog
}
"""Settings of the server and of the client; what the user has set wins."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running Prefect server.

    Attributes:
        api_url: Address of its API.
        started: Whether it was started just now.
        warning: Who else can reach it, if it was started to listen to more than this machine; else empty.
    """

    api_url: str
    started: bool
    warning: str = ""

    @property
    def ui_url(self) -> str:
        """Address of its pages, as it may be shown."""
        return without_password(self.api_url).removesuffix("/api")


def without_password(text: str) -> str:
    """A text without the names and passwords in the addresses it holds: for messages and logs."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def ensure_server() -> Server:
    """Find the Prefect server, or start one on this machine and leave it running.

    The environment gets the server's address and the quiet settings, which Prefect reads when it is imported:
    call this before importing Prefect.

    Raises:
        InputError: If PREFECT_API_URL names another machine's server that does not answer.
        ResumableError: If no server can be started.
    """
    for name, value in QUIET_SETTINGS.items():
        os.environ.setdefault(name, value)
    configured = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    server = _server_at(configured) if configured else _local_server()
    os.environ["PREFECT_API_URL"] = server.api_url
    return server


@contextmanager
def kept_alive(server: Server, say: Callable[[str], None]) -> Iterator[None]:
    """Start the server again, on its port and with its database, should it be gone while the block runs.

    Prefect's client asks again for minutes, so that a campaign notices nothing but the wait. Servers elsewhere are
    other people's.

    Args:
        server: As `ensure_server` gave it.
        say: Told about every restart.
    """
    address = urlsplit(server.api_url)
    if not _is_ours(address.hostname) or address.port is None:
        yield
        return
    over, port = threading.Event(), address.port

    def watch() -> None:
        while not over.wait(CHECK_S):
            if not _answers(server.api_url) and not _in_use(port):
                with suppress(ResumableError):  # tried again at the next check
                    _start(port)
                    say("the Prefect server was gone and has been started again")

    threading.Thread(target=watch, name="server-watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _server_at(api_url: str) -> Server:
    if _answers(api_url):
        return Server(api_url, started=False)
    address = urlsplit(api_url)
    if not _is_ours(address.hostname) or address.port is None:
        raise InputError(
            f"PREFECT_API_URL is {without_password(api_url)}, where no Prefect server answers: start it, or unset "
            "PREFECT_API_URL to use one on this machine"
        )
    return _start(address.port)


def _local_server() -> Server:
    for port in range(DEFAULT_PORT, DEFAULT_PORT + PORTS_TRIED):
        api_url = _api_url(port)
        if _answers(api_url) and _works(api_url):  # one whose database is gone is left to whom it belongs
            return Server(api_url, started=False)
        if not _in_use(port):
            return _start(port)
    raise ResumableError(
        f"ports {DEFAULT_PORT}-{DEFAULT_PORT + PORTS_TRIED - 1} are all taken by other programs; start a Prefect "
        "server yourself and set PREFECT_API_URL"
    )


def _listens_on() -> str:
    """What a server that we start listens on."""
    return os.environ.get("PREFECT_SERVER_API_HOST") or HOST


def _reached_at() -> str:
    """Where a server that we start is reached from this machine."""
    return HOST if _listens_on() in ALL_ADDRESSES else _listens_on()


def _is_ours(host: str | None) -> bool:
    """Whether a server at an address is one that we may start."""
    return host in (HOST, "localhost", _reached_at())


def _api_url(port: int) -> str:
    host = _reached_at()
    return f"http://[{host}]:{port}/api" if ":" in host else f"http://{host}:{port}/api"


def _answers(api_url: str) -> bool:
    """Whether a Prefect server is behind an address: its health page says `true`."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=5) as response:  # noqa: S310 (http, from the user)
            return bool(response.read(16).strip() == b"true")
    except (OSError, urllib.error.URLError, ValueError):
        return False


def server_works() -> bool:
    """Whether the server that `ensure_server` found or started answers what takes its database."""
    return _works(os.environ["PREFECT_API_URL"])


def _works(api_url: str) -> bool:
    question = urllib.request.Request(  # noqa: S310 (http, from the user)
        f"{api_url}/flow_runs/count", data=b"{}", headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(question, timeout=30) as response:  # noqa: S310 (as above)
            return bool(response.status == HTTPStatus.OK)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((_reached_at(), port)) == 0


def server_log() -> Path:
    """Where the server that we start writes its log."""
    home = os.environ.get("PREFECT_HOME")
    return (Path(home) if home else Path.home() / ".prefect") / "al-engine-server.log"


def _exposed(port: int) -> str:
    host = _listens_on()
    if host in (HOST, "localhost", "::1"):
        return ""
    return (
        f"the Prefect server listens on {host}:{port}, as PREFECT_SERVER_API_HOST says: whoever reaches this machine "
        "can see and change its runs; unset it to keep them to yourself"
    )


def _start(port: int) -> Server:
    log = server_log()
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", _listens_on(), "--port", str(port)]
    environment = {**os.environ, "PREFECT_API_URL": _api_url(port), "PREFECT_SERVER_API_PORT": str(port)}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            # A session of its own: neither Ctrl-C nor a kill of the campaign's process group ends it.
            process = subprocess.Popen(  # noqa: S603 (our own interpreter)
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise ResumableError(f"{log}: the Prefect server's log cannot be written: {error.strerror}") from None
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if _answers(_api_url(port)):
            return Server(_api_url(port), started=True, warning=_exposed(port))
        if process.poll() is not None:
            break
        time.sleep(0.25)
    raise ResumableError(f"the Prefect server did not start on port {port}; its log {log} says why")
