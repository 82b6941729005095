"""Trace events, sinks and hooks: everybody who watches. Nobody who watches can change an outcome.

An exception in a hook or a sink is logged and counted, and that is all. The event types are those of the seeds,
in the order the original engine emits them, plus ours; `docs/semantics.md` lists them.
"""

from __future__ import annotations

from _thread import allocate_lock

from flux_core import records as r
from flux_core import state as s
from flux_core.context import HookContext, Surroundings
from flux_core.errors import DefinitionError
from flux_core.paths import around
from flux_core.values import copied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO, Any, Final

    from flux_core.callbacks import Callbacks
    from flux_core.logger import GuardedLogger
    from flux_core.ports import Clock, InstanceRef, Logger, TraceSink
    from flux_core.records import Record
    from flux_core.redaction import Redaction
    from flux_core.revealed import Revealed
    from flux_core.secret import Secrets
    from flux_core.state import ErrorInfo, WorkflowState
    from flux_core.workflow import StepDefinition, WorkflowDefinition

EVENT_TYPES: Final = (
    "workflow:start",
    "workflow:complete",
    "workflow:error",
    "workflow:rollback_start",
    "workflow:rollback_complete",
    "step:start",
    "step:complete",
    "step:error",
    "step:skipped",
    "step:retry",
    "step:suspend",
    "step:compensate",
    "signal:received",
    "workflow:cancel",
    "workflow:pause",
    "workflow:handover",
    "workflow:recovered",
    "workflow:stuck",
    "workflow:blocked",
)
HOOKS: Final = ("step_start", "step_complete", "step_error", "workflow_complete", "workflow_error")


