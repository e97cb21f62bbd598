"""Are the two services there, and well? The engine by its health and its reflection, the gateway by its own pages."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

import grpc
import httpx2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from studyai_client import grpc_wire, http_wire
from studyai_client.cli.findings import Finding
from studyai_client.options import Deadline
from studyai_client.settings import check_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from studyai_client.cli.connection import Connection

CHECK_SECONDS = 3.0
_SKEW_SECONDS = 5
"""Between clocks: tokens, whose time counts, are allowed 10."""
_SERVICE = "studyai.v1.ChatService"


def check_engine(connection: Connection) -> Finding:
    """Asks the engine whether it serves, and whether it lets us in."""
    try:
        target = connection.address.grpc_target or ""
    except ValueError:
        return Finding(
            "bad", "engine", f"{connection.shown} is no address.", "AI_ENGINE_URL=http://host:port, or https://…"
        )
    try:
        check_token(connection.token)
    except ValueError as error:
        return Finding("bad", "engine", f"{target} was not asked. {error}", "Set SERVICE_TOKEN to the engine's.")
    try:
        with _channel(connection, target) as channel:
            return _health(channel, target) or _reflection(channel, connection, target)
    except grpc.RpcError as error:
        return _no_engine(target, cast("grpc.Call", error).code(), tls=connection.address.tls)
    except OSError as error:
        return Finding("bad", "engine", f"{error.filename}: {error.strerror}.", "Check AI_ENGINE_TLS_…_FILE.")


def check_gateway(connection: Connection, own_version: str) -> Iterator[Finding]:
    """Asks the gateway whether it lives and is ready, and which version and time it has."""
    arguments = http_wire.client_arguments(connection.address, None, connection.tls)
    try:
        with httpx2.Client(**arguments, timeout=CHECK_SECONDS) as client:
            alive = client.get("/healthz")
            if not _is_ours(alive):
                advice = "Something else listens there: name the gateway with --url or STUDYAI_URL."
                yield Finding("bad", "gateway", f"{connection.shown} is not StudyAI's gateway.", advice)
                return
            yield (ready := _ready(client, connection.shown, own_version))
            if ready.state != "bad":
                yield from _token(client, connection.token)
            yield _clock(alive)
    except httpx2.RequestError:
        advice = "Start it: make run, or sse-gateway. If it is elsewhere: --url or STUDYAI_URL."
        yield Finding("bad", "gateway", f"Nothing answers at {connection.shown}.", advice)


def _channel(connection: Connection, target: str) -> grpc.Channel:
    options = grpc_wire.options(connection.tls)
    if connection.address.tls:
        return grpc.secure_channel(target, grpc_wire.credentials(connection.tls), options)
    return grpc.insecure_channel(target, options)


def _health(channel: grpc.Channel, target: str) -> Finding | None:
    """Returns what is wrong; see https://github.com/grpc/grpc/blob/master/doc/health-checking.md."""
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its types know the calls of grpc.aio alone
    reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=CHECK_SECONDS)
    if reply.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    advice = "It starts or drains: look again in a moment, and then at its log."
    return Finding("bad", "engine", f"{target} is there, and does not serve.", advice)


def _reflection(channel: grpc.Channel, connection: Connection, target: str) -> Finding:
    """Asks which services there are: unlike the health, it tells whether the token is good."""
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    given = grpc_wire.CallArguments(connection.token).given(Deadline(CHECK_SECONDS))
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    (reply,) = stub.ServerReflectionInfo(iter([asked]), **given)
    if _SERVICE in {service.name for service in reply.list_services_response.service}:
        return Finding("good", "engine", f"{target} serves{', over TLS' if connection.address.tls else ''}.")
    return Finding("bad", "engine", f"{target} has no {_SERVICE}.", "Something else listens there: see AI_ENGINE_URL.")


def _no_engine(target: str, code: grpc.StatusCode, *, tls: bool) -> Finding:
    if code is grpc.StatusCode.UNAUTHENTICATED:
        fact, advice = f"{target} wants another token.", "Set SERVICE_TOKEN to the engine's."
    elif code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        other = "without TLS" if tls else "over TLS (https://…)"
        fact = f"Nothing answers at {target} {'over TLS' if tls else 'without TLS'}."
        advice = f"Start it: make run, or engine-grpc. If it is elsewhere, or {other}: --engine or AI_ENGINE_URL."
    else:
        fact, advice = f"{target} answers {code.name}.", "Something else listens there: see AI_ENGINE_URL."
    return Finding("bad", "engine", fact, advice)


def _is_ours(alive: httpx2.Response) -> bool:
    return alive.is_success and alive.content.startswith(b'{"status":')


def _ready(client: httpx2.Client, url: str, own_version: str) -> Finding:
    ready = client.get("/readyz")
    if not ready.is_success:
        failed = ", ".join(_members(ready).get("failed", [])) or f"HTTP {ready.status_code}"
        advice = "Its log says why. `engine`: it does not reach one, see AI_ENGINE_URL; `draining`: it is being ended."
        return Finding("bad", "gateway", f"{url} lives, and is not ready: {failed}.", advice)
    theirs = _members(client.get("/openapi.json")).get("info", {}).get("version", "")
    if not theirs:
        return Finding("good", "gateway", f"{url} is ready.")
    if theirs.split(".")[0] != own_version.split(".", maxsplit=1)[0]:
        advice = "Install the client of the same major version."
        return Finding("doubtful", "gateway", f"{url} is ready; its version is {theirs}, ours {own_version}.", advice)
    return Finding("good", "gateway", f"{url} is ready (version {theirs}).")


def _token(client: httpx2.Client, token: str | None) -> Iterator[Finding]:
    """Asks for an answer that there is not, which costs nothing: who is not let in is told so."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    reply = client.get("/api/ai/answers/doctor", headers=headers)
    if reply.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        fact = "The gateway refuses the one in STUDYAI_TOKEN." if token else "The gateway wants one."
        yield Finding("bad", "token", fact, "Set STUDYAI_TOKEN to a bearer token of a student's: docs/callers.md.")


def _members(reply: httpx2.Response) -> dict[str, Any]:
    """Returns what a reply tells; nothing where a proxy has something of its own in its place."""
    try:
        told = reply.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _clock(reply: httpx2.Response) -> Finding:
    told = reply.headers.get("date")
    if not told:
        return Finding("skipped", "clock", "The gateway tells no time.")
    skew = abs((datetime.now(UTC) - parsedate_to_datetime(told)).total_seconds())
    if skew <= _SKEW_SECONDS:
        return Finding("good", "clock", "As the gateway's.")
    advice = "Set the clocks by NTP: tokens count as expired, or as not yet valid, where they differ by more than 10 s."
    return Finding("doubtful", "clock", f"{skew:.0f} s off the gateway's.", advice)
