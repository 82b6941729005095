"""Calls one handler, condition, compensator or probe within its time limit, and says what happened as an event.

It must not append records or choose what comes next. What a handler returns or writes goes through the codec here,
so that a later step of the same invocation sees what a resumed one would see.
"""

from __future__ import annotations

from _thread import allocate_lock

from flux_core.actions import EvaluateCondition, Join, Probe, RunStep
from flux_core.context import Context, Surroundings
from flux_core.data import DataTracker
from flux_core.directives import FAIL, NOT_DONE, UNKNOWN, Directive, Done, Verify
from flux_core.errors import (
    CallerError,
    DefinitionError,
    InputMutated,
    NonRetryable,
    StepTimeout,
    Unknown,
    Unserialisable,
)
from flux_core.events import ChildAsked, ConditionHeld, Decided, Joined, Probed, StepFailed, StepSkipped, StepSucceeded
from flux_core.intake import checked_input
from flux_core.limits import call_within
from flux_core.machine.forks import seen_data
from flux_core.state import ErrorInfo
from flux_core.values import copied, encode
from flux_core.workflow import MAP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from flux_core.actions import Call
    from flux_core.data import Delta
    from flux_core.events import Event
    from flux_core.ports import Clock, Entropy, InstanceRef, Logger
    from flux_core.revealed import Revealed
    from flux_core.state import WorkflowState
    from flux_core.trace import Telemetry, Watched
    from flux_core.validation import Validator
    from flux_core.workflow import Merge, StepDefinition, WorkflowDefinition


class _Seen:
    """The data as the lane of a fork sees it, copied; it is made of the records when a handler asks for it."""

    __slots__ = ("_path", "_state", "tracker")

    def __init__(self, state: WorkflowState, path: str) -> None:
        self._state = state
        self._path = path

    def __call__(self) -> dict[str, object]:
        seen = seen_data(self._state, self._path)
        self.tracker = DataTracker({key: copied(value) for key, value in seen.items()})
        return self.tracker.values


