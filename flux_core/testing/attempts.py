"""What came of each call of a handler or compensator in a test: when, which attempt, with what outcome.

The log does not keep every attempt (a short back-off leaves no record), so the test's own copies of the workflows
note them here. Nothing here may change what an attempt does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from flux_core import records as r
from flux_core.directives import Directive
from flux_core.state import ErrorInfo
from flux_core.step_runner import outcome_unknown
from flux_core.testing.journal import RUN, UNDONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from flux_core.context import Context
    from flux_core.ports import Clock
    from flux_core.records import Record

RUNNING: Final = "running"
COMPLETED: Final = "completed"
WAITING: Final = "waiting"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"
DIED: Final = "died"
_CUT: Final = frozenset({"AttemptCut", "CancelledError"})
"""What a handler sees when its time limit cuts or cancels it."""


class Attempt:
    """One call of a step's handler (`what` is "run") or of its compensator ("undo").

    `outcome` is "completed", "waiting" (it returned a wait or a sleep), "failed", "unknown" (a commit or a
    compensation that may have taken effect), "died" (the invocation ended in it) or "running".
    """

    __slots__ = ("_ctx", "_limit", "after", "ended_ms", "error", "number", "outcome", "output", "started_ms", "step",
                 "what")  # fmt: skip

    def __init__(self, ctx: Context, what: str, now: int) -> None:
        self.step = ctx.path or ""
        self.number = ctx.attempt
        """1 for the first."""
        self.what = what
        self.started_ms = now
        """Milliseconds since the epoch, like `ended_ms`."""
        self.ended_ms: int | None = None
        self.outcome = RUNNING
        self.error: ErrorInfo | None = None
        self.output: object = None
        self.after = ctx._live().state.seq  # noqa: SLF001 -- where in the log the attempt belongs
        """The number of the newest record when it began."""
        self._ctx: Context | None = ctx
        self._limit = ctx.remaining()

    @property
    def started_at(self) -> datetime:
        """When it began, in UTC."""
        return datetime.fromtimestamp(self.started_ms / 1000, UTC)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, in UTC; None while it runs."""
        return None if self.ended_ms is None else datetime.fromtimestamp(self.ended_ms / 1000, UTC)

    def end(self, now: int, value: object = None, error: BaseException | None = None) -> None:
        """What the handler returned or raised. What it does after it was cut by its time limit does not count."""
        ctx, self._ctx = self._ctx, None
        if ctx is None:
            return
        self.ended_ms = now
        if ctx._around is None or type(error).__name__ in _CUT:  # noqa: SLF001 -- None once the attempt was cut
            self._cut(ctx)
        elif error is None:
            self.outcome = WAITING if isinstance(value, Directive) else COMPLETED
            self.output = None if isinstance(value, Directive) else value
        elif isinstance(error, Exception):
            self._failed(ctx, ErrorInfo(type(error).__name__, _message(error, ctx), self.step), error)
        else:
            self.outcome = DIED
            self.error = ErrorInfo(type(error).__name__, _message(error, ctx), self.step)

    def settle(self, now: int) -> None:
        """If it was cut by its time limit and its handler has not come back since, say so."""
        if self._ctx is not None and self._ctx._around is None:  # noqa: SLF001
            self.end(now)

    def overrule(self, error: ErrorInfo, *, unknown: bool) -> None:
        """The engine knows better: it could not accept what the handler returned, or who cancelled it."""
        if self.error is None or self.error.type == "StepTimeout":
            self.outcome, self.error, self.output = UNKNOWN if unknown else FAILED, error, None

    def _cut(self, ctx: Context) -> None:
        limit = "" if self._limit is None else f" of {self._limit:g} s"
        error = ErrorInfo("StepTimeout", f"the attempt outlasted its time limit{limit}", self.step)
        self._failed(ctx, error, None)

    def _failed(self, ctx: Context, error: ErrorInfo, raised: Exception | None) -> None:
        step = ctx._step  # noqa: SLF001 -- whether it is a commit
        effect = self.what == UNDONE or (step is not None and step.commit)
        self.error = error
        self.outcome = UNKNOWN if effect and (raised is None or outcome_unknown(raised)) else FAILED

    def __repr__(self) -> str:
        told = "" if self.error is None else f", {self.error.type}: {self.error.message}"
        kind = "" if self.what == RUN else f" ({self.what})"
        return f"<attempt {self.number} of {self.step!r}{kind}: {self.outcome}{told}>"


def _message(error: BaseException, ctx: Context) -> str:
    """What is said of the error: its message, without the values of secrets that the attempt asked for."""
    text = str(error) or type(error).__name__
    return text if ctx.revealed is None else ctx.revealed.scrub(text)


class Logbook:
    """The attempts of all instances of one test."""

    def __init__(self, clock: Clock) -> None:
        """`clock` tells when attempts begin and end."""
        self._clock = clock
        self._of: dict[tuple[str, str], list[Attempt]] = {}

    def begin(self, ctx: Context, what: str) -> Attempt:
        """An attempt begins now."""
        attempt = Attempt(ctx, what, self._clock.now())
        self._of.setdefault((ctx.workflow, ctx.id), []).append(attempt)
        return attempt

    def end(self, attempt: Attempt, value: object = None, error: BaseException | None = None) -> None:
        """It has returned `value`, or raised `error`."""
        attempt.end(self._clock.now(), value, error)

    def of(self, workflow: str, id: str, log: Iterable[Record]) -> list[Attempt]:
        """The attempts of one instance in the order they began; `log` tells what the engine made of them."""
        attempts = self._of.get((workflow, id), [])
        for attempt in attempts:
            attempt.settle(self._clock.now())
        for attempt, record in matched(attempts, log):
            error = record.body.get("e")
            if record.type == r.STUCK:
                attempt.overrule(ErrorInfo(record.body["why"], record.body["d"], attempt.step), unknown=True)
            elif error is not None:
                attempt.overrule(ErrorInfo.of(error), unknown=False)
        return list(attempts)


def matched(attempts: Iterable[Attempt], log: Iterable[Record]) -> Iterator[tuple[Attempt, Record]]:
    """Each record that tells what came of an attempt, with that attempt."""
    open_ = list(attempts)
    for seq, record in enumerate(log):
        body = record.body
        if record.type not in _OUTCOMES or "h" in body:
            continue
        what = UNDONE if record.type == r.COMP or "undo" in body else RUN
        number = body.get("a")
        for attempt in reversed(open_):
            if (
                attempt.after < seq
                and attempt.step == body.get("p")
                and (
                    (attempt.number, attempt.what) == (number, what)
                    if record.type != r.STUCK
                    else attempt.after == seq - 1
                )
            ):
                open_.remove(attempt)
                yield attempt, record
                break


_OUTCOMES = frozenset({r.STEP, r.CHILD, r.DECIDE, r.COMP, r.RETRY_WAIT, r.STUCK})
