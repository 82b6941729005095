"""What `retry_step`, `resume`, `complete_step` and `skip_step` mean: which steps start over and what is kept.

Pure like all of the machine: the log is an argument, because data as it was before a step is in no later state.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.errors import Refused
from flux_core.machine.evolution import evolve, going_on
from flux_core.machine.lanes import current, is_inside
from flux_core.paths import around, lane_of, owner_of, renamed
from flux_core.state import Frame, Lane, WorkflowState
from flux_core.workflow import BODY, LOOPS, UNDO, WHILE, letter

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
    if done in s.DONE:
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
    _check_open(state, path, verb)
    return body, going_on(state)


def _check_open(state: WorkflowState, path: str, verb: str) -> None:
    """Only what is in an open branch or iteration can be settled, and only as a whole if nothing in it is in doubt."""
    lane_path = lane_of(path)
    unsettled = [key.removesuffix(UNDO) for key in (*state.intents, *state.doubts)]
    inside = [other for other in unsettled if is_inside(other, path)]
    if lane_path and lane_path not in state.lanes:
        why = f"{lane_path!r} is not open: it has ended, or the workflow has not come to it"
    elif inside:
        why = f"step {inside[0]!r} in it has an attempt of unknown outcome; complete or skip that step first"
    else:
        return
    message = f"{verb} of step {path!r} is refused for workflow {state.name!r}, id {state.id!r}: {why}"
    raise Refused(message)


def failed_step(state: WorkflowState) -> str:
    """Where a failed instance goes on: its failed step, or one before it that has not run (it came in since)."""
    failed = None if state.failure is None else state.failure.step
    for name in state.names:
        step = state.steps.get(name)
        if name in state.frames:
            return current(state) or name
        if name == failed or step is None or step.status not in s.SETTLED:
            return name
    return state.names[-1]


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
    start = _start(state, path, workflow, verb)
    for before in start.before:
        step = state.steps.get(before)
        if step is None or step.status not in s.DONE:
            status = s.PENDING if step is None else step.status
            message = (
                f"{verb} of step {path!r} is refused for workflow {state.name!r}, id {state.id!r}: step {before!r} "
                f"before it is {status}; retry {before!r}, or complete or skip it first"
            )
            raise Refused(message)
    reset = _from(state, start, workflow)
    data, last, done = _history(state, log, start, workflow)
    # What is gone from the definition and was done later starts over too: it is no longer done if it comes back.
    gone = [path for path in state.steps if "." not in path and path not in state.names and path not in done]
    kept: dict[str, list[Any]] = {}
    for name in reset:
        if name == forced or workflow.place(name) is None or not workflow.by_path[name].commit:
            continue
        pending = state.kept.get(name)
        if pending is not None:  # kept by an earlier retry, and its turn has not come yet
            if pending.how == s.COMPLETED:
                kept[name] = pending.to_tree()
            continue
        step = state.steps.get(name)
        if step is not None and step.status == s.COMPLETED:
            body = last[name]
            kept[name] = [s.COMPLETED, step.output, body.get("set", {}), body.get("del", []), step.attempt]
    for name, pending in state.kept.items():  # in a branch that is not taken now, and may be another time
        if name not in reset:
            kept[name] = pending.to_tree()
    body = {"reset": reset + gone, "data": data, "kept": kept}
    if start.frames:
        body |= {"frames": start.frames, "lanes": start.lanes}
    return body


class _Start:
    """Where a retry starts over, and the branches and loops that are open then."""

    __slots__ = ("before", "frames", "lanes", "path", "place", "turn")

    def __init__(self, path: str, place: tuple[int, ...], turn: _Start | None = None) -> None:
        self.path = path
        self.place = place
        """With the number of the decision, if it is one of a while but the first."""
        self.turn = self if turn is None else turn
        """Whose data it starts with: another one's if it came into the definition since."""
        self.before: list[str] = []
        """The steps before it that have to be done."""
        self.frames: dict[str, list[Any]] = {}
        self.lanes: dict[str, list[Any]] = {}


