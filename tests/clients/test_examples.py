"""The example in Node, run as its README says."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests import upstream as up
from tests.clients.proxy import running_proxy
from tests.end_to_end.conftest import WORKSHEET, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.end_to_end.conftest import Service

NODE = Path(__file__).parents[2] / "examples" / "node"
DELTAS = ["One", " two", " three", " 四", " five."]


@contextmanager
def asking(port: int, picture: Path = WORKSHEET) -> Iterator[subprocess.Popen[str]]:
    command = [tool("node"), "ask.mjs", str(picture), "What is x?", f"127.0.0.1:{port}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=NODE, text=True, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def test_node_goes_back_to_its_answer_after_every_cut(service: Service) -> None:
    gates = [up.Signal() for _ in DELTAS]
    service.upstream.script(up.stream_headers(), up.gated(gates, DELTAS), up.finish(), up.usage(30, 20), up.done())
    with running_proxy(service.engine.port) as proxy, asking(proxy.port) as node:
        assert node.stdout
        for gate, delta in zip(gates, DELTAS, strict=True):
            gate.set()
            assert node.stdout.read(len(delta)) == delta
            proxy.cut()
        rest, said = node.communicate(timeout=10)
    assert (node.returncode, rest) == (0, "")
    assert "CONNECTION_LOST; again in" in said
    assert said.endswith("[50 tokens]\n")
    assert len(service.upstream.requests) == 1


def test_node_stops_the_answer_at_ctrl_c(service: Service) -> None:
    service.upstream.script(up.stream_headers(), up.chunk("Some"), up.silence())
    with asking(service.engine.port) as node:
        assert node.stdout
        assert node.stdout.read(4) == "Some"
        node.send_signal(signal.SIGINT)
        assert node.wait(5) == 130
    service.upstream.requests[0].closed.block()


def test_node_tells_a_failure_by_its_code(service: Service) -> None:
    with asking(service.engine.port, Path(__file__)) as node:
        _, said = node.communicate(timeout=10)
    assert node.returncode == 1
    assert "failed: IMAGE_UNREADABLE" in said
