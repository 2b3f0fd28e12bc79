"""The Prefect server: found, or started on this machine and left running. It sends no analytics to other hosts."""

import base64
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from al_engine.errors import InputError, ResumableError
from al_engine.files.lock import has_record_locks
from flows.cockpit.loopback import (
    HOST,
    client_of,
    is_here,
    is_loopback,
    listening_host,
    pass_by_proxies,
    reached_host,
    without_password,
)
from flows.cockpit.port_owner import Owner, Port, is_taken, port_owner
from flows.session.interrupts import interrupts_wait

PORTS_TRIED = 10
"""Number of ports on which a server is looked for: 4200, or PREFECT_SERVER_API_PORT, and the ports after it."""
START_LIMIT_S = 120.0
"""Time limit for a server to start, s."""
CHECK_S = 5.0
"""Time between two checks that the server still answers, s."""
HEALTH_LIMIT_S, DATABASE_LIMIT_S = 5.0, 30.0
"""Time limits of a health check, and of a query that needs the server's database, s."""

HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
QUIET_SETTINGS: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # the v2 page asks an outside host for its analytics settings
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # al-engine itself shows progress and errors
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # Prefect retries by itself
    "PREFECT_CLI_PROMPT": "false",
    HEARTBEAT: "30",  # s, Prefect's minimum; see flows.cockpit.watchdog
}
"""Settings of the server and of the client; the user's own settings win."""
TEXT_SETTINGS: Mapping[str, str] = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
"""Environment of the server, whose log is UTF-8 whatever the encoding of the user's terminal."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running Prefect server.

    Attributes:
        api_url: Address of its API.
        started: Whether it was started just now.
        named: Whether the user named it by PREFECT_API_URL, in the environment or in Prefect's profile.
        remarks: Warnings for the user: who else can reach the server, and which ports other programs hold.
    """

    api_url: str
    started: bool
    named: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def ui_url(self) -> str:
        """Address of the pages of the server, without a password."""
        return without_password(self.api_url).removesuffix("/api")


class _PortTakenError(Exception):
    """Another program holds the port."""


def ensure_server(lost: Server | None = None) -> Server:
    """Find the Prefect server, or start one on this machine and leave it running.

    The environment gets the server's address and the quiet settings, which Prefect reads when it is imported:
    call this before anything else that imports Prefect.

    Args:
        lost: The server that this process used and lost; its address is kept, because Prefect has read it already.

    Raises:
        InputError: If PREFECT_API_URL names another machine's server that does not answer, or settings are wrong.
        ResumableError: If no server can be started.
    """
    for name, value in QUIET_SETTINGS.items():
        os.environ.setdefault(name, value)
    if lost is not None:
        return _recovered_server(lost)
    named = _named_server()
    server = _server_at(named) if named else _local_server()
    os.environ["PREFECT_API_URL"] = server.api_url
    with interrupts_wait():
        from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()
    return server


