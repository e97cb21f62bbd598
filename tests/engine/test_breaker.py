"""The budget of second tries and the circuit breaker, by themselves and by a clock of the test's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from engine_grpc.resilience import CircuitBreaker, CircuitOpenError, RetryBudget

if TYPE_CHECKING:
    from tests.engine.harness import Clock


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("primary", clock)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with breaker.attempt() as attempt:
            breaker.failed(attempt)


def refusal(breaker: CircuitBreaker) -> float:
    """For how long the breaker lets nothing through."""
    with pytest.raises(CircuitOpenError) as caught, breaker.attempt():
        pass
    return caught.value.retry_after


@pytest.mark.parametrize("before", [0, 1, 49, 50, 1000])
def test_any_fifty_requests_or_more_get_at_most_a_fifth_more_tries(before: int) -> None:
    budget = RetryBudget()
    for _ in range(before):
        budget.deposit()
    tries = 0
    for requests in range(1, 1000):
        budget.deposit()
        tries += 1 + budget.spend()
        if requests >= 50:
            assert tries <= 1.2 * requests
    assert tries > 1.09 * 999


def test_empty_budget_allows_one_second_try_for_ten_requests() -> None:
    budget = RetryBudget()
    assert [budget.spend() for _ in range(6)] == [True] * 5 + [False]
    for _ in range(11):
        budget.deposit()
    assert [budget.spend() for _ in range(2)] == [True, False]


def test_breaker_opens_after_five_failures_in_a_row_and_tells_what_remains(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, 4)
    breaker.succeeded()
    fail(breaker, 4)
    assert breaker.closed
    fail(breaker)
    assert not breaker.closed
    assert refusal(breaker) == 5
    clock.now += 3
    assert refusal(breaker) == 2


def test_open_breaker_lets_one_probe_through_after_its_pause(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += 5
    with breaker.attempt():
        assert refusal(breaker) == 1
        assert refusal(breaker) == 1
        breaker.succeeded()
        assert breaker.closed
    with breaker.attempt(), breaker.attempt():
        pass


def test_failed_probe_doubles_the_pause_up_to_a_minute_and_success_resets_it(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker, 5)
    pauses = []
    for _ in range(6):
        pauses.append(refusal(breaker))
        clock.now += pauses[-1]
        fail(breaker)
    assert pauses == [5, 10, 20, 40, 60, 60]
    clock.now += 60
    with breaker.attempt():
        breaker.succeeded()
    fail(breaker, 5)
    assert refusal(breaker) == 5


@pytest.mark.parametrize("leave", [asyncio.CancelledError, GeneratorExit, RuntimeError])
def test_probe_whose_caller_leaves_makes_room_for_the_next(
    breaker: CircuitBreaker, clock: Clock, leave: type[BaseException]
) -> None:
    fail(breaker, 5)
    clock.now += 5
    with pytest.raises(leave), breaker.attempt():
        raise leave
    with breaker.attempt():
        assert refusal(breaker) == 1
        breaker.succeeded()
    assert breaker.closed


def test_attempts_from_before_the_breaker_opened_neither_prolong_the_pause_nor_end_the_probe(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    with breaker.attempt() as late, breaker.attempt() as later:
        fail(breaker, 5)
        clock.now += 4
        breaker.failed(late)
        assert refusal(breaker) == 1
        clock.now += 1
        with breaker.attempt():
            breaker.failed(later)
            assert refusal(breaker) == 1


def test_success_of_an_attempt_from_before_closes_the_breaker(breaker: CircuitBreaker) -> None:
    with breaker.attempt():
        fail(breaker, 5)
        breaker.succeeded()
    assert breaker.closed


def test_opening_and_closing_are_logged_once_each_by_the_servers_name(breaker: CircuitBreaker, clock: Clock) -> None:
    with capture_logs() as logs:
        fail(breaker, 5)
        for pause in (5, 10):
            clock.now += pause
            fail(breaker)
        clock.now += 20
        with breaker.attempt():
            breaker.succeeded()
        breaker.succeeded()
    assert [(entry["log_level"], entry["upstream"]) for entry in logs] == [("warning", "primary"), ("info", "primary")]
