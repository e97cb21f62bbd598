from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_grpc.image import Picture
from engine_grpc.prompt import compose, system_message
from engine_grpc.question import Question
from engine_grpc.usage import estimate, prompt_tokens

PICTURE = Picture(mime="image/png", width=1024, height=1024, data=b"\x89PNG")


def asked(prompt: str = "What is x?", subject: str = "general") -> Question:
    return Question(image=b"x", prompt=prompt, subject=subject, session_id="", student_id="anonymous")


@pytest.mark.parametrize("subject", ["math", "Math", " MATHEMATICS ", "algebra"])
def test_subject_chooses_our_own_instructions(subject: str) -> None:
    assert system_message(subject) == system_message("math") != system_message("general")


@given(st.text(min_size=1), st.text(max_size=64))
def test_students_words_are_never_in_the_system_message(prompt: str, subject: str) -> None:
    composed = compose(asked(prompt, subject), PICTURE)
    ours = {system_message(name) for name in _SUBJECTS}
    assert composed.system in ours
    assert composed.texts == (f"Subject: {subject}", prompt)


_SUBJECTS = [
    *("general", "math", "physics", "chemistry", "biology", "history", "geography", "language", "literature"),
    "computer science",
]


def test_estimate_counts_the_picture_and_both_texts() -> None:
    short = estimate(prompt_tokens(compose(asked(), PICTURE)), "")
    long = estimate(prompt_tokens(compose(asked("x" * 400), PICTURE)), "four" * 25)
    assert short.estimated
    assert short.prompt_tokens > 85 + 170 * 4
    assert long.prompt_tokens - short.prompt_tokens == pytest.approx(100, abs=5)
    assert long.completion_tokens == 25
    assert long.total_tokens == long.prompt_tokens + long.completion_tokens
