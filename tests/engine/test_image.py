from __future__ import annotations

import io
import struct
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine_grpc.image import MAX_PIXELS, ImageError, inspect
from tests.engine import pictures as make
from tests.engine.pictures import DAMAGED, KINDS, assert_same_picture, refused

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parents[1] / "data"
UNKNOWN = "The image is not a JPEG, PNG, WebP or GIF file."
TOO_LARGE = "The image has more than 50 megapixels."
TWO_MEGABYTES = 2_000_000
GIF_SCREEN = struct.pack("<6sHHBBB", b"GIF89a", 3, 2, 0, 0, 0)

MIMES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}

every_kind = pytest.mark.parametrize("data", KINDS.values(), ids=KINDS.keys())


@pytest.mark.parametrize("kind", KINDS)
def test_type_and_stored_size_are_told(kind: str) -> None:
    picture = inspect(KINDS[kind])
    assert picture.mime == MIMES[kind.split(maxsplit=1)[0]]
    assert (picture.width, picture.height) == make.SIZE


@every_kind
def test_pixels_and_orientation_stay_and_the_profile_goes(data: bytes) -> None:
    assert_same_picture(data, inspect(data).data)


@every_kind
def test_place_make_comment_and_xmp_are_gone(data: bytes) -> None:
    stripped = inspect(data).data
    assert not [secret for secret in make.SECRETS if secret in stripped]
    with Image.open(io.BytesIO(stripped)) as image:
        assert set(image.getexif()) <= {0x0112}


def test_pictures_of_these_tests_do_carry_metadata() -> None:
    for kind in ("jpeg turned", "webp turned"):
        assert all(secret in KINDS[kind] for secret in (make.PLACE, make.MAKE, make.XMP_NAME))
    assert make.COMMENT in KINDS["jpeg"]
    assert make.COMMENT in KINDS["gif"]
    assert make.PLACE in KINDS["png"]
    assert make.profile(KINDS["webp"]) == make.profile(KINDS["png"]) == make.profile(KINDS["jpeg"]) == make.ICC
    assert make.frames(KINDS["jpeg turned"])[0] != make.upright(KINDS["jpeg turned"])


@every_kind
def test_stripped_picture_is_its_own_result(data: bytes) -> None:
    picture = inspect(data)
    assert inspect(picture.data) == picture


@every_kind
def test_bytes_behind_the_end_are_dropped(data: bytes) -> None:
    assert inspect(data + make.TRAILING).data == inspect(data).data


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("build", [make.jpeg, make.png, make.webp])
def test_every_orientation_is_kept(build: Callable[[int], bytes], turned: int) -> None:
    with Image.open(io.BytesIO(inspect(build(turned)).data)) as image:
        assert image.getexif().get(0x0112, 1) == turned


@every_kind
def test_file_cut_off_anywhere_is_refused(data: bytes) -> None:
    sentences = {refused(data[:length]) for length in range(12, len(data))}
    assert sentences == {DAMAGED}
    assert {refused(data[:length]) for length in range(1, 12)} <= {DAMAGED, UNKNOWN}


def test_empty_and_unknown_files_are_refused_with_their_own_sentences() -> None:
    assert refused(b"") == "The image is empty."
    for data in (b"A text, no image.", b"%PDF-1.7\n", make.saved(make.scene(), "BMP"), b"RIFF\4\0\0\0WAVE", b"\xff"):
        assert refused(data) == UNKNOWN


@pytest.mark.parametrize(("width", "height", "fits"), [(10_000, 5_000, True), (10_000, 5_001, False)])
def test_limit_is_fifty_megapixels_by_the_header(width: int, height: int, *, fits: bool) -> None:
    frame = struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)
    webp_size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    lossless = struct.pack("<BI", 0x2F, (width - 1) | (height - 1) << 14)
    bombs = [
        b"\xff\xd8" + make.jpeg_segment(0xC0, frame) + make.jpeg_segment(0xDA, b"\1\1\0\0\x3f\0") + b"\0\xff\xd9",
        b"\x89PNG\r\n\x1a\n" + make.png_header(width, height) + make.png_chunk(b"IDAT") + make.png_chunk(b"IEND"),
        make.riff(make.riff_chunk(b"VP8L", lossless)),
        make.riff(make.riff_chunk(b"VP8X", b"\0\0\0\0" + webp_size), make.riff_chunk(b"VP8L", lossless)),
        struct.pack("<6sHHBBB", b"GIF89a", width, height, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\1\0\0;",
        struct.pack("<6sHHBBB", b"GIF89a", 1, 1, 0, 0, 0)
        + struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, 0)
        + b"\2\1\0\0;",
    ]
    for data in bombs:
        if fits:
            assert inspect(data).width * inspect(data).height == MAX_PIXELS
        else:
            assert refused(data) == TOO_LARGE


