import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_model.tokens import image_tokens, split


def test_tokens_are_words_numbers_and_marks_with_the_space_before_them() -> None:
    assert split("So **x = 12.5**,\n\nnot 1234!") == [
        *("So", " *", "*", "x", " =", " 12", ".", "5", "*", "*", ","),
        *("\n\n", "not", " 123", "4", "!"),
    ]


def test_long_words_are_several_tokens() -> None:
    assert split("photosynthesis") == ["photosyn", "thesis"]


@given(st.text())
def test_joined_tokens_are_the_text(text: str) -> None:
    pieces = split(text)
    assert "".join(pieces) == text
    assert all(pieces)


@pytest.mark.parametrize(
    ("width", "height", "cost"), [(1, 1, 255), (512, 512, 255), (513, 512, 425), (1200, 1600, 85 + 12 * 170)]
)
def test_picture_costs_a_base_and_a_price_for_each_tile(width: int, height: int, cost: int) -> None:
    assert image_tokens(width, height) == cost
