"""What comes next in a parallel or a map: several steps may run, wait and fail at the same time.

Pure like all of the machine. Rules are numbered as in PROTOCOL. Outside of forks `decision` needs none of this.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.actions import PROCEED, Decision, Join, ReadMail
from flux_core.machine.attempts import begin, turns_back
from flux_core.machine.forks import beginning, conflicts, is_over, is_under, to_join, upcoming
from flux_core.machine.waiting import LOOK_EVERY, suspend
from flux_core.machine.waking import timer
from flux_core.records import Record
from flux_core.state import ErrorInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flux_core.events import Advanced
    from flux_core.state import Kept, WorkflowState
    from flux_core.workflow import WorkflowDefinition


def abreast(workflow: WorkflowDefinition, state: WorkflowState, event: Advanced, fork: str, now: int) -> Decision:
    """Begin the next step that can run now; if there is none, wait for those under way, or let go of the instance.

    `fork` is the outermost one that the instance is in.
    """
    running = event.running
    if not (running or state.waits or state.retry_at or state.kept):
        number, others = beginning(state.frames[fork])
        if number is not None:
            decision = begin(state, workflow.by_path[fork].first_of(number), 1, now)
            decision.abreast = others
            return decision
    waits = any(not is_over(state, path) for path in state.waits)  # a child of a failed lane may not have ended
    if waits and now - event.looked >= LOOK_EVERY:
        return Decision(ReadMail(resting=False, idle=False))
    first: Decision | None = None
    for path in upcoming(state, running):
        if path in running or path in state.waits or state.retry_at.get(path, now) > now:
            continue
        if first is not None:
            first.abreast = True
            return first
        attempt = state.steps[path].attempt + 1 if path in state.retry_at else 1
        if to_join(state, path):
            if any(is_under(path, other) for other in running):
                continue
            return joining(workflow, state, path, attempt, now)
        if path in state.kept:
            return Decision(PROCEED, again(state, path, state.kept[path], now))
        first = begin(state, workflow.by_path[path], attempt, now)
        first.abreast = bool(running)
    if first is not None:
        return first
    if waits:
        return Decision(ReadMail(resting=False))
    return suspend(state, now, timer(state), mail=False, running=bool(running))


def joining(workflow: WorkflowDefinition, state: WorkflowState, path: str, attempt: int, now: int) -> Decision:
    """All lanes have ended, but they did not just come together: some have failed, or contradict each other."""
    step, frame = workflow.by_path[path], state.frames[path]
    fork = frame.fork
    assert fork is not None  # noqa: S101 -- a fork
    if fork.failed:
        return _fails(workflow, state, path, ErrorInfo.of(next(iter(fork.failed.values()))), now)
    found = conflicts(path, frame)
    merge = step.merge
    plain = {lane: lane if lane.endswith("]") else lane[len(path) + 1 :] for lanes in found.values() for lane in lanes}
    missing = [key for key in found if merge is None or not (callable(merge) or key in merge)]
    if missing:
        key, lanes = missing[0], found[missing[0]]
        more = f" and {len(lanes) - 2} more" if len(lanes) > 2 else ""  # noqa: PLR2004 -- two are named
        message = (
            f"{plain[lanes[0]]!r} and {plain[lanes[1]]!r}{more} have both written ctx.data[{key!r}], and nobody knows "
            f"which should stay: return the value as an output instead, or declare what to make of it with "
            f"{step.kind} {step.name!r}, merge={{{key!r}: function of the list of values}}"
        )
        return _fails(workflow, state, path, ErrorInfo("WriteConflict", message, path), now)
    writes = fork.writes
    values = {key: [writes[lane].set[key] for lane in lanes if key in writes[lane].set] for key, lanes in found.items()}
    return Decision(Join(step, attempt, values))


def _fails(workflow: WorkflowDefinition, state: WorkflowState, path: str, error: ErrorInfo, now: int) -> Decision:
    body: dict[str, Any] = {"p": path, "a": state.steps[path].attempt, "ms": 0, "e": error.to_tree()}
    if turns_back(workflow, state, path):
        body["rb"] = 1
    return Decision(PROCEED, Record(r.STEP, state.epoch, now, body))


def again(state: WorkflowState, path: str, kept: Kept, now: int) -> Record:
    """What a retry keeps is applied again at its turn, without running anything (rule 17)."""
    if kept.how == s.SKIPPED:
        return Record(r.SKIPPED, state.epoch, now, {"p": path, "ms": 0, "h": 1})
    body: dict[str, Any] = {"p": path, "a": kept.attempt, "ms": 0, "h": 1}
    if kept.how == s.SUSPENDED:  # a commit whose effect is made, and that waits once more
        waits: Any = kept.output
        signals, patience, default = waits
        body["w"], body["c"] = [signals, None if patience is None else now + patience, default], 1
    elif kept.output is not None:
        body["o"] = kept.output
    if kept.set:
        body["set"] = kept.set
    if kept.unset:
        body["del"] = kept.unset
    return Record(r.STEP, state.epoch, now, body)
