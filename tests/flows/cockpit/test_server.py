"""The Prefect server in use: by default this user's own, which accepts connections only from this machine."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flow_runs import CommandLine, copy_database, free_port, own_server

from flows.cockpit.port_owner import Owner, Port, port_owner

ELSEWHERE = "127.0.0.2"  # this machine too, but not the address that 127.0.0.1 is


@pytest.fixture
def command_line(tmp_path):
    """A command line; the server that it leaves running ends with the test."""
    environment = own_server(tmp_path / "prefect")
    environment.pop("PREFECT_SERVER_API_HOST", None)
    environment["http_proxy"] = "http://127.0.0.1:9"  # which does not matter to a server on this machine
    yield CommandLine(environment, tmp_path)
    end_servers(tmp_path / "prefect")


def end_servers(home):
    """End the servers whose database is in a folder."""
    found = subprocess.run(["pgrep", "-f", "prefect server start"], capture_output=True, text=True, check=False)
    for pid in found.stdout.split():
        with suppress(OSError):
            if f"PREFECT_HOME={home}\0".encode() in Path("/proc", pid, "environ").read_bytes():
                os.kill(int(pid), signal.SIGTERM)


@pytest.fixture
def usual_ports(command_line, prefect_server):
    """A command line that looks for its server on consecutive ports, and the first of these ports."""
    copy_database(prefect_server, command_line.directory / "prefect")
    return command_line, look_at_usual_ports(command_line)


def look_at_usual_ports(command_line):
    """Let a command line look for its server on the usual ports; the first of them."""
    del command_line.environment["PREFECT_API_URL"]
    return int(command_line.environment["PREFECT_SERVER_API_PORT"])


def ui(command_line):
    """Port of the server, whether it was started, and the error output."""
    answer = command_line("ui", "--json", timeout=120)
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    return int(said["ui"].rpartition(":")[2]), said["started"], answer.stderr


def reachable(host, port):
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def test_told_to_answer_everyone_it_does_and_says_so(command_line, prefect_server):
    copy_database(prefect_server, command_line.directory / "prefect")
    command_line.environment["PREFECT_SERVER_API_HOST"] = "0.0.0.0"  # noqa: S104 (what is tested)
    port, started, errors = ui(command_line)
    assert started
    assert "warning: the Prefect server listens on 0.0.0.0" in errors
    assert "unset it" in errors
    assert reachable(ELSEWHERE, port)


class SaysTrue(BaseHTTPRequestHandler):
    """Answers every request with `true`, as Prefect's health page does."""

    def answer(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"true")

    do_GET = do_POST = answer  # noqa: N815 (http.server's names)

    def log_message(self, *_):
        pass


@contextmanager
def programs_on(port):
    """Programs on three consecutive ports: it answers `true`, never answers, and refuses more connections."""
    with (
        ThreadingHTTPServer(("127.0.0.1", port), SaysTrue) as says_true,
        socket.create_server(("127.0.0.1", port + 1)),
        socket.create_server(("127.0.0.1", port + 2), backlog=0),
    ):
        threading.Thread(target=says_true.serve_forever, daemon=True).start()
        try:
            yield
        finally:  # a thread that goes on keeps whatever socket gets the number of its closed one
            says_true.shutdown()


def test_other_programs_are_left_alone_and_ones_own_server_answers_this_machine_alone_and_is_found_again(command_line):
    """It makes its database itself."""
    first = look_at_usual_ports(command_line)
    with programs_on(first):
        port, started, errors = ui(command_line)
        assert (port, started) == (first + 3, True)
        assert f"port {first} belongs to another program (python" in errors
        assert f"process {os.getpid()}); port {first + 1} belongs to " in errors
    assert reachable("127.0.0.1", port)
    assert not reachable(ELSEWHERE, port)
    again, started, errors = ui(command_line)  # although an earlier port is free now
    assert (again, started, errors) == (port, False, "")


