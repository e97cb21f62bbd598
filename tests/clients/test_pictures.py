"""A photograph as phones take them is scaled down by the command, upright, and asked about."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from studyai_client import StudyAI
from tests.clients.terminal import run
from tests.clients.test_command import where

if TYPE_CHECKING:
    from pathlib import Path

    from tests.end_to_end.conftest import Service

TURNED = 6
"""EXIF's orientation of a picture whose camera was held upright: its left edge is to be above."""
ORIENTATION = 0x0112
ROOM = 3 * 1024 * 1024


def photograph(width: int, height: int, kind: str = "JPEG") -> bytes:
    """More than the service takes: red where it is to be above, noise below."""
    image = Image.effect_noise((width, height), 100).convert("RGB")
    image.paste("red", (0, 0, width // 3, height))
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    written = io.BytesIO()
    image.save(written, kind, quality=95, exif=exif)
    assert written.tell() > ROOM
    return written.getvalue()


def sent(service: Service) -> Image.Image:
    """The picture that the model was shown."""
    (told,) = re.findall(r"data:image/\w+;base64,([\w+/=]+)", service.upstream.requests[0].body.decode())
    return Image.open(io.BytesIO(base64.b64decode(told)))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_photograph_of_a_phone_is_scaled_down_and_stays_upright(service: Service, tmp_path: Path, scheme: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(photograph(3200, 2400))
    status, written, said = run("ask", str(tmp_path / "photo.jpg"), "x?", *where(service, scheme))
    assert (status, written) == (0, "Hello there.\n")
    assert re.match(r"The picture has \d\.\d MB: scaled down to 1500 × 2000 pixels\.\n", said)
    shown: Any = sent(service)
    assert shown.size == (1500, 2000)
    red, green, _ = shown.convert("RGB").getpixel((750, 100))
    assert (red > 200, green < 60) == (True, True)


def test_piped_photograph_is_scaled_down_quietly(service: Service) -> None:
    picture = photograph(1800, 1500, "PNG")
    assert run("ask", "-", "x?", "-q", *where(service), stdin=picture) == (0, "Hello there.\n", "")
    assert sent(service).format == "JPEG"


def test_picture_that_fits_is_sent_as_it_is(service: Service, tmp_path: Path) -> None:
    written = io.BytesIO()
    Image.effect_noise((900, 900), 100).save(written, "PNG")
    assert len(written.getvalue()) < ROOM * 3 // 4 - 32 * 1024
    (tmp_path / "page.png").write_bytes(written.getvalue())
    assert run("ask", str(tmp_path / "page.png"), "x?", "-q", *where(service))[0] == 0
    assert sent(service).size == (900, 900)


def test_large_file_that_only_begins_as_a_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff" + bytes(ROOM))
    status, written, said = run("ask", "photo.jpg", "x?", "--url", "http://127.0.0.1:9", cwd=tmp_path)
    assert (status, written) == (1, "")
    assert said == "studyai: The picture has more than 3 MiB: scale the picture down. (PAYLOAD_TOO_LARGE)\n"


def test_what_is_no_picture_in_any_form_is_named() -> None:
    wrong: Any = 123
    with (
        StudyAI("http://127.0.0.1:9") as studyai,
        pytest.raises(TypeError, match="a path, bytes or an open binary file"),
    ):
        studyai.complete(wrong, "x?")
