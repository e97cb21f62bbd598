"""What a Dockerfile says, done without Docker: its steps in a folder that stands for the image's root."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
PLATFORM = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}


def dockerfile(service: str) -> str:
    return (ROOT / "deploy" / "docker" / f"{service}.Dockerfile").read_text()


def copied(service: str) -> list[tuple[list[str], str]]:
    """What is copied from the repository, and where to."""
    lines = re.findall(r"^COPY (?!--from)(.+) (\S+)$", dockerfile(service), re.MULTILINE)
    return [(sources.split(), target) for sources, target in lines]


def environment(service: str) -> dict[str, str]:
    """What an image sets."""
    lines = re.findall(r"^ENV (.+)$", dockerfile(service), re.MULTILINE)
    return dict(pair.split("=", 1) for line in lines for pair in shlex.split(line))


@dataclass(frozen=True)
class Image:
    """An image, built."""

    service: str
    root: Path

    @property
    def settings(self) -> dict[str, str]:
        return {name: value for name, value in environment(self.service).items() if name not in PLATFORM}

    def start(self, settings: Mapping[str, str]) -> subprocess.Popen[str]:
        (command,) = json.loads(re.findall(r"^CMD (\[.+\])$", dockerfile(self.service), re.MULTILINE)[-1])
        return subprocess.Popen(
            [self.root / "app" / "bin" / command],
            cwd=self.root,
            env=clean_environment(**{**self.settings, **settings}),
            stderr=subprocess.PIPE,
            text=True,
        )

    def healthy(self, port: str) -> bool:
        """Whether its health check finds the service well, at this port in place of the image's."""
        (probe,) = re.findall(r"^ +CMD (\[.+\])$", dockerfile(self.service), re.MULTILINE)
        arguments = [re.sub(r"(?<=127\.0\.0\.1:)\d+", port, part) for part in json.loads(probe)[1:]]
        command = [str(self.root / "app" / "bin" / "python"), *arguments]
        return subprocess.run(command, check=False, timeout=10, stderr=subprocess.DEVNULL).returncode == 0


def build(service: str, root: Path) -> Image:
    """Takes the steps of the Dockerfile's first stage: copies, and runs."""
    source = root / "src"
    source.mkdir(parents=True)
    for line in dockerfile(service).partition("\nFROM python:3.11-slim-bookworm\n")[0].splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "COPY":
            *names, target = rest.split()
            for name in names:
                _copy(name, source / target)
        if instruction == "RUN":
            # What pip has kept is good enough here: the hashes are checked all the same.
            told = rest.replace("/app", str(root / "app")).replace("--no-cache-dir ", "--quiet ")
            told = re.sub(r"^python ", f"{sys.executable} ", told)
            subprocess.run(["/bin/sh", "-euc", told], cwd=source, env=clean_environment(), check=True, timeout=250)
    return Image(service, root)


def _copy(name: str, target: Path) -> None:
    if (ROOT / name).is_dir():
        shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / name, target)
