"""Addresses of this machine, which must be reached without a proxy.

A proxy on another machine would take `localhost` for itself.
"""

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
"""Address on which our server listens if PREFECT_SERVER_API_HOST is not set; other machines cannot reach it."""
NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
"""Names that mean this machine."""
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""TLS context for plain HTTP, without CA certificates: loading them takes longer than the request."""
NO_PROXY = ("no_proxy", "NO_PROXY")
"""Environment variables that list the hosts to be reached without a proxy."""


def without_password(text: str) -> str:
    """A text without the user names and passwords of its addresses, for messages and logs."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def listening_host() -> str:
    """The address on which a server started by al-engine listens."""
    return os.environ.get("PREFECT_SERVER_API_HOST") or HOST


def reached_host(listening: str) -> str:
    """The address at which this machine reaches a server of its own, whose listening address is given."""
    return {"0.0.0.0": HOST, "::": "::1"}.get(listening, listening)  # noqa: S104 (recognised, not chosen)


def is_here(host: str | None) -> bool:
    """Whether an address is a loopback address or the address of our server; no name is looked up."""
    if not host:
        return False
    ours = (listening_host().lower(), reached_host(listening_host()).lower())
    return is_loopback(reached_host(host)) or host.lower() in ours


def is_loopback(host: str) -> bool:
    """Whether an address is a loopback address; no name is looked up."""
    if host.lower() in NAMES or host.lower().endswith(".localhost"):
        return True
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)  # accepts `127.1` too
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


def client_of(api_url: str, *, timeout_s: float) -> httpx.Client:
    """An HTTP client for a server. Like Prefect's client, it uses proxies only for servers on other machines.

    Args:
        api_url: Address of the server's API.
        timeout_s: Longest time for a connection or an answer, s.

    Raises:
        InputError: If the server is on another machine, and the client does not accept the environment's proxies.
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
    """Let clients in this process and its children reach servers on this machine without a proxy.

    Args:
        host: Address of the server, in addition to the usual addresses of this machine.
    """
    proxies = getproxies().keys() - {"no"}
    if not proxies:
        return
    exempt = dict.fromkeys([HOST, "localhost", "::1", host])
    stated = {name: value for name in NO_PROXY if (value := os.environ.get(name)) is not None}
    for name in NO_PROXY:
        # A program reads only one of the two variables, so an unset variable gets the value of the other.
        value = stated.get(name, next(iter(stated.values()), ""))
        if value.strip() == "*":  # all hosts are exempt
            continue
        listed = [entry.strip() for entry in value.split(",") if entry.strip()]
        os.environ[name] = ",".join([*listed, *(each for each in exempt if each not in listed)])
    try:
        httpx.Client(verify=NO_CERTIFICATES).close()
    except (ValueError, ImportError, httpx.InvalidURL):
        # httpx, the library of Prefect's client, refuses SOCKS and unknown schemes, even if it would not use the proxy.
        # `*` as a further entry turns all proxies off for httpx. curl, requests and urllib heed `*` only if it is the
        # only entry.
        for name in NO_PROXY:
            os.environ[name] = os.environ.get(name, "") + ",*"
