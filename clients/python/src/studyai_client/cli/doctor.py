"""Looks at everything an answer needs, from the settings to the model, and says what to do about what is wrong.

Each check stands for itself, takes a few seconds at most and changes nothing: none asks a model for an answer.
"""

from __future__ import annotations

from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING

from rich.console import Console

from studyai_client.cli import environment
from studyai_client.cli.backing_checks import check_model, check_redis, check_settings
from studyai_client.cli.connection import Connection, names_engine
from studyai_client.cli.findings import Finding, tell
from studyai_client.cli.service_checks import check_engine, check_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def run(url: str | None, engine: str | None, ca_file: str | None) -> int:
    """Tells what it finds as it finds it; returns the exit status: 1 where something has to be done."""
    console, bad = Console(highlight=False), 0
    for finding in _examine(environment.settings(), url, engine, ca_file):
        tell(finding, console)
        bad += finding.state == "bad"
    console.print()
    if bad:
        console.print(f"{bad} {'thing' if bad == 1 else 'things'} to put right.", style="bold red")
    else:
        console.print("All is well.", style="bold green")
    return int(bad > 0)


def _examine(known: Mapping[str, str], url: str | None, engine: str | None, ca_file: str | None) -> Iterator[Finding]:
    yield Finding(
        "good",
        "versions",
        f"studyai {version('studyai-client')}, Python {python_version()}, grpcio {version('grpcio')}",
    )
    yield check_settings(known)
    yield from _engines(url, engine, ca_file)
    if not names_engine(url):
        yield from check_gateway(Connection.of(url, None, grpc=False, ca_file=ca_file), version("studyai-client"))
    yield check_model(known)
    yield check_redis(known.get("STATE_URL", "memory://"))


def _engines(url: str | None, engine: str | None, ca_file: str | None) -> Iterator[Finding]:
    """Asks each that is named, or the one that belongs to a gateway at the default address."""
    named = url if names_engine(url) else engine
    if not named and not _is_default(url):
        fact = "Not asked: the gateway is elsewhere, and neither --engine nor AI_ENGINE_URL names one."
        yield Finding("skipped", "engine", fact)
        return
    for address in (named or environment.default_engine()).split(","):
        if address.strip():
            yield check_engine(Connection.to_engine(address, ca_file))


def _is_default(url: str | None) -> bool:
    default = environment.default_gateway()
    return not url or url.rstrip("/") in (default, default.replace("127.0.0.1", "localhost"))