class Attempts:
    """The attempts of one invocation: shared input and data, restored after every failed one."""

    __slots__ = (
        "_around", "_budget", "_clock", "_ctx", "_definition_of", "_disowned", "_entropy", "_input", "_recorded",
        "_started", "_telemetry", "_watched", "tracker",
    )  # fmt: skip

    def __init__(
        self,
        ref: InstanceRef,
        workflow: WorkflowDefinition,
        state: WorkflowState,
        clock: Clock,
        entropy: Entropy,
        logger: Logger,
        budget: Callable[[], float] | None,
        watched: Watched | None,
        telemetry: Telemetry,
        definition_of: Callable[[object], WorkflowDefinition],
    ) -> None:
        """`budget` tells how many seconds a handler may run at most; `watched` is None if nobody watches.

        `definition_of` finds the workflow of a child.
        """
        self._clock = clock
        self._entropy = entropy
        self.tracker = DataTracker(state.data)
        self._recorded: dict[str, object] | _Seen = self.tracker.values
        self._around = Surroundings(ref, state, None, clock, logger, telemetry.secrets, workflow, telemetry.callbacks)
        self._input = _Input(self._around, workflow.validator)
        self._budget = budget
        self._watched = watched
        self._telemetry = telemetry
        self._definition_of = definition_of
        self._started: set[str] = set()
        self._ctx: Context | None = None
        """Of the attempt under way."""
        self._disowned = False
        if watched is not None:
            watched.around = self._around

    def apart(self, path: str) -> Attempts:
        """For one attempt of the step at `path`, in a lane of a fork: with the data as that lane sees it, and copied.

        It may be used by another thread. What it brings is for the records alone.
        """
        other = Attempts.__new__(Attempts)
        other._around, other._input = self._around, self._input  # noqa: SLF001 -- one of its own kind
        other._budget, other._clock, other._entropy = self._budget, self._clock, self._entropy  # noqa: SLF001 -- the same
        other._definition_of = self._definition_of  # noqa: SLF001 -- the same
        other._recorded = _Seen(self._around.state, path)  # noqa: SLF001 -- the same
        other._ctx = None  # noqa: SLF001 -- the same
        other._disowned = False  # noqa: SLF001 -- the same
        return other

    def disown(self) -> None:
        """The attempt under way, on another thread, does not count any more; if it has not begun, it never does."""
        self._disowned = True
        if self._ctx is not None:
            self._ctx.kill()

    def announce(self, action: Call) -> None:
        """Tell whoever watches which attempt is meant, and that its step begins, if it is the first one here."""
        watched, step = self._watched, action.step
        if watched is None:
            return
        watched.attempt, watched.undo = action.attempt, action.undo
        if action.undo or isinstance(action, (Probe, Join)) or step.path in self._started:
            return
        self._started.add(step.path)
        if step.path not in self._around.state.frames:  # a while decides many times
            self._telemetry.step_started(watched, step)

    def carry_out(self, action: Call) -> Event:
        """Call what the action is about."""
        if isinstance(action, RunStep):
            return self.run(action)
        if isinstance(action, EvaluateCondition):
            return self.evaluate(action)
        return self.probe(action) if isinstance(action, Probe) else self.join(action)

    def run(self, action: RunStep) -> StepSucceeded | StepFailed | StepSkipped | Decided | ChildAsked:
        """One attempt of a step, of a decision or, with `undo`, of a compensation."""
        step, undo = action.step, action.undo
        ctx = self._context(step, action.attempt, undo=undo)
        handler: Any = step.handler
        timeout = step.timeout
        if undo:
            assert step.compensate is not None  # noqa: S101 -- the machine undoes only what can be undone
            handler, timeout = step.compensate.handler, step.compensate.timeout
        monotonic = self._clock.monotonic
        begun = monotonic()
        try:
            limit = timeout if self._budget is None else self._limit(timeout)
            if limit is not None:
                ctx.ends = begun + limit
            if step.when is not None and not undo and not action.held:
                if not self._holds(step, ctx, limit):
                    return StepSkipped(step.path, self._since(begun))
                ends, revealed = ctx.ends, ctx.revealed
                ctx = self._context(step, action.attempt)
                ctx.revealed = revealed
                if ends is not None:  # the limit is one for both
                    ctx.ends, limit = ends, max(ends - monotonic(), _SHORTEST)
            value = call_within(handler, ctx, limit)
            run_ms = int((monotonic() - begun) * 1_000_000) / 1000  # whole microseconds; round() takes thrice the time
            if step.bodies is not None:
                return self._decided(step, action.attempt, run_ms, value, ctx)
            if step.child is not None and not undo:
                return self._asked(step, action.attempt, run_ms, value, ctx)
            output = output_text = directive = None
            if value is not None:
                if isinstance(value, Directive):
                    if undo:
                        return self._failure(action, run_ms, _no_directive(step), ctx)
                    directive = _with_kept_default(value)
                elif not undo:
                    encoded = encode(value, f"step {step.name!r}: the output")
                    output, output_text = encoded.value, encoded.text
            delta = self._tracked.delta(ctx.data, step.name) if ctx.written else None
            if ctx.touched_input:
                self._input.check(step)
            if ctx.revealed is not None:
                _check_secrets(step, ctx.revealed, output_text, delta, directive)
        except Exception as error:  # noqa: BLE001 -- whatever a handler raises is an outcome
            return self._failure(action, self._since(begun), error, ctx)
        return StepSucceeded(
            step.path, action.attempt, run_ms, output, output_text, delta, directive, undo=undo, commit=step.commit
        )

    def evaluate(self, action: EvaluateCondition) -> ConditionHeld | StepSkipped | StepFailed:
        """A commit's condition, before its intent."""
        step = action.step
        ctx = self._context(step, action.attempt)
        begun = self._clock.monotonic()
        try:
            limit = self._limit(step.timeout)
            if limit is not None:
                ctx.ends = begun + limit
            holds = self._holds(step, ctx, limit)
        except Exception as error:  # noqa: BLE001 -- raising is a step failure
            return self._failure(action, self._since(begun), error, ctx, effect=False)
        return ConditionHeld(step.path, action.attempt) if holds else StepSkipped(step.path, self._since(begun))

    def _decided(self, step: StepDefinition, attempt: int, run_ms: float, answer: object, ctx: Context) -> Decided:
        """A decision may look at everything and change nothing."""
        from flux_core.choice import choice_of, items_of

        items: Any = None
        if step.kind == MAP:
            encoded = encode(items_of(step, answer), f"map {step.name!r}: the items")
            if ctx.revealed is not None:
                ctx.revealed.check(step.name, "the items", encoded.text)
            items = encoded.value
        choice = choice_of(step, answer) if items is None else len(items)
        if ctx.written:
            self._tracked.restore()
        if ctx.touched_input:
            self._input.check(step)
        return Decided(step.path, attempt, run_ms, choice, items)

    def _asked(self, step: StepDefinition, attempt: int, run_ms: float, given: object, ctx: Context) -> ChildAsked:
        """The input of a child may be made of everything; to say it changes nothing."""
        assert step.child is not None  # noqa: S101 -- asked only of child steps
        if isinstance(given, Directive):
            message = (
                f"child {step.name!r} says what to start with, and cannot wait or sleep: put a .wait or .sleep before"
            )
            raise NonRetryable(message)
        raw, hash_ = checked_input(self._definition_of(step.child.workflow), given)
        if ctx.revealed is not None:
            ctx.revealed.check(step.name, "the child's input", encode(raw, "").text)
        if ctx.written:
            self._tracked.restore()
        if ctx.touched_input:
            self._input.check(step)
        return ChildAsked(step.path, attempt, run_ms, raw, hash_)

    def join(self, action: Join) -> Joined | StepFailed:
        """Ask the merge functions what becomes of the keys that several branches or items have written."""
        step, merge = action.step, action.step.merge
        assert merge is not None  # noqa: S101 -- the machine asks only where there are functions
        ctx = self._context(step, action.attempt)
        begun = self._clock.monotonic()
        merged: dict[str, object] = {}
        try:
            for key, values in action.written.items():
                answer = call_within(_merging(merge, key), copied(values), self._limit(step.timeout))
                merged[key] = encode(answer, f"{step.kind} {step.name!r}, merge: ctx.data[{key!r}]").value
        except Exception as error:  # noqa: BLE001 -- whatever a function raises is an outcome
            return self._failure(action, self._since(begun), error, ctx, effect=False)
        return Joined(step.path, action.attempt, self._since(begun), merged)

    def _holds(self, step: StepDefinition, ctx: Context, limit: float | None) -> bool:
        """Ask the step's condition. It may look at everything and change nothing."""
        assert step.when is not None  # noqa: S101 -- asked only where there is a condition
        holds = bool(call_within(step.when, ctx, limit))
        if ctx.written:
            self._tracked.restore()
        if ctx.touched_input:
            self._input.check(step)
        return holds

    def probe(self, action: Probe) -> Probed:
        """What the user's probe says of an attempt of unknown outcome. Whatever is no answer means unknown."""
        step, undo = action.step, action.undo
        policy = step.compensate.on_unknown if undo and step.compensate is not None else step.on_unknown
        assert isinstance(policy, Verify)  # noqa: S101 -- the machine asks only where there is a probe
        ctx = self._context(step, action.attempt, undo=undo)
        verdict, output, text, delta = "unknown", None, None, None
        error = action.error
        try:
            limit = self._limit(step.time_limit(undo=undo))
            if limit is not None:
                ctx.ends = self._clock.monotonic() + limit
            answer = call_within(policy.probe, ctx, limit)
            if ctx.touched_input:
                self._input.check(step)
            if isinstance(answer, Done):
                if answer.value is not None:
                    encoded = encode(answer.value, f"step {step.name!r}: the probe's answer")
                    output, text = encoded.value, encoded.text
                delta = self._tracked.delta(ctx.data, step.name) if ctx.written else None
                if ctx.revealed is not None:
                    _check_secrets(step, ctx.revealed, text, delta)
                verdict = "done"
            elif answer is NOT_DONE:
                verdict = "not_done"
            elif answer is not UNKNOWN:
                shown = _scrubbed(repr(answer), ctx.revealed)
                what = f"{error.message}; the probe returned {shown:.80}, which is not Done(value), NOT_DONE or UNKNOWN"
                error = ErrorInfo(error.type, what, error.step)
        except Exception as raised:  # noqa: BLE001 -- an exception means unknown
            shown = _scrubbed(repr(raised), ctx.revealed)
            self._log_probe(step, shown)
            error = ErrorInfo(error.type, f"{error.message}; the probe raised {shown}", error.step)
        if verdict != "done":
            self._take_back(ctx)
        jitter = self._entropy.uniform()
        return Probed(
            step.path,
            action.attempt,
            verdict,
            jitter,
            self._spare(),
            error,
            output,
            text,
            delta,
            retryable=action.retryable,
            undo=undo,
        )

    def _log_probe(self, step: StepDefinition, raised: str) -> None:
        ref = self._around.ref
        self._around.logger.warn("a probe raised", workflow=ref.workflow, id=ref.id, step=step.path, error=raised)

    def _context(self, step: StepDefinition, attempt: int, *, undo: bool = False) -> Context:
        ctx = self._ctx = Context(self._around, step, attempt, self._recorded, undo)
        if self._disowned:
            ctx.kill()
            message = f"step {step.path!r} does not begin any more: its invocation is over"
            raise StepTimeout(message)
        return ctx

    @property
    def _tracked(self) -> DataTracker:
        """What the attempt under way was shown, once it has asked for it."""
        recorded = self._recorded
        return recorded.tracker if isinstance(recorded, _Seen) else self.tracker

    def _limit(self, timeout: float | None) -> float | None:
        """The effective time limit: the step's, but never past the invocation's deadline (PROTOCOL rule 15)."""
        if self._budget is None:
            return timeout
        left = max(self._budget(), _SHORTEST)
        return left if timeout is None else min(timeout, left)

    def _spare(self) -> float | None:
        return None if self._budget is None else self._budget()

    def _since(self, begun: float) -> float:
        return int((self._clock.monotonic() - begun) * 1_000_000) / 1000

    def _take_back(self, ctx: Context) -> None:
        """Nothing that was done with `ctx` counts."""
        ctx.kill()
        if type(self._recorded) is dict:
            self.tracker.restore()
        if ctx.touched_input:
            self._input.restore()

    def _failure(
        self,
        action: RunStep | EvaluateCondition | Join,
        run_ms: float,
        error: Exception,
        ctx: Context,
        *,
        effect: bool = True,
    ) -> StepFailed:
        step, undo = action.step, action.undo
        self._take_back(ctx)
        unknown = effect and outcome_unknown(error)
        hopeless = CallerError if step.child is not None else DefinitionError
        retryable = not isinstance(error, (NonRetryable, hopeless, *step.give_up_on))
        timeout = step.time_limit(undo=undo)
        cut = (
            isinstance(error, StepTimeout) and self._budget is not None and (timeout is None or run_ms < timeout * 1000)
        )
        return StepFailed(
            step.path,
            action.attempt,
            run_ms,
            ErrorInfo(type(error).__name__, _message(error, ctx.revealed), step.path),
            self._entropy.uniform(),
            self._spare(),
            retryable=retryable,
            unknown=unknown,
            cut=cut,
            undo=undo,
        )


