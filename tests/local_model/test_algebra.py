from __future__ import annotations

import ast
import operator
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from local_model.algebra import find

if TYPE_CHECKING:
    from collections.abc import Callable

# What is given, as a line on a page, and the result that must come out.
SOLVED = [
    ("1. Solve for x: 2x + 5 = 17", "x = 6"),
    ("3. Solve for y: 5y − 4 = 3y + 10", "y = 7"),
    ("3x-7=11", "x = 6"),
    ("a) 3x + 1 = 4", "x = 1"),
    ("(b) 7 = 2x - 4", "x = 5.5"),
    ("Solve for x:2x + 5 = 17", "x = 6"),
    ("2(x + 3) = 5x", "x = 2"),
    ("x/3 + 1 = 2", "x = 3"),
    ("3x = 7", "x = 7/3"),
    ("-2x + 3 = 7", "x = −2"),
    ("X + 2 = 5", "X = 3"),
    ("A = 8 × 5 ÷ 2", "A = 20"),
    ("Please solve 2x+3=7 for x", "x = 2"),
    ("If 2x = 9, what is x?", "x = 4.5"),
    ("2. Calculate: 3 × (4 + 5) − 6", "21"),
    ("150÷2.5=?", "60"),
    ("What is 12/4?", "3"),
    ("3 x 4 = ?", "12"),
    ("Task 3: 4 + 5 = ___", "9"),
    ("Work out 2 + 3 * 4.", "14"),
    ("7 + 8", "15"),
]

# What looks like an exercise, and is none, or could be two.
UNTOUCHED = [
    "le chat = the cat",
    "5 m = 500 cm",  # units
    "2 m = 200 cm",
    "1 h = 3600 s",
    "pages 10-12",
    "2025-10-07",
    "12/05/2025",
    "at 10:30 + 5 = ?",
    "the ratio 3:4 + 1",
    "half of 3 + 4 = ?",
    "twice x + 5 = 17",
    "3 + 4 = apples",
    "3 x 4 + x = 10",  # x is a sign, or it is not
    "Evaluate 3x2 + 1 for x = 2",  # a lost exponent
    "Evaluate 2x + 3 when x = 4",
    "x² + 5 = 9",
    "f(x) = 2x + 1",
    "y = 2x + 1",
    "x = 5",  # solved already
    "x = -5",
    "2x = 2x",
    "x + 1 = x",
    "5 + ? = 12",
    "1 = 2 = x",
    "10 / 0 = ?",
    "6 ÷ 2(1+2) = ?",
    "1.2x + 5 = 17",  # task 1, or 1.2
    "3 x + 5 = 17",  # task 3, or 3x
    "What is x in the first equation?",
    "7",
    "",
]


@pytest.mark.parametrize(("line", "result"), SOLVED)
def test_exercise_is_solved(line: str, result: str) -> None:
    exercise = find(line, numbered=True)
    assert exercise is not None
    assert exercise.result == result


@pytest.mark.parametrize("line", UNTOUCHED)
def test_what_is_not_surely_an_exercise_is_left_alone(line: str) -> None:
    assert find(line, numbered=True) is None


def test_number_at_the_start_is_no_label_where_there_are_none() -> None:
    exercise = find("1.5x + 2 = 8")
    assert exercise is not None
    assert exercise.result == "x = 4"


def test_steps_lead_from_the_equation_to_the_unknown() -> None:
    exercise = find("4 + 2(x - 1) = 5x - 7")
    assert exercise is not None
    assert exercise.text == "4 + 2 × (x − 1) = 5x − 7"
    assert exercise.steps == (
        "Simplify: 2x + 2 = 5x − 7",
        "Subtract 5x from both sides: −3x + 2 = −7",
        "Subtract 2 from both sides: −3x = −9",
        "Divide both sides by −3: x = 3",
    )


numbers = st.integers(-99, 99) | st.integers(-9999, 9999).map(lambda number: Fraction(number, 100))


@given(a=numbers, b=numbers, c=numbers, d=numbers)
def test_solution_fulfils_the_equation(a: Fraction, b: Fraction, c: Fraction, d: Fraction) -> None:
    assume(a != c)
    exercise = find(f"{float(a)}x + ({float(b)}) = ({float(c)})x + ({float(d)})")
    assert exercise is not None
    x = Fraction(exercise.result.removeprefix("x = ").replace("−", "-"))
    assert a * x + b == c * x + d
    assert exercise.steps[-1].endswith(exercise.result)


def calculate(node: ast.AST) -> Fraction:
    """The oracle: Python's parser and Python's fractions."""
    signs: dict[type, Callable[[Fraction, Fraction], Fraction]] = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
    }
    match node:
        case ast.Expression(body):
            return calculate(body)
        case ast.BinOp(left, sign, right):
            return signs[type(sign)](calculate(left), calculate(right))
        case ast.UnaryOp(ast.USub(), operand):
            return -calculate(operand)
        case ast.Constant(int(number)):
            return Fraction(number)
    raise AssertionError(ast.dump(node))


@given(st.lists(st.sampled_from(["+", "-", "*", "/", "(", ")", *"123456789"]), min_size=3, max_size=14))
def test_arithmetic_agrees_with_python_or_is_left_alone(marks: list[str]) -> None:
    text = " ".join(marks)
    exercise = find(f"Calculate: {text}")
    if exercise is not None:
        result = exercise.result.replace("−", "-")
        assert Fraction(result) == calculate(ast.parse(text, mode="eval"))


@given(st.text(max_size=60), st.booleans())
def test_any_line_is_solved_or_left_alone(line: str, numbered: bool) -> None:
    find(line, numbered=numbered)
