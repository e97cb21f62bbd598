"""What the scripts of `make` say when something is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_check_of_the_protos_shows_where_the_contract_has_a_mistake(tmp_path: Path) -> None:
    for folder in ("scripts", "protos", "generated"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("web", "__pycache__"))
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    proto = tmp_path / "protos" / "studyai" / "v1" / "chat.proto"
    proto.write_text(f"no proto\n{proto.read_text()}")
    done = subprocess.run([tmp_path / "scripts" / "check_protos.sh"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "studyai/v1/chat.proto:1:1: " in done.stderr
