"""What an operator has to put right where a call fails because gateway and engine do not fit together.

gRPC tells it in the words of its status alone. Those are looked through, never passed on.
"""

from __future__ import annotations

import grpc

_BY_DETAILS = {
    "CERTIFICATE_VERIFY_FAILED": "the engine's certificate has expired, or is of none of AI_ENGINE_TLS_CA_FILE's "
    "authorities",
    "Hostname Verification Check failed": "the engine's certificate names neither the host of AI_ENGINE_URL nor "
    "AI_ENGINE_TLS_SERVER_NAME",
    "WRONG_VERSION_NUMBER": "the engine listens without TLS: it needs ENGINE_TLS_CERT_FILE, or AI_ENGINE_URL http://",
    "Socket closed": "the engine closed the connection at once: does it ask for TLS (AI_ENGINE_URL=https://…), or for "
    "a certificate of one of its own authorities (AI_ENGINE_TLS_CERT_FILE)?",
}


def misconfiguration(error: grpc.aio.AioRpcError) -> str | None:
    """Returns what seems to be wrong with the settings, in a fixed sentence; None where nothing does."""
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return "the engine refused this gateway's SERVICE_TOKEN: both need the same"
    details = error.details() or ""
    # As gRPC begins when no connection came about; a connection that was good before it broke is another matter.
    if error.code() is not grpc.StatusCode.UNAVAILABLE or "last error: " not in details:
        return None
    return next((why for sign, why in _BY_DETAILS.items() if sign in details), None)
