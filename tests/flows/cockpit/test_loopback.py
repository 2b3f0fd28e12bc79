"""Requests to a server on this machine use no proxy of the environment; requests to another machine use it."""

import json
import os
import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import proxy_bypass

import httpx
import pytest
from flow_runs import CommandLine
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from al_engine.errors import ExitStatus, InputError
from flows.cockpit.loopback import client_of, is_here, pass_by_proxies, reached_host

REFUSING = "http://127.0.0.1:9"
"""Nobody listens on the discard port."""
PROXIES = {
    "http_proxy": {"http_proxy": REFUSING},
    "HTTP_PROXY": {"HTTP_PROXY": REFUSING},
    "all_proxy": {"all_proxy": REFUSING},
    "ALL_PROXY for SOCKS": {"ALL_PROXY": "socks5://127.0.0.1:9"},
    "a scheme nobody knows": {"all_proxy": "socks://127.0.0.1:9/"},
    "without a scheme": {"http_proxy": "127.0.0.1:9", "https_proxy": "127.0.0.1:9"},
    "no address at all": {"http_proxy": "http://user:word@[::1"},
    "hosts without a proxy": {"http_proxy": REFUSING, "NO_PROXY": "corp.org,*.corp.org,.local,10.0.0.0/8"},
    "both spellings": {"http_proxy": REFUSING, "no_proxy": "corp.org", "NO_PROXY": "other.corp.org"},
    "an empty list": {"http_proxy": REFUSING, "no_proxy": ""},
    "a list that httpx stumbles over": {"http_proxy": REFUSING, "no_proxy": "[::1],fe80::/10"},
    "a star": {"http_proxy": REFUSING, "NO_PROXY": "*"},
    "for web sockets": {"ws_proxy": REFUSING, "socks_proxy": REFUSING},
}
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 (nothing listens there)
HERE = ("127.0.0.1", "localhost", "[::1]", "node17")


@pytest.fixture
def proxies():
    """Set the given proxies in the environment, and unset all others."""
    before = dict(os.environ)

    def name_them(values):
        os.environ.clear()
        os.environ.update({**without_proxies(before), **values})

    yield name_them
    os.environ.clear()
    os.environ.update(before)


def without_proxies(environment):
    return {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}


def is_direct(client, address):
    return client._transport_for_url(httpx.URL(address)) is client._transport


@pytest.mark.parametrize("what", PROXIES)
def test_prefects_clients_ask_this_machine_directly(what, proxies):
    proxies(PROXIES[what])
    pass_by_proxies("node17")
    with httpx.Client() as client:
        assert all(is_direct(client, f"http://{host}:4200/api") for host in HERE)
    assert [get_proxy(parse_uri(f"ws://{host}:4200/api")) for host in HERE] == [None] * len(HERE)


@pytest.mark.parametrize("spelling", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_other_hosts_keep_their_proxy_and_those_without_keep_none(spelling, proxies):
    proxies({spelling: REFUSING, "NO_PROXY": "corp.org"})
    pass_by_proxies("127.0.0.1")
    with httpx.Client() as client:
        assert not is_direct(client, "http://prefect.org/api")
        assert is_direct(client, "http://prefect.corp.org/api")
    assert not proxy_bypass("prefect.org")
    assert proxy_bypass("prefect.corp.org")


def test_what_httpx_cannot_take_is_still_there_for_other_programs(proxies):
    """curl, requests and urllib treat a star as a pattern only if it is the only entry of the list."""
    proxies({"http_proxy": REFUSING, "ALL_PROXY": "socks://127.0.0.1:9/"})
    pass_by_proxies("127.0.0.1")
    assert not proxy_bypass("prefect.org")
    assert os.environ["ALL_PROXY"] == "socks://127.0.0.1:9/"


def test_an_environment_without_proxies_stays_as_it_is(proxies):
    proxies({})
    before = dict(os.environ)
    pass_by_proxies("127.0.0.1")
    assert dict(os.environ) == before


def test_proxies_that_cannot_be_used_for_a_server_elsewhere_are_named(proxies):
    proxies({"ALL_PROXY": "socks://me:secret@127.0.0.1:9/"})
    with pytest.raises(InputError, match="ALL_PROXY: Prefect's client cannot use these proxies") as caught:
        client_of("http://prefect.org/api", timeout_s=1.0)
    assert "secret" not in str(caught.value)
    client_of("http://127.0.0.1:4200/api", timeout_s=1.0).close()


def test_a_certificate_file_that_is_not_there_does_not_matter_to_a_server_without_encryption(proxies):
    proxies({"http_proxy": REFUSING, "SSL_CERT_FILE": "/nowhere/ca.pem"})
    pass_by_proxies("127.0.0.1")
    client_of("http://127.0.0.1:4200/api", timeout_s=1.0).close()
    client_of("https://prefect.org/api", timeout_s=1.0).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.7", "127.1", "LocalHost", "a.localhost", "::1", *EVERYWHERE])
def test_addresses_of_this_machine(host):
    assert is_here(host)
    assert reached_host(host) not in EVERYWHERE


@pytest.mark.parametrize("host", ["", None, "prefect.org", "10.0.0.1", "localhost.org", "fe80::1%eth0", "x" * 300])
def test_addresses_elsewhere(host):
    assert not is_here(host)


def test_the_address_that_the_user_lets_the_server_listen_on_is_here(monkeypatch):
    assert not is_here("10.0.0.1")
    monkeypatch.setenv("PREFECT_SERVER_API_HOST", "10.0.0.1")
    assert is_here("10.0.0.1")


@contextmanager
def proxy_that_answers(body):
    """A proxy that answers every request itself; yields its address and the requests."""
    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def answer(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    for verb in ("GET", "POST", "CONNECT"):
        setattr(Proxy, f"do_{verb}", Proxy.answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_campaign_beside_a_proxy_that_answers_rubbish(finished, prefect_server, tmp_path):
    """All flows and tasks of the campaign finish, and its results are complete."""
    _, directory, _ = finished
    shutil.copytree(directory, tmp_path / "tiny")
    with proxy_that_answers(b"<html>") as (proxy, asked):
        environment = {**without_proxies(prefect_server), "http_proxy": proxy, "ALL_PROXY": "socks://127.0.0.1:9/"}
        commands = CommandLine(environment, tmp_path)
        answer = commands("resume", "tiny", timeout=120)
    assert answer.returncode in (ExitStatus.DONE, ExitStatus.NOT_CONVERGED), answer.stderr
    assert asked == []


def test_a_server_elsewhere_is_asked_by_the_proxy(prefect_server, tmp_path):
    with proxy_that_answers(b"true") as (proxy, asked):
        environment = {**without_proxies(prefect_server), "http_proxy": proxy}
        environment["PREFECT_API_URL"] = "http://prefect.test:4200/api"
        answer = CommandLine(environment, tmp_path)("ui", "--json")
    assert json.loads(answer.stdout) == {"ui": "http://prefect.test:4200", "started": False}
    assert asked == ["http://prefect.test:4200/api/health"]
