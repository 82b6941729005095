"""`evolve(state, record)`: what a record makes of the state; `fold` is evolve over a log. It decides nothing.

Used alike by the engine, the command line and the checkers. It updates the state it is given in place (flat cost a
record), so callers hand it only a state they own.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.machine import forks
from flux_core.machine.identity import end_signal
from flux_core.machine.lanes import (
    advance,
    arrived,
    broken_off,
    decided,
    dropped,
    join,
    letter_of,
    move_on,
    next_steps,
    resumed,
)
from flux_core.paths import owner_of, renamed
from flux_core.state import (
    ErrorInfo,
    Frame,
    Kept,
    Lane,
    Lease,
    OpenIntent,
    OpenWait,
    Starting,
    StepExecution,
    WorkflowState,
)
from flux_core.workflow import DECIDING, UNDO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from flux_core.ports import InstanceRef
    from flux_core.records import Record


def fold(ref: InstanceRef, log: Iterable[Record]) -> WorkflowState:
    """The state after `log`, which begins with record 0."""
    state = WorkflowState(ref.tenant, ref.workflow, ref.id)
    for record in log:
        evolve(state, record)
    return state


def evolve(state: WorkflowState, record: Record) -> None:
    """Fold one record into `state`."""
    type_ = record.type
    state.seq += 1
    state.updated_at = record.at
    _EVOLVE[type_](state, record, record.body)
    if state.starting is not None and type_ in _AFTER_STARTING:
        state.starting = None
    if type_ in _RELEASING:
        state.owned = False
    elif type_ not in _CONTROL:
        lease = state.lease
        state.lease_until = record.at + lease.ms if lease.cap is None else lease.end(record.at)


def _start(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    state.version = body["ver"]
    state.fingerprint = body["fp"]
    state.names = body["names"]
    state.input = body["in"]
    state.input_hash = body["ih"]
    state.kinds = body["kinds"]
    state.patches = body.get("pt", [])
    state.created_at = record.at
    state.time_limit = body.get("to")
    _limit(state, record.at)
    state.parent = body.get("pa")
    if "l" in body:
        _own(state, record, body)
    else:
        state.epoch = record.epoch


def _limit(state: WorkflowState, at: int) -> None:
    """A generation begins: its time counts from `at` on."""
    state.expires = None if state.time_limit is None else at + state.time_limit


def _claim(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    if state.owned:
        state.deaths += 1
    state.pauses = 0
    state.stuck = None
    _own(state, record, body)


def _own(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    state.epoch = record.epoch
    state.owned = True
    state.rests = False
    state.lease = Lease(body["l"], body.get("dl"))
    state.status = s.ROLLING_BACK if state.undoing else s.RUNNING


def _renew(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    """Only the lease moves, as with every record of the owner."""


def _step(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    path = body["p"]
    steps = state.steps
    step = steps.get(path)
    if step is None:
        step = steps[path] = StepExecution(path)
    step.attempt = body["a"]
    run_ms = step.run_ms = body["ms"]
    at = record.at
    step.started_ms = at - int(run_ms)
    plain = "e" not in body and "w" not in body and "h" not in body
    if step.nested and not plain:
        forks.enter(state, path)
    if "set" in body or "del" in body:
        forks.write(state, path, body)
    _close(state, path)
    state.deaths = 0
    if plain:
        _complete(state, step, at, body.get("o"))
        if state.kept:
            state.kept.pop(path, None)
    elif "e" in body:
        _fail(state, step, record, body)
    elif "w" in body:
        signals, due, default = body["w"]
        if step.nested and not state.undoing and forks.is_over(state, path):
            step.status, step.ended_ms = s.FAILED, at  # it was under way when its lane failed, and waits for nothing
        else:
            step.status = s.SUSPENDED
            step.waiting_for = tuple(signals)
            state.waits[path] = OpenWait(step.waiting_for, due, default)
        if "c" in body:
            state.completed.pop(path, None)
            state.completed[path] = None
        state.kept.pop(path, None)
    else:
        _complete_by_hand(state, step, at, body.get("o"))
        state.kept.pop(path, None)


def _close(state: WorkflowState, path: str) -> None:
    """The attempts at `path` have an outcome: nothing about them is open any more."""
    if state.intents:
        state.intents.pop(path, None)
    if state.doubts:
        state.doubts.pop(path, None)
    if state.retry_at:
        state.retry_at.pop(path, None)


def _complete(state: WorkflowState, step: StepExecution, at: int, output: object) -> None:
    state.completed[step.path] = None
    if state.frames:
        arrived(state, step, at, output)
        return
    step.status = s.COMPLETED
    step.output = output
    step.error = None
    step.ended_ms = at
    step.waiting_for = ()
    move_on(state)


def _complete_by_hand(state: WorkflowState, step: StepExecution, at: int, output: object) -> None:
    """Perhaps a branch or loop, which is no success of its own: nothing of it is undone."""
    decides = letter_of(state, step.path) in DECIDING
    _complete(state, step, at, output)
    if decides:
        del state.completed[step.path]


def _skip(state: WorkflowState, step: StepExecution, at: int) -> None:
    arrived(state, step, at, None, s.SKIPPED)


_RELEASING, _CONTROL = r.RELEASING, r.CONTROL
_AFTER_STARTING = frozenset(
    {r.STEP, r.SKIPPED, r.DECIDE, r.JOIN, r.INTENT, r.COMP, r.RETRY_WAIT, r.RECV, r.TIMEOUT, r.SUSP, r.END}
)
"""The owner writes these only once the child that was asked for is there."""


def _decide(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    step = _next(state, body["p"])
    step.attempt = body["a"]
    step.run_ms = body["ms"]
    if step.path not in state.frames:
        step.started_ms = record.at - int(body["ms"])
    state.deaths = 0
    _close(state, step.path)
    decided(state, step, body, record.at)


def _join(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    step = state.steps[body["p"]]
    step.attempt = body["a"]
    step.run_ms = body["ms"]
    state.deaths = 0
    _close(state, step.path)
    join(state, step, state.frames[step.path], record.at, body)


def _fail(state: WorkflowState, step: StepExecution, record: Record, body: dict[str, Any]) -> None:
    error = ErrorInfo.of(body["e"])
    step.status = s.FAILED
    step.error = error.message
    step.ended_ms = record.at
    step.waiting_for = ()
    held = forks.holding(state, step.path) if step.nested else None
    if held is not None and not state.undoing:
        if not forks.is_over(state, step.path):  # else it was under way when its lane failed
            dropped(state, *held, error, record.at)
    elif not state.undoing:
        state.failure = error
        _turn_back(state, record.at, error.message)
        if "rb" in body:
            state.status = s.ROLLING_BACK


def _turn_back(state: WorkflowState, at: int, error: str) -> None:
    """From here on the instance is undone: what a retry kept for later has taken effect too."""
    state.undoing = True
    state.paused = False
    broken_off(state, at, error)
    state.retry_at.clear()
    for path, kept in state.kept.items():
        step = _of(state, path)
        waits = kept.how == s.SUSPENDED
        step.status, step.output = (s.PENDING, None) if waits else (kept.how, kept.output)
        step.attempt = kept.attempt
        forks.write(state, path, {"set": kept.set, "del": kept.unset})
        if kept.how != s.SKIPPED and letter_of(state, path) not in DECIDING:
            state.completed[path] = None
    state.kept.clear()


def _skipped(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    step = _next(state, body["p"])
    step.run_ms = body["ms"]
    state.deaths = 0
    state.kept.pop(step.path, None)
    _close(state, step.path)
    _skip(state, step, record.at)


def _of(state: WorkflowState, path: str) -> StepExecution:
    step = state.steps.get(path)
    if step is None:
        step = state.steps[path] = StepExecution(path)
    return step


def _next(state: WorkflowState, path: str) -> StepExecution:
    """The step that a forward record is about: with it, its lane may begin."""
    step = _of(state, path)
    if step.nested:
        forks.enter(state, path)
    return step


def _intent(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    path = body["p"]
    undo = "undo" in body
    key = path + UNDO if undo else path
    state.intents[key] = OpenIntent(body["a"], undo=undo)
    state.retry_at.pop(key, None)
    if "u" in body:
        state.doubts[key] = None
    step = _of(state, path) if undo else _next(state, path)
    if undo:
        step.status = s.COMPENSATING
        step.undo_attempt = body["a"]
    else:
        step.status = s.RUNNING
        step.attempt = body["a"]
        step.started_ms = record.at


def _comp(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    path = body["p"]
    step = state.steps[path]
    forks.write(state, path, body)
    _close(state, path + UNDO)
    _passed(state, path)
    state.deaths = 0
    if "e" in body:
        step.status = s.COMPENSATION_FAILED
        step.error = ErrorInfo.of(body["e"]).message
    else:
        _compensated(state, step, record.at)


def _passed(state: WorkflowState, path: str) -> None:
    """Undoing goes backwards: what completed after `path` has no compensator, and is not looked at again."""
    if path in state.completed:
        while state.completed.popitem()[0] != path:
            pass


def _compensated(state: WorkflowState, step: StepExecution, at: int) -> None:
    step.status = s.COMPENSATED
    step.compensated_ms = at
    state.discarded[step.path] = state.discarded.get(step.path, 0) + 1


def _retry_wait(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    path = body["p"]
    undo = "undo" in body
    key = path + UNDO if undo else path
    _close(state, key)
    state.retry_at[key] = body["due"]
    if "u" in body:
        state.doubts[key] = None
    state.deaths = 0
    step = _of(state, path) if undo else _next(state, path)
    step.error = ErrorInfo.of(body["e"]).message
    if undo:
        step.status = s.COMPENSATING
        step.undo_attempt = body["a"]
    else:
        step.status = s.PENDING
        step.attempt = body["a"]


def _recv(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    path = body["p"]
    state.consumed[body["m"]] = None
    del state.waits[path]
    state.children.pop(path, None)
    state.deaths = 0
    if "e" in body:
        _fail(state, state.steps[path], record, body)
    else:
        _complete(state, state.steps[path], record.at, body.get("o"))


def _child(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    path, child = body["p"], body["id"]
    step = _next(state, path)
    step.attempt, step.run_ms = body["a"], body["ms"]
    step.started_ms = record.at - int(body["ms"])
    step.child = f"{body['wf']}/{child}"
    state.deaths = 0
    _close(state, path)
    waits = "wait" in body
    state.starting = Starting(state.seq, path, body["wf"], child, body["ih"], waits, body["in"])
    if waits:
        step.status = s.SUSPENDED
        state.children[path] = None
        state.waits[path] = OpenWait((end_signal(child),), None, None)
    else:
        _complete(state, step, record.at, child)


def _timeout(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    if "p" not in body:
        state.failure = ErrorInfo.of(body["e"])
        state.deaths = 0
        for path in state.waits:
            waiting = state.steps[path]
            waiting.status = s.FAILED
            waiting.error = state.failure.message
            waiting.ended_ms = record.at
        _turn_back(state, record.at, state.failure.message)
        if "rb" in body:
            state.status = s.ROLLING_BACK
        return
    wait = state.waits.pop(body["p"])
    step = state.steps[body["p"]]
    state.deaths = 0
    if "e" in body:
        _fail(state, step, record, body)
    else:
        _complete(state, step, record.at, wait.default[0] if wait.default else None)


def _susp(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    state.status = s.PAUSED if state.paused else s.ROLLING_BACK if state.undoing else s.SUSPENDED
    state.rests = True


def _yield(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    """The ownership ends, as with every releasing record; a step cut by the deadline counts as a death (rule 10)."""
    if "cut" in body:
        state.deaths += 1


def _end(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    state.status = body["s"]
    state.completed_at = record.at
    state.paused = False
    if state.status == s.CANCELLED:
        why = state.cancel[0] if state.cancel else None
        state.error = ErrorInfo("Cancelled", why or "the workflow was cancelled")
    else:
        state.error = state.failure
    for path in state.waits:
        waiting = state.steps[path]
        waiting.waiting_for = ()
        if waiting.status == s.SUSPENDED:
            waiting.status = s.PENDING
    state.waits.clear()
    state.children.clear()


def _stuck(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    state.status = s.STUCK
    state.stuck = [body["why"], body.get("p"), body["d"]]
    state.error = ErrorInfo(body["why"], body["d"], body.get("p"))
    if "e" in body:
        for key in (body["p"], body["p"] + UNDO):
            if key in state.intents:
                state.intents[key].error = ErrorInfo.of(body["e"])


def _blocked(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    state.status = s.BLOCKED
    state.pauses += 1
    state.stuck = [body["why"], None, body["d"]]
    state.error = ErrorInfo(body["why"], body["d"])


def _adopt(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    was = body.get("was", {})
    before = {was.get(name, name) for name in state.names}
    if was:
        _rename(state, was)
    state.version, state.fingerprint = body["ver"], body["fp"]
    state.names, state.kinds = body["names"], body["kinds"]
    there, gone = set(state.names), set(body.get("gone", ()))

    def is_gone(path: str) -> bool:
        return path in gone or ("." not in path and path not in there)

    for path, step in list(state.steps.items()):
        if is_gone(path) and step.status not in s.SETTLED:
            del state.steps[path]
    mentioned: tuple[dict[str, Any], ...] = (state.completed, state.waits, state.retry_at, state.kept, state.children)
    for paths in mentioned:
        for path in [path for path in paths if is_gone(path.removesuffix(UNDO))]:
            del paths[path]
    passed = body.get("pass", ())
    for path in state.names:
        if path not in before:
            _newcomer(state, path, record.at, passed=path in passed)
    for path in passed:
        if "." in path:
            _pass(state, path, record.at)
    for path, bodies in body.get("forks", {}).items():
        fork = state.frames[path].fork
        if fork is not None:
            fork.bodies = bodies
    lanes = body.get("lanes", {})
    for path, (names, kinds) in lanes.items():
        lane = state.lanes[path]
        lane.names, lane.kinds, lane.cursor = names, kinds, 0
    for path in reversed(lanes):
        if path in state.lanes:
            advance(state, path, state.lanes[path], record.at)
    state.cursor = 0
    move_on(state)


def _newcomer(state: WorkflowState, path: str, at: int, *, passed: bool) -> None:
    """A step that the instance did not have, or no longer: what it once was counts only before what has begun."""
    step = state.steps.get(path)
    if passed:
        _pass(state, path, at)
    elif step is not None and step.status in s.DONE:
        del state.steps[path]
        if step.status == s.COMPLETED:
            state.discarded[path] = state.discarded.get(path, 0) + 1
    # No two steps may share an idempotency key, so a step that was called like this keeps its own.
    owner = next((name for name, origin in state.origins.items() if origin == path and name != path), None)
    if owner in state.names:
        state.origins[path] = f"{path}~{state.seq}"
    elif owner is not None:
        once = state.steps.get(owner)
        del state.origins[owner]
        more = once is not None and once.status == s.COMPLETED
        state.discarded[path] = state.discarded.get(path, 0) + state.discarded.get(owner, 0) + more


def _pass(state: WorkflowState, path: str, at: int) -> None:
    """A step that comes too late is skipped, unless it was done once."""
    step = _of(state, path)
    if step.status != s.COMPLETED:
        step.status, step.ended_ms = s.SKIPPED, at


_BY_PATH = (
    "steps", "completed", "waits", "retry_at", "intents", "doubts", "kept", "discarded", "frames", "lanes", "items",
    "children",
)  # fmt: skip


def _rename(state: WorkflowState, was: dict[str, str]) -> None:
    """Give the steps of `was` their new names, wherever the state mentions them, in the same order."""

    def now(path: str) -> str:
        plain = path.removesuffix(UNDO)
        return renamed(plain, was) + path[len(plain) :]

    for path, lane in state.lanes.items():
        lane.names = [now(f"{path}.{name}").rpartition(".")[2] for name in lane.names]
    stale = set(was.values())  # what stands there is of steps that are gone
    for field in _BY_PATH:
        paths = getattr(state, field).items()
        setattr(state, field, {now(path): value for path, value in paths if path not in stale})
    for path, step in state.steps.items():
        step.path = path
    for path, lane in state.lanes.items():
        lane.owner = owner_of(path)
    for frame in state.frames.values():
        frame.open = {now(path): None for path in frame.open}
        frame.last = None if frame.last is None else now(frame.last)
        if frame.fork is not None:
            frame.fork.failed = {now(path): error for path, error in frame.fork.failed.items()}
            frame.fork.writes = {now(path): writes for path, writes in frame.fork.writes.items()}
    if state.starting is not None:
        state.starting.path = now(state.starting.path)
    origins = {now(path): origin for path, origin in state.origins.items()}
    for old, new in was.items():
        origins.setdefault(new, old)
    state.origins = origins
    for error in (state.failure, state.error):
        if error is not None and error.step is not None:
            error.step = now(error.step)
    if state.stuck is not None and state.stuck[1] is not None:
        state.stuck = [state.stuck[0], now(state.stuck[1]), state.stuck[2]]


def _cancelreq(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    if state.undoing:
        return
    state.rests = False
    state.cancel = [body.get("why")]
    _turn_back(state, record.at, "the workflow was cancelled")
    state.status = s.ROLLING_BACK
    state.error = None
    state.deaths = 0


def _pause(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    if state.undoing:
        return
    state.paused = True
    if not state.owned:
        state.status = s.PAUSED


def _unpause(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    state.paused = False
    if state.status == s.PAUSED:
        state.status = unpaused(state)


def unpaused(state: WorkflowState) -> str:
    """The status of an instance without owner once its pause is over."""
    return s.SUSPENDED if resting(state) else s.RUNNING


def resting(state: WorkflowState) -> bool:
    """Whether all that is next waits, or is in a durable back-off."""
    steps = next_steps(state)
    return bool(steps) and all(path in state.waits or path in state.retry_at for path in steps)


def _retry(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    _reopen(state, record, body)


def _reopen(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    """A new generation: the steps of `reset` are as if they had never run, but for what is kept (rule 17)."""
    kept = {path: Kept(*fields) for path, fields in body["kept"].items()}
    for path in body["reset"]:
        step = state.steps.pop(path, None)
        state.items.pop(path, None)
        if step is None or step.status == s.COMPLETED:
            state.completed.pop(path, None)  # else a commit whose effect stands, although it waits
        pending = state.kept.get(path)  # kept by an earlier retry, and its turn had not come yet
        how = pending.how if pending is not None else None if step is None else step.status
        if how == s.COMPLETED and path not in kept:
            state.discarded[path] = state.discarded.get(path, 0) + 1
    state.generation += 1
    state.kept = kept
    state.data = dict(body["data"])
    reset = set(body["reset"])
    if state.starting is not None and state.starting.path in reset:
        state.starting = None
    state.rests = False
    left: tuple[dict[str, Any], ...] = (state.waits, state.retry_at, state.children, state.intents, state.doubts)
    for open_ in left:  # other lanes of a fork go on waiting
        for path in [path for path in open_ if path in reset or path not in state.steps]:
            del open_[path]
    state.undoing = state.paused = False
    _limit(state, record.at)
    state.failure = state.cancel = state.stuck = state.error = state.completed_at = None
    state.status = s.RUNNING
    state.owned = False
    state.deaths = 0
    state.frames = {path: Frame(*tree) for path, tree in body.get("frames", {}).items()}
    state.lanes = {path: Lane(*tree) for path, tree in body.get("lanes", {}).items()}
    if state.frames:
        resumed(state)
    state.cursor = 0
    move_on(state)


def _resolve(state: WorkflowState, record: Record, body: dict[str, Any]) -> None:
    if "reset" in body:
        _reopen(state, record, body)
        return
    path, how = body["p"], body["h"]
    step = _of(state, path)
    undo = "undo" in body
    _close(state, path + UNDO if undo else path)
    state.waits.pop(path, None)
    state.children.pop(path, None)
    state.kept.pop(path, None)
    state.rests = False
    if undo:
        _passed(state, path)
        step.error = None
        if how == s.COMPLETED:
            _compensated(state, step, record.at)
        else:
            step.status = s.COMPLETED
    elif how == s.COMPLETED:
        _complete_by_hand(state, step, record.at, body.get("o"))
    else:
        _skip(state, step, record.at)
    state.deaths = 0
    if state.terminal:
        state.status = body["s"]
    else:
        state.stuck = state.error = None
        state.status = going_on(state)


def going_on(state: WorkflowState) -> str:
    """The status of an open instance that nobody owns, once a step of it was settled by hand."""
    return s.ROLLING_BACK if state.undoing else s.PAUSED if state.paused else s.RUNNING


_EVOLVE: dict[str, Callable[[WorkflowState, Record, dict[str, Any]], None]] = {
    r.START: _start,
    r.CLAIM: _claim,
    r.RENEW: _renew,
    r.STEP: _step,
    r.SKIPPED: _skipped,
    r.DECIDE: _decide,
    r.JOIN: _join,
    r.CHILD: _child,
    r.INTENT: _intent,
    r.COMP: _comp,
    r.RETRY_WAIT: _retry_wait,
    r.RECV: _recv,
    r.TIMEOUT: _timeout,
    r.SUSP: _susp,
    r.YIELD: _yield,
    r.END: _end,
    r.STUCK: _stuck,
    r.BLOCKED: _blocked,
    r.ADOPT: _adopt,
    r.CANCELREQ: _cancelreq,
    r.PAUSE: _pause,
    r.UNPAUSE: _unpause,
    r.RETRY: _retry,
    r.RESOLVE: _resolve,
}
