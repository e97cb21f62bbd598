"""Finds an exercise in a line of text and solves it: plain arithmetic, or a linear equation in one unknown.

Correct or silent: the text around an exercise must be of a known kind too (`5 m = 500 cm` is no equation for
m), and what `expression` finds ambiguous is left alone.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from local_model.expression import (
    Expression,
    Linear,
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

_MAX_DIGITS = 15
"""Of a number that is shown; school exercises stay far below."""

_LABEL = re.compile(
    r"\s*(?:\((?:[0-9]{1,2}|[A-Za-z])\)\s+|(?:[0-9]{1,2}|[A-Za-z])\)\s*|[0-9]{1,2}\.\s+)(?![-+*/=×÷−–])"
)
_NUMBER_OR_LABEL = re.compile(r"\s*[0-9]{1,2}(?:\.[0-9]|\s+(?![xX] [0-9])[A-Za-z])")
_SEPARATOR = re.compile(r"[^\W\d_]{2,}|(?<![0-9]):|:(?=\s|$)|[;!\"“”„`]|(?<!\w)'|'(?!\w)|[.,](?=\s|$)|[?_…]+")
_SPACED_TIMES = re.compile(r"(?<=[0-9]) [xX] (?=[0-9])")
_LETTER = re.compile(r"(?<![^\W\d_])[xX](?![^\W\d_])")

_BEFORE = frozenset(
    {"and", "calculate", "compute", "equation", "evaluate", "expression", "find", "given"}
    | {"if", "is", "out", "simplify", "solve", "that", "when"}
)
_AFTER = frozenset({"and", "for", "if", "please", "then", "when", "where"})
_CALCULATE = re.compile(r"\b(?:calculate|compute|evaluate|simplify|work out|find|what is|much is)\W*$", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """A solved exercise."""

    text: str
    """The exercise in regular notation: `3x + 7 = 22`."""
    steps: tuple[str, ...]
    """What is done, one sentence each; the last one shows the result."""
    result: str
    """`x = 5`, or the value alone."""
    unknown: str | None
    """The letter that was found; none for arithmetic."""


def find(text: str, *, numbered: bool = False) -> Exercise | None:
    """Returns the first exercise of `text` that is understood beyond doubt, solved; else nothing.

    Args:
        text: one line.
        numbered: whether `1.5 + 2` or `3 x + 5 = 17` at its start may mean task 1, `5 + 2`, and task 3,
            `x + 5 = 17`: then it is left alone.
    """
    label = _LABEL.match(text)
    segments = _segments(text[label.end() :] if label else text)
    if numbered and not label and _NUMBER_OR_LABEL.match(text):
        segments = segments[1:]
    for before, inside, after in segments:
        try:
            return _solve(before, inside, after)
        except NotUnderstood:
            continue
    return None


def _segments(line: str) -> list[tuple[str, str, str]]:
    """Cuts `line` at words and punctuation; each piece with all that precedes and all that follows it."""
    if len(_LETTER.findall(line)) == len(_SPACED_TIMES.findall(line)):
        line = _SPACED_TIMES.sub(" × ", line)
    cuts = [0, *(edge for match in _SEPARATOR.finditer(line) for edge in match.span()), len(line)]
    pieces = zip(cuts[::2], cuts[1::2], strict=True)
    return [(line[:start], line[start:end], line[end:]) for start, end in pieces if line[start:end].strip()]


def _solve(before: str, inside: str, after: str) -> Exercise:
    _require_known_surroundings(before, after)
    left, *right = inside.split("=")
    if len(right) == 1 and right[0].strip():
        return _equation(parse(left), parse(right[0]))
    asked = right == [""] or (len(right) == 1 and not right[0].strip())
    alone = not before.strip() and not after.strip() and any(sign in inside for sign in "+*×÷(")
    if asked or (not right and (alone or _CALCULATE.search(before))):
        return _arithmetic(parse(left))
    raise NotUnderstood("nothing is asked")


def _require_known_surroundings(before: str, after: str) -> None:
    words_before = re.findall(r"[^\W\d_]{2,}\s*$", before)
    words_after = re.findall(r"^\s*[^\W\d_]{2,}", after)
    if (words_before and words_before[0].strip().lower() not in _BEFORE) or (
        words_after and words_after[0].strip().lower() not in _AFTER
    ):
        raise NotUnderstood("part of a longer text")


def _arithmetic(expression: Expression) -> Exercise:
    if unknowns(expression) or not isinstance(expression, Operation):
        raise NotUnderstood("nothing to calculate")
    text = write(expression)
    steps: list[str] = []
    while not isinstance(expression, Number):
        expression = step(expression)
        written = write(expression)
        if written != (steps[-1] if steps else text):
            steps.append(written)
    return Exercise(text=text, steps=tuple(steps), result=_shown(expression.value), unknown=None)


def _equation(left: Expression, right: Expression) -> Exercise:
    letters = unknowns(left) | unknowns(right)
    if len(letters) != 1:
        raise NotUnderstood("no equation in one unknown")
    name = letters.pop()
    text = f"{write(left)} = {write(right)}"
    steps, value = _isolate(name, linear(left), linear(right), text)
    if not steps:
        raise NotUnderstood("already solved")
    return Exercise(text=text, steps=tuple(steps), result=f"{name} = {_shown(value)}", unknown=name)


def _isolate(name: str, left: Linear, right: Linear, text: str) -> tuple[list[str], Fraction]:
    """Returns the steps from `text` to `name` alone on the left, and its value."""
    if left.factor == right.factor:
        raise NotUnderstood("true for every value, or for none")
    steps: list[str] = []

    def show(what: str, left: Linear, right: Linear) -> None:
        steps.append(f"{what}: {_write_linear(left, name)} = {_write_linear(right, name)}")

    if f"{_write_linear(left, name)} = {_write_linear(right, name)}" != text:
        show("Simplify", left, right)
    if not left.factor:
        left, right = right, left
        show("Swap the sides", left, right)
    if right.factor:
        what = _move(_write_linear(Linear(abs(right.factor), Fraction(0)), name), right.factor)
        left = Linear(left.factor - right.factor, left.constant)
        right = Linear(Fraction(0), right.constant)
        show(what, left, right)
    if left.constant:
        what = _move(_shown(abs(left.constant)), left.constant)
        right = Linear(Fraction(0), right.constant - left.constant)
        left = Linear(left.factor, Fraction(0))
        show(what, left, right)
    if left.factor != 1:
        what = _scale(left.factor)
        right = Linear(Fraction(0), right.constant / left.factor)
        show(what, Linear(Fraction(1), Fraction(0)), right)
    return steps, right.constant


def _move(term: str, value: Fraction) -> str:
    return f"Subtract {term} from both sides" if value > 0 else f"Add {term} to both sides"


def _scale(factor: Fraction) -> str:
    if abs(factor) < 1 and abs(factor.numerator) == 1:
        return f"Multiply both sides by {_shown(1 / factor)}"
    return f"Divide both sides by {_shown(factor)}"


def _write_linear(form: Linear, name: str) -> str:
    if not form.factor:
        return _shown(form.constant)
    size, rest = abs(form.factor), abs(form.constant)
    _require_short(size, rest)
    term: Expression = Unknown(name) if size == 1 else Operation("*", Number(size), Unknown(name))
    term = Negative(term) if form.factor < 0 else term
    if form.constant:
        term = Operation("+" if form.constant > 0 else "-", term, Number(rest))
    return write(term)


def _shown(value: Fraction) -> str:
    _require_short(value)
    return write_number(value)


def _require_short(*values: Fraction) -> None:
    if any(len(write_number(value)) > _MAX_DIGITS for value in values):
        raise NotUnderstood("numbers too long to show")
