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

from engine_grpc.image import MAX_PIXELS, ImageError, Picture, inspect, orientation
from tests.engine import pictures as make

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parents[1] / "data"
DAMAGED = "The image file is damaged or incomplete."
UNKNOWN = "The image is not a JPEG, PNG, WebP or GIF file."
TOO_LARGE = "The image has more than 50 megapixels."
TWO_MEGABYTES = 2_000_000

# Every kind of file that a decoder treats in its own way.
KINDS: dict[str, bytes] = {
    "jpeg": make.jpeg(),
    "jpeg turned": make.jpeg(6),
    "jpeg progressive": make.jpeg(8, progressive=True),
    "jpeg restart markers": make.jpeg(restart_marker_blocks=1),
    "jpeg grey": make.jpeg(3, mode="L"),
    "jpeg cmyk": make.jpeg(mode="CMYK"),
    "png": make.png(),
    "png turned": make.png(5),
    "png palette": make.png(mode="P", transparency=3),
    "png alpha": make.png(2, mode="RGBA"),
    "png animated": make.animated("PNG", exif=make.exif(6)),
    "webp": make.webp(),
    "webp turned": make.webp(7),
    "webp lossless": make.webp(6, lossless=True),
    "webp alpha": make.webp(6, mode="RGBA"),
    "webp simple": make.saved(make.scene(), "WEBP"),
    "webp simple lossless": make.saved(make.scene(), "WEBP", lossless=True),
    "webp animated": make.animated("WEBP", exif=make.exif(4), xmp=make.XMP),
    "gif": make.gif(),
    "gif interlaced": make.gif(interlace=1, transparency=2),
    "gif animated": make.animated("GIF", comment=make.COMMENT),
}
MIMES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "gif": "image/gif"}

every_kind = pytest.mark.parametrize("data", KINDS.values(), ids=KINDS.keys())
one_of_each = pytest.mark.parametrize("data", [KINDS[kind] for kind in MIMES], ids=MIMES.keys())


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        inspect(data)
    return str(caught.value)


def assert_same_picture(before: bytes, after: bytes) -> None:
    assert make.frames(after) == make.frames(before)
    assert make.upright(after) == make.upright(before)
    assert make.profile(after) == make.profile(before)


def after_start(data: bytes, insertion: bytes) -> bytes:
    """A JPEG with something behind its start marker."""
    return data[:2] + insertion + data[2:]


@pytest.mark.parametrize("kind", KINDS)
def test_type_and_stored_size_are_told(kind: str) -> None:
    picture = inspect(KINDS[kind])
    assert picture.mime == MIMES[kind.split(maxsplit=1)[0]]
    assert (picture.width, picture.height) == make.SIZE


@every_kind
def test_pixels_orientation_and_profile_stay(data: bytes) -> None:
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


