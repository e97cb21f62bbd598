from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_model.expression import (
    Expression,
    Negative,
    NotUnderstood,
    Number,
    Operation,
    Unknown,
    linear,
    parse,
    step,
    unknowns,
    write,
    write_number,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def tree(*leaves: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    def branches(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        return st.builds(Negative, inner) | st.builds(Operation, st.sampled_from("+-*/"), inner, inner)

    return st.recursive(st.one_of(*leaves), branches, max_leaves=8)


numbers = st.builds(Number, st.fractions(min_value=0, max_value=50, max_denominator=12))
unknown = st.just(Unknown("x"))


def value(expression: Expression, x: Fraction = Fraction(0)) -> Fraction:
    """The oracle: Python's own fractions, without any of the code under test."""
    match expression:
        case Number(number):
            return number
        case Unknown():
            return x
        case Negative(of):
            return -value(of, x)
        case Operation(sign, left, right):
            calculate: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
                "+": Fraction.__add__,
                "-": Fraction.__sub__,
                "*": Fraction.__mul__,
                "/": Fraction.__truediv__,
            }
            return calculate[sign](value(left, x), value(right, x))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12 ÷ (2 + 4) + 9", "11"),
        ("3×(4+5)−6", "21"),
        ("2 - 3 - 4", "−5"),
        ("100 / 10 / 5", "2"),
        ("2.5 * 4", "10"),
        ("-2 * -3", "6"),
        ("2 - -3", "5"),
        ("2(3 + 4)", "14"),
        ("(1 + 2)(3 + 4)", "21"),
        ("1/3 + 1/3", "2/3"),
        ("0.1 + 0.2", "0.3"),
        ("999999999999 * 10 + 0.125", "9999999999990.125"),
    ],
)
def test_arithmetic_is_exact(text: str, expected: str) -> None:
    assert write_number(linear(parse(text)).constant) == expected


@pytest.mark.parametrize(
    "text",
    [
        "6 ÷ 2(1 + 2)",  # 9 or 1
        "1/2x",  # half of x, or 1 over 2x
        "3 (4 + 5)",  # a lost sign?
        "3 1/2",  # a mixed number, or a lost sign
        "x2",  # a lost exponent
        "x(2 + 3)",  # a function
        "2,5 + 1",
        "1.2.3",
        "(1 + 2",
        "1 + 2)",
        "3 +",
        "+ 3",
        "()",
        "",
        "--3",
        "2 ** 3",
        "x²",
        "5%",
        "1" * 13,
        "1+" * 60 + "1",
    ],
)
def test_text_with_two_readings_or_none_is_refused(text: str) -> None:
    with pytest.raises(NotUnderstood):
        parse(text)


@pytest.mark.parametrize("text", ["x * x", "1 / x", "1 / (2 - 2)", "x / (x - x)"])
def test_what_is_not_linear_is_refused(text: str) -> None:
    with pytest.raises(NotUnderstood):
        linear(parse(text))


def test_operations_are_carried_out_one_at_a_time_inside_first() -> None:
    expression, written = parse("20 - (2 + 3) * 2 + 1"), []
    while not isinstance(expression, Number):
        expression = step(expression)
        written.append(write(expression))
    assert written == ["20 − 5 × 2 + 1", "20 − 10 + 1", "10 + 1", "11"]


@given(tree(numbers, unknown))
def test_what_is_written_reads_as_the_same_value(expression: Expression) -> None:
    try:
        expected = value(expression, Fraction(7))
        again = parse(write(expression))
    except (ZeroDivisionError, NotUnderstood):  # longer than is read
        return
    assert value(again, Fraction(7)) == expected
    assert unknowns(again) == unknowns(expression)


@given(tree(numbers))
def test_each_step_keeps_the_value_and_the_last_is_a_number(expression: Expression) -> None:
    try:
        expected = value(expression)
    except ZeroDivisionError:
        return
    for _ in range(20):
        expression = step(expression)
        assert value(expression) == expected
    assert isinstance(expression, Number)


@given(tree(numbers, unknown), st.fractions(max_denominator=20))
def test_the_linear_form_has_the_value_of_the_expression(expression: Expression, x: Fraction) -> None:
    try:
        form = linear(expression)
        expected = value(expression, x)
    except (NotUnderstood, ZeroDivisionError):
        return
    assert form.factor * x + form.constant == expected


@given(st.text(alphabet="0123456789.,xy+-*/()=÷× ", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse(text)
    except NotUnderstood:
        return
