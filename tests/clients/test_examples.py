"""The examples in Node, Go and Python, run as they say of themselves."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import upstream as up
from tests.clients.proxy import running_proxy
from tests.end_to_end.conftest import WORKSHEET, tool
from tests.processes import clean_environment, free_port, running_engine_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.end_to_end.conftest import Service

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHIMS = Path(__file__).parent / "go_shims"
GO_LIBRARIES = Path("/usr/share/gocode")
GRPC_GO = GO_LIBRARIES / "src/google.golang.org/grpc"
GO_MODULE = "example.com/studyai"
DELTAS = ["One", " two", " three", " 四", " five."]


@pytest.fixture(scope="module", params=["node", "go"])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs an example."""
    if request.param == "node":
        return [tool("node"), str(EXAMPLES / "node" / "ask.mjs")]
    return [str(built_go_example(tmp_path_factory.mktemp("go")))]


def built_go_example(folder: Path) -> Path:
    """Builds the example with Debian's Go and libraries; returns the program."""
    source = folder / "src" / GO_MODULE
    source.mkdir(parents=True)
    (source / "main.go").write_bytes((EXAMPLES / "go" / "main.go").read_bytes())
    generate_go(source)
    (folder / "overlay.json").write_text(json.dumps({"Replace": shims()}))
    settings = {"GO111MODULE": "off", "GOPATH": f"{folder}:{GO_LIBRARIES}", "GOFLAGS": ""}
    program = folder / "ask"
    build = [tool("go"), "build", "-overlay", str(folder / "overlay.json"), "-o", str(program), "."]
    subprocess.run(build, cwd=source, env=clean_environment(**settings), check=True, timeout=300)
    return program


def generate_go(source: Path) -> None:
    """Writes the contract's Go code, into the package that buf.gen.yaml names."""
    (named,) = re.findall(r"value: (\S+)", (EXAMPLES / "go" / "buf.gen.yaml").read_text())
    options = [f"--go{kind}_opt=paths=source_relative,Mstudyai/v1/chat.proto={named}" for kind in ("", "-grpc")]
    plugins = [f"--plugin={tool(plugin)}" for plugin in ("protoc-gen-go", "protoc-gen-go-grpc")]
    outputs = [f"--go_out={source}", f"--go-grpc_out={source}"]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "protos"), *plugins, *outputs, *options]
    subprocess.run([*protoc, "studyai/v1/chat.proto"], check=True, timeout=60)


def shims() -> dict[str, str]:
    """What the example uses and Debian's grpc may be too old for, by the file that it would be in."""
    missing = {}
    if not (GRPC_GO / "credentials" / "insecure").is_dir():
        missing[str(GRPC_GO / "credentials" / "insecure" / "insecure.go")] = str(SHIMS / "insecure.go")
    if "func NewClient(" not in (GRPC_GO / "clientconn.go").read_text():
        missing[str(GRPC_GO / "newclient.go")] = str(SHIMS / "newclient.go")
    return missing


@contextmanager
def asking(
    example: list[str], port: int, picture: Path = WORKSHEET, **settings: str
) -> Iterator[subprocess.Popen[str]]:
    command = [*example, str(picture), "What is x?", f"127.0.0.1:{port}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, stdout=pipe, stderr=pipe, env=clean_environment(**settings)) as process:
        try:
            yield process
        finally:
            process.kill()


def test_example_goes_back_to_its_answer_after_every_cut(service: Service, example: list[str]) -> None:
    gates = [up.Signal() for _ in DELTAS]
    service.upstream.script(up.stream_headers(), up.gated(gates, DELTAS), up.finish(), up.usage(30, 20), up.done())
    with running_proxy(service.engine.port) as proxy, asking(example, proxy.port) as process:
        assert process.stdout
        for gate, delta in zip(gates, DELTAS, strict=True):
            gate.set()
            assert process.stdout.read(len(delta)) == delta
            proxy.cut()
        rest, said = process.communicate(timeout=10)
    assert (process.returncode, rest) == (0, "")
    assert "; again in" in said
    assert said.endswith("[50 tokens]\n")
    assert len(service.upstream.requests) == 1


def test_example_stops_the_answer_at_ctrl_c(service: Service, example: list[str]) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    with asking(example, service.engine.port) as process:
        assert process.stdout
        assert process.stdout.read(4) == "Some"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130
    service.upstream.requests[0].closed.block()


def test_example_tells_a_failure_by_its_code(service: Service, example: list[str]) -> None:
    with asking(example, service.engine.port, Path(__file__)) as process:
        _, said = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "failed: IMAGE_UNREADABLE" in said


def test_example_shows_the_first_of_several_service_tokens(service: Service, example: list[str]) -> None:
    tokens = ["first" * 8, "second" * 8]
    with (
        running_engine_process(service.upstream.base_url, SERVICE_TOKEN=tokens[0]) as engine,
        asking(example, engine.port, SERVICE_TOKEN=",".join(tokens)) as process,
    ):
        written, said = process.communicate(timeout=10)
    assert (process.returncode, written) == (0, "Hello there."), said


def in_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / "ask_grpc.py"), *arguments]
    return subprocess.run(command, env=clean_environment(), text=True, capture_output=True, check=False, timeout=20)


def test_example_in_python_writes_the_answer(service: Service) -> None:
    ended = in_python(str(WORKSHEET), "What is x?", f"127.0.0.1:{service.engine.port}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("]\nHello there.\n[50 tokens]\n")


def test_example_in_python_says_what_failed_and_where(service: Service) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    told = [
        in_python(__file__, "What is x?", f"127.0.0.1:{service.engine.port}"),
        in_python(str(WORKSHEET), "What is x?", nowhere),
        in_python("missing.jpg", "What is x?"),
    ]
    assert [ended.returncode for ended in told] == [1, 1, 1]
    assert re.match(r"\nfailed: IMAGE_UNREADABLE: \w", told[0].stderr)
    assert re.match(rf"\nfailed: UNAVAILABLE: .*{nowhere}", told[1].stderr)
    assert told[2].stderr == "failed: [Errno 2] No such file or directory: 'missing.jpg'\n"


def test_example_in_python_ends_with_status_2_where_the_command_line_is_wrong() -> None:
    ended = in_python(str(WORKSHEET))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Usage: python examples/ask_grpc.py PICTURE QUESTION [HOST:PORT]" in ended.stderr