class TestJpeg:
    def test_fill_bytes_before_markers_are_accepted(self) -> None:
        data = KINDS["jpeg"]
        filled = data.replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb").replace(b"\xff\xd9", b"\xff\xff\xff\xd9")
        assert_same_picture(data, inspect(filled).data)

    def test_second_picture_and_its_index_are_dropped(self) -> None:
        both = make.saved(make.scene(), "MPO", save_all=True, append_images=[make.scene(shade=90)])
        stripped = inspect(both).data
        assert stripped.count(b"\xff\xd9") == 1
        assert b"MPF\0" not in stripped
        assert make.frames(stripped)[0] == make.frames(both)[0]

    def test_thumbnails_and_vendor_segments_are_dropped(self) -> None:
        jfif = b"JFIF\0\1\2\1\0\x60\0\x60\1\1" + b"THU"
        hidden = [
            make.jpeg_segment(0xE0, jfif),
            make.jpeg_segment(0xE0, b"JFXX\0\x10" + make.PLACE),
            make.jpeg_segment(0xE2, b"FPXR\0" + make.PLACE),
            make.jpeg_segment(0xED, b"Photoshop 3.0\0" + make.PLACE),
            make.jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\1" + make.PLACE),
            make.jpeg_segment(0xEF, make.PLACE),
        ]
        stripped = inspect(after_start(make.saved(make.scene(), "JPEG"), b"".join(hidden))).data
        assert b"THU" not in stripped
        assert make.PLACE not in stripped
        assert b"JFIF\0\1\2\1\0\x60\0\x60\0\0" in stripped
        assert b"Adobe\0\x64\0\0\0\0\1" in stripped

    def test_comment_between_scans_is_dropped(self) -> None:
        data = make.saved(make.scene(), "JPEG", progressive=True)
        second_scan = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
        commented = data[:second_scan] + make.jpeg_segment(0xFE, make.COMMENT) + data[second_scan:]
        assert inspect(commented).data == inspect(data).data

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("kind", [3, 4])
    def test_orientation_is_read_in_both_byte_orders(self, order: str, kind: int) -> None:
        exif = b"Exif\0\0" + make.tiff(order, (0x0100, 4, 40), (0x0112, kind, 6), (0x0128, 3, 2))
        data = after_start(make.saved(make.scene(), "JPEG"), make.jpeg_segment(0xE1, exif))
        assert make.upright(inspect(data).data) == make.upright(data)
        assert make.upright(data)[0] == (make.SIZE[1], make.SIZE[0])

    @pytest.mark.parametrize(
        "exif",
        [
            b"",
            b"II",
            b"II*\0\xff\xff\xff\xff",
            b"MM\0*\0\0\0\x08\xff\xff",
            b"II+\0\x08\0\0\0\0\0",
            make.tiff("<", (0x0112, 3, 9)),
            make.tiff(">", (0x0112, 3, 0)),
            make.tiff("<", (0x0112, 7, 6)),
            make.tiff("<", (0x0112, 3, 6))[:-7],
        ],
    )
    def test_unreadable_exif_means_upright(self, exif: bytes) -> None:
        assert orientation.read(memoryview(exif)) == orientation.UPRIGHT
        plain = make.saved(make.scene(), "JPEG")
        data = after_start(plain, make.jpeg_segment(0xE1, b"Exif\0\0" + exif))
        assert inspect(data).data == inspect(plain).data

    def test_first_exif_decides_as_in_a_viewer(self) -> None:
        blocks = [make.jpeg_segment(0xE1, b"Exif\0\0" + make.tiff("<", (0x0112, 3, turned))) for turned in (1, 6)]
        plain = make.saved(make.scene(), "JPEG")
        assert inspect(after_start(plain, b"".join(blocks))).data == inspect(plain).data

    @pytest.mark.parametrize(
        "insertion",
        [
            b"\xff\xfe\0\2\0\0\0",
            b"\xff\xe5\0\1",
            b"\xff\x00",
            b"\xff\xd8",
            make.jpeg_segment(0xF0, b"reserved"),
            make.jpeg_segment(0xC3, struct.pack(">BHHBBBB", 8, 8, 8, 1, 1, 0x11, 0)),
            make.jpeg_segment(0xC0, struct.pack(">BHHBBBB", 8, 8, 8, 1, 1, 0x11, 0)),
            make.jpeg_segment(0xDA, b"\1\1\0\0\x3f\0"),
            b"\xff\xd9",
        ],
        ids=["junk", "short length", "stuffing", "start", "reserved", "lossless", "two frames", "scan first", "end"],
    )
    def test_structure_that_decoders_refuse_is_refused(self, insertion: bytes) -> None:
        assert refused(after_start(KINDS["jpeg"], insertion)) == DAMAGED


class TestPng:
    def test_wrong_checksum_is_refused(self) -> None:
        data = bytearray(KINDS["png"])
        data[data.index(b"IDAT") + 20] ^= 1
        assert refused(bytes(data)) == DAMAGED

    def test_exif_behind_the_pixels_counts(self) -> None:
        plain = make.saved(make.scene(), "PNG")
        data = plain[:-12] + make.png_chunk(b"eXIf", make.tiff(">", (0x0112, 3, 6))) + plain[-12:]
        assert make.upright(inspect(data).data) == make.upright(data)
        assert inspect(data).data.index(b"eXIf") < inspect(data).data.index(b"IDAT")

    @pytest.mark.parametrize(
        "header",
        [
            make.png_header(40, 24, depth=3),
            make.png_header(40, 24, colour=5),
            make.png_header(40, 24) * 2,
            make.png_header(40, 24) + make.png_chunk(b"NEWc"),
            make.png_chunk(b"CgBI", b"\x50\0\x20\2") + make.png_header(40, 24),
        ],
    )
    def test_structure_that_decoders_refuse_is_refused(self, header: bytes) -> None:
        data = make.saved(make.scene(), "PNG")
        assert refused(data[:8] + header + data[33:]) == DAMAGED

    def test_file_without_pixels_is_refused(self) -> None:
        data = KINDS["png"][:8] + make.png_header(40, 24) + make.png_chunk(b"IEND")
        assert refused(data) == DAMAGED


