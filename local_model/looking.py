"""Decodes a picture and tells what can be seen without reading: format, size, colours.

The header alone decides whether a picture is decoded at all; it is scaled down while it is decoded, since
nothing that comes after needs more than `MAX_SIDE` pixels a side.
"""

import colorsys
from collections import Counter
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF"}
"""Pillow's name of each format that is accepted, and everybody else's."""
MAX_PIXELS = 50_000_000
MAX_SIDE = 2048
"""The longer side of the picture that is read, in pixels."""

# Pillow's own limit only warns up to twice its value; `look` refuses from the header, before decoding.
Image.MAX_IMAGE_PIXELS = None

_SAMPLE = (64, 64)
_LEAST_SHARE = 0.02
"""Of the picture's surface, for a colour to be named."""
_MOST_COLOURS = 4
_HUES = (
    *((15, "red"), (40, "orange"), (68, "yellow"), (165, "green"), (190, "turquoise")),
    *((255, "blue"), (305, "purple"), (345, "pink"), (361, "red")),
)
"""Names of fully saturated hues, each with the angle in degrees at which it ends."""
_EXIF_ORIENTATION = 0x0112


class UnreadablePicture(ValueError):  # noqa: N818 - a verdict on the picture, not a fault of the program
    """The picture cannot be looked at; the text is fit to be shown to the client."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture."""

    format: str
    """Its name as people write it: `JPEG`, `PNG`, `WebP` or `GIF`."""
    width: int
    """In pixels, as the picture is shown, before it was scaled down."""
    height: int
    colours: tuple[str, ...]
    """Names of its main colours, the most frequent first."""
    pixels: Image.Image
    """RGB, at most `MAX_SIDE` a side."""


def look(data: bytes) -> Picture:
    """Decodes `data`.

    Raises:
        UnreadablePicture: if it is no whole picture of a known format and size.
    """
    with _opened(data) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UnreadablePicture("The image has more than 50 megapixels.", "image_too_large")
        try:
            width, height, pixels = _upright(image)
        except Exception as error:  # decoders raise whatever broken bytes provoke
            raise UnreadablePicture("The image could not be decoded.", "image_parse_error") from error
        return Picture(FORMATS[image.format or ""], width, height, main_colours(pixels), pixels)


def _opened(data: bytes) -> Image.Image:
    """Reads the header."""
    try:
        return Image.open(BytesIO(data), formats=tuple(FORMATS))
    except UnidentifiedImageError as error:
        message = "The image is not a JPEG, PNG, WebP or GIF."
        raise UnreadablePicture(message, "invalid_image_format") from error
    except Exception as error:  # decoders raise whatever broken bytes provoke: struct.error, IndexError, ...
        raise UnreadablePicture("The image could not be decoded.", "image_parse_error") from error


def _upright(image: Image.Image) -> tuple[int, int, Image.Image]:
    """Returns the shown width and height, and the pixels, scaled down and turned as EXIF says."""
    turned = image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    width, height = reversed(image.size) if turned else image.size
    image.draft("RGB", (MAX_SIDE, MAX_SIDE))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return width, height, _on_white(ImageOps.exif_transpose(image))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def main_colours(image: Image.Image) -> tuple[str, ...]:
    """Returns the names of the main colours of an RGB image, the most frequent first."""
    # NEAREST, since averaging neighbours would make colours that are not in the picture.
    sample = image.resize(_SAMPLE, Image.Resampling.NEAREST).tobytes()
    names = Counter(colour_name(*sample[at : at + 3]) for at in range(0, len(sample), 3))
    least = _LEAST_SHARE * names.total()
    return tuple(name for name, count in names.most_common(_MOST_COLOURS) if count >= least)


def colour_name(red: int, green: int, blue: int) -> str:
    """Returns the everyday name of a colour; each part is 0 to 255."""
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    degrees = hue * 360
    if value < 0.2:
        return "black"
    if saturation < 0.05 or (saturation < 0.12 and value < 0.6):
        return "white" if value > 0.9 else "light grey" if value > 0.65 else "grey"
    if 20 <= degrees < 70 and saturation < 0.3 and value > 0.7:
        return "cream"
    if degrees < 50 and value < 0.65:
        return "brown"
    name = next(name for limit, name in _HUES if degrees < limit)
    pale = saturation < 0.3 and value > 0.7
    if pale and name == "red":
        return "pink"
    return f"light {name}" if pale else name
