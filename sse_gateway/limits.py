"""What one student may ask: how often (RATE_LIMIT), and how much at once (MAX_CONCURRENT_ANSWERS_PER_STUDENT).

A question counts when it is let in, whatever becomes of it, and takes a slot until its request ends.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Self

from limits import parse_many
from limits.aio.storage import MemoryStorage

from sse_gateway.auth import ANONYMOUS
from sse_gateway.errors import ErrorCode, GatewayError
from sse_gateway.windows import RedisWindows, Windows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from limits import RateLimitItem

    from sse_gateway.settings import GatewaySettings
    from sse_gateway.windows import Count, Quota

_MOST = 10_000
_LONGEST_SECONDS = 31 * 86_400
_HELP = "Must be like 30/minute, or 30/minute;500/day: 1 to 10000 questions per second, minute, hour or day, or several"


def rate_limits(text: str) -> list[RateLimitItem]:
    """Returns the limits that RATE_LIMIT names, in the notation of the `limits` package.

    Raises:
        ValueError: It names none.
    """
    try:
        # One that is named twice would count twice.
        limits = list(dict.fromkeys(parse_many(text)))
    except ValueError:
        raise ValueError(_HELP) from None
    if not all(1 <= limit.amount <= _MOST and limit.get_expiry() <= _LONGEST_SECONDS for limit in limits):
        raise ValueError(_HELP)
    return limits


class StudentLimits:
    """The limits that every student has.

    Args:
        windows: Count each student's questions, if that is asked for.
        at_once: How many questions of one student may be open in this gateway; 0 for any number.
    """

    def __init__(self, windows: Windows | None, at_once: int) -> None:
        self._windows = windows
        self._at_once = at_once
        self._open: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._windows:
            await self._windows.aclose()

    def take_slot(self, student: str) -> None:
        """Takes one of a student's slots.

        Raises:
            GatewayError: RATE_LIMITED: all are taken.
        """
        if self._at_once and self._open[student] >= self._at_once:
            raise GatewayError(ErrorCode.RATE_LIMITED, "Too many answers at once for this student.")
        self._open[student] += 1

    def give_slot_back(self, student: str) -> None:
        """Gives one of them back."""
        self._open[student] -= 1
        if not self._open[student]:
            del self._open[student]

    async def count(self, student: str, headers: dict[str, str]) -> None:
        """Counts a student's question.

        Args:
            student: Who asks.
            headers: Get what tells of the limits; see draft-ietf-httpapi-ratelimit-headers, section 3 and 4.

        Raises:
            GatewayError: RATE_LIMITED: there were too many of late.
        """
        if self._windows is None:
            return
        count = await self._windows.count(student)
        headers |= _headers(count.quotas)
        if not count.allowed:
            raise GatewayError(ErrorCode.RATE_LIMITED, retry_after_ms=_waiting_ms(count))


class Admission:
    """One question's claim on its student's limits. Close it after use.

    Args:
        limits: Every student's.
        headers: The response's.
    """

    __slots__ = ("_headers", "_limits", "_student")

    def __init__(self, limits: StudentLimits, headers: dict[str, str]) -> None:
        self._limits = limits
        self._headers = headers
        self._student: str | None = None

    def close(self) -> None:
        """Gives the student's slot back. Once is enough, more does no harm."""
        student, self._student = self._student, None
        if student is not None:
            self._limits.give_slot_back(student)

    async def take(self, student_id: str) -> None:
        """Lets the question in, as soon as it is known who asks it; once is enough.

        Raises:
            GatewayError: RATE_LIMITED.
        """
        if self._student is None:
            student = student_id or ANONYMOUS
            self._limits.take_slot(student)
            self._student = student
            await self._limits.count(student, self._headers)


def student_limits(settings: GatewaySettings) -> StudentLimits:
    """Returns the limits that the settings ask for."""
    return StudentLimits(_windows(settings), settings.max_concurrent_answers_per_student)


def _windows(settings: GatewaySettings) -> Windows | None:
    if settings.rate_limit is None:
        return None
    limits, url = rate_limits(settings.rate_limit), settings.state_url.get_secret_value()
    in_memory = Windows(limits, MemoryStorage())
    return in_memory if url == "memory://" else RedisWindows(limits, url, in_memory)


def _waiting_ms(count: Count) -> int:
    """How long to wait until each limit has room again."""
    waiting = [quota.reset_seconds for quota in count.quotas if not quota.remaining]
    return math.ceil(max(waiting, default=0) * 1000)


def _headers(quotas: Sequence[Quota]) -> dict[str, str]:
    named = [(_name(quota, quotas), quota) for quota in quotas]
    return {
        "RateLimit-Policy": ", ".join(f"{name};q={one.limit.amount};w={one.limit.get_expiry()}" for name, one in named),
        "RateLimit": ", ".join(f"{name};r={one.remaining};t={math.ceil(one.reset_seconds)}" for name, one in named),
    }


def _name(quota: Quota, quotas: Sequence[Quota]) -> str:
    """Names a limit: the only one is the default, several are told apart by what they say."""
    return '"default"' if len(quotas) == 1 else f'"{quota.limit.amount}/{quota.limit.get_expiry()}s"'
