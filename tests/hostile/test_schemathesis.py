"""Everything that the OpenAPI document says, tried on the real service: examples, limits, at random, one after another.

Schemathesis reads OpenAPI 3.2, events of a stream included. What it may complain of is in schemathesis.toml.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hostile.conftest import Attacked

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 10
"""For each operation. The seed is fixed: who looks for more chooses another one, and more of them."""


def test_service_keeps_what_its_openapi_document_promises(service: Attacked, tmp_path: Path) -> None:
    options = ["--max-examples", str(EXAMPLES), "--seed", "1", "--no-color", "--no-shrink", "--continue-on-failure"]
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", *options]
    run = subprocess.run(
        [*command, f"{service.url}/openapi.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    generated = re.search(r"(\d+) generated", run.stdout)
    assert generated
    assert int(generated[1]) > 400
