"""Whether the gateway lives, whether it should be sent requests (each check by its name), and its metrics."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from sse_gateway import metrics
from sse_gateway.dependencies import Parts

_CHECK_SECONDS = 1.0


class Health(BaseModel):
    """How the gateway is."""

    status: Literal["ok", "unavailable"]
    failed: list[str] = Field(
        default=[], description="The checks that failed: `engine` (reached, and serving), `draining`."
    )


router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Does it live?", response_model_exclude_unset=True)
async def healthz() -> Health:
    """Answers while the process lives."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Is it ready?",
    response_model_exclude_unset=True,
    responses={503: {"model": Health, "description": "No; `failed` says why."}},
)
async def readyz(request: Request, response: Response) -> Health:
    """Tells whether the gateway should be sent questions."""
    parts = Parts.of(request)
    checks = {"engine": await parts.engine.serving(_CHECK_SECONDS), "draining": not parts.lifecycle.draining}
    failed = [name for name, passed in checks.items() if not passed]
    if not failed:
        return Health(status="ok")
    response.status_code = 503
    return Health(status="unavailable", failed=failed)


@router.get("/metrics", include_in_schema=False)
async def get_metrics() -> Response:
    """Returns the metrics of this process, for Prometheus."""
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)
