"""Arithmetic with at most one unknown, as an exact tree: read, simplified step by step, written again.

The reader refuses whatever has two readings: a wrong answer to a pupil is worse than none. So `6 ÷ 2(1 + 2)`,
`1/2x`, `x2` (a lost exponent?), `3 1/2` and `2,5` are all refused with `NotUnderstood`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

MAX_LENGTH = 120
"""Characters of a text that is read as one expression; it bounds the depth of the recursion too."""

_MAX_DIGITS = 12
_TOKEN = re.compile(r"\s*(?:(?P<number>[0-9]+(?:\.[0-9]+)?)(?![.,]?[0-9])|(?P<letter>[A-Za-z])|(?P<sign>[-+*/()]))")
_SIGNS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/"})


class NotUnderstood(ValueError):  # noqa: N818 - a verdict on the text, not a fault of the program
    """The text is no expression that has exactly one reading."""


@dataclass(frozen=True, slots=True)
class Number:
    """A known quantity."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Unknown:
    """A quantity to be found, written as one letter."""

    name: str


@dataclass(frozen=True, slots=True)
class Negative:
    """The opposite of an expression."""

    of: "Expression"


@dataclass(frozen=True, slots=True)
class Operation:
    """Two expressions joined by `+`, `-`, `*` or `/`."""

    sign: str
    left: "Expression"
    right: "Expression"


Expression = Number | Unknown | Negative | Operation


@dataclass(frozen=True, slots=True)
class Linear:
    """`factor` times the unknown plus `constant`."""

    factor: Fraction
    constant: Fraction


def parse(text: str) -> Expression:
    """Reads `text` as one expression.

    Raises:
        NotUnderstood: if it is none, or if it could mean two things.
    """
    return _Parser(_tokens(text)).whole()


def linear(expression: Expression) -> Linear:
    """Returns the linear form of `expression`.

    Raises:
        NotUnderstood: if it is not linear, or divides by zero.
    """
    match expression:
        case Number(value):
            return Linear(Fraction(0), value)
        case Unknown():
            return Linear(Fraction(1), Fraction(0))
        case Negative(of):
            inner = linear(of)
            return Linear(-inner.factor, -inner.constant)
        case Operation(sign, left, right):
            return _JOIN[sign](linear(left), linear(right))


def unknowns(expression: Expression) -> set[str]:
    """Returns the letters that `expression` contains."""
    match expression:
        case Number():
            return set()
        case Unknown(name):
            return {name}
        case Negative(of):
            return unknowns(of)
        case Operation(_, left, right):
            return unknowns(left) | unknowns(right)


def step(expression: Expression) -> Expression:
    """Returns `expression` with its first innermost operation on numbers carried out.

    Raises:
        NotUnderstood: if that operation divides by zero.
    """
    match expression:
        case Operation(_, Number(), Number()) | Negative(Number()):
            return Number(linear(expression).constant)
        case Negative(of):
            return Negative(step(of))
        case Operation(sign, left, right):
            reduced = step(left)
            return Operation(sign, reduced, right if reduced != left else step(right))
        case _:
            return expression


def write(expression: Expression) -> str:
    """Writes `expression` with as few parentheses as its meaning allows."""
    return _write(expression, 0)


