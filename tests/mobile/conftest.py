"""The mobile clients, compiled, and the service they ask. Their compilers come by `make test-mobile` alone."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import upstream as up
from tests.end_to_end.conftest import WORKSHEET, running_service, service  # noqa: F401 - fixtures, asked for by name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.end_to_end.conftest import Service

ROOT = Path(__file__).parents[2]
MOBILE = ROOT / ".mobile"
DRIVERS = Path(__file__).parent
COMPILE_SECONDS = 600
Told = dict[str, Any]
"""A line that a driver writes: `what` happened, and more of it."""


class Driver:
    """A program that carries out one order with the client under test."""

    def __init__(self, command: list[str], order: Told) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(order)}\n")
        self._process.stdin.flush()

    def __iter__(self) -> Iterator[Told]:
        """What it tells, as it does, until its order is carried out."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if told["what"] == "over":
                return
            yield told

    def close(self) -> None:
        """Ends it: it has waited for the end of its orders."""
        try:
            self._process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise
        assert self._process.returncode == 0


@dataclass(frozen=True)
class Client:
    """A client in one of the languages."""

    name: str
    command: list[str]

    @contextmanager
    def doing(self, what: str, url: str, **order: Any) -> Iterator[Driver]:
        """Has the client do that, patiently and quickly unless it is ordered otherwise."""
        patience = {"attempts": 20, "first_delay_ms": 20, "longest_delay_ms": 1000, "silence_ms": 45_000}
        picture = base64.b64encode(WORKSHEET.read_bytes()).decode("ascii")
        question = {"prompt": "What is x?", "key": str(uuid.uuid4()), "image": picture}
        driver = Driver(self.command, {"do": what, "url": url, **patience, **question, **order})
        try:
            yield driver
        finally:
            driver.close()

    def done(self, what: str, url: str, **order: Any) -> list[Told]:
        """The same, told when it is over."""
        with self.doing(what, url, **order) as driver:
            return list(driver)


def compiled_kotlin(to: Path) -> list[str]:
    """Compiles the client and its driver, where a warning is a mistake; returns the command."""
    jars = sorted((MOBILE / "kotlin").glob("*.jar"))
    json_jar = next((MOBILE / "debian/usr/share/java").glob("com.android.json-*.jar"))
    path = ":".join(map(str, [*jars, json_jar]))
    compiler = ["java", "-cp", str(MOBILE / "kotlin/compiler.jar"), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    options = ["-no-stdlib", "-no-reflect", "-Werror", "-cp", path, "-d", str(to)]
    sources = [str(ROOT / "clients/kotlin/StudyAI.kt"), str(DRIVERS / "kotlin/Driver.kt")]
    subprocess.run([*compiler, *options, *sources], check=True, timeout=COMPILE_SECONDS)
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{to}:{path}", "studyai.DriverKt"]


def compiled_swift() -> list[str]:
    """The same, in the Swift 6 language mode."""
    in_debian, inside, sources = str(ROOT / "scripts/mobile/in_debian.sh"), "/build", []
    build = MOBILE / "debian/build"
    build.mkdir(exist_ok=True)
    for source in (ROOT / "clients/swift/StudyAI.swift", DRIVERS / "swift/Driver.swift"):
        shutil.copy(source, build)
        sources.append(f"{inside}/{source.name}")
    options = ["-swift-version", "6", "-warnings-as-errors", "-parse-as-library", "-o", f"{inside}/driver"]
    compiler = [in_debian, "/usr/libexec/swift/bin/swiftc"]
    subprocess.run([*compiler, *options, *sources], check=True, timeout=COMPILE_SECONDS)
    return [in_debian, f"{inside}/driver"]


@pytest.fixture(scope="session", params=["kotlin", "swift"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Each of the clients."""
    if not (MOBILE / "debian").is_dir():
        pytest.skip("there are no compilers: `make test-mobile` brings them")
    swift = request.param == "swift"
    return Client(request.param, compiled_swift() if swift else compiled_kotlin(tmp_path_factory.mktemp("kotlin")))


def held(running: Service, first: str, rest: str) -> up.Signal:
    """The model says `first`, and `rest` when the signal is set."""
    more = up.Signal()
    steps = (up.chunk(first), up.gate(more), up.chunk(rest), up.finish(), up.usage(30, 20), up.done())
    running.upstream.script(up.stream_headers(), *steps)
    return more
