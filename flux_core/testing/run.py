"""`Run`: one instance in a test: the engine's verbs, what it is now, and assertions that tell its story.

It holds nothing of the instance: every look is a look into the store. It must not move the clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from flux_core import state as s
from flux_core.machine.identity import key_of
from flux_core.paths import declared
from flux_core.testing.journal import RUN
from flux_core.testing.stubs import UNSET
from flux_core.testing.typed import misfit
from flux_core.workflow import UNDO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn, Protocol

    from flux_core.engine import DeadlineLike
    from flux_core.generics import Async, Output, Plain, Suspending
    from flux_core.result import FluxResult
    from flux_core.state import ErrorInfo, StepExecution, WorkflowState
    from flux_core.testing.attempts import Attempt

    class Bench(Protocol):
        """What a run needs of the test it belongs to."""

        def verb(self, name: str, workflow: str, id: str, *args: object, **options: object) -> FluxResult:
            """Call a verb of the engine."""

        def look(self, workflow: str, id: str) -> FluxResult:
            """The instance as it is now."""

        def state(self, run: Run) -> WorkflowState:
            """All that is known of it now; only to be read."""

        def attempts(self, run: Run) -> Sequence[Attempt]:
            """Its attempts so far."""

        def story(self, run: Run) -> str:
            """Its story in words."""

        def outlook(self, run: Run) -> Sequence[str]:
            """What it waits for, and what would move it."""


T = TypeVar("T")


class Run:
    """One instance of a workflow in a test."""

    def __init__(self, bench: Bench, workflow: str, id: str, *, created: bool = False) -> None:
        """Tests get runs from `FluxTest.execute` and `FluxTest.instance`."""
        self._bench = bench
        self.workflow = workflow
        self.id = id
        self.created = created
        """Whether the call that gave this run created the instance."""

    def __repr__(self) -> str:
        return f"<Run {self.workflow}/{self.id} {self.status}>"

    # --- what it is now -----------------------------------------------------------------------------------

    @property
    def result(self) -> FluxResult:
        """The instance as a verb would return it."""
        return self._bench.look(self.workflow, self.id)

    @property
    def status(self) -> str:
        """One of the engine's statuses."""
        return self._bench.state(self).status

    @property
    def data(self) -> dict[str, Any]:
        """`ctx.data` as it is recorded."""
        return self.result.data

    @property
    def history(self) -> list[StepExecution]:
        """What became of each step, in definition order."""
        return self.result.history

    @property
    def error(self) -> ErrorInfo | None:
        """Why it failed, is stuck, blocked or was cancelled."""
        return self.result.error

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """The signals it waits for now; empty if it waits for none."""
        state = self._bench.state(self)
        if state.terminal:
            return ()
        return state.awaited

    @overload
    def output(self, step: str) -> Any: ...
    @overload
    def output(self, step: str, type: type[T]) -> T: ...
    @overload
    def output(self, step: str, type: object) -> Any: ...
    @overload
    def output(self, step: Suspending) -> Any: ...
    @overload
    def output(self, step: Async[Output]) -> Output: ...
    @overload
    def output(self, step: Plain[Output]) -> Output: ...

    def output(self, step: object, type: Any = object) -> Any:
        """The output of a completed step; `AssertionError` if it is not of that type (`dict`, `list[Item]`, ...).

        Instead of the name, and a type, the step's handler may be given.
        """
        __tracebackhide__ = True
        if not isinstance(step, str):
            try:
                return self.result.output(step)  # type: ignore[call-overload]
            except KeyError as error:
                self._fail(str(error.args[0]))
        entry = self._step(step)
        if entry.status not in _HAS_OUTPUT:
            self._fail(f"step {step!r} is {entry.status} and has no output")
        problem = misfit(type, entry.output, "output")
        if problem is not None:
            self._fail(f"step {step!r}: {problem}")
        return entry.output

    def attempts(self, step: str | None = None) -> list[Attempt]:
        """The calls of a step's handler and compensator (of all steps, without a name) in the order they began.

        `poll.fetch` are those of all iterations, `poll[1].fetch` those of one; of a branch or loop, its decisions.
        """
        if step is not None and not any(declared(entry.path) == step for entry in self.history):
            self._step(step)
        attempts = self._bench.attempts(self)
        return [one for one in attempts if step is None or step in {one.step, declared(one.step)}]

    def idempotency_key(self, step: str, *, undo: bool = False) -> str:
        """The `ctx.idempotency_key` of the step (with `undo`, of its compensator): for a look at the other side."""
        self._step(step)
        return key_of(self._bench.state(self), step + UNDO if undo else step)

    def story(self) -> str:
        """What happened, step by step, and what it waits for: what a failed assertion prints."""
        return self._bench.story(self)

    # --- verbs, as the engine has them; each gives the run again ---------------------------------------

    def signal(
        self, name: str, payload: object = None, dedupe_id: str | None = None, *, deadline: DeadlineLike | None = None
    ) -> Run:
        """Send a signal, early or late: it is kept until a wait asks for it."""
        return self._verb("signal", name, payload, dedupe_id, deadline=deadline)

    def retry_step(
        self,
        step: str,
        *,
        data: Mapping[str, object] | None = None,
        force: bool = False,
        who: str | None = None,
        why: str | None = None,
        deadline: DeadlineLike | None = None,
    ) -> Run:
        """Run `step` and the later ones again; succeeded commits are kept."""
        return self._verb("retry_step", step, data=data, force=force or None, who=who, why=why, deadline=deadline)

    def resume(
        self,
        from_step: str | int | None = None,
        *,
        who: str | None = None,
        why: str | None = None,
        deadline: DeadlineLike | None = None,
    ) -> Run:
        """Go on from the failed step; tick an instance that has not failed."""
        return self._verb("resume", from_step, who=who, why=why, deadline=deadline)

    def cancel(self, reason: str | None = None, *, who: str | None = None, deadline: DeadlineLike | None = None) -> Run:
        """Stop it and undo its completed steps."""
        return self._verb("cancel", reason, who=who, deadline=deadline)

    def pause(self, *, who: str | None = None, why: str | None = None, deadline: DeadlineLike | None = None) -> Run:
        """Let nothing run until it is unpaused."""
        return self._verb("pause", who=who, why=why, deadline=deadline)

    def unpause(self, *, who: str | None = None, why: str | None = None, deadline: DeadlineLike | None = None) -> Run:
        """Go on after a pause."""
        return self._verb("unpause", who=who, why=why, deadline=deadline)

    def complete_step(
        self,
        step: str,
        output: object = None,
        *,
        who: str | None = None,
        why: str | None = None,
        deadline: DeadlineLike | None = None,
    ) -> Run:
        """Put on record, by hand, that `step` succeeded."""
        return self._verb("complete_step", step, output, who=who, why=why, deadline=deadline)

    def skip_step(
        self, step: str, *, who: str | None = None, why: str | None = None, deadline: DeadlineLike | None = None
    ) -> Run:
        """Put on record, by hand, that `step` is left out."""
        return self._verb("skip_step", step, who=who, why=why, deadline=deadline)

    def wake(self, *, deadline: DeadlineLike | None = None) -> Run:
        """Tick it: whatever can go on, goes on."""
        return self._verb("wake", deadline=deadline)

    # --- assertions: each returns the run, or raises AssertionError with its story ---------------------------------

    def assert_status(self, status: str) -> Run:
        """It has this status."""
        __tracebackhide__ = True
        if status not in s.STATUSES:
            message = f"there is no status {status!r}; the statuses are {', '.join(s.STATUSES)}"
            raise ValueError(message)
        found = self.status
        if found != status:
            self._fail(f"it is {found}, not {status}{_why(self.result, self._bench.outlook(self))}")
        return self

    def assert_completed(self) -> Run:
        """All its steps are done."""
        __tracebackhide__ = True
        return self.assert_status(s.COMPLETED)

    def assert_failed(self, error: type[BaseException] | str | None = None, *, step: str | None = None) -> Run:
        """It failed, with nothing undone; `error` is the exception's class, or a part of its message."""
        __tracebackhide__ = True
        self.assert_status(s.FAILED)
        return self._assert_error(error, step)

    def assert_rolled_back(self, error: type[BaseException] | str | None = None, *, step: str | None = None) -> Run:
        """It failed, and all that could be undone was undone; `error` as for `assert_failed`."""
        __tracebackhide__ = True
        self.assert_status(s.ROLLED_BACK)
        return self._assert_error(error, step)

    def assert_waiting(self, signal: str | None = None) -> Run:
        """It is suspended and waits for `signal` (without a name: for any signal)."""
        __tracebackhide__ = True
        self.assert_status(s.SUSPENDED)
        names = self.waiting_for
        wanted = "a signal" if signal is None else f"signal {signal!r}"
        if not names or (signal is not None and signal not in names):
            self._fail(f"it does not wait for {wanted}{_why(self.result, self._bench.outlook(self))}")
        return self

    def assert_step(
        self, name: str, *, status: str | None = None, output: object = UNSET, attempts: int | None = None
    ) -> Run:
        """What became of one step; `attempts` counts the calls of its handler."""
        __tracebackhide__ = True
        entry = self._step(name)
        if status is not None and entry.status != status:
            because = "" if entry.error is None else f": {entry.error}"
            self._fail(f"step {name!r} is {entry.status}, not {status}{because}")
        if output is not UNSET and (entry.output != output or type(entry.output) is not type(output)):
            self._fail(f"the output of step {name!r} is {entry.output!r}, not {output!r}")
        calls = [attempt for attempt in self.attempts(name) if attempt.what == RUN]
        if attempts is not None and len(calls) != attempts:
            told = "; ".join(f"{call.number}: {call.outcome}{'' if call.error is None else f' ({call.error})'}"
                             for call in calls)  # fmt: skip
            self._fail(f"step {name!r} had {len(calls)} attempts, not {attempts}{f' ({told})' if told else ''}")
        return self

    # --- what these share -------------------------------------------------------------------------------------------

    def _verb(self, name: str, *args: object, **options: object) -> Run:
        given = {option: value for option, value in options.items() if value is not None}
        self._bench.verb(name, self.workflow, self.id, *args, **given)
        return self

    def _step(self, name: str) -> StepExecution:
        found = next((entry for entry in self.history if entry.path == name), None)
        if found is None:
            there = ", ".join(entry.path for entry in self.history)
            message = f"workflow {self.workflow!r} has no step {name!r}; its steps are {there}"
            raise AssertionError(message)
        return found

    def _assert_error(self, wanted: type[BaseException] | str | None, step: str | None) -> Run:
        __tracebackhide__ = True
        error = self.error
        kind, text, at = ("", "", None) if error is None else (error.type, error.message, error.step)
        if isinstance(wanted, type) and wanted.__name__ != kind:
            self._fail(f"its error is {kind}: {text}; not a {wanted.__name__}")
        if isinstance(wanted, str) and wanted not in text:
            self._fail(f"its error is {kind}: {text}; {wanted!r} is no part of that")
        if step is not None and step != at:
            self._fail(f"it failed at step {at!r}, not {step!r}")
        return self

    def _fail(self, what: str) -> NoReturn:
        __tracebackhide__ = True
        message = f"{self.workflow}/{self.id}: {what}\n\n{self._bench.story(self)}"
        raise AssertionError(message)


_HAS_OUTPUT = frozenset({s.COMPLETED, s.COMPENSATING, s.COMPENSATED, s.COMPENSATION_FAILED})


def _why(result: FluxResult, outlook: Sequence[str]) -> str:
    """The shortest useful reason for the status it has."""
    error = result.error
    if result.status in {s.FAILED, s.ROLLED_BACK, s.CANCELLED} and error is not None:
        at = "" if error.step is None else f"step {error.step!r}: "
        return f": {at}{error.type}: {error.message}"
    if result.status == s.COMPLETED or not outlook:
        return ""
    return f". {outlook[0]}"
