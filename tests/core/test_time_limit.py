"""What a time limit does to a handler, road by road. The limits are short; no test asserts how fast anything is."""

from __future__ import annotations

import _signal as signals  # type: ignore[import-not-found]  # what the kit calls
import asyncio
import contextlib
import contextvars
import functools
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

from flux_core.errors import StepFault, StepTimeout
from flux_core.limits import call_within, event_loop, main_thread, time_limit
from flux_core.limits.main_thread import AttemptCut
from flux_core.limits.worker_thread import SPARE, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import FrameType

T = TypeVar("T")


class Place(Protocol):
    def __call__(self, call: Callable[[], T]) -> T: ...


LIMIT = 0.05
AMPLE = 20.0  # a limit that no handler here reaches, and a bound that only ends a test that hangs

needs_timer = pytest.mark.skipif(not main_thread.AVAILABLE, reason="the platform has no interval timer")
tone: contextvars.ContextVar[str] = contextvars.ContextVar("tone", default="unset")


@pytest.fixture(autouse=True)
def _give_back() -> Iterator[None]:
    yield
    time_limit.release()


def until(condition: Callable[[], object]) -> None:
    """Wait for what must come to pass."""
    end = time.monotonic() + AMPLE
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.002)


def on_a_thread(call: Callable[[], T]) -> T:
    """Make the call on another thread than the main one; its exception comes out here."""
    outcome: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 -- it is raised again below
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(AMPLE * 2)
    assert not thread.is_alive(), "the call hangs"
    if errors:
        raise errors[0]
    return outcome[0]


def under_a_loop(call: Callable[[], T]) -> T:
    """Make the call on the main thread while a loop of somebody else's runs there."""

    async def body() -> T:
        return call()

    return asyncio.run(body())


def in_place(call: Callable[[], T]) -> T:
    return call()


