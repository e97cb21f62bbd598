"""What deploy/ says, held against the services: their start commands run, their settings exist, their times fit."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from engine_grpc.settings import EngineSettings
from sse_gateway.settings import GatewaySettings
from tests.end_to_end.conftest import tool
from tests.processes import clean_environment, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_settings import BaseSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
SETTINGS: dict[str, type[BaseSettings]] = {"engine": EngineSettings, "gateway": GatewaySettings}
SERVICES = list(SETTINGS)
PLATFORM = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
BIN = Path(sys.executable).parent
MANIFESTS: list[Any] = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "studyai.yaml").read_text()))
COMPOSE: Any = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def dockerfile(service: str) -> str:
    return (DEPLOY / "docker" / f"{service}.Dockerfile").read_text()


def environment(service: str) -> dict[str, str]:
    """What an image sets."""
    lines = re.findall(r"^ENV (.+)$", dockerfile(service), re.MULTILINE)
    return dict(pair.split("=", 1) for line in lines for pair in shlex.split(line))


def known(service: str, names: Mapping[str, object]) -> bool:
    return {name.lower() for name in names if name not in PLATFORM} <= set(SETTINGS[service].model_fields)


@pytest.mark.parametrize("service", SERVICES)
def test_images_start_command_serves_and_its_health_check_passes(service: str) -> None:
    (command,) = json.loads(re.findall(r"^CMD (\[.+\])$", dockerfile(service), re.MULTILINE)[-1])
    (probe,) = re.findall(r"^ +CMD (\[.+\])$", dockerfile(service), re.MULTILINE)
    set_by_image = {name: value for name, value in environment(service).items() if name not in PLATFORM}
    ports = {name: str(free_port()) for name in set_by_image if name.endswith("PORT")}
    probed = "ENGINE_METRICS_PORT" if service == "engine" else "PORT"
    check = [part.replace(f":{set_by_image[probed]}/", f":{ports[probed]}/") for part in json.loads(probe)]
    settings = {**set_by_image, **ports, "INSECURE": "true", "OPENAI_API_KEY": "sk-x"}
    with subprocess.Popen([BIN / command], env=clean_environment(**settings), stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert any(b"listens" in line or b"running on" in line for line in process.stderr)
            assert subprocess.run([sys.executable, *check[1:]], check=False, timeout=10).returncode == 0
        finally:
            process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize("service", SERVICES)
def test_images_settings_and_those_of_compose_and_kubernetes_exist(service: str) -> None:
    assert known(service, environment(service))
    assert known(service, COMPOSE["services"][service]["environment"].keys() - {"STATE_URL"})
    (pod,) = [
        m["spec"]["template"]["spec"]
        for m in MANIFESTS
        if m["metadata"]["name"] == f"studyai-{service}" and m["kind"] == "Deployment"
    ]
    assert known(service, {entry["name"]: 1 for entry in pod["containers"][0]["env"] if entry["name"] != "STATE_URL"})


def test_everything_that_an_image_copies_is_in_the_repository_and_let_in() -> None:
    ignored = (DEPLOY.parent / ".dockerignore").read_text()
    for service in SERVICES:
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile(service), re.MULTILINE):
            for source in sources.split():
                assert (DEPLOY.parent / source).exists()
                assert f"!{source}" in ignored


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_manifests_follow_kubernetes_schema(manifest: Any) -> None:
    kubernetes_validate.validate(manifest, "1.34", strict=True)


def test_nobody_is_killed_while_it_drains() -> None:
    for service in SERVICES:
        of_compose = COMPOSE["services"][service]
        assert int(of_compose["stop_grace_period"].removesuffix("s")) > int(of_compose["environment"]["DRAIN_SECONDS"])
        unit = (DEPLOY / "systemd" / f"studyai-{service}.service").read_text()
        (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
        assert int(seconds) > SETTINGS[service].model_fields["drain_seconds"].default
    for manifest in MANIFESTS:
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            told = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
            pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
            assert pod["terminationGracePeriodSeconds"] > int(told["DRAIN_SECONDS"]) + pause


@pytest.mark.parametrize("service", SERVICES)
def test_systemd_finds_nothing_wrong_with_the_units(service: str, tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd" / f"studyai-{service}.service").read_text()
    assert (BIN / re.findall(r"^ExecStart=\S+/(\S+)$", unit, re.MULTILINE)[0]).exists()
    copy = tmp_path / f"studyai-{service}.service"
    copy.write_text(unit.replace("/opt/studyai/.venv/bin", str(BIN)))
    done = subprocess.run([tool("systemd-analyze"), "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
