"""Compression of a stream, flushed after every write: a token that arrives alone leaves alone, compressed too.

Accumulated events repeat all of the text, so that nearly all of a stream is repetition: any window that holds the last
event finds it, and larger ones cost more memory than the rest of the stream. What was measured is in
docs/performance.md.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import brotli
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Encoder(Protocol):
    """One stream's compressor."""

    def encode(self, data: bytes, *, last: bool) -> bytes:
        """Returns bytes from which all of `data` can be decoded, and with `last` the stream's end."""


class _Zstd:
    """RFC 8878. Lazy, and looking for matches of four bytes: the repeats are long, new tokens short."""

    _PARAMETERS = zstandard.ZstdCompressionParameters(
        window_log=16,
        hash_log=12,
        chain_log=12,
        search_log=4,
        min_match=4,
        target_length=0,
        strategy=zstandard.STRATEGY_LAZY,
        write_content_size=False,
    )

    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(compression_params=self._PARAMETERS).compressobj()

    def encode(self, data: bytes, *, last: bool) -> bytes:
        flush = zstandard.COMPRESSOBJ_FLUSH_FINISH if last else zstandard.COMPRESSOBJ_FLUSH_BLOCK
        return self._stream.compress(data) + self._stream.flush(flush)


class _Brotli:
    """RFC 7932. Below quality 2 it does not find the repeats."""

    def __init__(self) -> None:
        self._stream = brotli.Compressor(quality=3, lgwin=16)

    def encode(self, data: bytes, *, last: bool) -> bytes:
        written: bytes = self._stream.process(data)
        rest: bytes = self._stream.finish() if last else self._stream.flush()
        return written + rest


class _Gzip:
    """RFC 1952."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(level=6, wbits=16 + 13, memLevel=5)

    def encode(self, data: bytes, *, last: bool) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


_ENCODERS: dict[str, Callable[[], Encoder]] = {"zstd": _Zstd, "gzip": _Gzip, "br": _Brotli}
"""The best first. Brotli holds nine times gzip's memory, and saves bytes only in answers of more than 450 tokens."""


def negotiated(accept_encoding: str, codings: Iterable[str] = tuple(_ENCODERS)) -> str | None:
    """Returns the coding that a client likes best, and of those the first; None, if that is none (RFC 9110, 12.5.3).

    Args:
        accept_encoding: The client's header.
        codings: What there is, the best first: a stream's.
    """
    liked = dict(map(_weighed, accept_encoding.lower().split(",")))
    anything = liked.get("*", 0.0)
    weights = {name: liked.get(name, anything) for name in codings}
    best = max(weights, key=weights.__getitem__)
    return best if weights[best] > 0 and weights[best] >= liked.get("identity", 0.0) else None


def encoder(coding: str) -> Encoder:
    """Returns a new stream's encoder."""
    return _ENCODERS[coding]()


def _weighed(coding: str) -> tuple[str, float]:
    name, _, parameter = coding.partition(";")
    _, _, weight = parameter.partition("=")
    try:
        return name.strip(), float(weight or 1)
    except ValueError:
        return name.strip(), 0.0
