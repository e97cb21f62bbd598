"""The best estimate of tokens, for answers whose provider reported none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine_grpc.model import Usage

if TYPE_CHECKING:
    from engine_grpc.model import Prompt

_BYTES_PER_TOKEN = 4
_TILE_PIXELS = 512
_TOKENS_PER_TILE = 170
_TOKENS_PER_IMAGE = 85


def prompt_tokens(prompt: Prompt) -> int:
    """Returns what asking `prompt` costs, about.

    A token is about four bytes of UTF-8; a picture at high detail costs 85 tokens and 170 a tile of 512 pixels after
    scaling to fit 2,048 and then 768 on the short side (OpenAI's guide "Images and vision", calculating costs).
    """
    before = [text for turn in prompt.turns for text in (turn.question, turn.answer)]
    words = sum(_text_tokens(part) for part in (prompt.system, *before, *prompt.texts))
    return words + _image_tokens(prompt.picture.width, prompt.picture.height)


def estimate(asked: int, text: str) -> Usage:
    """Returns what an answer costs, about, whose prompt has `asked` tokens and which has come to `text`."""
    written = _text_tokens(text)
    return Usage(asked, written, asked + written, estimated=True)


def _text_tokens(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)


def _image_tokens(width: int, height: int) -> int:
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height))
    tiles = -(-int(width * scale) // _TILE_PIXELS) * -(-int(height * scale) // _TILE_PIXELS)
    return _TOKENS_PER_IMAGE + _TOKENS_PER_TILE * max(1, tiles)
