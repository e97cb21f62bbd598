import base64
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data"
EXAMPLES = Path(__file__).parents[2] / "examples"


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def image_part(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(data), "detail": "high"}}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def about(picture: bytes | None, question: str) -> list[dict[str, Any]]:
    """The messages of one turn, as the engine sends them."""
    parts = [text_part("Subject: math"), text_part(question)]
    if picture is not None:
        parts.append(image_part(picture))
    return [{"role": "system", "content": "You are a tutor."}, {"role": "user", "content": parts}]