def test_zero_size_is_refused() -> None:
    png = KINDS["png"]
    assert refused(png[:8] + make.png_header(0, 5) + png[33:]) == DAMAGED
    jpeg = KINDS["jpeg"]
    frame = jpeg.index(b"\xff\xc0")
    assert refused(jpeg[: frame + 5] + b"\0\0" + jpeg[frame + 7 :]) == DAMAGED
    assert refused(struct.pack("<6sHHBBB", b"GIF89a", 0, 9, 0, 0, 0) + b",\0\0\0\0\0\0\1\0\0\2\1\0\0;") == DAMAGED


def hostile_files() -> dict[str, bytes]:
    half = TWO_MEGABYTES // 2
    start, scan = b"\xff\xd8", KINDS["jpeg"][: KINDS["jpeg"].rindex(b"\xff\xd9")]
    png = KINDS["png"][:33]
    webp_frame = make.riff_chunk(b"ANMF", b"\0" * 16 + make.riff_chunk(b"prVt", b"") * 3)
    return {
        "jpeg segments": start + b"\xff\xfe\0\2" * (half // 2),
        "jpeg fill bytes": start + b"\xff" * TWO_MEGABYTES,
        "jpeg padding": start + b"\xff\xfe\0\2" + (b"\xff" * 1000 + b"\0") * (TWO_MEGABYTES // 1001),
        "jpeg stuffing": scan + b"\xff\0" * half,
        "jpeg restart markers": scan + b"\xff\xd0" * half,
        "jpeg exif": start + make.jpeg_segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\0" * 65_000) * 30,
        "png chunks": png + make.png_chunk(b"prVt") * (TWO_MEGABYTES // 12),
        "png exif": png + make.png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + b"\0" * TWO_MEGABYTES) * 3,
        "webp chunks": make.riff(make.riff_chunk(b"prVt", b"") * (TWO_MEGABYTES // 8)),
        "webp frames": make.riff(make.riff_chunk(b"VP8X", b"\2" + b"\0" * 9), webp_frame * 40_000),
        "gif blocks": GIF_SCREEN + b"!\xfe" + b"\1x" * half,
        "gif extensions": GIF_SCREEN + b"!\xfe\0" * (TWO_MEGABYTES // 3),
    }


@pytest.mark.parametrize("kind", hostile_files())
def test_hostile_file_is_refused_in_a_moment(kind: str) -> None:
    data = hostile_files()[kind]
    before = time.process_time()
    assert refused(data) == DAMAGED
    assert time.process_time() - before < 1.0


def test_large_picture_takes_about_one_copy_of_memory() -> None:
    noise = Image.effect_noise((1400, 1400), 120).convert("RGB")
    data = make.saved(noise, "JPEG", quality=97, exif=make.exif(6))
    tracemalloc.start()
    try:
        inspect(data)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(data) > TWO_MEGABYTES // 2
    assert peak < 1.2 * len(data) + 100_000


def survives(data: bytes) -> None:
    try:
        picture = inspect(data)
    except ImageError:
        return
    assert picture.width * picture.height <= MAX_PIXELS
    assert inspect(picture.data) == picture


@given(st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP", b"GIF89a", b""]), st.binary())
def test_any_bytes_give_a_picture_or_a_refusal(magic: bytes, data: bytes) -> None:
    survives(magic + data)


EDITS = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 30), st.binary(max_size=6)), min_size=1, max_size=5)


@settings(max_examples=400)
@given(st.sampled_from(list(KINDS.values())), EDITS)
def test_mutated_files_give_a_picture_or_a_refusal(data: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for place, removed, inserted in edits:
        at = place % (len(data) + 1)
        data = data[:at] + inserted + data[at + removed :]
    survives(data)


def test_real_pictures_stay_the_same_picture() -> None:
    files = [path for path in sorted(DATA.iterdir()) if path.suffix in {".jpg", ".png", ".webp", ".gif"}]
    assert files
    for path in files:
        assert_same_picture(path.read_bytes(), inspect(path.read_bytes()).data)


def test_real_broken_files_are_refused() -> None:
    files = sorted((DATA / "broken").iterdir())
    assert files
    for path in files:
        refused(path.read_bytes())
