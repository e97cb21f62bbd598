"""Being let in: tokens and TLS on both wires, and what is said where a part is not installed."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import grpc
import pytest

from studyai_client import AsyncStudyAI, Backoff, ConnectionFailedError, StudyAI, Tls, UnauthenticatedError
from tests.certificates import Authority, Pair
from tests.clients.conftest import WIRES, Wire
from tests.clients.terminal import run
from tests.end_to_end.conftest import WORKSHEET
from tests.gateway.tokens import SECRET, token
from tests.processes import PERSISTENT, Process, free_port, running_gateway_process, wait_until_connected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.end_to_end.conftest import Service

SERVICE_TOKEN = "a-service-token-of-32-characters"  # noqa: S105 - good for a test's own engine
WHOLE = {
    "success": True,
    "response": "Whole.",
    "processing_time_ms": 5,
    "tokens_used": 3,
    "image_analyzed": True,
    "error": None,
    "model": "m",
    "finish_reason": "stop",
    "answer_id": "a1",
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


def test_gateway_that_wants_bearer_tokens_gets_one(service: Service) -> None:
    with running_gateway_process(service.engine, AUTH_JWT_KEY=SECRET) as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        for wire in (wire for wire in WIRES if wire.scheme == "http"):
            with pytest.raises(UnauthenticatedError):
                wire.ask(url, WORKSHEET, "x?")
            assert wire.ask(url, WORKSHEET, "x?", token=token("mia")).text == "Hello there."


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize("bad", ["to\nken", "“token”", "to ken"])
def test_token_that_no_header_takes_is_refused_and_not_shown(scheme: str, bad: str) -> None:
    with pytest.raises(ValueError, match="token") as refused:
        StudyAI(f"{scheme}://127.0.0.1:9", token=bad)
    assert bad not in str(refused.value)
    with pytest.raises(ValueError, match="token"):
        AsyncStudyAI(f"{scheme}://127.0.0.1:9", token=bad)
    given = {"STUDYAI_TOKEN": bad} if scheme == "http" else {"SERVICE_TOKEN": bad}
    for command in (["ask", str(WORKSHEET), "x?"], ["stop", "a1"]):
        status, written, said = run(*command, "--url", f"{scheme}://127.0.0.1:9", settings=given)
        assert (status, written) == (2, "")
        assert f"{next(iter(given))}: The token has letters" in re.sub(r"[\s│]+", " ", said)
        assert bad not in said


def test_line_end_behind_a_token_is_no_part_of_it(service: Service) -> None:
    with running_gateway_process(service.engine, AUTH_JWT_KEY=SECRET) as gateway:
        given = {"STUDYAI_TOKEN": f"{token('mia')}\n"}
        asked = ("ask", str(WORKSHEET), "x?", "-q", "--url", f"http://127.0.0.1:{gateway.port}")
        assert run(*asked, settings=given) == (0, "Hello there.\n", "")


def test_engine_with_mutual_tls_and_a_service_token_lets_in_who_has_both(service: Service, tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("engine.internal").write(tmp_path, "engine")
    caller = authority.issue("caller")
    own_certificate, own_key = caller.write(tmp_path, "caller")
    ca = authority.write(tmp_path / "ca.pem")
    settings = {"ENGINE_TLS_CERT_FILE": str(certificate), "ENGINE_TLS_KEY_FILE": str(key)}
    tls = Tls(ca_file=ca, cert_file=own_certificate, key_file=own_key, server_name="engine.internal")
    port = free_port()
    settings |= {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": service.upstream.base_url, "ENGINE_PORT": str(port)}
    settings |= {"ENGINE_TLS_CLIENT_CA_FILE": str(ca), "SERVICE_TOKEN": SERVICE_TOKEN}
    once = Backoff(attempts=0)
    with ExitStack() as stack:
        engine = Process("engine_grpc", port, settings)
        stack.callback(engine.stop)
        options = [("grpc.ssl_target_name_override", "engine.internal"), *PERSISTENT]
        with grpc.secure_channel(f"127.0.0.1:{port}", authority.trusted(caller), options) as channel:
            wait_until_connected(channel, engine)
        url = f"grpcs://127.0.0.1:{port}"
        for wire in (Wire("sync", "grpcs"), Wire("async", "grpcs")):
            assert wire.ask(url, WORKSHEET, "x?", tls=tls, token=SERVICE_TOKEN).text == "Hello there."
            with pytest.raises(UnauthenticatedError):
                wire.ask(url, WORKSHEET, "x?", tls=tls)
            with pytest.raises(ConnectionFailedError):
                wire.ask(url, WORKSHEET, "x?", tls=Tls(ca_file=ca, server_name="engine.internal"), backoff=once)


class Answering(BaseHTTPRequestHandler):
    """A proxy with TLS in front of a gateway, as far as a client sees it."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(WHOLE).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running_https(pair: Pair, folder: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair.write(folder, "server"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def test_https_trusts_the_named_authority_alone(tmp_path: Path) -> None:
    authority = Authority()
    ca = authority.write(tmp_path / "ca.pem")
    others = Authority().write(tmp_path / "others.pem")
    with running_https(authority.issue("gateway.internal"), tmp_path) as port:
        url = f"https://127.0.0.1:{port}"
        with StudyAI(url, tls=Tls(ca_file=ca, server_name="gateway.internal")) as studyai:
            assert studyai.complete(WORKSHEET, "x?").text == "Whole."
        for tls in (Tls(ca_file=others, server_name="gateway.internal"), Tls(ca_file=ca)):
            with StudyAI(url, tls=tls, backoff=Backoff(attempts=0)) as studyai, pytest.raises(ConnectionFailedError):
                studyai.complete(WORKSHEET, "x?")


@pytest.mark.parametrize(
    ("absent", "code", "words"),
    [
        ("grpc", "import studyai_client as s; s.StudyAI('grpc://localhost:1')", "pip install './clients/python[grpc]'"),
        ("typer", "import studyai_client.cli as c; c.main()", "pip install './clients/python[cli]'"),
    ],
)
def test_extra_that_is_not_installed_is_named(absent: str, code: str, words: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules[{absent!r}] = None; {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert words in ended.stderr
