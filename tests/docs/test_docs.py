"""The documents: their commands run, their links lead somewhere, and they name every setting and every error."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine_grpc.settings import EngineSettings
from sse_gateway.errors import ErrorCode
from sse_gateway.settings import GatewaySettings
from tests.end_to_end.conftest import started_service, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.end_to_end.conftest import Service

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [
    (document, command)
    for document in DOCUMENTS
    for command in re.findall(r"^ *```sh\n(.+?)^ *```$", document.read_text(), re.MULTILINE | re.DOTALL)
    if "localhost:3000" in command
]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with started_service() as service:
        yield service


@pytest.mark.parametrize(("document", "command"), COMMANDS, ids=lambda value: getattr(value, "name", None))
def test_commands_that_ask_the_service_are_answered(service: Service, document: Path, command: str) -> None:
    del document
    tool("curl")
    photo = "photo.jpg" in command
    told = command.replace("localhost:3000", f"127.0.0.1:{service.gateway.port}")
    told = told.replace("photo.jpg", "examples/homework.png") if photo else told
    done = subprocess.run(["/bin/bash", "-euc", told], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    assert '"type":"end"' in done.stdout or '"success":true' in done.stdout, done.stdout


def test_there_are_commands_to_run() -> None:
    assert len(COMMANDS) >= 4


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", document.read_text())
    for path, anchor in links:
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), (path, anchor)


@pytest.mark.parametrize("settings", [EngineSettings, GatewaySettings])
def test_every_setting_is_in_the_readme_or_the_documents_and_in_the_example(settings: type[EngineSettings]) -> None:
    text = "".join(document.read_text() for document in DOCUMENTS)
    example = (ROOT / ".env.example").read_text()
    names = {name.upper() for name in settings.model_fields}
    assert {name for name in names if f"{name}" not in text} == set()
    assert {name for name in names if f"{name}=" not in example} == set()


def test_every_error_is_explained_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert {code for code in ErrorCode if f"`{code}`" not in readme} == set()