def test_ones_server_of_another_folder_is_left_alone_unless_it_is_named(usual_ports, prefect_server):
    command_line, _ = usual_ports
    other = int(prefect_server["PREFECT_SERVER_API_PORT"])
    command_line.environment["PREFECT_SERVER_API_PORT"] = str(other)
    home = Path(command_line.environment["PREFECT_HOME"])
    assert port_owner("127.0.0.1", other, prefect_home=Path(prefect_server["PREFECT_HOME"])).owner is Owner.OURS
    try:
        port, started, errors = ui(command_line)
        assert started
        assert port > other
        assert f"port {other} belongs to your Prefect server of another PREFECT_HOME (process " in errors
        assert "set PREFECT_API_URL" in errors
    finally:
        end_servers(home)
    (home / "profiles.toml").write_text(
        f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "{prefect_server["PREFECT_API_URL"]}"\n'
    )
    assert ui(command_line) == (other, False, "")
    (home / "profiles.toml").write_text("active = [")
    answer = command_line("ui")
    assert answer.returncode == 2
    assert "Prefect's settings cannot be used: " in answer.stderr
    command_line.environment["PREFECT_API_URL"] = prefect_server["PREFECT_API_URL"]


@contextmanager
def as_another_user(command, home, database):
    """Run a Prefect server as the user `nobody`, who can read the files of the program and has a copy of a database."""
    home.mkdir()
    copy_database(database, home / ".prefect")
    for path in (home, *home.rglob("*")):
        shutil.chown(path, 65534, 65534)
    rights = ["--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    process = subprocess.Popen(
        ["setpriv", "--reuid=65534", "--regid=65534", *rights, *command],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "DO_NOT_TRACK": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a server as another user")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv of util-linux is not installed")
def test_another_users_server_is_left_alone_unless_it_is_named(usual_ports, prefect_server):
    command_line, first = usual_ports
    port = ["--port", str(first)]
    command = [sys.executable, "-m", "prefect", "server", "start", *port]
    home = Path("/tmp", f"al-engine-nobody-{os.getpid()}")  # noqa: S108 (his home)
    with as_another_user(command, home, prefect_server) as process:
        deadline = time.monotonic() + 120
        while port_owner("127.0.0.1", first, prefect_home=Path.home()).owner is Owner.NOBODY:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert port_owner("127.0.0.1", first, prefect_home=Path.home()) == Port(
            first, Owner.ANOTHER_USERS, "user nobody"
        )
        number, started, errors = ui(command_line)
        assert (number, started) == (first + 1, True)
        assert f"port {first} belongs to user nobody: left alone" in errors
        command_line.environment["PREFECT_API_URL"] = f"http://localhost:{first}/api"
        number, started, errors = ui(command_line)
        assert (number, started) == (first, False)
        assert "belongs to user nobody, who can see and change its runs" in errors


def test_a_port_that_is_named_and_has_another_program(command_line):
    port = int(command_line.environment["PREFECT_SERVER_API_PORT"])
    with socket.create_server(("127.0.0.1", port)):
        answer = command_line("ui")
    assert answer.returncode == 4
    assert re.search(rf"where another program \(python\S*, process {os.getpid()}\) listens but", answer.stderr)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_whose_a_port_is(host, tmp_path):
    port = free_port()
    assert port_owner(host, port, prefect_home=tmp_path) == Port(port, Owner.NOBODY)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family == socket.AF_INET6 and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    for address in (host, "::" if ":" in host else ""):  # itself, and all addresses
        with socket.create_server((address, port), family=family):
            found = port_owner(host, port, prefect_home=tmp_path)
            assert (found.owner, found.number) == (Owner.OTHER, port)
            assert f"process {os.getpid()})" in found.who
    with socket.create_server(("127.0.0.2", port)):  # another address of this machine
        assert port_owner("127.0.0.1", port, prefect_home=tmp_path).owner is Owner.NOBODY


def test_a_port_that_another_program_took_when_the_server_was_lost(command_line):
    port = int(command_line.environment["PREFECT_SERVER_API_PORT"])
    code = (
        "from flows.cockpit.server import Server, ensure_server\n"
        f"try: ensure_server(lost=Server('http://127.0.0.1:{port}/api', started=True))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    with socket.create_server(("127.0.0.1", port)):
        environment = command_line.environment
        said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.startswith(f"ResumableError the Prefect server on port {port} is gone, and the port belongs to ")
    assert "`al-engine resume` starts a server on another port" in said.stdout
