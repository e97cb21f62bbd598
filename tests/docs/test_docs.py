"""The documents: their links lead somewhere, and they name every setting and every error as the code has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from engine_grpc.errors import RULES as ENGINE_RULES
from engine_grpc.errors import Reason
from engine_grpc.settings import EngineSettings
from sse_gateway.errors import RULES
from sse_gateway.settings import GatewaySettings
from tests.docs.blocks import DOCUMENTS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_settings import BaseSettings

SERVICES: list[type[BaseSettings]] = [EngineSettings, GatewaySettings]


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


@pytest.mark.parametrize("index", ["README.md", "docs/README.md"])
def test_every_document_is_found_from_the_index(index: str) -> None:
    linked = set(re.findall(r"\]\((?:docs/)?([\w.]+\.md)\)", (ROOT / index).read_text()))
    assert {document.name for document in DOCUMENTS} - linked <= {"README.md"}


def rows(document: str) -> list[list[str]]:
    """The cells of its tables' rows that begin with a code."""
    lines = (ROOT / "docs" / document).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines if line.startswith("| `")]


def settings_of(pattern: str) -> dict[str, str]:
    """The variables and defaults below the headings of docs/settings.md that fit."""
    parts = re.split(r"^## ", (ROOT / "docs" / "settings.md").read_text(), flags=re.MULTILINE)[1:]
    tables = "".join(part for part in parts if re.match(pattern, part))
    return dict(re.findall(r"^\| `([A-Z_]+)` \| `?([^`|]+?)`? \|", tables, re.MULTILINE))


def default_of(value: Any) -> str:
    if value in (None, ()):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.0f}" if isinstance(value, float) else getattr(value, "get_secret_value", lambda: str(value))()


@pytest.mark.parametrize(("service", "heading"), list(zip(SERVICES, ["The engine", "The gateway"], strict=True)))
def test_settings_are_those_of_the_service_with_their_defaults(service: type[BaseSettings], heading: str) -> None:
    told = settings_of(f"Both|{heading}")
    assert told == {name.upper(): default_of(field.default) for name, field in service.model_fields.items()}
    example = (ROOT / ".env.example").read_text()
    assert {name for name in told if f"{name}=" not in example} == set()


def test_settings_of_the_command_are_those_that_it_reads() -> None:
    sources = (ROOT / "clients" / "python" / "src" / "studyai_client").rglob("*.py")
    read = {name for source in sources for name in re.findall(r'"(STUDYAI_[A-Z_]+)"', source.read_text())}
    assert set(settings_of("The command")) == read


def test_every_error_is_told_as_the_services_have_it() -> None:
    told = {cells[0].strip("`"): cells[1:] for cells in rows("errors.md") if len(cells) == 5}
    assert told == {
        code.value: [
            str(rule.status),
            ENGINE_RULES[Reason(code)].status if code.value in set(Reason) else "–",
            "yes" if rule.retryable else "no",
            rule.student,
        ]
        for code, rule in RULES.items()
    }
    assert {cells[0].strip("`") for cells in rows("errors.md") if len(cells) == 3} >= set(told)