def script(source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own, with every warning shown."""
    command = [sys.executable, "-W", "always", *options, "-c", textwrap.dedent(source)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


everywhere = pytest.mark.parametrize("place", [in_place, on_a_thread, under_a_loop])
off_the_main_loop = pytest.mark.parametrize("place", [on_a_thread, under_a_loop])


def spin(_: object) -> None:
    while True:
        pass


async def doze(_: object) -> None:
    await asyncio.sleep(AMPLE)


# --- what holds on every road ------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("seconds", [None, AMPLE, float("inf"), 1e12])
def test_a_def_handler_gives_its_value(place: Place, seconds: float | None) -> None:
    assert place(lambda: call_within(lambda a: a + 1, 1, seconds)) == 2


@everywhere
@pytest.mark.parametrize("seconds", [None, AMPLE, float("inf"), 1e12])
def test_an_async_def_handler_gives_its_awaited_value(place: Place, seconds: float | None) -> None:
    async def handler(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    assert place(lambda: call_within(handler, 1, seconds)) == 2


class Doubles:
    async def __call__(self, a: int) -> int:
        await asyncio.sleep(0)
        return a * 2

    async def method(self, a: int) -> int:
        return await self(a)


class Ready:
    """Awaitable, though no coroutine."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __await__(self) -> Generator[None, None, int]:
        yield
        return self.value


async def _scaled(factor: int, a: int) -> int:
    return factor * a


@everywhere
@pytest.mark.parametrize("seconds", [None, AMPLE])
@pytest.mark.parametrize(
    "handler",
    [Doubles(), Doubles().method, functools.partial(_scaled, 2), lambda a: _scaled(2, a), lambda a: Ready(2 * a)],
    ids=["callable object", "method", "partial", "lambda", "awaitable object"],
)
def test_whatever_returns_an_awaitable_is_awaited(
    place: Place, seconds: float | None, handler: Callable[[int], object]
) -> None:
    assert place(lambda: call_within(handler, 21, seconds)) == 42


class Agreeable:
    def __getattr__(self, name: str) -> object:
        return f"I have {name}, too"


@everywhere
def test_a_value_that_only_pretends_to_be_awaitable_is_a_plain_value(place: Place) -> None:
    value = Agreeable()
    assert place(lambda: call_within(lambda _: value, None, AMPLE)) is value


@everywhere
@pytest.mark.parametrize("seconds", [None, AMPLE])
@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("error", [ValueError("mine"), TimeoutError("mine"), StepTimeout("mine"), SystemExit(3)])
def test_the_handlers_own_exception_comes_out_unchanged(
    place: Place, seconds: float | None, kind: str, error: BaseException
) -> None:
    def plain(_: object) -> None:
        raise error

    async def coroutine(_: object) -> None:
        await asyncio.sleep(0)
        raise error

    handler: Callable[[object], object] = plain if kind == "def" else coroutine
    with pytest.raises(type(error)) as raised:
        place(lambda: call_within(handler, None, seconds))
    assert raised.value is error
    assert raised.value.__cause__ is None


@everywhere
@pytest.mark.parametrize("handler", [lambda _: time.sleep(0.4), doze], ids=["def", "async def"])
def test_a_handler_that_outlasts_its_limit_is_a_step_timeout_that_names_the_limit(
    place: Place, handler: Callable[[object], object]
) -> None:
    with pytest.raises(StepTimeout, match=r"^the attempt outlasted its time limit of 0\.05 s$"):
        place(lambda: call_within(handler, None, LIMIT))
    assert place(lambda: call_within(lambda a: a, "next", AMPLE)) == "next"


@everywhere
def test_a_lambda_that_dawdles_before_it_returns_its_coroutine_has_only_the_rest_of_the_limit(place: Place) -> None:
    async def rest() -> None:
        await asyncio.sleep(AMPLE)

    def handler(_: object) -> object:
        time.sleep(0.03)
        return rest()

    with pytest.raises(StepTimeout):
        place(lambda: call_within(handler, None, 0.1))


@everywhere
@pytest.mark.parametrize("seconds", [0, -1.5, float("nan")])
def test_a_limit_that_is_not_positive_is_refused_before_the_handler_is_called(place: Place, seconds: float) -> None:
    called: list[object] = []
    with pytest.raises(ValueError, match="greater than 0 s"):
        place(lambda: call_within(called.append, None, seconds))
    assert called == []


@everywhere
@pytest.mark.parametrize("seconds", [None, AMPLE])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_callers_context_variables_are_visible_in_the_handler(
    place: Place, seconds: float | None, kind: str
) -> None:
    async def coroutine(_: object) -> str:
        return tone.get()

    handler: Callable[[object], object] = (lambda _: tone.get()) if kind == "def" else coroutine

    def call() -> object:
        tone.set("the caller's")
        return call_within(handler, None, seconds)

    assert place(lambda: contextvars.copy_context().run(call)) == "the caller's"


@everywhere
def test_without_a_limit_a_def_handler_runs_in_the_callers_own_thread(place: Place) -> None:
    def call() -> bool:
        return call_within(lambda _: threading.get_ident(), None, None) == threading.get_ident()

    assert place(call)


@everywhere
@pytest.mark.parametrize("inner_kind", ["def", "async def"])
@pytest.mark.parametrize("outer_kind", ["def", "async def"])
def test_an_inner_limit_ends_the_inner_call_only(place: Place, outer_kind: str, inner_kind: str) -> None:
    inner: Callable[[object], object] = doze if inner_kind == "async def" else lambda _: time.sleep(0.4)

    def plain(_: object) -> object:
        with pytest.raises(StepTimeout):
            call_within(inner, None, LIMIT)
        return call_within(lambda a: a, "outer goes on", AMPLE)

    async def coroutine(_: object) -> object:
        value = plain(None)
        await asyncio.sleep(0)
        return value

    outer: Callable[[object], object] = plain if outer_kind == "def" else coroutine
    assert place(lambda: call_within(outer, None, AMPLE)) == "outer goes on"


@everywhere
@pytest.mark.parametrize("inner_kind", ["def", "async def"])
@pytest.mark.parametrize("outer_kind", ["def", "async def"])
@pytest.mark.parametrize("inner_limit", [1.5, None])
def test_an_outer_limit_holds_during_an_inner_call_and_is_not_taken_for_the_inner_one(
    place: Place, outer_kind: str, inner_kind: str, inner_limit: float | None
) -> None:
    inner_timeouts: list[StepTimeout] = []

    async def short_doze(_: object) -> None:
        await asyncio.sleep(1)

    inner: Callable[[object], object] = short_doze if inner_kind == "async def" else lambda _: time.sleep(1)

    def plain(_: object) -> None:
        try:
            call_within(inner, None, inner_limit)
        except StepTimeout as error:
            inner_timeouts.append(error)

    async def coroutine(_: object) -> None:
        plain(None)

    outer: Callable[[object], object] = plain if outer_kind == "def" else coroutine
    with pytest.raises(StepTimeout, match=r"0\.05 s"):
        place(lambda: call_within(outer, None, LIMIT))
    assert inner_timeouts == []


# --- the main thread's timer ------------------------------------------------------------------------


@needs_timer
@pytest.mark.parametrize(
    "handler", [spin, lambda _: time.sleep(AMPLE), time.sleep], ids=["busy loop", "sleep", "builtin"]
)
def test_a_busy_loop_a_sleep_and_a_builtin_are_cut(handler: Callable[[float], object]) -> None:
    with pytest.raises(StepTimeout) as raised:
        call_within(handler, AMPLE, LIMIT)
    assert isinstance(raised.value.__cause__, AttemptCut)


@needs_timer
def test_the_cut_passes_every_except_exception_and_runs_every_finally() -> None:
    seen: list[str] = []

    def handler(_: object) -> None:
        try:
            spin(None)
        except Exception:  # noqa: BLE001 -- what many handlers do
            seen.append("caught")
        finally:
            seen.append("finally")

    with pytest.raises(StepTimeout):
        call_within(handler, None, LIMIT)
    assert seen == ["finally"]


@needs_timer
def test_a_swallowed_cut_is_raised_again_until_the_handler_ends() -> None:
    cuts: list[BaseException] = []

    def handler(_: object) -> str:
        while len(cuts) < 4:
            try:
                spin(None)
            except BaseException as cut:  # noqa: BLE001 -- what a handler should not do
                cuts.append(cut)
        return "as if nothing had happened"

    with pytest.raises(StepTimeout):
        call_within(handler, None, LIMIT)
    assert [type(cut) for cut in cuts] == [AttemptCut] * 4
    assert call_within(lambda a: a, "next", AMPLE) == "next"


@needs_timer
def test_a_handler_that_swallows_the_cut_and_raises_something_else_has_timed_out() -> None:
    def handler(_: object) -> None:
        try:
            spin(None)
        except BaseException:  # noqa: BLE001 -- what a handler should not do
            raise RuntimeError("lost my connection") from None

    with pytest.raises(StepTimeout) as raised:
        call_within(handler, None, LIMIT)
    assert isinstance(raised.value.__cause__, RuntimeError)


@needs_timer
def test_a_lambda_cut_after_it_made_its_coroutine_leaves_no_warning() -> None:
    def handler(_: object) -> object:
        coroutine = doze(None)
        try:
            spin(None)
        except BaseException:  # noqa: BLE001 -- what a handler should not do
            return coroutine
        return None

    with pytest.raises(StepTimeout):
        call_within(handler, None, LIMIT)
    gc.collect()


@needs_timer
def test_an_interrupt_from_the_keyboard_is_not_taken_for_a_timeout() -> None:
    def handler(_: object) -> None:
        try:
            spin(None)
        except AttemptCut:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        call_within(handler, None, LIMIT)


@needs_timer
def test_a_cut_never_gets_out_of_the_call_however_close_the_handlers_end_is_to_the_limit() -> None:
    outcomes = {"value": 0, "timeout": 0}

    def handler(seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return "value"

    for number in range(400):
        try:
            assert call_within(handler, 0.001 + (number % 40 - 20) * 0.000_005, 0.001) == "value"
            outcomes["value"] += 1
        except StepTimeout:
            outcomes["timeout"] += 1
    time.sleep(0.01)  # a cut that was still on its way would come here
    assert sum(outcomes.values()) == 400
    assert outcomes["timeout"] > 0


@needs_timer
def test_nested_limits_that_expire_together_cut_the_outer_call_and_nothing_gets_out() -> None:
    def outer(_: object) -> None:
        call_within(spin, None, 0.002)

    for number in range(100):
        with pytest.raises(StepTimeout):
            call_within(outer, None, 0.002 + (number % 20 - 10) * 0.000_01)
    time.sleep(0.01)


@needs_timer
def test_a_signal_that_strikes_the_call_itself_raises_nothing_there_and_comes_again() -> None:
    quiet: list[str] = []

    def handler(_: object) -> None:
        the_call = sys._getframe(2)
        assert the_call.f_code is main_thread.IntervalTimer.call.__code__
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(0.25)
        timer = time_limit._roads.timer
        assert timer is not None
        timer.alarm(signal.SIGALRM, the_call)
        quiet.append("the limit has passed")
        spin(None)

    with pytest.raises(StepTimeout):
        call_within(handler, None, 0.2)
    assert quiet == ["the limit has passed"]


@needs_timer
def test_of_two_limits_that_have_both_passed_the_outer_one_is_cut() -> None:
    inner_timeouts: list[StepTimeout] = []

    def inner(_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(0.3)
        signal.raise_signal(signal.SIGALRM)
        spin(None)

    def outer(_: object) -> None:
        try:
            call_within(inner, None, 0.2)
        except StepTimeout as error:
            inner_timeouts.append(error)
            raise

    with pytest.raises(StepTimeout, match=r"0\.25 s"):
        call_within(outer, None, 0.25)
    assert inner_timeouts == []


@needs_timer
def test_an_outer_cut_passes_an_inner_call_that_has_swallowed_its_own() -> None:
    inner_timeouts: list[StepTimeout] = []

    def inner(_: object) -> None:
        with contextlib.suppress(BaseException):
            spin(None)
        spin(None)

    def outer(_: object) -> None:
        try:
            call_within(inner, None, 0.01)
        except StepTimeout as error:
            inner_timeouts.append(error)
            raise

    with pytest.raises(StepTimeout, match=r"0\.03 s"):
        call_within(outer, None, 0.03)
    assert inner_timeouts == []


@needs_timer
def test_an_outer_limit_still_holds_after_an_inner_call_has_ended() -> None:
    def outer(_: object) -> None:
        with pytest.raises(StepTimeout):
            call_within(spin, None, 0.02)
        call_within(lambda a: a, None, AMPLE)
        spin(None)

    with pytest.raises(StepTimeout, match=r"0\.1 s"):
        call_within(outer, None, 0.1)


@needs_timer
def test_short_steps_share_one_setting_of_the_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[float] = []
    real = signals.setitimer

    def counted(which: int, seconds: float, interval: float = 0.0) -> object:
        settings.append(seconds)
        return real(which, seconds, interval)

    monkeypatch.setattr(signals, "setitimer", counted)
    for _ in range(1000):
        call_within(lambda a: a, None, AMPLE)
    assert len(settings) == 1


@needs_timer
def test_an_expiry_left_over_from_an_earlier_step_does_not_cut_a_later_one() -> None:
    call_within(lambda a: a, None, 0.03)
    call_within(time.sleep, 0.1, AMPLE)  # the left-over signal comes here, finds the deadline far, and arms for it
    with pytest.raises(StepTimeout):
        call_within(spin, None, LIMIT)


# --- the application's own SIGALRM --------------------------------------------------------------------


@pytest.fixture
def alarms() -> Iterator[list[float]]:
    """The application's handler: it notes when it was called."""
    calls: list[float] = []

    def handler(number: int, frame: FrameType | None) -> None:
        calls.append(time.monotonic())

    before = signal.signal(signal.SIGALRM, handler)
    yield calls
    time_limit.release()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@needs_timer
def test_after_the_last_step_the_timer_disarms_itself_and_the_earlier_handler_is_back(alarms: list[float]) -> None:
    application = signal.getsignal(signal.SIGALRM)
    call_within(lambda a: a, None, LIMIT)
    assert signal.getsignal(signal.SIGALRM) is not application
    until(lambda: signal.getsignal(signal.SIGALRM) is application)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert alarms == []


@needs_timer
def test_a_sigalrm_from_outside_reaches_the_earlier_handler_during_and_after_a_step(alarms: list[float]) -> None:
    call_within(lambda _: signal.raise_signal(signal.SIGALRM), None, AMPLE)
    assert len(alarms) == 1
    signal.raise_signal(signal.SIGALRM)
    assert len(alarms) == 2
    with pytest.raises(StepTimeout):
        call_within(spin, None, LIMIT)
    assert len(alarms) == 2


@needs_timer
def test_an_application_timer_that_ends_during_a_step_calls_its_handler_in_time(alarms: list[float]) -> None:
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    with pytest.raises(StepTimeout):
        call_within(spin, None, 0.1)
    assert len(alarms) == 1
    assert alarms[0] - began >= 0.029


@needs_timer
def test_an_application_timer_longer_than_the_step_gets_its_remaining_time_back(alarms: list[float]) -> None:
    signal.setitimer(signal.ITIMER_REAL, AMPLE, 7.0)
    with pytest.raises(StepTimeout):
        call_within(spin, None, LIMIT)
    time_limit.release()
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 0 < left <= AMPLE - LIMIT
    assert interval == pytest.approx(7.0)
    assert alarms == []


@needs_timer
def test_an_application_timer_gets_its_time_back_when_the_last_expiry_finds_no_step(alarms: list[float]) -> None:
    application = signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, AMPLE)
    call_within(lambda a: a, None, LIMIT)
    until(lambda: signal.getsignal(signal.SIGALRM) is application)
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= AMPLE - LIMIT


@needs_timer
def test_an_interval_timer_of_the_application_goes_on_ticking_through_steps(alarms: list[float]) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    with pytest.raises(StepTimeout):
        call_within(spin, None, 0.2)
    during = len(alarms)
    assert during >= 3
    time_limit.release()
    until(lambda: len(alarms) >= during + 3)


@needs_timer
def test_an_exception_of_the_applications_handler_is_the_steps_own(alarms: list[float]) -> None:
    class Enough(Exception):
        pass

    def handler(number: int, frame: FrameType | None) -> None:
        raise Enough

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    with pytest.raises(Enough):
        call_within(spin, None, AMPLE)


@needs_timer
def test_a_library_that_uses_the_timer_in_a_handler_and_clears_it_does_not_unlimit_the_next_step() -> None:
    def handler(_: object) -> None:
        before = signal.signal(signal.SIGALRM, lambda number, frame: None)
        signal.setitimer(signal.ITIMER_REAL, AMPLE)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    call_within(handler, None, 0.5)
    with pytest.raises(StepTimeout):
        call_within(spin, None, 0.6)  # later than what was set for the first step


@needs_timer
def test_a_handler_installed_between_two_steps_is_chained_and_the_limit_holds(alarms: list[float]) -> None:
    call_within(lambda a: a, None, AMPLE)
    later: list[int] = []

    def newer(number: int, frame: FrameType | None) -> None:
        later.append(number)

    signal.signal(signal.SIGALRM, newer)
    with pytest.raises(StepTimeout):
        call_within(spin, None, LIMIT)
    assert (later, alarms) == ([], [])
    time_limit.release()
    assert signal.getsignal(signal.SIGALRM) is newer


@needs_timer
def test_a_handler_installed_after_the_last_step_stays_when_all_is_given_back(alarms: list[float]) -> None:
    def newer(number: int, frame: FrameType | None) -> None:
        raise AssertionError

    call_within(lambda a: a, None, AMPLE)
    signal.signal(signal.SIGALRM, newer)
    time_limit.release()
    assert signal.getsignal(signal.SIGALRM) is newer
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@needs_timer
def test_an_alarm_the_application_sets_between_two_steps_still_rings(alarms: list[float]) -> None:
    call_within(lambda a: a, None, AMPLE)
    signal.setitimer(signal.ITIMER_REAL, 0.03)
    with pytest.raises(StepTimeout):
        call_within(spin, None, 0.1)
    assert len(alarms) == 1


@needs_timer
def test_an_alarm_without_a_handler_ends_the_process_as_it_would_without_a_step() -> None:
    done = script("""
        import signal
        from flux_core.limits import call_within
        def spin(_):
            while True: pass
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        call_within(spin, None, 20)
    """)
    assert done.returncode == -signal.SIGALRM, done.stderr


# --- where there is no timer, and on other threads -------------------------------------------------------


def test_without_an_interval_timer_the_main_thread_hands_over_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit._roads, "timer", None)
    assert call_within(lambda _: threading.get_ident(), None, AMPLE) != threading.get_ident()
    with pytest.raises(StepTimeout):
        call_within(lambda _: time.sleep(0.4), None, LIMIT)
    with pytest.raises(StepTimeout):
        call_within(doze, None, LIMIT)


@needs_timer
def test_a_sigalrm_handler_that_python_did_not_install_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def coroutine(_: object) -> int:
        return threading.get_ident()

    monkeypatch.setattr(signals, "getsignal", lambda number: None)
    assert call_within(lambda _: threading.get_ident(), None, AMPLE) != threading.get_ident()
    assert call_within(coroutine, None, AMPLE) != threading.get_ident()


def test_calls_one_after_the_other_use_the_same_worker() -> None:
    def call() -> set[object]:
        return {call_within(lambda _: threading.get_ident(), None, AMPLE) for _ in range(20)}

    assert len(on_a_thread(call)) == 1


def test_a_late_handler_is_disowned_its_worker_ends_with_it_and_the_next_call_gets_another() -> None:
    gate = threading.Event()
    late: list[threading.Thread] = []

    def handler(_: object) -> str:
        late.append(threading.current_thread())
        gate.wait(AMPLE)
        return "too late"

    def call() -> object:
        with pytest.raises(StepTimeout):
            call_within(handler, None, LIMIT)
        return call_within(lambda _: threading.current_thread(), None, AMPLE)

    assert on_a_thread(call) is not late[0]
    assert late[0].is_alive()
    gate.set()
    until(lambda: not late[0].is_alive())


@pytest.mark.parametrize("end", ["return 1", "raise ValueError", "raise SystemExit", "return doze()"])
def test_nothing_is_printed_of_what_a_disowned_handler_brings(end: str) -> None:
    done = script(f"""
        import asyncio, gc, threading, time
        from flux_core.errors import StepTimeout
        from flux_core.limits import call_within
        async def doze(): await asyncio.sleep(9)
        def plain(_):
            time.sleep(0.2)
            {end}
        async def stubborn(_):
            try: await asyncio.sleep(9)
            except asyncio.CancelledError: await asyncio.sleep(0.2)
            {end}
        async def blocked(_):
            time.sleep(0.45)
            {end}
        def calls():
            for handler in (plain, stubborn, blocked):
                try: call_within(handler, None, 0.03)
                except StepTimeout: continue
                raise SystemExit("not disowned")
        def main():
            calls()
            thread = threading.Thread(target=calls)
            thread.start(); thread.join()
            for _ in range(4): call_within(lambda _: asyncio.sleep(0.1), None, 9)
            gc.collect()
        main()
        gc.collect()
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_a_worker_sets_in_its_context_stays_with_it() -> None:
    def call() -> str:
        tone.set("the caller's")
        call_within(lambda _: tone.set("the handler's"), None, AMPLE)
        return tone.get()

    assert on_a_thread(call) == "the caller's"


def test_many_threads_at_once_get_their_own_values_and_few_workers_stay() -> None:
    def count() -> int:
        return sum(thread.name.startswith("flux-step-") for thread in threading.enumerate())

    crowd = SPARE + 8
    meet = threading.Barrier(crowd)
    values: list[object] = []

    def handler(number: int) -> int:
        meet.wait(AMPLE)
        return number * number

    threads = [
        threading.Thread(target=lambda number=number: values.append(call_within(handler, number, AMPLE)))
        for number in range(crowd)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(AMPLE)
    assert sorted(values) == [number * number for number in range(crowd)]  # type: ignore[type-var]
    until(lambda: count() <= SPARE)
    time_limit.release()
    until(lambda: count() == 0)


# --- coroutines -----------------------------------------------------------------------------------------


@everywhere
def test_coroutines_run_one_after_the_other_on_the_same_kept_loop(place: Place) -> None:
    async def handler(_: object) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert place(lambda: call_within(handler, None, AMPLE) is call_within(handler, None, None))


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No loop is given up as blocked: what the loop itself does at the limit is seen, however busy the machine is."""
    monkeypatch.setattr(event_loop, "LATE", AMPLE)


@pytest.mark.usefixtures("_patient")
@everywhere
def test_a_cancelled_handler_may_clean_up(place: Place) -> None:
    seen: list[str] = []

    async def handler(_: object) -> None:
        try:
            await asyncio.sleep(AMPLE)
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    with pytest.raises(StepTimeout):
        place(lambda: call_within(handler, None, LIMIT))
    assert seen == ["cleaned up"]


@everywhere
def test_a_handler_that_swallows_its_cancellation_and_returns_has_timed_out(place: Place) -> None:
    async def handler(_: object) -> str:
        try:
            await asyncio.sleep(AMPLE)
        except asyncio.CancelledError:
            return "as if nothing had happened"
        return "never"

    with pytest.raises(StepTimeout):
        place(lambda: call_within(handler, None, LIMIT))


@pytest.mark.usefixtures("_patient")
@everywhere
def test_a_handler_that_refuses_to_be_cancelled_is_disowned_and_the_loop_stays(place: Place) -> None:
    free = threading.Event()

    async def handler(_: object) -> None:
        while not free.is_set():
            try:
                await asyncio.sleep(0.02)
            except asyncio.CancelledError:
                continue

    async def loop(_: object) -> asyncio.AbstractEventLoop:
        await asyncio.sleep(0.05)
        return asyncio.get_running_loop()

    def calls() -> bool:
        before = call_within(loop, None, AMPLE)
        with pytest.raises(StepTimeout):
            call_within(handler, None, LIMIT)
        free.set()
        return call_within(loop, None, AMPLE) is before

    assert place(calls)


@everywhere
@pytest.mark.parametrize("seconds", [None, AMPLE])
def test_a_handler_cancelled_from_inside_fails_ordinarily_and_not_by_timeout(
    place: Place, seconds: float | None
) -> None:
    async def handler(_: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(StepFault, match="the handler was cancelled from inside") as raised:
        place(lambda: call_within(handler, None, seconds))
    assert not isinstance(raised.value, StepTimeout)
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)


@everywhere
def test_a_handlers_own_asyncio_timeout_works_inside_the_limit(place: Place) -> None:
    async def handler(_: object) -> str:
        try:
            async with asyncio.timeout(0.02):
                await asyncio.sleep(AMPLE)
        except TimeoutError:
            return "its own"
        return "never"

    assert place(lambda: call_within(handler, None, AMPLE)) == "its own"


@everywhere
def test_a_handler_that_blocks_its_loop_is_given_up_with_the_loop_and_the_next_call_gets_a_new_one(
    place: Place,
) -> None:
    async def loop(_: object) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def blocking(_: object) -> None:
        time.sleep(0.8)  # noqa: ASYNC251 -- the fault under test

    def calls() -> bool:
        before = call_within(loop, None, AMPLE)
        with pytest.raises(StepTimeout, match=r"0\.05 s"):
            call_within(blocking, None, LIMIT)
        return call_within(loop, None, AMPLE) is not before

    assert place(calls)


@off_the_main_loop
def test_a_loop_thread_that_was_given_up_ends_once_it_is_free_and_others_on_it_finish_before(place: Place) -> None:
    loop_threads: list[threading.Thread] = []
    neighbour: list[object] = []
    running = threading.Event()

    async def blocking(_: object) -> None:
        loop_threads.append(threading.current_thread())
        time.sleep(0.6)  # noqa: ASYNC251 -- the fault under test

    async def patient(_: object) -> str:
        running.set()
        await asyncio.sleep(0.02)
        return "finished"

    other = threading.Thread(target=lambda: neighbour.append(call_within(patient, None, AMPLE)))

    def calls() -> None:
        other.start()
        assert running.wait(AMPLE)
        with pytest.raises(StepTimeout):
            call_within(blocking, None, LIMIT)

    place(calls)
    other.join(AMPLE)
    assert neighbour == ["finished"]
    until(lambda: not loop_threads[0].is_alive())


@everywhere
def test_tasks_a_handler_left_behind_go_on_during_later_calls_and_do_not_break_them(place: Place) -> None:
    done: list[str] = []

    async def background() -> None:
        await asyncio.sleep(0.02)
        done.append("background")

    async def starter(_: object) -> object:
        return [asyncio.ensure_future(background()), asyncio.ensure_future(asyncio.sleep(AMPLE))]

    async def later(_: object) -> str:
        while not done:  # noqa: ASYNC110 -- an asyncio.Event would belong to one loop
            await asyncio.sleep(0.005)
        return "later"

    def calls() -> object:
        left_behind = call_within(starter, None, AMPLE)
        assert left_behind
        return call_within(later, None, AMPLE)

    assert place(calls) == "later"


@everywhere
def test_a_handler_that_stops_the_loop_still_gets_to_its_end(place: Place) -> None:
    async def handler(_: object) -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "the end"

    assert place(lambda: call_within(handler, None, AMPLE)) == "the end"


def test_coroutines_of_many_threads_share_the_loop_thread_and_keep_their_own_limits() -> None:
    outcomes: dict[int, object] = {}

    async def handler(number: int) -> int:
        await asyncio.sleep(0.01 if number % 2 else AMPLE)
        return number

    def call(number: int) -> None:
        try:
            outcomes[number] = call_within(handler, number, AMPLE if number % 2 else LIMIT)
        except StepTimeout:
            outcomes[number] = "timeout"

    threads = [threading.Thread(target=call, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(AMPLE)
    assert outcomes == {number: number if number % 2 else "timeout" for number in range(20)}


def test_engines_within_engines_get_loops_of_their_own() -> None:
    async def handler(depth: int) -> int:
        if depth == 0:
            return 0
        value = call_within(handler, depth - 1, AMPLE)
        assert isinstance(value, int)
        return value + 1

    assert call_within(handler, 4, AMPLE) == 4
    assert on_a_thread(lambda: call_within(lambda depth: call_within(handler, depth, AMPLE), 4, AMPLE)) == 4


@needs_timer
def test_a_call_torn_out_of_the_kept_loop_by_an_outer_cut_leaves_a_working_loop_behind() -> None:
    def outer(_: object) -> None:
        call_within(doze, None, AMPLE)

    for _ in range(3):
        with pytest.raises(StepTimeout):
            call_within(outer, None, LIMIT)
        assert call_within(_scaled_by_two, 21, AMPLE) == 42


async def _scaled_by_two(a: int) -> int:
    await asyncio.sleep(0)
    return 2 * a


# --- processes --------------------------------------------------------------------------------------------


def test_neither_asyncio_nor_threading_nor_inspect_is_imported_before_it_is_needed() -> None:
    done = script("""
        import sys
        from flux_core.limits import call_within
        assert not {"asyncio", "threading", "inspect"} & set(sys.modules), "on import"
        assert call_within(lambda a: a, 1, None) == 1
        assert not {"asyncio", "threading", "inspect"} & set(sys.modules), "without a limit"
        assert call_within(lambda a: a, 1, 5) == 1
        assert not {"asyncio", "inspect"} & set(sys.modules), "for a def handler"
    """)
    assert done.returncode == 0, done.stderr


def test_a_process_ends_although_disowned_handlers_still_run() -> None:
    done = script("""
        import asyncio, threading, time
        from flux_core.errors import StepTimeout
        from flux_core.limits import call_within
        async def blocked(_): time.sleep(3600)
        def calls():
            for handler in (lambda _: time.sleep(3600), blocked):
                try: call_within(handler, None, 0.03)
                except StepTimeout: pass
        thread = threading.Thread(target=calls)
        thread.start(); thread.join()
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_process_that_went_every_road_leaves_nothing_open() -> None:
    done = script(
        """
        import threading
        from flux_core.limits import call_within
        async def coroutine(_): return 1
        def calls():
            for handler in (lambda _: 1, coroutine): call_within(handler, None, 20)
        calls()
        thread = threading.Thread(target=calls)
        thread.start(); thread.join()
        """,
        "-X",
        "dev",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_uses_none_of_its_parents_timers_workers_and_loops_and_spoils_none() -> None:
    done = script("""
        import asyncio, os, signal, sys, threading, time, warnings
        from flux_core.errors import StepTimeout
        from flux_core.limits import call_within
        warnings.simplefilter("ignore", DeprecationWarning)
        async def doze(seconds):
            await asyncio.sleep(seconds)
            await asyncio.to_thread(time.sleep, 0.05)  # wakes the loop through its pipe
            return seconds
        def spin(_):
            while True: pass
        def timeouts(*handlers):
            for handler in handlers:
                try: call_within(handler, 9, 0.05)
                except StepTimeout: continue
                os._exit(3)
        def other_thread(call):
            thread = threading.Thread(target=call)
            thread.start(); thread.join()
        def all_roads(limit=10):
            values = []
            def call(handler):
                values.append(call_within(handler, 0.01, limit))
            for handler in (lambda a: a, doze):
                call(handler)
                other_thread(lambda: call(handler))
            if values != [0.01] * 4: os._exit(4)
        def all_limits():
            timeouts(spin, doze)
            other_thread(lambda: timeouts(lambda _: time.sleep(0.2), doze))
        def in_the_child(work):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                work()
                signal.alarm(0)
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        all_roads()
        in_the_child(all_limits)
        in_the_child(all_roads)
        all_roads(3)  # before the watchdog of the first calls could wake a loop that nobody else can
        all_limits()
        print("parent and children are well")
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("parent and children are well\n", "", 0)


def test_a_timer_that_is_still_pending_does_not_kill_a_process_that_ends() -> None:
    """Python restores the default action of SIGALRM, which ends the process, before it frees what it holds."""
    program = """
import time
from flux_core.limits import call_within
begun = time.monotonic()
call_within(lambda argument: argument, None, 0.2)
junk = [object() for _ in range(1_000_000)]  # something to free at the end
time.sleep(max(0, {moment} - (time.monotonic() - begun)))
"""
    for moment in (0.19, 0.194, 0.198):
        child = subprocess.run([sys.executable, "-c", program.format(moment=moment)], check=False)
        assert child.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_the_limit_of_the_handler_that_forked_is_the_parents_only() -> None:
    done = script("""
        import os, time
        from flux_core.limits import call_within
        def forks(_):
            pid = os.fork()
            if pid == 0:
                call_within(time.sleep, 0.6, 20)
                os._exit(7)
            return pid
        pid = call_within(forks, None, 0.3)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """)
    assert (done.stdout, done.stderr, done.returncode) == ("7\n", "", 0)


def test_a_spare_thread_that_the_machine_did_not_let_begin_in_time_is_a_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine a new thread may come to its handler only after the limit; then it leaves it alone."""
    held: list[threading.Thread] = []
    start = threading.Thread.start

    def hold(thread: threading.Thread) -> None:
        held.append(thread)

    monkeypatch.setattr(threading.Thread, "start", hold)
    ran: list[int] = []
    with pytest.raises(StepTimeout):
        Workers().call(ran.append, 1, 0.01)
    monkeypatch.undo()
    (late,) = held
    start(late)
    late.join(20)
    assert not late.is_alive()
    assert ran == []
