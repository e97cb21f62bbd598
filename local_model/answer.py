"""Composes the answer: pure text from the question and what was seen, nothing that was not."""

import re
from dataclasses import dataclass

from local_model import algebra
from local_model.algebra import Exercise

STAND_IN = "I am a local stand-in for a real model: I read pictures and do simple maths, no more."
"""Stands first in every answer, so that no length limit cuts it away."""

_AT_AN_END = "I cannot reason any further than that."

_MOST_LINES = 4
_LONGEST_LINE = 70
_MOST_EXERCISES = 3

_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": 0}
_NUMBER = re.compile(r"\b(?:number|no|task|question|exercise|problem)\W{0,2}([0-9]{1,2})\b", re.IGNORECASE)
_LABEL = re.compile(r"\s*\(?([0-9]{1,2})[.)]")
_WORD = re.compile(r"[^\W\d_]+|\d+(?:\.\d+)?")
_COMMON = frozenset(
    {"a", "about", "an", "and", "are", "at", "be", "by", "can", "do", "does", "explain", "for", "from", "help"}
    | {"how", "i", "image", "in", "is", "it", "its", "me", "my", "of", "on", "or", "page", "photo", "picture"}
    | {"please", "say", "see", "show", "so", "tell", "that", "the", "there", "this", "to", "was", "we", "what"}
    | {"when", "where", "which", "who", "why", "with", "you"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen in a picture."""

    format: str
    width: int
    height: int
    colours: tuple[str, ...]
    """The most frequent first."""
    lines: tuple[str, ...]
    """Its text in reading order."""


def compose(question: str, seen: Seen | None) -> str:
    """Returns the answer to `question` about a picture, or about none; Markdown, but readable without."""
    own = _first_exercise(question)
    if seen is None:
        opening = f"{STAND_IN} There was no picture with your question, so I go by its words alone."
    else:
        opening = f"{STAND_IN} {_describe(seen)}"
    if own:
        return f"{opening}\n\n{_solution(own)}"
    if seen is None or not seen.lines:
        return f"{opening} I cannot tell you more about it than that."
    return f"{opening} {_relate(question, seen.lines)}"


def _first_exercise(question: str) -> Exercise | None:
    found = (algebra.find(line) for line in question.splitlines())
    return next((exercise for exercise in found if exercise), None)


def _describe(seen: Seen) -> str:
    look = f"Your picture is a {seen.format} of {seen.width} × {seen.height} pixels, {_paint(seen.colours)}."
    if not seen.lines:
        return f"{look} I found no text in it."
    quoted = ", ".join(_quote(line) for line in seen.lines[:_MOST_LINES])
    rest = len(seen.lines) - _MOST_LINES
    more = f" and {rest} more {'line' if rest == 1 else 'lines'}" if rest > 0 else ""
    return f"{look} {_sentence(f'It reads: {quoted}{more}')}"


def _paint(colours: tuple[str, ...]) -> str:
    if not colours:
        return "of many colours"
    main, *others = colours
    return f"mostly {main}, with {_listed(others)}" if others else f"mostly {main}"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _quote(line: str) -> str:
    return f"“{line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + '…'}”"


def _sentence(text: str) -> str:
    return text if text.endswith((".”", "?”", "!”", "…”")) else f"{text}."


def _relate(question: str, lines: tuple[str, ...]) -> str:
    """Says what the question points to, solves it if it is an exercise, else says what can be solved."""
    exercises = {at: found for at, line in enumerate(lines) if (found := algebra.find(line, numbered=True))}
    asked = asked_lines(question, lines, exercises)
    # A sum often stands under the words that pose it.
    posed = next(((line, at) for line in asked for at in (line, line + 1) if at in exercises), None)
    if posed:
        return f"{_point_to(lines[posed[0]])}\n\n{_solution(exercises[posed[1]])}"
    if asked:
        return f"{_point_to(lines[asked[0]])} {_AT_AN_END}"
    if not exercises:
        return _AT_AN_END
    shown = list(exercises.values())[:_MOST_EXERCISES]
    if len(shown) == 1:
        return f"There is one thing in it that I can solve.\n\n{_solution(shown[0])}"
    return f"I can solve this much of it:\n\n{chr(10).join(_in_short(exercise) for exercise in shown)}"


def _point_to(line: str) -> str:
    return _sentence(f"Your question points to {_quote(line)}")


def asked_lines(question: str, lines: tuple[str, ...], exercises: dict[int, Exercise]) -> list[int]:
    """Returns which lines the question is about: those it numbers, or those that share most words with it."""
    if number := _NUMBER.search(question):
        labelled = [at for at, line in enumerate(lines) if (own := _LABEL.match(line)) and own[1] == number[1]]
        if labelled:
            return labelled
    words = _words(question)
    for place in (_ORDINALS[word] for word in _WORD.findall(question.lower()) if word in _ORDINALS):
        equations = [at for at, found in exercises.items() if found.unknown or "equation" not in words]
        if place <= len(equations) and equations:
            return [equations[place - 1]]
    shared = {at: words & _words(line) for at, line in enumerate(lines)}
    telling = {at: len(words - _COMMON) for at, words in shared.items() if words - _COMMON}
    nearest = [at for at, count in telling.items() if count == max(telling.values())]
    return sorted(nearest, key=lambda at: -len(shared[at]))


def _words(text: str) -> set[str]:
    """Returns the words of `text`, without the s of a plural."""
    words = {word.lower() for word in _WORD.findall(text)}
    return {word if word in _COMMON or len(word) < 4 else word.removesuffix("s") for word in words}


def _solution(exercise: Exercise) -> str:
    if exercise.unknown is None:
        return f"{' = '.join((exercise.text, *exercise.steps[:-1]))} = **{exercise.result}**."
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(exercise.steps, 1))
    return f"**{exercise.text}**\n{steps}\n\nSo **{exercise.result}**."


def _in_short(exercise: Exercise) -> str:
    link = " = " if exercise.unknown is None else " gives "
    return f"- {exercise.text}{link}**{exercise.result}**"
