"""How a client connects, and how patient it is.

The address says over what: `http://` and `https://`, or `grpc://` and `grpcs://` (TLS).
"""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from studyai_client.errors import DeadlineExceededError

if TYPE_CHECKING:
    import os

DEFAULT_URL = "http://127.0.0.1:3000"
DEFAULT_TIMEOUT = 120.0
"""Seconds for a whole answer, resumption included."""
STOP_SECONDS = 10.0
"""How long stopping an answer may take, on either wire."""
_YEAR = 31_536_000.0
_NUMBERS = re.compile(r"\d+\.\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Whom to trust, and who to be. PEM files; all of them optional."""

    ca_file: str | os.PathLike[str] | None = None
    """The authorities whose word for the service is taken. None: the public ones."""
    cert_file: str | os.PathLike[str] | None = None
    """One's own certificate chain, for mutual TLS."""
    key_file: str | os.PathLike[str] | None = None
    """Its private key, not encrypted."""
    server_name: str | None = None
    """What the service's certificate names, where that is not the host in the address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often and how soon to go back after a failure. Attempts are counted anew whenever text has come."""

    attempts: int = 7
    """How many times in a row it goes back before it gives up. 0 never does."""
    first_delay: float = 0.25
    """Seconds; doubled after each failure, and jittered down to a half."""
    longest_delay: float = 8.0
    """Seconds; a service that asks for more than this is not waited for."""

    def delay(self, failures: int) -> float:
        """Returns the seconds to wait after so many failures in a row, from 1."""
        longest = min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1))
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, hides nothing


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address of the service."""

    url: str
    """Without a slash at its end."""
    tls: bool
    grpc_target: str | None
    """Where gRPC connects to; None for HTTP."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Reads an address.

        Raises:
            ValueError: It is none.
        """
        scheme, rest = url.partition("://")[::2]
        if scheme not in ("http", "https", "grpc", "grpcs") or not _names_a_host(url):
            raise ValueError("The address should be http://host:port, https://…, grpc://host:port or grpcs://…")
        target = rest.rstrip("/") if scheme.startswith("grpc") else None
        return cls(url.rstrip("/"), scheme in ("https", "grpcs"), target)


def _names_a_host(url: str) -> bool:
    """Tells whether an address has a host that can be looked up, and no port that there cannot be."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        if _NUMBERS.fullmatch(host):
            IPv4Address(host)
        return bool(host.encode("idna")) and not any(letter.isspace() for letter in host)
    except ValueError:
        return False


class Deadline:
    """When the caller has no more use for an answer.

    Args:
        seconds: From now; None for never, and so is what is longer than a year: timers and gRPC cannot reckon with it.
    """

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None or seconds > _YEAR else time.monotonic() + seconds

    def remaining(self) -> float | None:
        """Returns the seconds left, more than none; None for any number.

        Raises:
            DeadlineExceededError: There are none.
        """
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise too_late()
        return left

    def allows(self, seconds: float) -> bool:
        """Tells whether it is further away than this."""
        return self._end is None or time.monotonic() + seconds < self._end


def too_late() -> DeadlineExceededError:
    """Returns the error for a deadline of one's own that has passed."""
    return DeadlineExceededError("The answer took longer than the time-out allows.", retryable=True)
