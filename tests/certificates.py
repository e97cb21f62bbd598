"""Certificates for tests: authorities of our own, and files as an operator would have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import trustme

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Writes both, over what is there, and returns where: the certificate, the key."""
        folder.mkdir(exist_ok=True)
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(self.certificate)
        key.write_bytes(self.key)
        return certificate, key


class Authority:
    """Issues certificates."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, *names: str) -> Pair:
        issued = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1")))
        return Pair(b"".join(blob.bytes() for blob in issued.cert_chain_pems), issued.private_key_pem.bytes())

    def write(self, path: Path) -> Path:
        path.write_bytes(self.pem)
        return path

    def trusted(self, own: Pair | None = None) -> grpc.ChannelCredentials:
        """What a caller connects with that trusts this authority, and shows a certificate of its own."""
        if own is None:
            return grpc.ssl_channel_credentials(self.pem)
        return grpc.ssl_channel_credentials(self.pem, own.key, own.certificate)
