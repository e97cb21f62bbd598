"""Why a service cannot be reached: the address and the reason in one sentence, whichever library tells it."""

from __future__ import annotations

import os
import re
import socket
import ssl
from typing import TYPE_CHECKING

from studyai_client.errors import ConnectionFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_HOST = "there is no such host"
_REMOTE = re.compile(r"remote host: (?:connect: )?([A-Z][a-z ]+)")
"""How gRPC quotes the system in a status."""


def over_http(where: str, error: BaseException) -> ConnectionFailedError:
    """Returns the failure to connect that httpx2 tells; the system's own error is a cause of its error."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return _failed(where, _NO_HOST if cause.errno != socket.EAI_AGAIN else "its name cannot be looked up now")
        if isinstance(cause, ssl.SSLError):
            return _failed(where, getattr(cause, "verify_message", "") or "it does not speak TLS as we do")
        if isinstance(cause, TimeoutError):
            return _failed(where, "it does not answer")
        if isinstance(cause, OSError) and (cause.errno or 0) > 0:
            return _failed(where, os.strerror(cause.errno or 0).lower())
    return _failed(where)


def over_grpc(where: str, details: str) -> ConnectionFailedError:
    """Returns the failure to connect that a status' details tell of."""
    if "Domain name not found" in details:
        return _failed(where, _NO_HOST)
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return _failed(where, "its certificate is not trusted")
    quoted = _REMOTE.search(details)
    return _failed(where, quoted[1].strip().lower() if quoted else "")


def _failed(where: str, why: str = "") -> ConnectionFailedError:
    """A name that nobody has is not worth another try; everything else may pass."""
    return ConnectionFailedError(f"{where} cannot be reached{': ' if why else ''}{why}.", retryable=why != _NO_HOST)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