def _merging(merge: Merge, key: str) -> Callable[[list[Any]], object]:
    """What makes one value of those that several have written under `key`."""
    if not callable(merge):
        return merge[key]
    return lambda values: merge(key, values)


class _Input:
    """The input that all attempts of an invocation share, and whether one of them has changed it."""

    __slots__ = ("_around", "_lock", "_raw", "_seen", "_validator")

    def __init__(self, around: Surroundings, validator: Validator | None) -> None:
        self._around = around
        self._validator = validator
        self._raw = DataTracker({_INPUT: around.state.input})
        self._lock = allocate_lock()
        self._refresh()

    def _refresh(self) -> None:
        raw = self._raw.values[_INPUT]
        self._seen: DataTracker | None = self._raw
        if self._validator is None:
            self._around.input = raw
            return
        self._around.input = self._validator.parse(raw)
        try:
            self._seen = DataTracker({_INPUT: self._around.input})
        except Unserialisable:
            # What a validating callable made of it cannot be compared, so nobody can tell whether it was changed.
            self._seen = None

    def check(self, step: StepDefinition) -> None:
        """`InputMutated` if the input is not what it was."""
        with self._lock:
            try:
                same = self._seen is None or self._seen.delta({_INPUT: self._around.input}, step.name) is None
            except Unserialisable:
                same = False
        if not same:
            message = (
                f"step {step.name!r} changed ctx.input, which belongs to the caller; copy what you want to change, "
                f"for example dict(ctx.input), or write to ctx.data"
            )
            raise InputMutated(message)

    def restore(self) -> None:
        """The input as it was given."""
        with self._lock:
            self._raw.restore()
            self._around.state.input = self._raw.values[_INPUT]
            self._refresh()


