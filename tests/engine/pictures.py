"""Small pictures of every format with all the metadata they can carry, made by Pillow and by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from engine_grpc.image import ImageError, inspect

SIZE = (40, 24)
PLACE, MAKE, COMMENT, XMP_NAME = b"PLACE-OF-PHOTO", b"MAKE-OF-PHONE", b"COMMENT-OF-SENDER", b"NAME-IN-XMP"
SECRETS = (PLACE, MAKE, COMMENT, XMP_NAME, b"Exif\0\0II", b"<x:xmpmeta")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><n>' + XMP_NAME + b"</n></x:xmpmeta>"
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DAMAGED = "The image file is damaged or incomplete."
TRAILING = b"\0\0MotionPhoto_Data" + PLACE


def scene(mode: str = "RGB", shade: int = 0) -> Image.Image:
    """A picture that looks different from each side."""
    pixels = [((x * 6 + shade) % 256, y * 10, (x * y + shade) % 256) for y in range(SIZE[1]) for x in range(SIZE[0])]
    image = Image.frombytes("RGB", SIZE, bytes(value for pixel in pixels for value in pixel))
    return image.convert(mode)


def exif(orientation: int | None = None) -> Image.Exif:
    block = Image.Exif()
    block[0x010F] = MAKE.decode()
    if orientation:
        block[0x0112] = orientation
    place = block.get_ifd(0x8825)
    place.update({1: "N", 2: (52.0, 31.0, 12.25), 18: PLACE.decode()})
    return block


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(orientation: int | None = None, mode: str = "RGB", **options: Any) -> bytes:
    everything = {"exif": exif(orientation), "icc_profile": ICC, "comment": COMMENT, "xmp": XMP, "quality": 90}
    return saved(scene(mode), "JPEG", **{**everything, **options})


def png(orientation: int | None = None, mode: str = "RGB", **options: Any) -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", COMMENT.decode())
    texts.add_text("Comment", COMMENT.decode(), zip=True)
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    texts.add(b"prVt", PLACE)
    everything = {"exif": exif(orientation), "icc_profile": ICC, "pnginfo": texts, "dpi": (72, 72)}
    return saved(scene(mode), "PNG", **{**everything, **options})


def webp(orientation: int | None = None, mode: str = "RGB", **options: Any) -> bytes:
    everything = {"exif": exif(orientation), "icc_profile": ICC, "xmp": XMP}
    return saved(scene(mode), "WEBP", **{**everything, **options})


def gif(**options: Any) -> bytes:
    return saved(scene("P"), "GIF", **{"comment": COMMENT, **options})


def animated(kind: str, **options: Any) -> bytes:
    more = [scene(shade=100), scene(shade=200)]
    return saved(scene(), kind, save_all=True, append_images=more, duration=90, loop=3, **options)


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def png_chunk(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def gif_extension(label: int, *blocks: bytes) -> bytes:
    return bytes((0x21, label)) + b"".join(bytes((len(block),)) + block for block in blocks) + b"\0"


def tiff(order: str, *entries: tuple[int, int, int]) -> bytes:
    """A TIFF block: its entries are tag, type (3 short, 4 long) and value."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries))
    directory = b"".join(
        struct.pack(order + ("HHIHH" if kind == 3 else "HHII"), tag, kind, 1, value, *((0,) if kind == 3 else ()))
        for tag, kind, value in entries
    )
    return head + directory + b"\0\0\0\0"


def frames(data: bytes) -> list[tuple[tuple[int, int], bytes]]:
    """Size and pixels of every frame, as they are stored."""
    with Image.open(io.BytesIO(data)) as image:
        return [_pixels(image, number) for number in range(getattr(image, "n_frames", 1))]


def upright(data: bytes) -> tuple[tuple[int, int], bytes]:
    """Size and pixels as a viewer shows them."""
    with Image.open(io.BytesIO(data)) as image:
        turned = ImageOps.exif_transpose(image)
        return turned.size, turned.convert("RGBA").tobytes()


def profile(data: bytes) -> bytes | None:
    with Image.open(io.BytesIO(data)) as image:
        return image.info.get("icc_profile")


def _pixels(image: Image.Image, number: int) -> tuple[tuple[int, int], bytes]:
    image.seek(number)
    return image.size, image.convert("CMYK" if image.mode == "CMYK" else "RGBA").tobytes()


def refused(data: bytes) -> str:
    """The sentence with which the file is refused."""
    with pytest.raises(ImageError) as caught:
        inspect(data)
    return str(caught.value)


def assert_same_picture(before: bytes, after: bytes) -> None:
    assert frames(after) == frames(before)
    assert upright(after) == upright(before)
    assert profile(after) is None


# Every kind of file that a decoder treats in its own way.
KINDS: dict[str, bytes] = {
    "jpeg": jpeg(),
    "jpeg turned": jpeg(6),
    "jpeg progressive": jpeg(8, progressive=True),
    "jpeg restart markers": jpeg(restart_marker_blocks=1),
    "jpeg grey": jpeg(3, mode="L"),
    "jpeg cmyk": jpeg(mode="CMYK"),
    "png": png(),
    "png turned": png(5),
    "png palette": png(mode="P", transparency=scene("P").getpixel((9, 9))),
    "png alpha": png(2, mode="RGBA"),
    "png animated": animated("PNG", exif=exif(6)),
    "webp": webp(),
    "webp turned": webp(7),
    "webp lossless": webp(6, lossless=True),
    "webp alpha": webp(6, mode="RGBA"),
    "webp simple": saved(scene(), "WEBP"),
    "webp simple lossless": saved(scene(), "WEBP", lossless=True),
    "webp animated": animated("WEBP", exif=exif(4), xmp=XMP),
    "gif": gif(),
    "gif interlaced": gif(interlace=1, transparency=2),
    "gif animated": animated("GIF", comment=COMMENT),
}
