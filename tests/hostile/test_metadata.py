"""Whatever a picture carries beside its pixels is gone in what the model is sent, wherever it stands.

Hypothesis chooses a picture, a secret, and where and how to hide the secret; nothing but pixels and orientation may be
left.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine_grpc.image import inspect
from tests.engine import pictures as make
from tests.engine.pictures import KINDS, frames, upright

if TYPE_CHECKING:
    from collections.abc import Callable

    Hide = Callable[[bytes], bytes]

EXIF, XMP, LONG_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"sBIT", b"bKGD", b"pHYs"}
PNG_KEPT |= {b"acTL", b"fcTL", b"fdAT", b"eXIf"}
WEBP_KEPT = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"EXIF"}
JPEG_KEPT = {0xE0, 0xE1, 0xEE, 0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xDA}

SECRETS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=12, max_size=40).map(str.encode)


def located(secret: bytes) -> bytes:
    """A TIFF block as a phone writes it: a maker's note, and a place on the map."""
    exif = Image.Exif()
    exif[0x010F], exif[0x010E] = "phone", secret.hex()
    exif.get_ifd(0x8769)[0x927C] = secret
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.25), 27: secret})
    return exif.tobytes().removeprefix(EXIF)


def segment(marker: int, head: bytes = b"") -> Hide:
    return lambda secret: make.jpeg_segment(marker, head + secret)


def chunk(kind: bytes, head: bytes = b"") -> Hide:
    return lambda secret: make.png_chunk(kind, head + secret)


def riff_chunk(kind: bytes) -> Hide:
    return lambda secret: make.riff_chunk(kind, secret)


def extension(label: int, *blocks: bytes) -> Hide:
    return lambda secret: make.gif_extension(label, *blocks, secret)


IN_JPEG: list[Hide] = [
    *(segment(marker) for marker in range(0xE0, 0xF0)),
    segment(0xFE),
    lambda secret: make.jpeg_segment(0xE1, EXIF + located(secret)),
    segment(0xE1, XMP),
    segment(0xE1, LONG_XMP),
    segment(0xE2, b"ICC_PROFILE\0\1\1"),
    segment(0xE2, b"MPF\0II*\0"),
    segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\x20\x1c\2\x5a\0\x20"),
    segment(0xE0, b"JFXX\0\x10"),
    segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\1\1"),
    segment(0xEE, b"Adobe\0\x64\0\0\0\0\1"),
    lambda secret: make.jpeg_segment(0xFE, b"") + secret.replace(b"\xff", b"\0"),
]
IN_PNG: list[Hide] = [
    *(chunk(kind) for kind in (b"tEXt", b"iTXt", b"tIME", b"sPLT", b"hIST", b"eXIf", b"prVt", b"dSIG", b"caBX")),
    lambda secret: make.png_chunk(b"eXIf", located(secret)),
    lambda secret: make.png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(secret)),
    lambda secret: make.png_chunk(b"iCCP", b"profile\0\0" + zlib.compress(secret)),
    chunk(b"tEXt", b"Raw profile type exif\0"),
    *(chunk(kind, b"\0" * 256) for kind in (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"sBIT", b"bKGD", b"pHYs")),
]
IN_WEBP: list[Hide] = [
    *(riff_chunk(kind) for kind in (b"EXIF", b"XMP ", b"ICCP", b"prVt", b"C2PA")),
    lambda secret: make.riff_chunk(b"EXIF", located(secret)),
]
IN_GIF: list[Hide] = [
    extension(0xFE),
    extension(0x01, b"\0" * 12),
    extension(0xFF, b"XMP DataXMP"),
    extension(0xFF, b"ICCRGBG1012"),
    extension(0xFF, b"NETSCAPE2.0", b"\1\3\0"),
    extension(0xCE),
]


def jpeg_places(data: bytes) -> list[int]:
    """Behind each segment before the pixels, and before each table or scan that stands between two of them."""
    places, position = [2], 2
    while data[position + 1] != 0xDA:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        places.append(position)
    while (position := data.find(b"\xff\xc4", position + 1)) >= 0:
        places.append(position)
    return places


def png_places(data: bytes) -> list[int]:
    places, position = [], 33
    while position < len(data):
        places.append(position)
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return places


def webp_places(data: bytes) -> list[int]:
    places, position = [], 12
    while position < len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
        places.append(position)
    return places


def gif_places(data: bytes) -> list[int]:
    table = 3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0
    return [13 + table, len(data) - 1]


WAYS = {
    "jpeg": (jpeg_places, IN_JPEG),
    "png": (png_places, IN_PNG),
    "webp": (webp_places, IN_WEBP),
    "gif": (gif_places, IN_GIF),
}


@st.composite
def pictures_with_a_secret(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """A picture, the same with up to three secrets in it and perhaps one behind it, and the secret."""
    kind = draw(st.sampled_from(sorted(kind for kind in KINDS if kind != "webp simple lossless")))
    plain, secret = KINDS[kind], draw(SECRETS)
    places, hides = WAYS[kind.split()[0]]
    chosen = st.tuples(st.sampled_from(places(plain)), st.sampled_from(hides))
    data = plain
    # From the last place to the first, so that places stay where they were.
    for place, hide in sorted(draw(st.lists(chosen, max_size=3)), key=lambda pair: -pair[0]):
        data = data[:place] + hide(secret) + data[place:]
    if kind.startswith("webp"):
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    return plain, data + draw(st.sampled_from([b"", secret])), secret


def parts(data: bytes) -> set[bytes] | set[int]:
    """The kinds of segment or chunk in a picture; none for a GIF, whose blocks the secret itself tells of."""
    if data.startswith(b"\x89PNG"):
        return {data[place + 4 : place + 8] for place in png_places(data)}
    if data.startswith(b"RIFF"):
        return {data[place : place + 4] for place in [12, *webp_places(data)[:-1]]}
    if data.startswith(b"\xff\xd8"):
        return {data[place + 1] for place in jpeg_places(data)}
    return set()


@settings(max_examples=400)
@given(pictures_with_a_secret())
def test_nothing_but_pixels_and_orientation_is_left(case: tuple[bytes, bytes, bytes]) -> None:
    plain, data, secret = case
    sent = inspect(data).data
    assert secret not in sent
    assert secret.hex().encode() not in sent
    assert parts(sent) <= PNG_KEPT | WEBP_KEPT | JPEG_KEPT
    if data.count(b"Adobe\0\x64") < 2:  # A second one says anew which colours the components are, and stays for that.
        assert frames(sent) == frames(plain)
    with Image.open(io.BytesIO(sent)) as image:
        assert set(image.getexif()) <= {0x0112}
        assert not {"xmp", "icc_profile", "comment", "photoshop", "mp"} & set(image.info)
        assert not getattr(image, "text", {})


def test_hidden_secrets_are_there_to_be_found_before() -> None:
    secret = b"SECRETSECRET"
    packed = zlib.compress(secret)
    for kind, (places, hides) in WAYS.items():
        assert all(secret in hide(secret) or packed in hide(secret) for hide in hides)
        place = places(KINDS[kind])[-1]
        assert secret in KINDS[kind][:place] + hides[0](secret) + KINDS[kind][place:]


@settings(max_examples=50)
@given(SECRETS, st.integers(1, 8))
def test_orientation_outlives_the_place(secret: bytes, turned: int) -> None:
    for build in (make.jpeg, make.png, make.webp):
        plain = build(turned)
        data = build(turned, exif=make.exif(turned).tobytes() + secret)
        sent = inspect(data).data
        assert secret not in sent
        assert upright(sent) == upright(plain)
