"""Draws the pictures of `tests/data` and `examples`; run it as a script to make them anew.

The pictures are committed, so that tests need neither the fonts nor this script. Everything random has a
fixed seed: a second run writes the same bytes, as long as Pillow and the fonts are the same. The fonts are
Debian's `fonts-dejavu-core` (print) and `fonts-breip` (handwriting).
"""

import base64
import json
import random
import struct
import zlib
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

DATA = Path(__file__).parent
BROKEN = DATA / "broken"
EXAMPLES = DATA.parents[1] / "examples"

PRINT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
PRINT_BOLD = "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf"
HANDWRITING = "/usr/share/fonts/truetype/breip/Breip.ttf"

INK = (24, 32, 110)
BLACK = (20, 20, 20)
WHITE = (255, 255, 255)

Colour = tuple[int, int, int]

EXIF_MAKE, EXIF_MODEL, EXIF_ORIENTATION, EXIF_DATE_TIME = 0x010F, 0x0110, 0x0112, 0x0132
EXIF_PHOTO_IFD, EXIF_DATE_TIME_ORIGINAL, EXIF_SERIAL_NUMBER = 0x8769, 0x9003, 0xA431
EXIF_GPS_IFD = 0x8825


def page(width: int, height: int, colour: Colour = WHITE) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty page and the pen to draw on it."""
    image = Image.new("RGB", (width, height), colour)
    return image, ImageDraw.Draw(image)


def write(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    *,
    size: int,
    font: str = PRINT,
    colour: Colour = BLACK,
) -> None:
    """One line of text with its upper left corner at `at`."""
    pen.text(at, text, font=ImageFont.truetype(font, size), fill=colour)


def worksheet() -> Image.Image:
    """A printed page of maths: an equation, arithmetic, and an equation with the unknown on both sides."""
    image, pen = page(800, 560)
    write(pen, (50, 40), "Algebra worksheet 4", size=38, font=PRINT_BOLD)
    pen.line((50, 100, 750, 100), fill=BLACK, width=2)
    write(pen, (50, 150), "1.  Solve for x:  2x + 5 = 17", size=32)
    write(pen, (50, 260), "2.  Calculate:  3 × (4 + 5) − 6", size=32)
    write(pen, (50, 370), "3.  Solve for y:  5y − 4 = 3y + 10", size=32)
    write(pen, (50, 490), "Show every step of your work.", size=24)
    return image


def homework() -> Image.Image:
    """The example of the README: a short printed page."""
    image, pen = page(640, 400)
    write(pen, (40, 30), "Homework, Tuesday", size=30, font=PRINT_BOLD)
    pen.line((40, 80, 600, 80), fill=(40, 90, 180), width=3)
    write(pen, (40, 120), "1.  Solve for x:  3x + 7 = 22", size=28)
    write(pen, (40, 210), "2.  Calculate:  12 ÷ (2 + 4) + 9", size=28)
    write(pen, (40, 300), "3.  Name the capital of Portugal.", size=28)
    return image


def handwriting() -> Image.Image:
    """A page from an exercise book: blue ink on ruled paper, slightly askew."""
    image, pen = page(1000, 760, (253, 251, 243))
    for y in range(130, 760, 90):
        pen.line((0, y, 1000, y), fill=(190, 210, 235), width=2)
    pen.line((90, 0, 90, 760), fill=(235, 160, 160), width=3)
    lines = (
        "Maths homework, Friday",
        "3x - 7 = 11",
        "Leaves use sunlight to make sugar.",
        "This is called photosynthesis.",
    )
    for number, line in enumerate(lines):
        write(pen, (120, 60 + 180 * number), line, size=58, font=HANDWRITING, colour=INK)
    return image.rotate(1.2, resample=Image.Resampling.BICUBIC, fillcolor=(253, 251, 243))


def chart() -> Image.Image:
    """A bar chart with a title, labelled axes and a value over each bar."""
    image, pen = page(900, 640)
    write(pen, (220, 24), "Books read per class", size=38, font=PRINT_BOLD)
    pen.line((110, 100, 110, 540), fill=BLACK, width=3)
    pen.line((110, 540, 850, 540), fill=BLACK, width=3)
    bars = (("5A", 12, (66, 133, 244)), ("5B", 18, (219, 68, 55)), ("5C", 9, (15, 157, 88)))
    for number, (label, value, colour) in enumerate(bars):
        left, top = 170 + 230 * number, 540 - 22 * value
        pen.rectangle((left, top, left + 150, 540), fill=colour)
        write(pen, (left + 52, top - 42), str(value), size=32)
        write(pen, (left + 52, 552), label, size=32)
    write(pen, (410, 596), "Class", size=26)
    return image


def paper(width: int, height: int, colour: Colour, seed: int) -> Image.Image:
    """Paper as a phone sees it: a soft shadow over its surface and a little grain."""
    dice = random.Random(seed)
    spots = Image.new("L", (12, 16))
    spots.putdata([dice.randrange(215, 256) for _ in range(12 * 16)])
    shadow = spots.resize((width, height), Image.Resampling.BICUBIC)
    grain = Image.frombytes("L", (width // 2, height // 2), dice.randbytes(width * height // 4))
    light = Image.blend(shadow, grain.resize((width, height), Image.Resampling.BILINEAR), 0.04)
    return Image.merge("RGB", [light.point([part * value // 255 for value in range(256)]) for part in colour])


def phone() -> Image.Image:
    """A photographed page, upright: 1200 wide and 1600 high."""
    image = paper(1200, 1600, (246, 240, 224), seed=7)
    pen = ImageDraw.Draw(image)
    write(pen, (110, 140), "Physics: speed", size=74, font=PRINT_BOLD)
    write(pen, (110, 330), "A train travels 150 km", size=60)
    write(pen, (110, 430), "in 2.5 hours.", size=60)
    write(pen, (110, 620), "a)  What is its speed?", size=60)
    write(pen, (110, 730), "     150 ÷ 2.5 = ?", size=60)
    write(pen, (110, 940), "b)  How far does it go", size=60)
    write(pen, (110, 1040), "in 4 hours?", size=60)
    write(pen, (110, 1400), "page 27", size=44)
    return image.filter(ImageFilter.GaussianBlur(0.8))


def phone_exif() -> Image.Exif:
    """What a phone writes into a photo: maker, time, place, and that it was held upright (orientation 6)."""
    exif = Image.Exif()
    exif[EXIF_MAKE], exif[EXIF_MODEL] = "Examplephone", "X100"
    exif[EXIF_DATE_TIME] = "2025:10:07 10:30:00"
    exif[EXIF_ORIENTATION] = 6
    photo = exif.get_ifd(EXIF_PHOTO_IFD)
    photo[EXIF_DATE_TIME_ORIGINAL], photo[EXIF_SERIAL_NUMBER] = "2025:10:07 10:30:00", "SERIAL-0042"
    gps = exif.get_ifd(EXIF_GPS_IFD)
    gps.update({1: "N", 2: (48.0, 51.0, 29.5), 3: "E", 4: (2.0, 17.0, 40.2)})
    return exif


def triangle() -> Image.Image:
    """A labelled figure: a triangle with its base and height."""
    image, pen = page(800, 600, (255, 250, 225))
    write(pen, (150, 30), "Area of a triangle", size=44, font=PRINT_BOLD)
    pen.polygon(((150, 470), (650, 470), (430, 150)), fill=(255, 190, 90), outline=BLACK, width=4)
    pen.line((430, 150, 430, 470), fill=BLACK, width=3)
    write(pen, (310, 490), "base 8 cm", size=34)
    write(pen, (560, 250), "height 5 cm", size=34)
    return image


def triangle_exif() -> Image.Exif:
    """A camera's name and place, to be found and taken out."""
    exif = Image.Exif()
    exif[EXIF_MAKE], exif[EXIF_MODEL] = "Examplecam", "W1"
    exif.get_ifd(EXIF_GPS_IFD).update({1: "S", 2: (33.0, 51.0, 35.9), 3: "E", 4: (151.0, 12.0, 40.0)})
    return exif