def _start(state: WorkflowState, path: str, workflow: WorkflowDefinition, verb: str) -> _Start:
    start = _Start(path, _place(state, path, workflow))
    # Effects that were undone have to be made again: start at the earliest of them.
    for step in state.steps.values():
        if step.status == s.COMPENSATED:
            place = workflow.place(step.path)
            if place is not None and place < start.place:
                start = _Start(step.path, place)
    if not (start.path in state.steps or start.path == current(state)):
        lane_path = lane_of(start.path)
        if lane_path:
            raise _not_reached(state, path, owner_of(lane_path), verb)
    return _opened(state, path, start, workflow, verb)


def _opened(state: WorkflowState, path: str, start: _Start, workflow: WorkflowDefinition, verb: str) -> _Start:
    """`start` with the branches and loops around it, and what has to be done before."""
    at, since = start.path, None
    if workflow.by_path[at].kind == WHILE and len(start.place) > len(workflow.place(at) or ()):
        number, names = start.place[-1] - 1, workflow.by_path[at].bodies[BODY].names  # type: ignore[index]
        start.frames[at] = Frame("h", choice=True, number=number, last=f"{at}[{number}].{names[-1]}").to_tree()
    while lane_path := lane_of(at):
        owner = owner_of(lane_path)
        node, execution = workflow.by_path[owner], state.steps.get(owner)
        inside = lane_path[len(owner) + 1 :].removesuffix("]")
        looping = node.kind in LOOPS
        chosen = None if execution is None else execution.decision
        if chosen is None or (not looping and chosen != inside):
            raise _not_reached(state, path, owner, verb)
        body = node.bodies[BODY if looping else inside]  # type: ignore[index]
        cursor = body.places[at[len(lane_path) + 1 :]]
        choice = True if node.kind == WHILE else chosen
        frame = Frame(letter(node), choice, int(inside) if looping else 0, open=[lane_path])
        start.frames = {owner: frame.to_tree(), **start.frames}
        start.lanes = {lane_path: Lane(owner, body.names, body.kinds, cursor).to_tree(), **start.lanes}
        before = [f"{lane_path}.{name}" for name in body.names[:cursor]]
        start.before = before + start.before
        if lane_path not in state.lanes:  # it had ended: what has come into it since was not looked at yet
            since = next((name for name in before if name not in state.steps), since)
        at = owner
    if since is not None:
        return _opened(state, path, _Start(since, workflow.place(since) or (), start.turn), workflow, verb)
    start.before = state.names[: state.names.index(at)] + start.before
    return start


def _not_reached(state: WorkflowState, path: str, owner: str, verb: str) -> Refused:
    return Refused(
        f"{verb} of step {path!r} is refused for workflow {state.name!r}, id {state.id!r}: the workflow has not come "
        f"to that step; retry {owner!r}, or a step that it has come to"
    )


def _place(state: WorkflowState, path: str, workflow: WorkflowDefinition) -> tuple[int, ...]:
    """Where a retry of `path` goes back to; of a while it is the last decision that it came to."""
    place = workflow.place(path)
    assert place is not None  # noqa: S101 -- the definition was asked for the step before
    if workflow.by_path[path].kind != WHILE:
        return place
    frame = state.frames.get(path)
    if frame is not None:
        number = frame.number if frame.open else frame.number + 1
    else:
        inside = (step.path for step in state.steps.values() if step.path.startswith(f"{path}["))
        number = max((int(other[len(path) + 1 :].partition("]")[0]) + 1 for other in inside), default=0)
    return (*place, number) if number else place


def _from(state: WorkflowState, start: _Start, workflow: WorkflowDefinition) -> list[str]:
    """Every path that starts over, in the order of the definition."""
    top = [name for name in state.names if (workflow.place(name) or ()) >= start.place]
    nested = {path for path in (*state.steps, *state.kept) if "." in path}
    if not nested:
        return top
    places = {path: _nearest(path, workflow) for path in nested}
    late = [path for path, place in places.items() if place >= start.place]
    places.update((name, workflow.place(name) or ()) for name in top)
    return sorted((*top, *late), key=lambda path: places[path])


