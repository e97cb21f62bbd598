import pytest

from local_model.answer import STAND_IN, Seen, compose
from local_model.tokens import split

HOMEWORK = (
    "Homework, Tuesday",
    "1. Solve for x: 3x + 7 = 22",
    "2. Calculate: 12 ÷ (2 + 4) + 9",
    "3. Name the capital of Portugal.",
)
SPEED = ("A train travels 150 km", "in 2.5 hours.", "a) What is its speed?", "150÷2.5=?", "page 27")


def seen(*lines: str, colours: tuple[str, ...] = ("white",)) -> Seen:
    return Seen(format="PNG", width=640, height=400, colours=colours, lines=lines)


@pytest.mark.parametrize(
    ("question", "part"),
    [
        ("What is x in the first equation?", "**x = 5**"),
        ("Can you do number 2?", "12 ÷ (2 + 4) + 9 = 12 ÷ 6 + 9 = 2 + 9 = **11**."),
        ("Please calculate", "**11**"),
        ("What is the last equation about?", "**x = 5**"),
        ("What is x, the capital of Portugal?", "points to “3. Name the capital of Portugal.” I cannot reason"),
        ("How many seconds?", "- 3x + 7 = 22 gives **x = 5**"),
        ("What is the capital of Portugal?", "points to “3. Name the capital of Portugal.” I cannot reason"),
        ("help", "- 3x + 7 = 22 gives **x = 5**\n- 12 ÷ (2 + 4) + 9 = **11**"),
    ],
)
def test_question_selects_what_is_answered(question: str, part: str) -> None:
    assert part in compose(question, seen(*HOMEWORK))


def test_sum_under_the_asked_line_is_calculated() -> None:
    answer = compose("What is its speed?", seen(*SPEED))
    assert "points to “a) What is its speed?”" in answer
    assert answer.endswith("150 ÷ 2.5 = **60**.")


def test_steps_of_an_equation_are_a_numbered_list() -> None:
    assert compose("What is x?", seen("3x + 7 = 22")).endswith(
        "**3x + 7 = 22**\n1. Subtract 7 from both sides: 3x = 15\n2. Divide both sides by 3: x = 5\n\nSo **x = 5**."
    )


def test_picture_is_described() -> None:
    answer = compose("?", seen("a", "b", "c", "d", "e", colours=("white", "red", "blue")))
    assert "a PNG of 640 × 400 pixels, mostly white, with red and blue." in answer
    assert "It reads: “a”, “b”, “c”, “d” and 1 more line." in answer


def test_picture_without_text_is_described_all_the_same() -> None:
    answer = compose("What is this?", seen(colours=("blue", "green")))
    assert "mostly blue, with green. I found no text in it." in answer


def test_long_lines_are_cut() -> None:
    answer = compose("?", seen("w" * 500))
    assert "w" * 69 + "…”" in answer
    assert "w" * 70 not in answer


def test_exercise_in_the_question_goes_before_those_in_the_picture() -> None:
    answer = compose("What is 3*4+2?", seen(*HOMEWORK))
    assert answer.endswith("3 × 4 + 2 = 12 + 2 = **14**.")


def test_without_a_picture_it_says_so() -> None:
    answer = compose("Who was Napoleon?", None)
    assert "There was no picture" in answer
    assert "I cannot tell" in answer


@pytest.mark.parametrize("question", ["", "What is x in the first equation?", "task 9", "second", "1+1=", "\n"])
@pytest.mark.parametrize("picture", [None, seen(), seen(*HOMEWORK), seen("…")])
def test_every_answer_says_first_that_it_is_a_stand_in_and_stays_short(question: str, picture: Seen | None) -> None:
    answer = compose(question, picture)
    assert answer.startswith(STAND_IN)
    assert 30 < len(split(answer)) < 200
