from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.gateway.conftest import logged

if TYPE_CHECKING:
    from sse_gateway.log import LogFormat


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_each_record_is_one_line_and_quotes_no_exception(log_format: LogFormat) -> None:
    with logged("info", log_format) as lines:
        for logger in (structlog.get_logger("ours"), logging.getLogger("a.librarys")):
            try:
                fail("canary\ncanary")
            except ValueError:
                logger.exception("two\nlines")
    first, second = lines()
    for line in (first, second):
        assert "ValueError" in line
        assert "test_log.py" in line
        assert "canary" not in line


def test_json_record_says_what_when_who_and_for_which_request() -> None:
    with logged() as lines, structlog.contextvars.bound_contextvars(request_id="req-7"):
        structlog.get_logger("ours").info("done", count=2)
        logging.getLogger("a.librarys").warning("%s of %d", "one", 2)
    ours, theirs = (json.loads(line) for line in lines())
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {"event": "done", "count": 2, "level": "info", "logger": "ours", "request_id": "req-7"}
    assert (theirs["event"], theirs["level"], theirs["request_id"]) == ("one of 2", "warning", "req-7")


def test_records_below_the_level_are_left_out() -> None:
    with logged("warning") as lines:
        structlog.get_logger("ours").info("done")
        logging.getLogger("a.librarys").info("done")
    assert lines() == []
