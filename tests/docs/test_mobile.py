"""The clients for Kotlin and Swift, as far as it can be seen without their compilers; `make test-mobile` runs them."""

from __future__ import annotations

import re
from textwrap import indent

import pytest

from sse_gateway.errors import RULES
from tests.docs.blocks import BLOCKS, ROOT

OWN = {"CONNECTION_FAILED", "CONNECTION_LOST", "STREAMING_UNAVAILABLE", "PROTOCOL", "UNKNOWN"}
SOURCES = {"kotlin": "clients/kotlin/StudyAI.kt", "swift": "clients/swift/StudyAI.swift"}
DRIVERS = {"kotlin": "tests/mobile/kotlin/Driver.kt", "swift": "tests/mobile/swift/Driver.swift"}


@pytest.mark.parametrize("language", SOURCES)
def test_client_knows_every_code_of_the_service(language: str) -> None:
    source = (ROOT / SOURCES[language]).read_text()
    codes = {"kotlin": r"enum class Code \{(.*?)\}", "swift": r"enum Code: String.*?\{(.*?)\}"}[language]
    (told,) = re.findall(codes, source, re.DOTALL)
    assert set(re.findall(r"\b[A-Z_]{5,}\b", told)) == {code.value for code in RULES} | OWN


@pytest.mark.parametrize("language", DRIVERS)
def test_example_of_the_guide_is_compiled_and_run(language: str) -> None:
    (block,) = (block for block in BLOCKS if block.language == language)
    assert indent(block.code, "    ") in (ROOT / DRIVERS[language]).read_text()
