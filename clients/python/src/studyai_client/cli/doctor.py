"""Looks at everything an answer needs, from the settings to the model, and says what to do about what is wrong.

Each check stands for itself, takes a few seconds at most and changes nothing: none asks a model for an answer.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING

from dotenv import dotenv_values
from rich.console import Console

from studyai_client.cli.answering import FAILED
from studyai_client.cli.backing_checks import check_model, check_redis, check_settings
from studyai_client.cli.connection import Connection
from studyai_client.cli.findings import Finding, tell
from studyai_client.cli.service_checks import check_engine, check_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def run(url: str, engine: str | None, ca_file: str | None) -> int:
    """Tells what it finds as it finds it; returns the exit status: 1 where something has to be done."""
    try:
        known = _settings()
    except UnicodeDecodeError:
        print("studyai: .env is not UTF-8: save it as that.", file=sys.stderr)
        return FAILED
    console, bad = Console(highlight=False), 0
    for finding in _examine(known, url, engine, ca_file):
        tell(finding, console)
        bad += finding.state == "bad"
    console.print()
    if bad:
        console.print(f"{bad} {'thing' if bad == 1 else 'things'} to put right.", style="bold red")
    else:
        console.print("All is well.", style="bold green")
    return int(bad > 0)


def _settings() -> dict[str, str]:
    """Returns them as the services read them: the environment wins over the file, and empty counts as unset."""
    sources = (dotenv_values(".env"), os.environ)
    return {name: value for source in sources for name, value in source.items() if value}


def _examine(known: Mapping[str, str], url: str, engine: str | None, ca_file: str | None) -> Iterator[Finding]:
    yield Finding(
        "good",
        "versions",
        f"studyai {version('studyai-client')}, Python {python_version()}, grpcio {version('grpcio')}",
    )
    yield check_settings(known)
    at_engine = url if url.startswith("grpc") else engine or known.get("AI_ENGINE_URL")
    yield check_engine(Connection.to_engine(at_engine, ca_file, known=known))
    if not url.startswith("grpc"):
        yield from check_gateway(Connection.of(url, None, grpc=False, ca_file=ca_file), version("studyai-client"))
    yield check_model(known)
    yield check_redis(known.get("STATE_URL", "memory://"))
