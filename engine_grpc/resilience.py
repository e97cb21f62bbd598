"""What spares a model's server that is in trouble: a budget for second tries, and a breaker that stops asking it.

Pure: it is told what happens and reads the clock it is given, so that a test is a list of what happened when. One
`RetryBudget` and one `CircuitBreaker` belong to one server, and all answers of this engine share them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = structlog.get_logger(__name__)

DEPOSIT = 0.1
CAPACITY = 5.0
FAILURES_TO_OPEN = 5
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
PROBED_SECONDS = 1.0
"""Retry-After told to callers while a probe is in flight."""


class RetryBudget:
    """A bucket of tokens: a request brings a tenth of one, a second try takes one, and there is room for five.

    So over any run of 50 requests or more there are at most 1.2 tries for each, however many fail.
    """

    def __init__(self) -> None:
        self._tokens = CAPACITY

    def deposit(self) -> None:
        """A request is made."""
        self._tokens = min(CAPACITY, self._tokens + DEPOSIT)

    def spend(self) -> bool:
        """Whether it may be tried again, which is thereby paid for."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class CircuitOpenError(Exception):
    """The server is not asked now.

    Args:
        retry_after: Seconds until it may be.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__("the circuit is open")
        self.retry_after = retry_after


class Attempt:
    """One attempt that a breaker let through."""


class CircuitBreaker:
    """Stops asking a dead server, and finds out with single probes whether it is back.

    It opens after five failures in a row, for 5 seconds. Then one attempt is let through, the probe: if it succeeds,
    the breaker closes; if it fails, the pause is twice as long, up to a minute; if its caller leaves before that is
    known, the next attempt is the probe.

    Args:
        name: Of the server, in the log.
        clock: Seconds that never go back.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._open_until: float | None = None
        self._probe: Attempt | None = None

    @property
    def closed(self) -> bool:
        """Whether every attempt is let through."""
        return self._open_until is None

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Lets an attempt through; left without a word of how it went, it says nothing about the server.

        Raises:
            CircuitOpenError: It is not let through.
        """
        attempt = Attempt()
        if self._open_until is not None:
            remaining = self._open_until - self._clock()
            if remaining > 0 or self._probe:
                raise CircuitOpenError(max(remaining, PROBED_SECONDS))
            self._probe = attempt
        try:
            yield attempt
        finally:
            if self._probe is attempt:
                self._probe = None

    def succeeded(self) -> None:
        """The server answered. Whichever attempt found that out: it is there."""
        if self._open_until is not None:
            log.info("the model's server is asked again", upstream=self._name)
        self._failures, self._pause = 0, FIRST_PAUSE_SECONDS
        self._open_until = self._probe = None

    def failed(self, attempt: Attempt) -> None:
        """The server did not answer. One that was asked before the breaker opened says nothing new."""
        if self._probe is attempt:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            self._open()
        elif self._open_until is None:
            self._failures += 1
            if self._failures >= FAILURES_TO_OPEN:
                log.warning("the model's server is not asked for a while", upstream=self._name, seconds=self._pause)
                self._open()

    def _open(self) -> None:
        self._open_until, self._probe = self._clock() + self._pause, None