_INPUT = "input"
_SHORTEST = 0.001
"""Seconds that a call gets at least, so that it ends in a `StepTimeout` like any other."""
_LONGEST_MESSAGE = 4000
"""Characters of an exception's message that are kept: a record is no place for a response body."""


def _message(error: Exception, revealed: Revealed | None) -> str:
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 -- a broken __str__ must not hide the error
        text = f"{kind} (its message cannot be shown)"
    return _scrubbed(text, revealed)[:_LONGEST_MESSAGE] or kind


def _scrubbed(text: str, revealed: Revealed | None) -> str:
    """What may be shown and kept of a message of the user's code."""
    return text if revealed is None else revealed.scrub(text)


def _check_secrets(
    step: StepDefinition,
    revealed: Revealed,
    output_text: str | None,
    delta: Delta | None,
    directive: Directive | None = None,
) -> None:
    """`SecretExposed` if what the attempt wants recorded holds the value of a secret that it asked for."""
    if output_text is not None:
        revealed.check(step.name, "the output", output_text)
    if delta is not None:
        revealed.check(step.name, "ctx.data", delta.text)
    if directive is not None:
        revealed.check(step.name, "the names in wait(...)", encode(directive.signals, "").text)
        if directive.on_timeout is not FAIL:
            revealed.check(step.name, "wait(on_timeout=...)", encode(directive.on_timeout, "").text)


def _with_kept_default(directive: Directive) -> Directive:
    """`directive` with its default as the records will hold it. The handler's own may be shared by all instances."""
    default = directive.on_timeout
    if default is FAIL:
        return directive
    kept = encode(default, "wait(on_timeout=...)").value
    return Directive(directive.signals, directive.seconds, directive.until, kept)


def _no_directive(step: StepDefinition) -> Exception:
    return NonRetryable(
        f"the compensation of step {step.name!r} returned wait(...) or sleep(...); only a step can be suspended"
    )


def outcome_unknown(error: BaseException) -> bool:
    """Whether the effect may have happened although the attempt failed (PROTOCOL rule 9).

    A result that cannot be kept means that the effect did happen: only a person (or a probe) can put it on record.
    """
    if isinstance(error, Unknown | StepTimeout | Unserialisable | InputMutated):
        return True
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        cause = todo.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        if isinstance(cause, Unknown | TimeoutError) or (
            isinstance(cause, ConnectionError) and not isinstance(cause, ConnectionRefusedError)
        ):
            return True
        todo += (cause.__cause__, cause.__context__)
        if isinstance(cause, BaseExceptionGroup):  # what an asyncio.TaskGroup raises
            todo += cause.exceptions
    return False
