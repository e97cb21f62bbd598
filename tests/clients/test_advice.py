"""What the command cannot do it says in a sentence, with what there is to be done."""

from __future__ import annotations

import re
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests import upstream as up
from tests.clients.proxy import running_proxy
from tests.clients.terminal import ASK, run, started
from tests.gateway.tokens import SECRET
from tests.processes import free_port, running_engine_process, running_gateway_process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.conftest import Service


@pytest.mark.parametrize("command", ["ask", "doctor"])
def test_address_that_is_none_is_a_wrong_command_line(command: str) -> None:
    arguments = ASK if command == "ask" else (command,)
    status, written, said = run(*arguments, "--url", "localhost:3000")
    assert (status, written) == (2, "")
    assert "http://host:port" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [("STUDYAI_URL", "nowhere"), ("AI_ENGINE_URL", "http://[::1"), ("PORT", "http"), ("ENGINE_PORT", "grpc")],
)
def test_setting_that_is_no_address_is_the_one_that_is_named(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / ".env").write_text(f"{name}={value}\n")
    status, _, said = run(*ASK, *(["--grpc"] if "ENGINE" in name else []), cwd=tmp_path)
    assert status == 2
    assert re.search(rf"Invalid value for (\S+ or )?{name}:", re.sub(r"[\s│]+", " ", said))


def test_token_of_the_environment_goes_to_no_address_that_a_folder_names(service: Service, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"STUDYAI_URL={service.url}\n")
    nowhere = {"STUDYAI_TOKEN": "secret", "PORT": str(free_port())}
    status, _, said = run(*ASK, "--timeout", "0.5", cwd=tmp_path, settings=nowhere)
    assert status == 1
    assert said.startswith("studyai: STUDYAI_URL of .env is left out: its token is the environment's.\n")
    assert run(*ASK, cwd=tmp_path)[0] == 0


def test_missing_files_are_named_in_a_line(tmp_path: Path) -> None:
    assert run("ask", "page.jpg", "x?", cwd=tmp_path) == (2, "", "studyai: page.jpg: No such file or directory\n")
    assert run("ask", ".", "x?", cwd=tmp_path) == (2, "", "studyai: .: Is a directory\n")
    status, _, said = run(*ASK, "--url", "https://127.0.0.1:9", "--ca-file", "ca.pem", cwd=tmp_path)
    assert (status, "ca.pem cannot be" in said) == (2, True)


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_file_without_certificates_is_named(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "ca.pem").write_text("not one")
    status, written, said = run(*ASK, "--url", f"{scheme}://127.0.0.1:9", "--ca-file", "ca.pem", cwd=tmp_path)
    assert (status, written) == (2, "")
    assert "ca.pem holds no certificate in PEM." in re.sub(r"[\s│]+", " ", said)


def test_socks_proxy_is_told_with_what_to_install() -> None:
    status, written, said = run(*ASK, settings={"ALL_PROXY": "socks5://127.0.0.1:9"})
    assert (status, written) == (1, "")
    assert re.fullmatch("studyai: .*SOCKS proxy.* 'socksio' .*\n", said)


@pytest.mark.parametrize("quiet", [False, True])
def test_engine_that_forgot_the_answer_when_it_restarted_is_asked_for_another(service: Service, quiet: bool) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    with ExitStack() as stack:
        first, second = (stack.enter_context(running_engine_process(service.upstream.base_url)) for _ in range(2))
        proxy = stack.enter_context(running_proxy(first.port))
        where = ("--engine", f"127.0.0.1:{proxy.port}")
        with started(*ASK, *(["-q"] if quiet else []), *where) as process:
            assert process.stdout
            assert process.stdout.read(4) == "Some"
            # The one that has restarted is there at once: how long that takes is no matter of the command's patience.
            proxy.to = second.port
            first.stop(signal.SIGKILL)
            written, said = process.communicate(timeout=20)
    assert (process.returncode, written) == (0, "\nHello there.\n")
    assert ("The service has lost that answer. Another one:" in said) is not quiet
    assert len(service.upstream.requests) == 2


def test_grpc_asks_the_engine_of_the_settings(service: Service) -> None:
    settings = {"AI_ENGINE_URL": f"http://127.0.0.1:{service.engine.port}", "PORT": str(free_port())}
    assert run(*ASK, "--grpc", settings=settings)[:2] == (0, "Hello there.\n")


def test_engine_that_is_down_and_a_wrong_token_are_told_with_what_to_do(service: Service) -> None:
    port = free_port()
    with running_engine_process(service.upstream.base_url, port) as engine, running_gateway_process(engine) as gateway:
        engine.stop()
        status, written, said = run(*ASK, "--url", f"http://127.0.0.1:{gateway.port}", "--timeout", "2")
    assert (status, written) == (1, "")
    assert re.search(
        r"^studyai: .+ \(ENGINE_UNAVAILABLE, request \w+\)\n`studyai doctor` finds out why\.\n\Z", said, re.M
    )
    with running_gateway_process(service.engine, AUTH_JWT_KEY=SECRET) as gateway:
        status, written, said = run(
            *ASK, "--url", f"http://127.0.0.1:{gateway.port}", settings={"STUDYAI_TOKEN": "wrong"}
        )
    assert (status, written) == (1, "")
    assert "(UNAUTHENTICATED, request " in said
    assert said.endswith("Set STUDYAI_TOKEN to a bearer token, or SERVICE_TOKEN for --grpc.\n")
    assert "wrong" not in said


def test_session_without_a_picture_says_how_to_give_one(service: Service) -> None:
    status, _, said = run("ask", "And y?", "--session", "nobodys", "--url", service.url)
    assert status == 1
    assert said.endswith("The session has no picture yet: studyai ask PICTURE QUESTION --session ID\n")


def test_answer_that_there_is_not_says_how_long_and_for_whom_there_is_one(service: Service) -> None:
    status, _, said = run("resume", "0" * 32, "--url", service.url)
    assert status == 1
    assert said.endswith("for the student who asked alone: --student ID, if one was named.\n")
