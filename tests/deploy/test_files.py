"""What deploy/ says, held against the services: their start commands run, their settings exist, their times fit."""

from __future__ import annotations

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
from tests.deploy.image import PLATFORM, environment
from tests.end_to_end.conftest import tool
from tests.processes import clean_environment, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_settings import BaseSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
SETTINGS: dict[str, type[BaseSettings]] = {"engine": EngineSettings, "gateway": GatewaySettings}
SERVICES = list(SETTINGS)
BIN = Path(sys.executable).parent
MANIFESTS: list[Any] = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "studyai.yaml").read_text()))
COMPOSE: Any = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def pod_of(service: str) -> Any:
    (found,) = [m for m in MANIFESTS if m["metadata"]["name"] == f"studyai-{service}" and m["kind"] == "Deployment"]
    return found["spec"]["template"]


def known(service: str, names: Mapping[str, object]) -> bool:
    return {name.lower() for name in names if name not in PLATFORM} <= set(SETTINGS[service].model_fields)


@pytest.mark.parametrize("service", SERVICES)
def test_images_settings_and_those_of_compose_and_kubernetes_exist(service: str) -> None:
    assert known(service, environment(service))
    assert known(service, COMPOSE["services"][service]["environment"].keys() - {"STATE_URL"})
    containers = pod_of(service)["spec"]["containers"]
    assert known(service, {entry["name"]: 1 for entry in containers[0]["env"] if entry["name"] != "STATE_URL"})


def test_compose_file_follows_the_specification() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_files_that_compose_mounts_and_builds_are_there() -> None:
    for service in COMPOSE["services"].values():
        for mounted in service.get("volumes", []):
            assert (DEPLOY / mounted.split(":")[0]).exists()
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()


@pytest.mark.parametrize("service", SERVICES)
def test_kubernetes_asks_the_ports_that_the_image_serves(service: str) -> None:
    template = pod_of(service)
    container = template["spec"]["containers"][0]
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert set(ports.values()) == {value for name, value in environment(service).items() if name.endswith("PORT")}
    assert template["metadata"]["annotations"]["prometheus.io/port"] in ports.values()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (asked,) = [container[probe][kind] for kind in ("grpc", "httpGet", "tcpSocket") if kind in container[probe]]
        assert asked["port"] in ports or str(asked["port"]) in ports.values()
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_address_that_kubernetes_tells_a_service_leads_to_a_pod_of_the_manifest(service: str) -> None:
    told = " ".join(entry["value"] for entry in pod_of(service)["spec"]["containers"][0]["env"])
    addresses = re.findall(r"\w+:///?([\w-]+):(\d+)", told)
    assert "studyai-redis" in dict(addresses)
    for host, port in addresses:
        (found,) = [m for m in MANIFESTS if m["kind"] == "Service" and m["metadata"]["name"] == host]
        assert int(port) in {one["port"] for one in found["spec"]["ports"]}
        pod = pod_of(host.removeprefix("studyai-"))
        assert found["spec"]["selector"] == pod["metadata"]["labels"]
        assert int(port) in {one["containerPort"] for one in pod["spec"]["containers"][0]["ports"]}


def test_redis_of_kubernetes_runs_as_that_of_compose() -> None:
    (container,) = pod_of("redis")["spec"]["containers"]
    of_compose = COMPOSE["services"]["redis"]
    assert (container["image"], container["command"]) == (of_compose["image"], of_compose["command"])


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
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] != "studyai-redis":
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


@pytest.mark.parametrize("service", SERVICES)
def test_unit_that_fails_at_once_is_started_again_for_ever(service: str) -> None:
    unit = (DEPLOY / "systemd" / f"studyai-{service}.service").read_text()
    (pause,) = re.findall(r"^RestartSec=(\d+)$", unit, re.MULTILINE)
    # systemd gives up after five starts within 10 s: DefaultStartLimitBurst, DefaultStartLimitIntervalSec.
    assert 5 * int(pause) > 10


@pytest.mark.parametrize("service", SERVICES)
def test_units_start_command_serves_and_a_wrong_setting_is_not_tried_again(service: str, tmp_path: Path) -> None:
    unit = dict(
        re.findall(r"^(\w+)=(.+)$", (DEPLOY / "systemd" / f"studyai-{service}.service").read_text(), re.MULTILINE)
    )
    command = [part.replace("/opt/studyai/.venv/bin", str(BIN)) for part in shlex.split(unit["ExecStart"])]
    port = "ENGINE_PORT" if service == "engine" else "PORT"
    settings = clean_environment(OPENAI_API_KEY="sk-x", **{port: str(free_port())})
    with subprocess.Popen(command, env=settings, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("listens" in line or "running on" in line for line in process.stderr)
        finally:
            process.terminate()
        assert process.wait(int(unit["TimeoutStopSec"])) == 0
    wrong = subprocess.run(command, env={**settings, port: "none"}, cwd=tmp_path, capture_output=True, check=False)
    assert str(wrong.returncode) == unit["RestartPreventExitStatus"]
