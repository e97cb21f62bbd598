from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from local_model.looking import MAX_SIDE, UnreadablePicture, colour_name, look

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parents[1] / "data"


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "kind", "width", "height", "colours"),
    [
        ("worksheet.png", "PNG", 800, 560, ("white", "black")),
        ("chart.png", "PNG", 900, 640, ("white", "red", "blue", "green")),
        ("phone.jpg", "JPEG", 1200, 1600, ("cream",)),
        ("triangle.webp", "WebP", 800, 600, ("cream", "orange", "black")),
        ("vocabulary.gif", "GIF", 700, 420, ("light green", "black")),
        ("landscape.png", "PNG", 640, 480, ("blue", "green", "yellow")),
    ],
)
def test_format_size_and_colours(name: str, kind: str, width: int, height: int, colours: tuple[str]) -> None:
    picture = look((DATA / name).read_bytes())
    assert (picture.format, picture.width, picture.height) == (kind, width, height)
    assert picture.colours == colours


def test_pixels_are_turned_as_exif_says() -> None:
    # Red above blue as shown, stored lying on its side.
    shown = Image.new("RGB", (400, 600), "blue")
    shown.paste("red", (0, 0, 400, 300))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = encoded(shown.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)
    pixels = look(stored).pixels
    assert pixels.size == (400, 600)
    assert [colour_name(*pixels.getpixel((200, y))) for y in (50, 550)] == ["red", "blue"]  # type: ignore[misc]  # RGB


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("truncated.jpg", "image_parse_error"),
        ("bomb.png", "image_too_large"),
        ("text.png", "invalid_image_format"),
        ("landscape.bmp", "invalid_image_format"),
        ("empty.png", "invalid_image_format"),
    ],
)
def test_broken_picture_is_refused(name: str, code: str) -> None:
    with pytest.raises(UnreadablePicture) as refusal:
        look((DATA / "broken" / name).read_bytes())
    assert refusal.value.code == code


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_pixel_becomes_rgb(mode: str) -> None:
    picture = look(encoded(Image.new(mode, (40, 30))))
    assert (picture.pixels.mode, picture.pixels.size) == ("RGB", (40, 30))


def test_what_is_transparent_is_white() -> None:
    assert look(encoded(Image.new("RGBA", (40, 30), (200, 0, 0, 0)))).colours == ("white",)


def test_cmyk_jpeg_is_read() -> None:
    assert look(encoded(Image.new("CMYK", (40, 30), (0, 255, 255, 0)), "JPEG")).colours == ("red",)


def test_large_picture_is_scaled_down_but_its_true_size_is_told() -> None:
    picture = look(encoded(Image.new("RGB", (6000, 1000)), "JPEG"))
    assert (picture.width, picture.height) == (6000, 1000)
    assert max(picture.pixels.size) == MAX_SIDE


@pytest.mark.parametrize("name", ["phone.jpg", "worksheet.png", "triangle.webp", "vocabulary.gif"])
def test_damaged_bytes_give_a_picture_or_a_refusal(name: str) -> None:
    whole, dice = (DATA / name).read_bytes(), random.Random(11)
    damages: list[Callable[[bytearray], None]] = [
        lambda data: data.__setitem__(dice.randrange(len(data)), dice.randrange(256)),
        lambda data: data.__setitem__(dice.randrange(min(len(data), 400)), dice.randrange(256)),
        lambda data: data.__delitem__(slice(dice.randrange(len(data)), None)),
    ]
    refused = 0
    for number in range(30):
        data = bytearray(whole)
        damages[number % 3](data)
        try:
            look(bytes(data))
        except UnreadablePicture:
            refused += 1
    assert refused


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((255, 255, 255), "white"),
        ((0, 0, 0), "black"),
        ((128, 128, 128), "grey"),
        ((200, 200, 200), "light grey"),
        ((139, 69, 19), "brown"),
        ((255, 192, 203), "pink"),
        ((0, 0, 128), "blue"),
        ((173, 216, 230), "light blue"),
        ((250, 210, 60), "yellow"),
        ((128, 0, 128), "purple"),
        ((64, 224, 208), "turquoise"),
        ((255, 165, 0), "orange"),
        ((240, 230, 200), "cream"),
        ((255, 0, 30), "red"),
    ],
)
def test_colours_have_their_everyday_names(colour: tuple[int, int, int], name: str) -> None:
    assert colour_name(*colour) == name
