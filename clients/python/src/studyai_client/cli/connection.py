"""Where the command's service is, and as whom it comes there. No secret is read from the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from studyai_client.cli.environment import default_engine, default_gateway
from studyai_client.client import StudyAI
from studyai_client.options import Address, Backoff, Tls

if TYPE_CHECKING:
    from collections.abc import Callable

    from studyai_client.errors import StudyAIError

_SCHEMES = {"http": "grpc", "https": "grpcs"}
"""What AI_ENGINE_URL calls them, and what a client does."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """What a client is made with."""

    url: str
    token: str | None = field(repr=False)
    tls: Tls
    student: str = ""

    @classmethod
    def of(
        cls, url: str | None, engine: str | None, *, grpc: bool, ca_file: str | None, student: str = ""
    ) -> Connection:
        """Reads what the command line says, and the environment for the rest."""
        if grpc or engine or names_engine(url):
            named = url if names_engine(url) else engine or os.environ.get("AI_ENGINE_URL")
            return cls.to_engine(named or default_engine(), ca_file, student)
        token = os.environ.get("STUDYAI_TOKEN", "").strip()  # a file's line end is no part of it
        return cls(url=url or default_gateway(), token=token or None, tls=Tls(ca_file=ca_file), student=student)

    @classmethod
    def to_engine(cls, engine: str, ca_file: str | None, student: str = "") -> Connection:
        """Reads the gateway's own variables for the rest."""
        known = os.environ
        tls = Tls(
            ca_file=ca_file or known.get("AI_ENGINE_TLS_CA_FILE") or None,
            cert_file=known.get("AI_ENGINE_TLS_CERT_FILE") or None,
            key_file=known.get("AI_ENGINE_TLS_KEY_FILE") or None,
            server_name=known.get("AI_ENGINE_TLS_SERVER_NAME") or None,
        )
        # Of several, comma-separated, the first: as the gateway does.
        token = known.get("SERVICE_TOKEN", "").partition(",")[0].strip() or None
        return cls(url=_engine_url(engine, tls), token=token, tls=tls, student=student)

    @property
    def address(self) -> Address:
        """Where it is.

        Raises:
            ValueError: Nowhere.
        """
        return Address.parse(self.url)

    @property
    def shown(self) -> str:
        """The same in words, without a password that it may hold."""
        scheme, separator, rest = self.url.partition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2]}"

    def client(
        self, on_retry: Callable[[StudyAIError, float], None] | None = None, backoff: Backoff | None = None
    ) -> StudyAI:
        """Returns a client.

        Raises:
            ValueError: The address is none.
            OSError: A file for TLS cannot be read.
        """
        return StudyAI(
            self.url,
            token=self.token,
            tls=self.tls,
            student_id=self.student,
            on_retry=on_retry,
            backoff=backoff or Backoff(),
        )


def names_engine(url: str | None) -> bool:
    """Tells whether an address is an engine's, and no gateway's."""
    return bool(url) and str(url).startswith("grpc")


def _engine_url(engine: str, tls: Tls) -> str:
    """Returns an engine's address, which may be written as HOST:PORT or as AI_ENGINE_URL has it."""
    first = engine.partition(",")[0].strip()
    scheme, separator, rest = first.rpartition("://")
    if not separator or scheme == "dns":
        # Neither says whether there is TLS: there is where somebody is to be trusted for it.
        return f"{'grpcs' if tls.ca_file else 'grpc'}://{rest.lstrip('/')}"
    return f"{_SCHEMES.get(scheme, scheme)}://{rest}"
