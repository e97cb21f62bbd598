"""What is particular to PNG, WebP and GIF: which parts stay, which go, and what is refused as damaged."""

from __future__ import annotations

import struct

import pytest

from engine_grpc.image import Picture, inspect
from tests.engine import pictures as make
from tests.engine.pictures import DAMAGED, KINDS, refused


def chunk_kinds(png: bytes) -> list[bytes]:
    kinds, position = [], 8
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        kinds.append(kind)
        position += 12 + length
    return kinds


class TestPng:
    def test_only_chunks_that_are_drawn_stay(self) -> None:
        data = make.png(6, mode="P", transparency=1)
        kept = [b"IHDR", b"eXIf", b"PLTE", b"tRNS", b"pHYs", b"IDAT", b"IEND"]
        assert all(kind in data for kind in (b"tEXt", b"zTXt", b"iTXt", b"prVt"))
        assert chunk_kinds(inspect(data).data) == kept

    def test_wrong_checksum_is_refused(self) -> None:
        data = bytearray(KINDS["png"])
        data[data.index(b"IDAT") + 20] ^= 1
        assert refused(bytes(data)) == DAMAGED

    def test_exif_behind_the_pixels_counts(self) -> None:
        plain = make.saved(make.scene(), "PNG")
        data = plain[:-12] + make.png_chunk(b"eXIf", make.tiff(">", (0x0112, 3, 6))) + plain[-12:]
        assert make.upright(inspect(data).data) == make.upright(data)
        assert inspect(data).data.index(b"eXIf") < inspect(data).data.index(b"IDAT")

    def test_first_exif_decides_as_in_libpng(self) -> None:
        plain = make.saved(make.scene(), "PNG")
        both = b"".join(make.png_chunk(b"eXIf", make.tiff(">", (0x0112, 3, turned))) for turned in (1, 6))
        assert inspect(plain[:33] + both + plain[33:]).data == inspect(plain).data

    @pytest.mark.parametrize("kind", [b"gAMA", b"sRGB", b"pHYs", b"tRNS", b"acTL"])
    def test_chunk_longer_than_its_kind_can_be_is_dropped(self, kind: bytes) -> None:
        plain = make.saved(make.scene(), "PNG")
        longer = make.png_chunk(kind, b"\0" * 256 + make.PLACE)
        assert inspect(plain[:33] + longer + plain[33:]).data == inspect(plain).data

    @pytest.mark.parametrize(
        "header",
        [
            make.png_header(40, 24, depth=3),
            make.png_header(40, 24, colour=5),
            make.png_header(40, 24) * 2,
            make.png_header(40, 24) + make.png_chunk(b"NEWc"),
            make.png_header(40, 24) + make.png_chunk(b"PLTE", b"\0" * 769),
            make.png_chunk(b"iHDR", make.png_header(40, 24)[8:21]),
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
    # An animation's canvas of one pixel, and a bitstream of one pixel.
    SCREEN = make.riff_chunk(b"VP8X", b"\2\0\0\0\0\0\0\0\0\0")
    PIXEL = make.riff_chunk(b"VP8L", b"\x2f\0\0\0\0")

    def test_smallest_animation_is_accepted(self) -> None:
        data = make.riff(self.SCREEN, make.riff_chunk(b"ANMF", b"\0" * 16 + self.PIXEL))
        assert inspect(data).data == data

    def test_nothing_rides_on_the_header_and_the_loop(self) -> None:
        frame = make.riff_chunk(b"ANMF", b"\0" * 16 + self.PIXEL)
        loop = make.riff_chunk(b"ANIM", b"\0\0\0\0\3\0")
        longer = make.riff_chunk(b"ANIM", b"\0\0\0\0\3\0" + make.PLACE)
        header = make.riff_chunk(b"VP8X", b"\x22xyz\0\0\0\0\0\0" + make.PLACE)
        assert inspect(make.riff(header, longer, frame)).data == make.riff(self.SCREEN, loop, frame)

    @pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
    def test_exif_counts_with_and_without_its_header(self, prefix: bytes) -> None:
        exif = prefix + make.tiff("<", (0x010F, 4, 1), (0x0112, 3, 8))
        data = make.webp(exif=exif)
        assert make.upright(inspect(data).data) == make.upright(data)
        assert make.upright(data)[0] == (make.SIZE[1], make.SIZE[0])

    def test_flags_announce_only_what_is_left(self) -> None:
        flags = 20
        assert KINDS["webp"][flags] == 0x20 | 0x08 | 0x04
        assert inspect(KINDS["webp"]).data[flags] == 0
        assert inspect(KINDS["webp turned"]).data[flags] == 0x08

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
            [SCREEN],
            [make.riff_chunk(b"VP8X", b"\0\0\0\0\0\0\0\0\0\0"), KINDS["webp simple"][12:]],
            [make.riff_chunk(b"VP8X", b"\0\0\0\0\x27\0\0\x17\0\0"), *[KINDS["webp simple"][12:]] * 2],
            [SCREEN, make.riff_chunk(b"ANMF", b"\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" + PIXEL)],
            [SCREEN, make.riff_chunk(b"ANMF", b"\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0" + PIXEL)],
            [SCREEN, make.riff_chunk(b"ANMF", b"\0" * 16 + PIXEL * 2)],
            [PIXEL[:4] + b"\x09" + PIXEL[5:]],
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
            "frame right of the screen",
            "frame below the screen",
            "two bitstreams in a frame",
            "chunk longer than the file",
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
        other = make.gif_extension(0xFF, b"OTHERAPP1.0", b"\1\3\0")
        picture = self.inspected(loop, xmp, other, self.IMAGE, longer, make.gif_extension(0xFE, make.COMMENT))
        assert picture.data == self.SCREEN + loop + self.IMAGE + loop + b";"

    def test_control_stays_with_its_image_and_goes_with_its_text(self) -> None:
        comment = make.gif_extension(0xFE, make.COMMENT)
        text = make.gif_extension(0x01, b"\0" * 12, make.PLACE)
        other = make.gif_extension(0xF9, b"\5\x20\0\0")
        picture = self.inspected(self.CONTROL, comment, self.IMAGE, self.IMAGE, other, text, self.IMAGE)
        assert picture.data == self.SCREEN + self.CONTROL + self.IMAGE * 3 + b";"

    def test_image_larger_than_the_screen_counts(self) -> None:
        large = b",\2\0\1\0\x09\0\7\0\0\2\3\x44\x02\x05\0"
        assert (self.inspected(large).width, self.inspected(large).height) == (11, 8)

    @pytest.mark.parametrize(
        "blocks",
        [
            [],
            [b"\0", IMAGE],
            [CONTROL],
            [make.gif_extension(0xF9, b"\1", b"\2\3"), IMAGE],
            [make.gif_extension(0xF9, b"\1\2\3\4", b"\5"), IMAGE],
        ],
        ids=["nothing", "junk", "no image", "short control", "long control"],
    )
    def test_structure_that_decoders_refuse_is_refused(self, blocks: list[bytes]) -> None:
        assert refused(self.SCREEN + b"".join(blocks) + b";") == DAMAGED