def _nearest(path: str, workflow: WorkflowDefinition) -> tuple[int, ...]:
    """The place of a path; if the definition does not have it any more, that of the nearest branch or loop around."""
    for at in (path, *around(path)):
        place = workflow.place(at)
        if place is not None:
            return place
    return ()


def _history(
    state: WorkflowState, log: Sequence[Record], start: _Start, workflow: WorkflowDefinition
) -> tuple[dict[str, object], dict[str, dict[str, Any]], set[str]]:
    """Data as it was when the turn of `start` last came, the last successful `step` body of every path, what was done.

    The last are the paths that had a part in the history when that turn came.
    """
    replay = WorkflowState(state.tenant, state.name, state.id)
    before: dict[str, object] | None = None
    last: dict[str, dict[str, Any]] = {}
    done: set[str] = set()
    later = False
    turns = _nested_turns(log, start.turn, workflow) if start.frames else _turns(log, start.path)
    turn = turns.pop(0)
    for record in log:
        body = record.body
        if record.type == r.RESOLVE and "undo" not in body:
            last[body["p"]] = {}
        if record.type == r.STEP and "e" not in body:
            last[body["p"]] = body
        evolve(replay, record)
        if record.type == r.ADOPT:
            turn = turns.pop(0)
            was = body.get("was", {})
            last = {renamed(name, was): step for name, step in last.items()}
            done = {renamed(name, was) for name in done}
            later = not turn.has_come(replay)  # there are new steps before it, and they may come to run
        if "reset" in body and turn.is_ahead(replay):
            before = None
        if turn.has_come(replay) and (before is None or (later and record.type != r.ADOPT)):
            later = False
            before = dict(replay.data)  # its turn has come; what it or an undoing writes comes later
            done = set(replay.steps)
    return (dict(replay.data), last, set(replay.steps)) if before is None else (before, last, done)


class _TopTurn:
    """The turn of a top-level step, which is at a place of its own in each definition the instance went through."""

    __slots__ = ("_place",)

    def __init__(self, place: int) -> None:
        self._place = place

    def is_ahead(self, replay: WorkflowState) -> bool:
        """Whether the turn is still to come, or is just coming."""
        if replay.cursor == self._place < len(replay.names):
            return replay.names[self._place] not in replay.frames  # a retry may begin inside of it
        return replay.cursor <= self._place

    def has_come(self, replay: WorkflowState) -> bool:
        """Whether the turn has come."""
        return replay.cursor >= self._place


class _NestedTurn:
    """The turn of a step in a branch or loop, or of a while's decision but its first."""

    __slots__ = ("_number", "_path", "_place", "_workflow")

    def __init__(self, path: str, start: _Start, workflow: WorkflowDefinition) -> None:
        self._path = path
        self._place = start.place
        self._workflow = workflow
        self._number = start.place[-1] - 1 if start.path in start.frames else None
        """Of a while: the iteration before the decision."""

    def is_ahead(self, replay: WorkflowState) -> bool:
        """Whether the turn is still to come, or is just coming."""
        at = current(replay)
        place = None if at is None else self._workflow.place(at)
        if at is None or place is None:
            return False
        frame = replay.frames.get(at)
        return (place if frame is None else (*place, frame.number + 1)) <= self._place

    def has_come(self, replay: WorkflowState) -> bool:
        """Whether the turn has come."""
        if current(replay) != self._path:
            return False
        frame = replay.frames.get(self._path)
        return (None if frame is None else frame.number) == self._number


def _nested_turns(log: Sequence[Record], start: _Start, workflow: WorkflowDefinition) -> list[_TopTurn | _NestedTurn]:
    path = start.path
    turns: list[_TopTurn | _NestedTurn] = [_NestedTurn(path, start, workflow)]
    for record in reversed(log):
        if record.type == r.ADOPT:
            path = renamed(path, {now: before for before, now in record.body.get("was", {}).items()})
            turns.append(_NestedTurn(path, start, workflow))
    return turns[::-1]


def _turns(log: Sequence[Record], path: str) -> list[_TopTurn | _NestedTurn]:
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
    return [_TopTurn(place) for place in reversed(turns)]
