"""Files that are not what they say, as a client sends them and as the model gets them."""

from __future__ import annotations

import base64
import io
import socket
import zipfile
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.engine import pictures as make
from tests.engine.pictures import KINDS
from tests.hostile.conftest import DATA, WORKSHEET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hostile.conftest import Attacked

SCRIPT = b"<script>alert('canary')</script>"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sent_to_model(service: Attacked) -> tuple[str, bytes]:
    """Type and bytes of the picture in the last request that the model got."""
    url = service.upstream.requests[-1].json["messages"][-1]["content"][-1]["image_url"]["url"]
    mime, _, data = url.removeprefix("data:").partition(";base64,")
    return mime, base64.b64decode(data, validate=True)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("canary.txt", SCRIPT)
    return buffer.getvalue()


POLYGLOTS = {
    "a page behind a PNG": ("image/png", KINDS["png"] + SCRIPT),
    "a page in a PNG's text": ("image/png", make.png(pnginfo=None) + make.png_chunk(b"tEXt", b"Title\0" + SCRIPT)),
    "an archive behind a JPEG": ("image/jpeg", KINDS["jpeg"] + archive()),
    "a script in a JPEG's comment": ("image/jpeg", make.jpeg(comment=b"*/" + SCRIPT + b"/*")),
    "a script around a GIF": ("image/gif", make.gif(comment=b"*/=1;" + SCRIPT) + b"*/=1;" + SCRIPT),
    "a second picture in a JPEG": ("image/jpeg", KINDS["jpeg"] + KINDS["png"]),
    "an archive behind a WebP": ("image/webp", KINDS["webp simple"] + archive()),
}


@pytest.mark.parametrize(("mime", "data"), POLYGLOTS.values(), ids=POLYGLOTS)
def test_model_gets_the_picture_alone(service: Attacked, mime: str, data: bytes) -> None:
    assert service.ask(base64_image=encoded(data)).status_code == 200
    told, picture = sent_to_model(service)
    assert told == mime
    assert not [part for part in (SCRIPT, b"canary", b"PK\3\4") if part in picture]
    with Image.open(io.BytesIO(picture)) as image:
        assert Image.MIME[str(image.format)] == mime


@pytest.mark.parametrize("claimed", ["image/png", "image/webp", "image/svg+xml", "image/x-canary"])
def test_type_is_the_pictures_own_whatever_it_is_called(service: Attacked, claimed: str) -> None:
    assert service.ask(base64_image=f"data:{claimed};base64,{encoded(KINDS['jpeg'])}").status_code == 200
    assert sent_to_model(service)[0] == "image/jpeg"


NO_PICTURES = {
    "a page": SCRIPT,
    "a drawing that loads another": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/"/></svg>',
    "a document that holds a JPEG": b"%PDF-1.7\n" + KINDS["jpeg"],
    "a program": b"\x7fELF" + KINDS["png"],
    "an archive": archive(),
    "a picture of another kind": make.saved(make.scene(), "BMP"),
    "a PNG behind a space": b" " + KINDS["png"],
    "a PNG cut off": WORKSHEET[: len(WORKSHEET) // 2],
    "a JPEG cut off": (DATA / "phone.jpg").read_bytes()[:-2],
    "a PNG with a bit turned": KINDS["png"].replace(b"IDAT", b"IDAU"),
    "a JPEG's start": b"\xff\xd8\xff",
    "a RIFF of sound": b"RIFF\x24\0\0\0WAVEfmt ",
}


@pytest.mark.parametrize("data", NO_PICTURES.values(), ids=NO_PICTURES)
def test_what_is_no_whole_picture_is_refused(service: Attacked, data: bytes) -> None:
    reply = service.ask(base64_image=encoded(data))
    assert (reply.status_code, reply.json()["code"]) == (422, "IMAGE_UNREADABLE")
    assert service.upstream.requests == []


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """A server that nobody may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.mark.parametrize(
    "address",
    [
        "http://{host}/picture.png",
        "//{host}/picture.png",
        "ftp://{host}/picture.png",
        "gopher://{host}/1",
        "data:image/png,http://{host}/",
        "data:image/svg+xml;utf8,<svg><image href='http://{host}/'/></svg>",
        "data:text/html;base64,aHR0cDovL2V4YW1wbGUuY29t",
        "file:///etc/passwd",
        "/etc/passwd",
        "\\\\{host}\\share\\picture.png",
    ],
)
def test_address_instead_of_a_picture_is_refused_and_never_asked(
    service: Attacked, trap: socket.socket, address: str
) -> None:
    host = f"127.0.0.1:{trap.getsockname()[1]}"
    reply = service.ask(base64_image=address.format(host=host))
    assert (reply.status_code, reply.json()["code"]) == (422, "IMAGE_UNREADABLE")
    assert host not in reply.text
    with pytest.raises(BlockingIOError):
        trap.accept()
    assert service.upstream.requests == []


def test_addresses_in_the_words_and_in_the_picture_are_never_asked(service: Attacked, trap: socket.socket) -> None:
    address = f"http://127.0.0.1:{trap.getsockname()[1]}/"
    picture = make.jpeg(xmp=f'<x:xmpmeta xmlns:x="{address}"/>'.encode(), comment=address.encode())
    assert service.ask(prompt=f"See {address}", subject=address, base64_image=encoded(picture)).status_code == 200
    with pytest.raises(BlockingIOError):
        trap.accept()
    assert address.encode() not in sent_to_model(service)[1]


def test_place_of_a_phones_photo_never_leaves(service: Attacked) -> None:
    photo = (DATA / "phone.jpg").read_bytes()
    with Image.open(io.BytesIO(photo)) as image:
        assert image.getexif().get_ifd(0x8825)
    assert service.ask(base64_image=encoded(photo)).status_code == 200
    with Image.open(io.BytesIO(sent_to_model(service)[1])) as image:
        assert set(image.getexif()) <= {0x0112}
        assert not image.getexif().get_ifd(0x8825)