def write_number(value: Fraction) -> str:
    """Writes `value` exactly: whole, as a short decimal, or as a fraction."""
    if value.denominator == 1:
        return _minus(str(value.numerator))
    if 10**6 % value.denominator == 0:
        whole, millionths = divmod(abs(value) * 10**6, 10**6)
        sign = "-" if value < 0 else ""
        return _minus(f"{sign}{whole}.{int(millionths):06d}".rstrip("0"))
    return _minus(f"{value.numerator}/{value.denominator}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _tokens(text: str) -> list[str]:
    text = text.translate(_SIGNS).strip()
    if len(text) > MAX_LENGTH:
        raise NotUnderstood("too long")
    tokens: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or len(match["number"] or "") > _MAX_DIGITS:
            raise NotUnderstood(f"unexpected character at {at}")
        # The space before a parenthesis is kept: `3 (4 + 5)` may have lost a sign, `3(4 + 5)` has not.
        mark = match.group().strip()
        tokens.append(" (" if mark == "(" and match.group() != mark and tokens else mark)
        at = match.end()
    return tokens


class _Parser:
    """Recursive descent: a sum of signed products of factors."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def whole(self) -> Expression:
        expression = self._sum()
        if self._peek():
            raise NotUnderstood("something follows the expression")
        return expression

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _sum(self) -> Expression:
        left = self._signed()
        while self._peek() in ("+", "-"):
            left = Operation(self._take(), left, self._signed())
        return left

    def _signed(self) -> Expression:
        """A product, whole under its minus: −2x is −(2x)."""
        return self._negative(self._product) if self._peek() == "-" else self._product()

    def _negative(self, operand: Callable[[], Expression]) -> Expression:
        self._take()
        if self._peek() == "-":
            raise NotUnderstood("two signs in a row")
        return Negative(operand())

    def _product(self) -> Expression:
        left = self._factor()
        divided = False
        while sign := self._peek():
            if sign in ("*", "/"):
                divided = divided or sign == "/"
                left = Operation(self._take(), left, self._factor())
            elif self._multiplies_silently() and not divided:
                left = Operation("*", left, self._atom())
            else:
                break
        return left

    def _multiplies_silently(self) -> bool:
        """Whether a product without a sign goes on here: a number or `)` before a letter or `(`."""
        before, after = self._tokens[self._at - 1], self._peek()
        return (before == ")" or before[0].isdecimal()) and (after == "(" or after.isalpha())

    def _factor(self) -> Expression:
        return self._negative(self._atom) if self._peek() == "-" else self._atom()

    def _atom(self) -> Expression:
        mark = self._take()
        if mark[:1].isdecimal():
            return Number(Fraction(mark))
        if mark.isalpha():
            return Unknown(mark)
        if mark.strip() == "(":
            inside = self._sum()
            if self._take() == ")":
                return inside
        raise NotUnderstood("an operand is missing")


def _product(left: Linear, right: Linear) -> Linear:
    if left.factor and right.factor:
        raise NotUnderstood("not linear")
    if left.factor:
        left, right = right, left
    return Linear(left.constant * right.factor, left.constant * right.constant)


def _quotient(left: Linear, right: Linear) -> Linear:
    if right.factor or not right.constant:
        raise NotUnderstood("not linear, or divided by zero")
    return Linear(left.factor / right.constant, left.constant / right.constant)


_JOIN: dict[str, Callable[[Linear, Linear], Linear]] = {
    "+": lambda left, right: Linear(left.factor + right.factor, left.constant + right.constant),
    "-": lambda left, right: Linear(left.factor - right.factor, left.constant - right.constant),
    "*": _product,
    "/": _quotient,
}

_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2}
_WRITTEN = {"+": " + ", "-": " − ", "*": " × ", "/": " ÷ "}


def _write(expression: Expression, strength: int) -> str:
    """Writes `expression` as an operand of a sign of `strength`; 0 where nothing stands before it."""
    match expression:
        case Number(value):
            text = write_number(value)
            return f"({text})" if strength and not text.replace(".", "").isdecimal() else text
        case Unknown(name):
            return name
        case Negative(of):
            return f"(−{_write(of, 2)})" if strength else f"−{_write(of, 2)}"
        case Operation(sign, left, right):
            text = _write_operation(sign, left, right)
            return f"({text})" if _STRENGTH[sign] < strength else text


def _write_operation(sign: str, left: Expression, right: Expression) -> str:
    strength = _STRENGTH[sign]
    first = _write(left, strength if sign in "*/" else 0)
    if sign == "*" and isinstance(left, Number) and isinstance(right, Unknown):
        return f"{first}{right.name}"
    return f"{first}{_WRITTEN[sign]}{_write(right, strength + 1)}"
