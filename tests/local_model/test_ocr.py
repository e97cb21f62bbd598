import pytest
from PIL import Image

from local_model.looking import look
from local_model.ocr import GivenUp, TextReader
from tests.local_model.asking import DATA


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader()


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2048, 1), (300, 200)])
def test_picture_without_text_has_no_lines_whatever_its_shape(reader: TextReader, size: tuple[int, int]) -> None:
    assert reader.read(Image.new("RGB", size, "white")) == []


def test_reading_is_given_up_on_request(reader: TextReader) -> None:
    page = look((DATA / "worksheet.png").read_bytes()).pixels
    with pytest.raises(GivenUp):
        reader.read(page, lambda: True)
    assert len(reader.read(page)) == 5