class JsonFileTraceSink:
    """Appends each event as a line of JSON. `reset=True` empties the file first. Threads may share it."""

    def __init__(self, path: str, *, reset: bool = False) -> None:
        """Nothing is opened before the first event; the folder is created then."""
        self._path = path
        self._reset = reset
        self._file: IO[str] | None = None
        self._lock = allocate_lock()

    def emit(self, event: Mapping[str, object]) -> None:
        """Write one line and flush it."""
        line = _line(event) + "\n"
        with self._lock:
            if self._file is None:
                self._file = self._open()
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        """Close the file; the next event opens it again, without a reset."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _open(self) -> IO[str]:
        from pathlib import Path

        path = Path(self._path)
        path.parent.mkdir(parents=True, exist_ok=True)
        mode, self._reset = ("w" if self._reset else "a"), False
        return path.open(mode, encoding="utf-8")


def _line(event: Mapping[str, object]) -> str:
    import json

    def text(value: object) -> str:
        return json.dumps(value, default=str, separators=(",", ":"))

    try:
        return text(event)
    except (TypeError, ValueError):  # a key or a value that JSON does not have: that field as Python shows it
        return "{" + ",".join(f"{text(key)}:{_shown(value, text)}" for key, value in event.items()) + "}"


def _shown(value: object, text: Callable[[object], str]) -> str:
    try:
        return text(value)
    except (TypeError, ValueError):
        return text(repr(value))


class Telemetry:
    """Tells the sinks and hooks of one engine what happened."""

    def __init__(
        self,
        sinks: Sequence[TraceSink],
        hooks: Mapping[str, Callable[..., object]] | None,
        logger: GuardedLogger,
        clock: Clock,
        redaction: Redaction,
        secrets: Secrets,
        callbacks: Callbacks | None = None,
    ) -> None:
        """Sinks do not see what `redaction` hides; hooks are the user's own code and see everything.

        `secrets` and `callbacks` are for the contexts of handlers and hooks.
        """
        self.sinks = tuple(sinks)
        self.hooks = dict(hooks or {})
        for name, hook in self.hooks.items():
            if name not in HOOKS or not callable(hook):
                message = f"on={{...}}: {name!r} is no hook, or not a function; the hooks are {', '.join(HOOKS)}"
                raise DefinitionError(message)
        self.logger = logger
        self.clock = clock
        self.redaction = redaction
        self.secrets = secrets
        self.callbacks = callbacks
        self._errors = 0

    @property
    def errors(self) -> int:
        """Exceptions of hooks, sinks and the logger so far."""
        return self._errors + self.logger.errors

    @property
    def idle(self) -> bool:
        """Whether nobody watches, so that nobody needs to be told."""
        return not self.sinks and not self.hooks and self.logger.silent

    def emit(self, type_: str, ref: InstanceRef, step: StepDefinition | None = None, **fields: object) -> None:
        """One event to every sink."""
        if not self.sinks:
            return
        event: dict[str, object] = {
            "type": type_,
            "timestamp": self.clock.now(),
            "workflow_id": ref.id,
            "workflow_name": ref.workflow,
        }
        if step is not None:
            event["step_name"] = step.name
            event["step_index"] = step.index
            if step.path != step.name:
                event["step_path"] = step.path
            event["commit"] = step.commit
            event["max_retries"] = step.retries
        event.update(self.redaction.fields(fields))
        for place, sink in enumerate(self.sinks, 1):
            try:
                sink.emit(event if place == len(self.sinks) else dict(event))  # nobody gets what another may change
            except Exception as error:  # noqa: BLE001 -- a sink never changes an outcome
                self._failed("trace sink", error)

    def call(self, hook: str, watched: Watched, step: StepDefinition | None, *told: object) -> None:
        """One hook, if it is set: with the name of the step, if there is one, a context, and what is told."""
        function = self.hooks.get(hook)
        if function is None:
            return
        context = watched.context(step, self.clock, self.logger, self.secrets)
        try:
            if told:  # one value at most: the result or the error
                told = (copied(told[0]),)
            if step is None:
                function(context, *told)
            else:
                function(step.name, context, *told)
        except Exception as error:  # noqa: BLE001 -- a hook never changes an outcome
            self._failed(f"hook {hook}", error, context.revealed)

    def _failed(self, what: str, error: Exception, revealed: Revealed | None = None) -> None:
        self._errors += 1
        shown = repr(error) if revealed is None else revealed.scrub(repr(error))
        self.logger.error(f"a {what} raised; the workflow goes on", error=shown)

    def step_started(self, watched: Watched, step: StepDefinition) -> None:
        """The first attempt of a step begins in this invocation."""
        self.emit("step:start", watched.ref, step, status=s.RUNNING, retries=watched.attempt - 1)
        self.call("step_start", watched, step)

    def step_retried(self, ref: InstanceRef, step: StepDefinition, attempt: int, error: ErrorInfo) -> None:
        """An attempt failed; number `attempt` will follow."""
        self.emit("step:retry", ref, step, retries=attempt - 1, error=error.message, status=s.PENDING)

    def recorded(self, watched: Watched, record: Record) -> None:
        """A record is durable and folded into the state."""
        tell = _TELL.get(record.type)
        if tell is not None:
            tell(self, watched, record.body)


class Watched:
    """What telemetry needs to know of an invocation: whose records these are, and a context for hooks."""

    __slots__ = ("around", "attempt", "ref", "state", "undo", "workflow")

    def __init__(self, ref: InstanceRef, workflow: WorkflowDefinition, state: WorkflowState) -> None:
        self.ref = ref
        self.workflow = workflow
        self.state = state
        self.attempt = 0
        self.undo = False
        self.around: Surroundings | None = None

    def context(self, step: StepDefinition | None, clock: Clock, logger: Logger, secrets: Secrets) -> HookContext:
        """A context for a hook, which sees what is recorded and can change nothing."""
        around = self.around or Surroundings(
            self.ref, self.state, self.state.input, clock, logger, secrets, self.workflow
        )
        if step is None:
            return HookContext(around, None, 0, self.state.data)
        return HookContext(around, step, self.attempt, self.state.data, self.undo)


def _started(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    t.emit("workflow:start", w.ref, status=s.RUNNING, input=copied(w.state.input))


def _claimed(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    if w.state.deaths:
        t.emit("workflow:recovered", w.ref, status=w.state.status, meta={"deaths": w.state.deaths})
    t.logger.debug("claimed", workflow=w.ref.workflow, id=w.ref.id, epoch=w.state.epoch)


def _step(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    if "h" in body:
        _ended_around(t, w, body["p"])
        return
    step = w.workflow.by_path[body["p"]]
    entry = w.state.steps[step.path]
    seconds = body["ms"] / 1000
    if "e" in body:
        t.emit("step:error", w.ref, step, status=s.FAILED, retries=entry.retries, error=entry.error, duration=seconds)
        error = s.ErrorInfo.of(body["e"])
        t.call("step_error", w, step, error)
        _failing(t, w, error)
    elif "w" in body:
        t.emit("step:suspend", w.ref, step, status=s.SUSPENDED, meta=_awaited(body["w"][0]), duration=seconds)
    else:
        t.emit("step:complete", w.ref, step, status=s.COMPLETED, retries=entry.retries, duration=seconds)
        t.call("step_complete", w, step, entry.output)
        _ended_around(t, w, step.path)


def _decided(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    if w.state.steps[body["p"]].status == s.COMPLETED:
        _ended(t, w, body["p"])
        _ended_around(t, w, body["p"])


def _ended_around(t: Telemetry, w: Watched, path: str) -> None:
    """The branches and loops that have ended with the last of their steps, from the inside out."""
    for outer in around(path) if "." in path else ():
        if w.state.steps[outer].status != s.COMPLETED:
            return
        _ended(t, w, outer)


def _ended(t: Telemetry, w: Watched, path: str) -> None:
    step, entry = w.workflow.by_path[path], w.state.steps[path]
    t.emit("step:complete", w.ref, step, status=s.COMPLETED, retries=entry.retries, meta={"decision": entry.decision})
    t.call("step_complete", w, step, entry.output)


def _awaited(signals: list[str]) -> dict[str, object]:
    return {"signal": signals[0], "signals": signals} if signals else {}


def _failing(t: Telemetry, w: Watched, error: s.ErrorInfo) -> None:
    """The instance turns back by this error: not by one that its lane keeps, or that came after another."""
    if w.state.cancel is None and w.state.failure == error:
        t.emit("workflow:rollback_start", w.ref, status=s.ROLLING_BACK, error=str(w.state.failure))


def _skipped(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    if "h" not in body:
        step = w.workflow.by_path[body["p"]]
        t.emit("step:skipped", w.ref, step, status=s.SKIPPED)
        t.call("step_complete", w, step, None)
    _ended_around(t, w, body["p"])


def _compensated(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    step = w.workflow.by_path[body["p"]]
    if "e" in body:
        error = s.ErrorInfo.of(body["e"])
        t.emit("step:error", w.ref, step, status=s.COMPENSATION_FAILED, error=error.message)
        t.call("step_error", w, step, error)
        t.logger.error(
            "a compensation failed", workflow=w.ref.workflow, id=w.ref.id, step=step.path, error=error.message
        )
    else:
        t.emit("step:compensate", w.ref, step, status=s.COMPENSATED, duration=body["ms"] / 1000)


def _retry_wait(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    step = w.workflow.by_path[body["p"]]
    t.step_retried(w.ref, step, body["a"] + 1, s.ErrorInfo.of(body["e"]))


def _received(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    step = w.workflow.by_path[body["p"]]
    if step.child is not None:
        _child_ended(t, w, step, body)
        return
    payload = {} if body.get("o") is None else {"input": copied(body["o"])}
    t.emit("signal:received", w.ref, step, status=s.SUSPENDED, meta={"signal": body["m"].partition("/")[0]}, **payload)
    _ended_around(t, w, step.path)


def _child_ended(t: Telemetry, w: Watched, step: StepDefinition, body: dict[str, Any]) -> None:
    if "e" in body:
        error = s.ErrorInfo.of(body["e"])
        t.emit("step:error", w.ref, step, status=s.FAILED, error=error.message)
        t.call("step_error", w, step, error)
        _failing(t, w, error)
    else:
        entry = w.state.steps[step.path]
        t.emit("step:complete", w.ref, step, status=s.COMPLETED, retries=entry.retries)
        t.call("step_complete", w, step, entry.output)
        _ended_around(t, w, step.path)


def _timed_out(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    if "p" not in body:
        _failing(t, w, s.ErrorInfo.of(body["e"]))
        return
    step = w.workflow.by_path[body["p"]]
    if "e" in body:
        error = s.ErrorInfo.of(body["e"])
        t.emit("step:error", w.ref, step, status=s.FAILED, error=error.message)
        t.call("step_error", w, step, error)
        _failing(t, w, error)
    else:
        t.emit("step:complete", w.ref, step, status=s.COMPLETED)
        t.call("step_complete", w, step, w.state.steps[step.path].output)
        _ended_around(t, w, step.path)


def _yielded(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    t.emit("workflow:handover", w.ref, status=w.state.status)


def _finished(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    status, error = body["s"], w.state.error
    if status == s.COMPLETED:
        t.emit(
            "workflow:complete", w.ref, status=status, data={key: copied(value) for key, value in w.state.data.items()}
        )
        t.call("workflow_complete", w, None)
        return
    if status in {s.ROLLED_BACK, s.CANCELLED}:
        t.emit("workflow:rollback_complete", w.ref, status=status)
    else:
        t.emit("workflow:error", w.ref, status=status, error=str(error))
    if status != s.CANCELLED:
        t.call("workflow_error", w, None, error)


def _stuck(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    t.emit(
        "workflow:stuck", w.ref, status=s.STUCK, error=body["d"], meta={"reason": body["why"], "step": body.get("p")}
    )
    t.logger.error("stuck: an operator is needed", workflow=w.ref.workflow, id=w.ref.id, why=body["d"])


def _blocked(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    t.emit("workflow:blocked", w.ref, status=s.BLOCKED, error=body["d"], meta={"reason": body["why"]})
    t.logger.warn("blocked", workflow=w.ref.workflow, id=w.ref.id, why=body["d"])


def _cancelled(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    t.emit("workflow:cancel", w.ref, status=w.state.status, meta={"why": body.get("why"), "by": body.get("by")})


def _adopted(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    skipped = [path for path in body.get("pass", ()) if w.state.steps[path].status == s.SKIPPED]
    t.logger.info(
        "goes on with a changed definition", workflow=w.ref.workflow, id=w.ref.id, version=body["ver"],
        renamed=body.get("was", {}), skipped=skipped,
    )  # fmt: skip
    for path in skipped:
        meta = {"reason": "it is new before a step that has begun"}
        t.emit("step:skipped", w.ref, w.workflow.by_path[path], status=s.SKIPPED, meta=meta)


def _paused(t: Telemetry, w: Watched, body: dict[str, Any]) -> None:
    t.emit("workflow:pause", w.ref, status=w.state.status, meta={"why": body.get("why"), "by": body.get("by")})


_TELL: dict[str, Callable[[Telemetry, Watched, dict[str, Any]], None]] = {
    r.START: _started,
    r.CLAIM: _claimed,
    r.STEP: _step,
    r.SKIPPED: _skipped,
    r.DECIDE: _decided,
    r.COMP: _compensated,
    r.RETRY_WAIT: _retry_wait,
    r.RECV: _received,
    r.TIMEOUT: _timed_out,
    r.YIELD: _yielded,
    r.END: _finished,
    r.STUCK: _stuck,
    r.BLOCKED: _blocked,
    r.ADOPT: _adopted,
    r.CANCELREQ: _cancelled,
    r.PAUSE: _paused,
}
