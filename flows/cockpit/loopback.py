"""Addresses of this machine, which are never asked through a proxy: it would look for them on its own."""

import ipaddress
import os
import re
import socket
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx

from al_engine.errors import InputError

HOST = "127.0.0.1"
"""What a server of ours listens on, unless PREFECT_SERVER_API_HOST says otherwise: nobody else's machine reaches it."""
NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For what is not encrypted: without the certificates that others read, which takes longer than the question."""
NO_PROXY = ("no_proxy", "NO_PROXY")


def without_password(text: str) -> str:
    """A text without the names and passwords in the addresses it holds: for messages and logs."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def listening_host() -> str:
    """What a server that we start listens on."""
    return os.environ.get("PREFECT_SERVER_API_HOST") or HOST


def reached_host(listening: str) -> str:
    """Where a server on this machine is reached that listens on an address."""
    return {"0.0.0.0": HOST, "::": "::1"}.get(listening, listening)  # noqa: S104 (recognised, not chosen)


def is_here(host: str | None) -> bool:
    """Whether a server at an address is on this machine, as far as that can be told without asking anybody."""
    if not host:
        return False
    return is_loopback(reached_host(host)) or host.lower() in (
        listening_host().lower(),
        reached_host(listening_host()).lower(),
    )


def is_loopback(host: str) -> bool:
    """Whether an address is one of this machine alone; no name is looked up for it."""
    if host.lower() in NAMES or host.lower().endswith(".localhost"):
        return True
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)  # takes `127.1` as well
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def client_of(api_url: str, *, timeout_s: float) -> httpx.Client:
    """A client that asks a server as Prefect's will: by the environment's proxies, unless it is on this machine.

    Raises:
        InputError: If the server is elsewhere, and the environment's proxies are none that the client takes.
    """
    address = urlsplit(api_url)
    context = ssl.create_default_context() if address.scheme == "https" else NO_CERTIFICATES
    try:
        return httpx.Client(trust_env=not is_here(address.hostname), timeout=timeout_s, verify=context)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        named = [name for name in os.environ if name.lower().endswith("_proxy")]
        raise InputError(
            f"{', '.join(named)}: Prefect's client cannot use these proxies ({without_password(str(error))}); set them "
            "to `http://HOST:PORT`, or unset them"
        ) from None


def pass_by_proxies(host: str) -> None:
    """Let clients in this process and its children ask servers on this machine directly; all else goes as before.

    Args:
        host: Address of the server, beside the usual ones of this machine.
    """
    if not getproxies().keys() - {"no"}:
        return
    hosts = dict.fromkeys([HOST, "localhost", "::1", host])
    values = {name: os.environ.get(name) for name in NO_PROXY}
    for name in NO_PROXY:
        # Programs differ in which of the two they read, and read one alone: what stands in one must not hide the other.
        value = next((value for value in (values[name], *values.values()) if value is not None), "")
        if value.strip() == "*":
            continue
        there = [entry.strip() for entry in value.split(",") if entry.strip()]
        os.environ[name] = ",".join([*there, *(host for host in hosts if host not in there)])
    try:
        httpx.Client(verify=NO_CERTIFICATES).close()
    except (ValueError, ImportError, httpx.InvalidURL):
        # A proxy that httpx, Prefect's client, does not take stops it even where it would not be used: SOCKS, or a name
        # without a scheme it knows. A star among others turns all proxies off for httpx; for curl, requests and urllib
        # it means something only if it stands alone.
        for name in NO_PROXY:
            os.environ[name] = os.environ.get(name, "") + ",*"
