"""What `retry_step`, `resume`, `complete_step` and `skip_step` mean: which steps start over and what is kept.

Pure like all of the machine: the log is an argument, because data as it was before a step is in no later state.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.errors import Refused
from flux_core.machine.evolution import evolve
from flux_core.state import WorkflowState
from flux_core.workflow import UNDO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from flux_core.events import RetryRequested, StepResolved
    from flux_core.records import Record
    from flux_core.workflow import WorkflowDefinition


def retrial(workflow: WorkflowDefinition, state: WorkflowState, event: RetryRequested) -> dict[str, Any]:
    """The body of a `retry` record; `Refused` if the step cannot be the next to run (PROTOCOL rule 17)."""
    workflow.step(event.path)
    _settled(state, event.path, "retry_step")
    forced = event.path if event.force else None
    body = _reopening(state, event.path, event.log, workflow, "retry_step", forced)
    if event.data:
        body["data"] = {**body["data"], **event.data}
    forced_ = {"force": 1} if event.force else {}
    return {"p": event.path, **forced_, "by": event.by, "why": event.why, **body}


def resolution(workflow: WorkflowDefinition, state: WorkflowState, event: StepResolved) -> tuple[dict[str, Any], str]:
    """The body of a `resolve` record, and the status after it; `Refused` if there is nothing to resolve there."""
    path = event.path
    workflow.step(path)
    verb = "complete_step" if event.how == s.COMPLETED else "skip_step"
    body: dict[str, Any] = {"p": path, "h": event.how, "by": event.by, "why": event.why}
    step = state.steps.get(path)
    if step is not None and (step.status == s.COMPENSATION_FAILED or path + UNDO in state.intents):
        body["undo"] = 1
        if not state.terminal:
            return body, s.ROLLING_BACK
        others = any(
            other.status == s.COMPENSATION_FAILED for other in state.steps.values() if other is not step
        )  # fmt: skip
        undone = event.how == s.COMPLETED and not others
        body["s"] = s.CANCELLED if state.status == s.CANCELLED else s.ROLLED_BACK if undone else s.FAILED
        return body, body["s"]
    if event.output is not None:
        body["o"] = event.output
    done = state.kept[path].how if path in state.kept else None if step is None else step.status
    if done in {s.COMPLETED, s.SKIPPED}:
        message = f"{verb} is refused for workflow {state.name!r}, id {state.id!r}: step {path!r} is {done} already"
        raise Refused(message)
    if state.terminal:
        _settled(state, path, verb)
        body |= _reopening(state, path, event.log, workflow, verb, None)
        body["kept"][path] = [event.how, event.output, {}, [], 1]
        return body, s.RUNNING
    if state.undoing and path not in state.intents and path not in state.doubts:
        message = (
            f"{verb} is refused for workflow {state.name!r}, id {state.id!r}: the workflow is being undone, and step "
            f"{path!r} has no attempt of unknown outcome"
        )
        raise Refused(message)
    return body, s.ROLLING_BACK if state.undoing else s.PAUSED if state.paused else s.RUNNING


def failed_step(state: WorkflowState) -> str:
    """Where a failed instance goes on: its failed step, or one before it that has not run (it came in since)."""
    failed = None if state.failure is None else state.failure.step
    for name in state.names:
        step = state.steps.get(name)
        if name == failed or step is None or step.status not in _PASSED:
            return name
    return state.names[-1]


_PASSED = frozenset({s.COMPLETED, s.SKIPPED, s.COMPENSATED, s.COMPENSATION_FAILED})


def _settled(state: WorkflowState, path: str, verb: str) -> None:
    """Nothing may be open but the step itself: neither a failed compensation nor an attempt of unknown outcome."""
    failed = [step.path for step in state.steps.values() if step.status == s.COMPENSATION_FAILED]
    open_ = [key for key in (*state.intents, *state.doubts) if key != path]
    if failed or open_:
        what = (
            f"the compensation of step {failed[0]!r} has failed"
            if failed
            else f"step {open_[0].removesuffix(UNDO)!r} has an attempt of unknown outcome"
        )
        message = (
            f"{verb} of step {path!r} is refused for workflow {state.name!r}, id {state.id!r}: {what}; complete or "
            f"skip that step first"
        )
        raise Refused(message)


def _reopening(
    state: WorkflowState, path: str, log: Sequence[Record], workflow: WorkflowDefinition, verb: str, forced: str | None
) -> dict[str, Any]:
    names = state.names
    first = names.index(path)
    # Effects that were undone have to be made again: start at the earliest of them.
    for index in range(first):
        step = state.steps.get(names[index])
        if step is not None and step.status == s.COMPENSATED:
            first = index
            break
    for name in names[:first]:
        step = state.steps.get(name)
        if step is None or step.status not in {s.COMPLETED, s.SKIPPED}:
            status = s.PENDING if step is None else step.status
            message = (
                f"{verb} of step {path!r} is refused for workflow {state.name!r}, id {state.id!r}: step {name!r} "
                f"before it is {status}; retry {name!r}, or complete or skip it first"
            )
            raise Refused(message)
    reset = names[first:]
    data, last, done = _history(state, log, names[first])
    # What is gone from the definition and was done later starts over too: it is no longer done if it comes back.
    reset += [path for path in state.steps if path not in names and path not in done]
    kept: dict[str, list[Any]] = {}
    for name in names[first:]:
        if name == forced or not workflow.by_path[name].commit:
            continue
        pending = state.kept.get(name)
        if pending is not None:  # kept by an earlier retry, and its turn has not come yet
            if pending.how == s.COMPLETED:
                kept[name] = [pending.how, pending.output, pending.set, pending.unset, pending.attempt]
            continue
        step = state.steps.get(name)
        if step is not None and step.status == s.COMPLETED:
            body = last[name]
            kept[name] = [s.COMPLETED, step.output, body.get("set", {}), body.get("del", []), step.attempt]
    return {"reset": list(reset), "data": data, "kept": kept}


def _history(
    state: WorkflowState, log: Sequence[Record], path: str
) -> tuple[dict[str, object], dict[str, dict[str, Any]], set[str]]:
    """Data as it was when the turn of `path` last came, the last successful `step` body of every path, what was done.

    The last are the paths that had a part in the history when that turn came.
    """
    replay = WorkflowState(state.tenant, state.name, state.id)
    before: dict[str, object] | None = None
    last: dict[str, dict[str, Any]] = {}
    done: set[str] = set()
    later = False
    turns = iter(_turns(log, path))
    turn = next(turns)
    for record in log:
        body = record.body
        if record.type == r.RESOLVE and "undo" not in body:
            last[body["p"]] = {}
        if record.type == r.STEP and "e" not in body:
            last[body["p"]] = body
        evolve(replay, record)
        if record.type == r.ADOPT:
            turn = next(turns)
            was = body.get("was", {})
            last = {was.get(name, name): step for name, step in last.items()}
            done = {was.get(name, name) for name in done}
            later = replay.cursor < turn  # there are new steps before it, and they may come to run
        if "reset" in body and replay.cursor <= turn:
            before = None
        if replay.cursor >= turn and (before is None or (later and record.type != r.ADOPT)):
            later = False
            before = dict(replay.data)  # its turn has come; what it or an undoing writes comes later
            done = set(replay.steps)
    return (dict(replay.data), last, set(replay.steps)) if before is None else (before, last, done)


def _turns(log: Sequence[Record], path: str) -> list[int]:
    """How many steps come before `path`, in each of the definitions that the instance went through."""
    bodies = [record.body for record in log if record.type in {r.START, r.ADOPT}]
    names = bodies[-1]["names"]
    turns = [names.index(path)]
    ahead, behind = set(names[: turns[0]]), set(names[turns[0] :])
    for body, earlier in zip(reversed(bodies), reversed(bodies[:-1]), strict=False):
        was, names = body.get("was", {}), earlier["names"]
        path = next((old for old, new in was.items() if new == path), path)
        ahead, behind = ({name for name in names if was.get(name, name) in there} for there in (ahead, behind))
        if path in names:  # what is gone since had its place too
            behind.update(set(names[names.index(path) :]) - ahead)
        last = max((place + 1 for place, name in enumerate(names) if name in ahead), default=0)
        turns.append(max(last, min((place for place, name in enumerate(names) if name in behind), default=len(names))))
    return turns[::-1]
