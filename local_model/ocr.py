"""Reads the text in a picture: rapidocr behind one class, its models taken from its own wheel and nowhere else.

The stages of rapidocr are run one by one. That lets a reading be given up between them, and lets all lines
of a page decide together which way up it is: alone, a short line is often taken for an upside-down one.
"""

import os
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it has no stubs
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR
from rapidocr.main import RapidOCRError

from local_model.layout import Fragment, reading_order

_DETECTION_SIDE = 960
"""Text is looked for at this size, in pixels: much faster than full size, and a page of 60 lines loses none."""
_SHORTEST_SIDE = 64
"""In pixels; the detector's scaling makes nothing of less."""
_MOST_THREADS = 4
"""For one reading; more gain little."""
_LINES_AT_ONCE = 6
_LEAST_SCORE = 0.5
"""Of a recognised line, 0 to 1."""
_LEAST_SCORE_OF_ONE_CHARACTER = 0.9
"""A lone shape is easily taken for a letter: the sun for an O."""

_FULL_WIDTH = {ord("\N{IDEOGRAPHIC SPACE}"): " "} | {0xFEE0 + code: code for code in range(0x21, 0x7F)}
"""The model was trained on Chinese too, where `?` and `:` are as wide as a character."""

Pixels = NDArray[np.uint8]
Box = NDArray[np.float64]
"""Four corners, x and y in pixels, clockwise from the one at the upper left of the text."""


class GivenUp(Exception):  # noqa: N818 - no error: nobody waits for the text any more
    """The reading was given up on request."""


class TextReader:
    """A loaded OCR engine. One reading at a time: rapidocr keeps state between its stages."""

    def __init__(self) -> None:
        onnxruntime.disable_telemetry_events()
        self._engine = RapidOCR(params=_parameters())
        self._warm_up()

    def read(self, image: Image.Image, given_up: Callable[[], bool] = lambda: False) -> list[str]:
        """Returns the lines of text in an RGB image, in reading order.

        Raises:
            GivenUp: soon after `given_up` has turned true.
        """
        bgr = np.ascontiguousarray(np.asarray(_large_enough(image))[:, :, ::-1])
        try:
            crops, found = self._engine.detect_and_crop(bgr, {})
        except RapidOCRError:  # its way to say that there is no text
            return []
        boxes = list(np.asarray(found.boxes, dtype=float))
        crops, turns = self._turn_upright(crops, [_is_tall(box) for box in boxes])
        texts = self._recognise(crops, given_up)
        return reading_order([_fragment(text, box, turns) for text, box in zip(texts, boxes, strict=True) if text])

    def _turn_upright(self, crops: list[Pixels], tall: list[bool]) -> tuple[list[Pixels], int]:
        """Returns the crops with their letters upright, and the page's quarter turns to the left until it is.

        rapidocr has turned tall crops by a quarter to the left already. Wide and tall lines vote apart: a
        chart has both.
        """
        _, verdicts = self._engine.cls_and_rotate(crops)
        votes = {True: 0.0, False: 0.0}
        weight = {True: 0.0, False: 0.0}
        for crop, is_tall, (label, score) in zip(crops, tall, verdicts.cls_res or (), strict=True):
            length = crop.shape[1]
            votes[is_tall] += length * float(score) * (1 if label == "180" else -1)
            weight[is_tall] += length
        upright = [np.rot90(crop, 2) if votes[is_tall] > 0 else crop for crop, is_tall in zip(crops, tall, strict=True)]
        page_is_tall = weight[True] > weight[False]
        turns = int(page_is_tall) + 2 * (votes[page_is_tall] > 0)
        return [np.ascontiguousarray(crop) for crop in upright], turns

    def _recognise(self, crops: Sequence[Pixels], given_up: Callable[[], bool]) -> list[str]:
        """Returns the text of each crop, empty where there is none."""
        # Crops of a batch are padded to the widest, so like goes with like.
        order = sorted(range(len(crops)), key=lambda at: crops[at].shape[1] / crops[at].shape[0])
        texts = [""] * len(crops)
        for start in range(0, len(order), _LINES_AT_ONCE):
            if given_up():
                raise GivenUp
            batch = order[start : start + _LINES_AT_ONCE]
            read = self._engine.recognize_txt([crops[at] for at in batch])
            for at, text, score in zip(batch, read.txts or (), read.scores, strict=True):
                texts[at] = _clean(text, score)
        return texts

    def _warm_up(self) -> None:
        """Loads every model, and lets each lay out its memory, before the first request waits for it."""
        page = Image.new("RGB", (320, 64), "white")
        ImageDraw.Draw(page).text((40, 16), "ready", "black", ImageFont.load_default(32))
        self.read(page)


def _parameters() -> dict[str, Any]:
    """Returns rapidocr's settings; a model that is named by its path is never looked for in the network."""
    return {
        "Global.log_level": "critical",
        "EngineConfig.onnxruntime.intra_op_num_threads": _threads(),
        "Det.limit_type": "max",
        "Det.limit_side_len": _DETECTION_SIDE,
        "Det.model_path": _model("det"),
        "Cls.model_path": _model("cls"),
        "Rec.model_path": _model("rec"),
    }


def _threads() -> int:
    """Half of the cores: onnxruntime's threads spin for each other, and lose by it where one has to wait."""
    return min(max(1, (os.cpu_count() or 1) // 2), _MOST_THREADS)


def _model(task: str) -> str:
    """Returns the path of the model that rapidocr's wheel brought for `task`.

    Raises:
        FileNotFoundError: if it brought none.
    """
    for file in metadata.files("rapidocr") or ():
        if file.suffix == ".onnx" and f"_{task}_" in file.name:
            return str(file.locate())
    raise FileNotFoundError(f"rapidocr's package contains no model for {task!r}")


def _large_enough(image: Image.Image) -> Image.Image:
    """Returns `image`, on a larger ground of its own colour if a side is too short for the detector."""
    size = max(image.width, _SHORTEST_SIDE), max(image.height, _SHORTEST_SIDE)
    if size == image.size:
        return image
    ground = Image.new("RGB", size, image.getpixel((0, 0)))
    ground.paste(image)
    return ground


def _is_tall(box: Box) -> bool:
    """Whether rapidocr takes the box for a line that runs up or down the page."""
    width = max(np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[2] - box[3]))
    height = max(np.linalg.norm(box[0] - box[3]), np.linalg.norm(box[1] - box[2]))
    return bool(int(height) >= 1.5 * int(width))


def _fragment(text: str, box: Box, turns: int) -> Fragment:
    """Places `text` on the page after so many quarter turns to the left."""
    x, y = box[:, 0], box[:, 1]
    for _ in range(turns):
        x, y = y, -x
    return Fragment(text, left=x.min(), top=y.min(), right=x.max(), bottom=y.max())


def _clean(text: str, score: float) -> str:
    """Returns `text` with the ASCII form of full-width marks, or nothing if it is too doubtful."""
    text = text.translate(_FULL_WIDTH).strip()
    least = _LEAST_SCORE if len(text) > 1 else _LEAST_SCORE_OF_ONE_CHARACTER
    return text if score >= least else ""