@contextmanager
def kept_alive(server: Server, say: Callable[[str], None]) -> Iterator[None]:
    """Restart the server, on its port and with its database, if it ends while the block runs.

    Prefect's client retries for minutes, so a campaign only has to wait. Servers on other machines are not restarted.

    Args:
        server: The server, from `ensure_server`.
        say: Called with a line at every restart.
    """
    host, port = _host_and_port(server.api_url)
    if not is_here(host) or port is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(CHECK_S):
            if not _answers(server.api_url) and not is_taken(host, port):
                with suppress(ResumableError, _PortTakenError):  # the next check tries again
                    _start(_listening_for(host), port)
                    say("the Prefect server was gone and has been started again")

    threading.Thread(target=watch, name="server-watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _named_server() -> str:
    """The address of the server that the user named; empty if the user named no server.

    Raises:
        InputError: If Prefect's settings are wrong.
    """
    if not os.environ.get("PREFECT_API_URL"):
        os.environ.pop("PREFECT_API_URL", None)  # an empty value would block the delivery of Prefect's events
    try:
        api_url = (_settings().api.url or "").rstrip("/")
        _host_and_port(api_url)
    except ValueError as error:  # invalid TOML, a value refused by pydantic, or an invalid address
        reason = " ".join(str(error).split())
        raise InputError(
            f"Prefect's settings cannot be used: {reason[:300]}; `prefect config view` shows where they are set"
        ) from None
    return api_url


def _settings() -> Any:
    """Prefect's settings: from the environment, its profile, and its other settings files."""
    with interrupts_wait():
        from prefect.settings import get_current_settings
    return get_current_settings()


def _server_at(api_url: str) -> Server:
    """The server that the user named, whoever owns it; started if it is on this machine and its port is free."""
    host, port = _host_and_port(api_url)
    if is_here(host):
        pass_by_proxies(host)
    if _answers(api_url):
        return Server(api_url, started=False, named=True, remarks=_remark_on_owner(host, port))
    if not is_here(host) or port is None:
        raise InputError(
            f"PREFECT_API_URL is {without_password(api_url)}, where no Prefect server answers: start the server, "
            "or unset PREFECT_API_URL (`prefect config view` shows where it is set) to use a server on this machine"
        )
    try:
        return _start(_listening_for(host), port, named=True)
    except _PortTakenError:
        who = port_owner(host, port, prefect_home=_settings().home).who or "a Prefect server of yours"
        raise ResumableError(
            f"PREFECT_API_URL is {without_password(api_url)}, where {who} listens but does not answer as a Prefect "
            "server; end that program, or set PREFECT_API_URL to another port"
        ) from None


def _remark_on_owner(host: str, port: int | None) -> tuple[str, ...]:
    if port is None or not is_here(host):
        return ()
    found = port_owner(host, port, prefect_home=_settings().home)
    if found.owner is not Owner.ANOTHER_USERS:
        return ()
    return (f"the Prefect server that PREFECT_API_URL names belongs to {found.who}, who can see and change its runs",)


def _local_server() -> Server:
    """This user's server on one of `PORTS_TRIED` ports; otherwise a new server on the first free port."""
    host = reached_host(listening_host())
    pass_by_proxies(host)
    first = _settings().server.api.port
    ports = [port_owner(host, first + offset, prefect_home=_settings().home) for offset in range(PORTS_TRIED)]
    for port in ports:
        if port.owner is Owner.OURS and _database_works(_api_url(host, port.number)):  # false if its database is gone
            return Server(
                _api_url(host, port.number), started=False, remarks=_remark_on_taken_ports(ports, port.number)
            )
    for port in ports:
        if port.owner is Owner.NOBODY:
            with suppress(_PortTakenError):
                server = _start(listening_host(), port.number)
                remarks = (*_remark_on_taken_ports(ports, port.number), *server.remarks)
                return Server(server.api_url, started=True, remarks=remarks)
    raise ResumableError(
        f"ports {ports[0].number}-{ports[-1].number} are all taken by other programs; start a Prefect server yourself "
        "and set PREFECT_API_URL"
    )


def _remark_on_taken_ports(ports: list[Port], chosen: int) -> tuple[str, ...]:
    """A remark on the ports before the chosen port that other programs hold, if any."""
    taken = [port for port in ports if port.number < chosen and port.who]
    if not taken:
        return ()
    each = "; ".join(f"port {port.number} belongs to {port.who}" for port in taken)
    return (f"{each}: left alone; to use a server on such a port, set PREFECT_API_URL to its address",)


def _recovered_server(lost: Server) -> Server:
    """The server at the address of the lost server: found again, or started again."""
    host, port = _host_and_port(lost.api_url)
    if not lost.named and port is not None:
        current = port_owner(host, port, prefect_home=_settings().home)
        if current.who:
            raise ResumableError(
                f"the Prefect server on port {port} is gone, and the port belongs to {current.who} now. Nothing "
                "finished is lost: `al-engine resume` starts a server on another port"
            )
    return replace(_server_at(lost.api_url), named=lost.named)


def _host_and_port(api_url: str) -> tuple[str, int | None]:
    """Host and port of an address."""
    address = urlsplit(api_url)
    return address.hostname or "", address.port


def _listening_for(host: str) -> str:
    """The address on which a server must listen to be reached at `host`, an address of this machine."""
    configured = listening_host()
    return host if is_loopback(host) and host not in (HOST, reached_host(configured)) else configured


def _api_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/api" if ":" in host else f"http://{host}:{port}/api"


def _request(api_url: str, path: str, *, body: Any = None, limit_s: float) -> Any:
    """The JSON answer of a server, requested with the login of Prefect's client; None if the request fails."""
    settings = _settings().api
    headers = {}
    if settings.auth_string is not None:
        login = base64.b64encode(settings.auth_string.get_secret_value().encode()).decode()
        headers["Authorization"] = f"Basic {login}"
    elif settings.key is not None:
        headers["Authorization"] = f"Bearer {settings.key.get_secret_value()}"
    try:
        with client_of(api_url, timeout_s=limit_s) as client:
            answer = client.request("GET" if body is None else "POST", f"{api_url}{path}", json=body, headers=headers)
            return answer.json() if answer.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        return None


def _answers(api_url: str) -> bool:
    """Whether a Prefect server is behind an address: its health page says `true`."""
    return _request(api_url, "/health", limit_s=HEALTH_LIMIT_S) is True


def server_works() -> bool:
    """Whether the server that `ensure_server` found or started answers a query that needs its database."""
    return _database_works(os.environ["PREFECT_API_URL"])


def _database_works(api_url: str) -> bool:
    """Whether a server answers a query that needs its database."""
    count = _request(api_url, "/flow_runs/count", body={}, limit_s=DATABASE_LIMIT_S)
    return isinstance(count, int) and not isinstance(count, bool)


def server_log() -> Path:
    """The log file of a server that we start."""
    return Path(_settings().home) / "al-engine-server.log"


def _remark_on_exposure(listening: str, port: int) -> tuple[str, ...]:
    if is_loopback(listening):
        return ()
    remark = (
        f"the Prefect server listens on {listening}:{port}, as PREFECT_SERVER_API_HOST says: everyone who can "
        "reach this machine can see and change its runs; unset it to accept connections from this machine only"
    )
    return (remark,)


def _refuse_home_without_locks(home: Path) -> None:
    """Refuse to start a server whose database cannot be locked; the server would fail only after a long wait."""
    url = _settings().server.database.connection_url
    if (url is None or url.get_secret_value().startswith("sqlite")) and not has_record_locks(home):
        raise ResumableError(
            f"the Prefect server was not started: the file system of {home} has no locks, which its database needs; "
            "set PREFECT_HOME to a folder elsewhere"
        )


def _start(listening: str, port: int, *, named: bool = False) -> Server:
    """Start a server and wait until it answers.

    Raises:
        ResumableError: If it does not start.
        _PortTakenError: If another program has the port.
    """
    host, log, home = reached_host(listening), server_log(), Path(_settings().home)
    api_url = _api_url(host, port)
    if is_taken(host, port):
        raise _PortTakenError
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", listening, "--port", str(port)]
    environment = {**os.environ, **TEXT_SETTINGS, "PREFECT_API_URL": api_url, "PREFECT_SERVER_API_PORT": str(port)}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        _refuse_home_without_locks(home)
        with log.open("ab") as output:
            # A new session: neither Ctrl-C nor a kill of the campaign's process group ends it.
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
        ended = process.poll() is not None
        owner = port_owner(host, port, prefect_home=home).owner
        if owner is Owner.OURS and _answers(api_url):  # not another user's server
            return Server(api_url, started=True, named=named, remarks=_remark_on_exposure(listening, port))
        if ended:
            if is_taken(host, port):
                raise _PortTakenError
            break
        time.sleep(0.25)
    raise ResumableError(f"the Prefect server did not start on port {port}; the log {log} has the reason")
