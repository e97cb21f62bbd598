"""What is particular to JPEG: which parts stay, which go, and what is refused as damaged."""

from __future__ import annotations

import struct

import pytest

from engine_grpc.image import inspect, orientation
from tests.engine import pictures as make
from tests.engine.pictures import DAMAGED, KINDS, assert_same_picture, refused


def after_start(data: bytes, insertion: bytes) -> bytes:
    """A JPEG with something behind its start marker."""
    return data[:2] + insertion + data[2:]


class TestJpeg:
    def test_fill_bytes_before_markers_are_accepted(self) -> None:
        data = KINDS["jpeg"]
        filled = data.replace(b"\xff\xdb", b"\xff\xff\xff\xff\xdb").replace(b"\xff\xd9", b"\xff\xff\xff\xd9")
        assert_same_picture(data, inspect(filled).data)

    def test_padding_behind_segments_is_accepted_and_dropped(self) -> None:
        padded = after_start(KINDS["jpeg"], make.jpeg_segment(0xFE, b"") + b"\0\0\xff\0" + make.PLACE)
        assert inspect(padded).data == inspect(KINDS["jpeg"]).data
        assert make.frames(padded) == make.frames(KINDS["jpeg"])

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
            b"\xff\xe5\0\1",
            b"\xff\xd8",
            make.jpeg_segment(0xF0, b"reserved"),
            make.jpeg_segment(0xC0, struct.pack(">BHHBBBB", 8, 8, 8, 1, 1, 0x11, 0)),
            make.jpeg_segment(0xDA, b"\1\1\0\0\x3f\0"),
            b"\xff\xd9",
        ],
        ids=["short length", "start", "reserved", "two frames", "scan first", "end"],
    )
    def test_structure_that_decoders_refuse_is_refused(self, insertion: bytes) -> None:
        assert refused(after_start(KINDS["jpeg"], insertion)) == DAMAGED

    @pytest.mark.parametrize(
        ("marker", "payload"),
        [
            (0xC3, b"\x08\0\x18\0\x28\3\1\x22\0\2\x11\1\3\x11\1"),
            (0xC0, b"\x08\0\x18\0\x28\3\1\x22\0\2\x11\1\3\x11\1\0"),
            (0xC0, b"\x08\0\x18\0\x28\0"),
            (0xFE, b""),
        ],
        ids=["lossless", "too long", "no component", "no frame"],
    )
    def test_frame_that_decoders_refuse_is_refused(self, marker: int, payload: bytes) -> None:
        start = KINDS["jpeg"].index(b"\xff\xc0\0\x11")
        frame = make.jpeg_segment(marker, payload)
        assert refused(KINDS["jpeg"][:start] + frame + KINDS["jpeg"][start + 19 :]) == DAMAGED

    @pytest.mark.parametrize(("scans", "fits"), [(100, True), (101, False)])
    def test_hundred_scans_are_enough(self, scans: int, *, fits: bool) -> None:
        start = KINDS["jpeg"].index(b"\xff\xda")
        scan = make.jpeg_segment(0xDA, b"\1\1\0\0\x3f\0") + b"\0"
        data = KINDS["jpeg"][:start] + scan * scans + b"\xff\xd9"
        if fits:
            assert inspect(data).data.count(b"\xff\xda") == scans
        else:
            assert refused(data) == DAMAGED

    def test_file_without_a_scan_is_refused(self) -> None:
        assert refused(KINDS["jpeg"][: KINDS["jpeg"].index(b"\xff\xda")] + b"\xff\xd9") == DAMAGED
