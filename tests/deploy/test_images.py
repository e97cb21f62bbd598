"""The images of deploy/docker: their steps are taken, their commands serve, their health checks tell the truth."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from packaging.requirements import Requirement

from tests.deploy.image import ROOT, Image, build, copied, dockerfile
from tests.processes import free_port, running_gateway_process
from tests.upstream import running_upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES = ["engine", "gateway"]
PROBED = {"engine": "ENGINE_METRICS_PORT", "gateway": "PORT"}
MANIFESTS: list[Any] = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "studyai.yaml").read_text()))


BUILDING_SECONDS = 600
"""All steps of both images, each of which has a bound of its own. It counts for the test that comes first."""
pytestmark = pytest.mark.timeout(BUILDING_SECONDS)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Image]]:
    folder = tmp_path_factory.mktemp("images")
    with ThreadPoolExecutor() as pool:
        yield dict(zip(SERVICES, pool.map(lambda service: build(service, folder / service), SERVICES), strict=True))


def pod(service: str) -> Any:
    (found,) = [m for m in MANIFESTS if m["metadata"]["name"] == f"studyai-{service}" and m["kind"] == "Deployment"]
    return found["spec"]["template"]


def read(port: str, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
        return str(reply.read().decode())


@pytest.mark.parametrize("service", SERVICES)
def test_image_serves_and_its_health_check_tells_whether_it_does(images: dict[str, Image], service: str) -> None:
    image = images[service]
    ports = {name: str(free_port()) for name in image.settings if name.endswith("PORT")}
    probed = ports[PROBED[service]]
    assert not image.healthy(probed)
    with image.start({**ports, "INSECURE": "true", "OPENAI_API_KEY": "sk-x"}) as process:
        try:
            assert process.stderr is not None
            assert any("listens" in line or "running on" in line for line in process.stderr)
            assert image.healthy(probed)
            assert scaling_metric(service) in read(probed, "/metrics")
            for probe in ("startupProbe", "livenessProbe"):
                asked = pod(service)["spec"]["containers"][0][probe].get("httpGet")
                assert not asked or read(probed, asked["path"])
        finally:
            process.terminate()
        assert process.wait(10) == 0
    assert not image.healthy(probed)


def scaling_metric(service: str) -> str:
    """The line of text that the metric begins with by which Kubernetes is to scale."""
    (scaler,) = [
        m for m in MANIFESTS if m["kind"] == "HorizontalPodAutoscaler" and m["metadata"]["name"] == f"studyai-{service}"
    ]
    assert scaler["spec"]["scaleTargetRef"]["name"] == f"studyai-{service}"
    return f"\n{scaler['spec']['metrics'][0]['pods']['metric']['name']} "


def test_engines_image_answers_a_gateway(images: dict[str, Image]) -> None:
    ports = {name: str(free_port()) for name in ("ENGINE_PORT", "ENGINE_METRICS_PORT")}
    with running_upstream() as upstream:
        settings = {**ports, "ENGINE_HOST": "127.0.0.1", "OPENAI_BASE_URL": upstream.base_url}
        with images["engine"].start(settings) as process:
            try:
                url = f"http://127.0.0.1:{ports['ENGINE_PORT']}"
                with running_gateway_process(AI_ENGINE_URL=url) as gateway:
                    question = (ROOT / "examples" / "ask.json").read_bytes()
                    headers = {"Content-Type": "application/json"}
                    at = f"http://127.0.0.1:{gateway.port}/api/ai/chat-image"
                    request = urllib.request.Request(at, question, headers)
                    with urllib.request.urlopen(request, timeout=10) as reply:
                        assert b"Hello there." in reply.read()
            finally:
                process.terminate()


def test_images_hold_what_their_service_needs_and_not_the_others(images: dict[str, Image]) -> None:
    held = {
        service: {folder.name for folder in (image.root / "app" / "lib").glob("python3.*/site-packages/*")}
        for service, image in images.items()
    }
    ours = {"engine_grpc", "sse_gateway", "local_model"}
    assert [sorted(ours & held[service]) for service in SERVICES] == [["engine_grpc"], ["sse_gateway"]]
    assert held["engine"].isdisjoint({"fastapi", "uvicorn", "starlette", "numpy", "onnxruntime"})
    assert held["gateway"].isdisjoint({"openai", "aiohttp", "numpy", "onnxruntime"})


@pytest.mark.parametrize("service", SERVICES)
def test_hadolint_finds_nothing_wrong_with_the_dockerfile(service: str) -> None:
    path = ROOT / "deploy" / "docker" / f"{service}.Dockerfile"
    done = subprocess.run([Path(sys.executable).parent / "hadolint", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("service", SERVICES)
def test_everything_that_an_image_copies_is_in_the_repository_and_let_in(service: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for sources, _ in copied(service):
        for source in sources:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored
    assert "USER 10001" in dockerfile(service)


@pytest.mark.parametrize("lock", ["engine", "gateway", "run", "dev", "bench"])
def test_locked_versions_are_within_the_bounds(lock: str) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = {one.name: one.specifier for one in map(Requirement, declared)}
    pins = re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / "requirements" / f"{lock}.lock").read_text(), re.MULTILINE)
    checked = [bounds[name].contains(version) for name, version in pins if name in bounds]
    assert len(checked) > 10
    assert all(checked)


def test_every_dependency_is_in_one_of_the_images() -> None:
    def names(text: str) -> set[str]:
        return set(re.findall(r"^ *\"?([a-z][a-z0-9-]+)", text, re.MULTILINE))

    declared = re.search(
        r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    assert declared is not None
    of_images = [names(Path(ROOT, "requirements", f"{service}.in").read_text()) for service in SERVICES]
    assert names(declared[1]) == set().union(*of_images)