class TestWebp:
    @pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
    def test_exif_counts_with_and_without_its_header(self, prefix: bytes) -> None:
        exif = prefix + make.tiff("<", (0x010F, 4, 1), (0x0112, 3, 8))
        data = make.webp(exif=exif)
        assert make.upright(inspect(data).data) == make.upright(data)
        assert make.upright(data)[0] == (make.SIZE[1], make.SIZE[0])

    def test_flags_announce_only_what_is_left(self) -> None:
        flags = 20
        assert KINDS["webp"][flags] == 0x20 | 0x08 | 0x04
        assert inspect(KINDS["webp"]).data[flags] == 0x20
        assert inspect(KINDS["webp turned"]).data[flags] == 0x20 | 0x08

    def test_unknown_chunks_are_dropped_in_frames_too(self) -> None:
        data = KINDS["webp animated"]
        at = data.index(b"ANMF")
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        frame = data[at + 8 : at + 8 + length] + make.riff_chunk(b"prVt", make.PLACE)
        hidden = make.riff(data[12:at], make.riff_chunk(b"ANMF", frame), data[at + 8 + length + length % 2 :])
        assert inspect(hidden).data == inspect(data).data

    def test_missing_last_padding_is_tolerated(self) -> None:
        payload = KINDS["webp simple lossless"][20:]
        length = int.from_bytes(KINDS["webp simple lossless"][16:20], "little")
        odd = payload[:length] + b"\0" * (1 - length % 2)
        unpadded = make.riff(b"VP8L" + struct.pack("<I", len(odd)) + odd)
        assert len(odd) % 2 == 1
        assert inspect(unpadded).data[-1:] == b"\0"
        assert len(inspect(unpadded).data) == len(unpadded) + 1

    @pytest.mark.parametrize(
        "chunks",
        [
            [],
            [make.riff_chunk(b"VP8X", b"\0\0\0\0\0\0\0\0\0\0")],
            [make.riff_chunk(b"VP8X", b"\2\0\0\0\0\0\0\0\0\0")],
            [make.riff_chunk(b"VP8X", b"\0\0\0\0\0\0\0\0\0\0"), KINDS["webp simple"][12:]],
            [make.riff_chunk(b"VP8X", b"\0\0\0\0\x27\0\0\x17\0\0"), *[KINDS["webp simple"][12:]] * 2],
            [make.riff_chunk(b"VP8X", b"\2\0\0\0\0\0\0\0\0\0"), make.riff_chunk(b"ANMF", b"\1" + b"\0" * 15)],
            [make.riff_chunk(b"VP8L", b"\x2f\0\0\0\xff")],
            [make.riff_chunk(b"VP8 ", b"\1\0\0\x9d\1\x2a\1\0\1\0")],
            [make.riff_chunk(b"VP8 ", b"\x20\0\0\x9d\1\x2a\1\0\1\0")],
            [make.riff_chunk(b"prVt", make.PLACE), KINDS["webp simple"][12:]],
        ],
        ids=[
            "nothing",
            "no bitstream",
            "no frame",
            "other size",
            "two bitstreams",
            "frame outside",
            "lossless version",
            "no key frame",
            "partition cut off",
            "unknown first",
        ],
    )
    def test_structure_that_decoders_refuse_is_refused(self, chunks: list[bytes]) -> None:
        assert refused(make.riff(*chunks)) == DAMAGED


