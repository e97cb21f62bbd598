"""What the README says is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes import clean_environment

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Service

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "clients/python/README.md"])
def test_first_python_of_the_page_runs_as_it_stands(service: Service, page: str) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)[0]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", re.sub(r"http://(localhost|127\.0\.0\.1):3000", service.url, code)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Hello there." in ended.stdout