TRIANGLE_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:creator="A. Student"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def vocabulary() -> Image.Image:
    """A list of words on green, in a palette of few colours as GIF has them."""
    image, pen = page(700, 420, (205, 235, 205))
    write(pen, (40, 30), "French vocabulary", size=38, font=PRINT_BOLD)
    for number, line in enumerate(("le chat = the cat", "la maison = the house", "le livre = the book")):
        write(pen, (60, 130 + 90 * number), line, size=34)
    return image.quantize(32)


def landscape() -> Image.Image:
    """Sky, sun and grass: a picture without a single letter."""
    image, pen = page(640, 480, (120, 180, 240))
    pen.rectangle((0, 330, 640, 480), fill=(70, 150, 60))
    pen.ellipse((460, 50, 580, 170), fill=(250, 210, 60))
    return image


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk: length, type, data, CRC (PNG specification, section 5.3)."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb() -> bytes:
    """A PNG that claims 20000 x 20000 pixels in a hundred bytes."""
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def save_good_pictures() -> None:
    """Everything that can be read."""
    for name, picture in (("worksheet", worksheet()), ("handwriting", handwriting()), ("chart", chart())):
        picture.quantize(64).save(DATA / f"{name}.png", optimize=True)
    landscape().save(DATA / "landscape.png", optimize=True)
    stored = phone().transpose(Image.Transpose.ROTATE_90)
    stored.save(DATA / "phone.jpg", quality=60, optimize=True, exif=phone_exif())
    triangle().save(DATA / "triangle.webp", quality=80, exif=triangle_exif(), xmp=TRIANGLE_XMP)
    vocabulary().save(DATA / "vocabulary.gif")


def save_broken_pictures() -> None:
    """Everything that must be refused, each for its own reason."""
    whole = DATA / "phone.jpg"
    (BROKEN / "truncated.jpg").write_bytes(whole.read_bytes()[:20_000])
    (BROKEN / "bomb.png").write_bytes(bomb())
    (BROKEN / "text.png").write_text("This is a text file, whatever its name says.\n")
    (BROKEN / "empty.png").write_bytes(b"")
    landscape().resize((64, 48)).save(BROKEN / "landscape.bmp")


def save_examples() -> None:
    """The README's picture, and the request body that asks about it."""
    path = EXAMPLES / "homework.png"
    homework().quantize(32).save(path, optimize=True)
    body = {
        "base64_image": base64.b64encode(path.read_bytes()).decode(),
        "prompt": "What is x in the first equation?",
        "subject": "math",
    }
    (EXAMPLES / "ask.json").write_text(json.dumps(body) + "\n")


def main() -> None:
    """Write every picture."""
    BROKEN.mkdir(exist_ok=True)
    EXAMPLES.mkdir(exist_ok=True)
    save_good_pictures()
    save_broken_pictures()
    save_examples()


if __name__ == "__main__":
    main()
