"""The engine's TLS: its certificate, the authorities of its callers, and their renewal on disk without a restart.

gRPC asks before each handshake whether there is something new; an open connection stays as it is. What is new is
taken only when it is whole: a file that is missing or half written, or a key without its certificate yet, leaves the
former in use. gRPC's own TLS is 1.2 or newer.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger(__name__)

_NO_PASSWORD = "none"  # noqa: S105 - without one OpenSSL asks the terminal for it
_Stamp = tuple[tuple[int, int, int] | None, ...]


class TlsFilesError(ValueError):
    """Files that cannot be used. Its sentence names their settings, and holds nothing that is in them."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the engine's certificate is, and its callers' authorities; all PEM."""

    certificate: Path
    """The certificate, and those between it and an authority."""
    key: Path
    client_ca: Path | None = None
    """The authorities of whom every caller needs a certificate (mutual TLS); None: callers show none."""

    def stamp(self) -> _Stamp:
        """Returns a value that changes when a file does."""
        return tuple(_stamp(path) for path in (self.certificate, self.key, self.client_ca) if path)

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Returns what the files hold.

        Raises:
            TlsFilesError: They cannot be read, or are not what they should be.
        """
        pair = _read(self.key, "ENGINE_TLS_KEY_FILE"), _read(self.certificate, "ENGINE_TLS_CERT_FILE")
        authorities = _read(self.client_ca, "ENGINE_TLS_CLIENT_CA_FILE") if self.client_ca else None
        self._check()
        return grpc.ssl_server_certificate_configuration([pair], authorities)

    def _check(self) -> None:
        """Finds out what gRPC itself would not tell: that they are of no use."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, _NO_PASSWORD)
        except OSError:  # ssl.SSLError is one
            raise TlsFilesError(
                "ENGINE_TLS_CERT_FILE and ENGINE_TLS_KEY_FILE should be a certificate and its own private key, "
                "not encrypted, both in PEM"
            ) from None
        try:
            if self.client_ca:
                context.load_verify_locations(self.client_ca)
        except OSError:
            raise TlsFilesError("ENGINE_TLS_CLIENT_CA_FILE should be certificates of authorities in PEM") from None


class ServerTls:
    """What to listen with, which follows the files from now on.

    Args:
        files: Where it is read from.

    Raises:
        TlsFilesError: The files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = files.stamp()
        self._latest = files.read()
        self._lock = threading.Lock()

    def credentials(self) -> grpc.ServerCredentials:
        """Returns credentials for one server: gRPC uses up what they begin with."""
        renewal: Any = self._renewed  # may return None, as documented
        return grpc.dynamic_ssl_server_credentials(self._latest, renewal, self._files.client_ca is not None)

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC calls before each handshake, in threads of its own; None: what there was stays in use."""
        with self._lock:
            # Taken before the files are read: what changes meanwhile is new again the next time.
            stamp = self._files.stamp()
            if stamp == self._seen:
                return None
            self._seen = stamp
            return self._read()

    def _read(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            self._latest = self._files.read()
        except TlsFilesError as error:
            log.warning("new TLS files cannot be used, the former stay in use", why=str(error))
            return None
        log.info("TLS files renewed")
        return self._latest


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsFilesError(f"{setting} cannot be read: {error.strerror}") from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