class TestGif:
    SCREEN = struct.pack("<6sHHBBB", b"GIF89a", 3, 2, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    IMAGE = b",\0\0\0\0\3\0\2\0\0\2\3\x44\x02\x05\0"
    CONTROL = make.gif_extension(0xF9, b"\1\x0a\0\1")

    def inspected(self, *blocks: bytes) -> Picture:
        return inspect(self.SCREEN + b"".join(blocks) + b";")

    def test_only_the_loop_stays_of_application_data(self) -> None:
        loop = make.gif_extension(0xFF, b"NETSCAPE2.0", b"\1\3\0")
        longer = make.gif_extension(0xFF, b"NETSCAPE2.0", b"\1\3\0", make.PLACE)
        xmp = make.gif_extension(0xFF, b"XMP DataXMP", make.XMP)
        picture = self.inspected(loop, xmp, self.IMAGE, longer, make.gif_extension(0xFE, make.COMMENT))
        assert picture.data == self.SCREEN + loop + self.IMAGE + loop + b";"

    def test_control_stays_with_its_image_and_goes_with_its_text(self) -> None:
        comment = make.gif_extension(0xFE, make.COMMENT)
        text = make.gif_extension(0x01, b"\0" * 12, make.PLACE)
        other = make.gif_extension(0xF9, b"\5\x20\0\0")
        picture = self.inspected(self.CONTROL, comment, self.IMAGE, other, text, self.IMAGE)
        assert picture.data == self.SCREEN + self.CONTROL + self.IMAGE + self.IMAGE + b";"

    def test_image_larger_than_the_screen_counts(self) -> None:
        large = b",\2\0\1\0\x09\0\7\0\0\2\3\x44\x02\x05\0"
        assert (self.inspected(large).width, self.inspected(large).height) == (11, 8)

    @pytest.mark.parametrize(
        "blocks",
        [[], [b"\0", IMAGE], [make.gif_extension(0xF9, b"\1\2"), IMAGE], [CONTROL]],
        ids=["nothing", "junk", "short control", "no image"],
    )
    def test_structure_that_decoders_refuse_is_refused(self, blocks: list[bytes]) -> None:
        with pytest.raises(ImageError, match=DAMAGED):
            self.inspected(*blocks)


def hostile_files() -> dict[str, bytes]:
    half = TWO_MEGABYTES // 2
    start, scan = b"\xff\xd8", KINDS["jpeg"][: KINDS["jpeg"].rindex(b"\xff\xd9")]
    png = KINDS["png"][:33]
    webp_frame = make.riff_chunk(b"ANMF", b"\0" * 16 + make.riff_chunk(b"prVt", b"") * 3)
    return {
        "jpeg segments": start + b"\xff\xfe\0\2" * (half // 2),
        "jpeg fill bytes": start + b"\xff" * TWO_MEGABYTES,
        "jpeg stuffing": scan + b"\xff\0" * half,
        "jpeg restart markers": scan + b"\xff\xd0" * half,
        "jpeg exif": start + make.jpeg_segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\0" * 65_000) * 30,
        "png chunks": png + make.png_chunk(b"prVt") * (TWO_MEGABYTES // 12),
        "png exif": png + make.png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + b"\0" * TWO_MEGABYTES) * 3,
        "webp chunks": make.riff(make.riff_chunk(b"prVt", b"") * (TWO_MEGABYTES // 8)),
        "webp frames": make.riff(make.riff_chunk(b"VP8X", b"\2" + b"\0" * 9), webp_frame * 40_000),
        "gif blocks": TestGif.SCREEN + b"!\xfe" + b"\1x" * half,
        "gif extensions": TestGif.SCREEN + b"!\xfe\0" * (TWO_MEGABYTES // 3),
    }


@pytest.mark.parametrize("kind", hostile_files())
def test_hostile_file_is_refused_in_a_moment(kind: str) -> None:
    data = hostile_files()[kind]
    before = time.perf_counter()
    assert refused(data) == DAMAGED
    assert time.perf_counter() - before < 1.0


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


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(KINDS.values())), EDITS)
def test_mutated_files_give_a_picture_or_a_refusal(data: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for place, removed, inserted in edits:
        at = place % (len(data) + 1)
        data = data[:at] + inserted + data[at + removed :]
    survives(data)


@one_of_each
def test_message_has_nothing_of_the_file(data: bytes) -> None:
    assert refused(data[:-1]) == DAMAGED


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
