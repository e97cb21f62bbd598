"""The architecture's tables name every module, and no other; its lists name files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text()


def modules(service: str) -> set[str]:
    found = {path.stem for path in (ROOT / service).glob("*.py")} - {"__init__"}
    return found | {path.parent.name for path in (ROOT / service).glob("*/__init__.py")}


@pytest.mark.parametrize("service", ["engine_grpc", "sse_gateway"])
def test_table_names_every_module_of_the_service_once(service: str) -> None:
    (section,) = re.findall(rf"^## The modules of `{service}`\n(.*?)^## ", TEXT, re.MULTILINE | re.DOTALL)
    told = re.findall(r"^\| `(\w+)` \| \S.* \|$", section, re.MULTILINE)
    assert set(told) - modules(service) == set()
    assert modules(service) - set(told) == set()
    assert len(told) == len(set(told))


def test_files_that_a_change_touches_are_there() -> None:
    told = TEXT.partition("## To change something")[2]
    tests = set(re.findall(r"`(\w+/\w+\.py)`", told)) - {"deploy/up.py"}
    others = set(re.findall(r"`((?:deploy|requirements|scripts|clients|examples)/[\w/.]+)`", told)) - tests
    assert len(tests) > 20
    assert len(others) > 8
    assert [name for name in tests if not (ROOT / "tests" / name).exists()] == []
    assert [name for name in others if not (ROOT / name).exists()] == []
