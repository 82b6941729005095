"""What `retry_step`, `resume`, `complete_step` and `skip_step` mean: which steps start over and what is kept.

Pure like all of the machine: the log is an argument, because data as it was before a step is in no later state.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.errors import Refused
from flux_core.machine.evolution import evolve, going_on
from flux_core.machine.forks import fork_lanes, has_begun, is_under
from flux_core.machine.lanes import current, is_inside, is_next, next_steps
from flux_core.paths import around, lane_of, owner_of, renamed
from flux_core.state import Frame, Lane, WorkflowState, Writes
from flux_core.workflow import BODY, CONCURRENT, MAP, NUMBERED, UNDO, WHILE, letter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from flux_core.events import RetryRequested, StepResolved
    from flux_core.records import Record
    from flux_core.workflow import Body, StepDefinition, WorkflowDefinition


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
            inside = failed is not None and is_inside(failed, name) and failed in state.steps
            return failed if failed is not None and inside else current(state) or name
        if name == failed or step is None or step.status not in s.SETTLED:
            return name
    return state.names[-1]


def _settled(state: WorkflowState, path: str, verb: str) -> None:
    """Nothing may be open but the step itself: neither a failed compensation nor an attempt of unknown outcome.

    In other lanes of a fork around it attempts may be open: they stay so, and are settled after it.
    """
    failed = [step.path for step in state.steps.values() if step.status == s.COMPENSATION_FAILED]
    open_ = [key for key in (*state.intents, *state.doubts) if key != path and not _is_beside(state, key, path)]
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


def _is_beside(state: WorkflowState, key: str, path: str) -> bool:
    """Whether an attempt is open in another lane of a fork that `path` is in, too."""
    if key.endswith(UNDO):
        return False
    lanes = fork_lanes(state, key) if "." in key else ()
    return any(is_under(owner_of(lane), path) and not is_inside(path, lane) for lane, _ in lanes)


def _reopening(
    state: WorkflowState, path: str, log: Sequence[Record], workflow: WorkflowDefinition, verb: str, forced: str | None
) -> dict[str, Any]:
    starts = _starts(state, path, workflow, verb)
    for before in starts[0].before:
        step = state.steps.get(before)
        if step is None or step.status not in s.DONE:
            status = s.PENDING if step is None else step.status
            message = (
                f"{verb} of step {path!r} is refused for workflow {state.name!r}, id {state.id!r}: step {before!r} "
                f"before it is {status}; retry {before!r}, or complete or skip it first"
            )
            raise Refused(message)
    reset = _from(state, starts, workflow)
    history = _History(state, log, starts, workflow)
    data, last, done = history.data, history.last, history.done
    # What is gone from the definition and was done later starts over too: it is no longer done if it comes back.
    gone = [path for path in state.steps if "." not in path and path not in state.names and path not in done]
    kept: dict[str, list[Any]] = {}
    for name in reset:
        if name == forced or workflow.place(name) is None or not workflow.by_path[name].keeps:
            continue
        pending = state.kept.get(name)
        if pending is not None:  # kept by an earlier retry, and its turn has not come yet
            if pending.how != s.SKIPPED:
                kept[name] = pending.to_tree()
            continue
        step, made = state.steps.get(name), last.get(name, {})  # a wait or a child brings no data
        if step is None:
            continue
        if step.status == s.COMPLETED:
            kept[name] = [s.COMPLETED, step.output, made.get("set", {}), made.get("del", []), step.attempt]
        elif "c" in made and name in state.completed:  # its effect is made: only the wait begins anew
            wait = [made["w"][0], history.patience[name], made["w"][2]]
            kept[name] = [s.SUSPENDED, wait, made.get("set", {}), made.get("del", []), step.attempt]
    for name, pending in state.kept.items():  # in a branch that is not taken now, and may be another time
        if name not in reset:
            kept[name] = pending.to_tree()
    body: dict[str, Any] = {"reset": reset + gone, "data": data, "kept": kept}
    frames, lanes = _opened_again(state, starts, set(reset), history)
    if frames:
        outer_first = sorted(frames, key=lambda at: workflow.place(at) or ())
        body["frames"] = {path: frames[path].to_tree() for path in outer_first}
        body["lanes"] = {path: lane.to_tree() for path, lane in lanes.items()}
    return body


class _Link:
    """One of the branches, loops and forks around a place where a retry starts over."""

    __slots__ = ("body", "choice", "cursor", "lane", "node", "number", "owner")

    def __init__(
        self, node: StepDefinition, owner: str, lane: str, body: Body, cursor: int, choice: Any, number: int
    ) -> None:
        self.node = node
        self.owner = owner
        self.lane = lane
        self.body = body
        self.cursor = cursor
        self.choice = choice
        self.number = number


class _Start:
    """Where a retry starts over, and the branches, loops and forks that are open then."""

    __slots__ = ("apart", "before", "chain", "names", "path", "place", "turn", "written")

    def __init__(
        self, path: str, place: tuple[int, ...], workflow: WorkflowDefinition, turn: _Start | None = None
    ) -> None:
        node = workflow.by_path[path]
        self.path = path
        self.place = place
        """With the number of the decision, if it is one of a while but the first."""
        self.turn = self if turn is None else turn
        """Whose data it starts with: another one's if it came into the definition since."""
        self.before: list[str] = []
        """The steps before it that have to be done."""
        self.chain: list[_Link] = []
        """What is around it, the outermost first."""
        self.apart = frozenset(
            len(workflow.place(owner) or ()) for owner in around(path) if workflow.by_path[owner].kind in CONCURRENT
        )
        """The places within `place` that tell one lane of a fork from another: these follow each other in no order."""
        self.names = node.bodies[BODY].names if node.kind == WHILE and node.bodies is not None else []
        """Of a while the steps of its body."""
        self.written: list[list[Any] | None] = []
        """What had been written in the lanes of forks around it when its turn came, the outermost first."""

    @property
    def number(self) -> int | None:
        """Of a while that decides again: the iteration before the decision."""
        return None if len(self.place) % 2 else self.place[-1] - 1

    def precedes(self, place: tuple[int, ...]) -> bool:
        """Whether what is at `place` starts over with it: it is the same, is inside of it, or follows it."""
        for index, (one, other) in enumerate(zip(self.place, place, strict=False)):
            if one != other:
                return other > one and index not in self.apart
        return len(place) >= len(self.place)

    def is_beside(self, place: tuple[int, ...]) -> bool:
        """Whether what is at `place` is in another lane of a fork around it."""
        for index, (one, other) in enumerate(zip(self.place, place, strict=False)):
            if one != other:
                return index in self.apart
        return False


def _starts(state: WorkflowState, path: str, workflow: WorkflowDefinition, verb: str) -> list[_Start]:
    """Where a retry of `path` starts over: there, and in other lanes of forks around it that failed or were undone."""
    start = _Start(path, _place(state, path, workflow), workflow)
    # Effects that were undone have to be made again: start at the earliest of them.
    for step in state.steps.values():
        if step.status == s.COMPENSATED:
            place = workflow.place(step.path)
            if place is not None and place < start.place and not start.is_beside(place):
                start = _Start(step.path, place, workflow)
    if not (start.path in state.steps or start.path in next_steps(state)):
        lane_path = lane_of(start.path)
        if lane_path:
            raise _not_reached(state, path, owner_of(lane_path), verb)
    starts = [_opened(state, path, start, workflow, verb)]
    if not any(link.node.kind in CONCURRENT for link in starts[0].chain):
        return starts
    beside = {path: workflow.place(path) or () for path in state.steps if _is_unsettled(state, path)}
    for other in sorted(beside, key=beside.__getitem__):
        place = beside[other]
        if place and any(begun.is_beside(place) for begun in starts) and not any(b.precedes(place) for b in starts):
            starts.append(_opened(state, path, _Start(other, _place(state, other, workflow), workflow), workflow, verb))
    return starts


def _is_unsettled(state: WorkflowState, path: str) -> bool:
    """Whether a step in another lane has to be run again: it has failed, was undone, or waited in vain."""
    if "." not in path or path in state.frames or path in state.waits or path in state.retry_at:
        return False
    if path in state.intents or path in state.doubts:  # what became of its attempt is found out first
        return False
    return state.steps[path].status not in s.DONE


def _opened(state: WorkflowState, path: str, start: _Start, workflow: WorkflowDefinition, verb: str) -> _Start:
    """`start` with the branches, loops and forks around it, and what has to be done before."""
    at, since = start.path, None
    while lane_path := lane_of(at):
        owner = owner_of(lane_path)
        node, execution = workflow.by_path[owner], state.steps.get(owner)
        inside = lane_path[len(owner) + 1 :].removesuffix("]")
        numbered = node.kind in NUMBERED
        chosen = None if execution is None else execution.decision
        other_case = not numbered and node.kind not in CONCURRENT and chosen != inside
        if chosen is None or other_case or (node.kind == MAP and int(inside) >= int(chosen)):
            raise _not_reached(state, path, owner, verb)
        body = node.bodies[BODY if numbered else inside]  # type: ignore[index]
        cursor = body.places[at[len(lane_path) + 1 :]]
        choice = True if node.kind == WHILE else chosen
        number = int(inside) if numbered else 0
        start.chain.insert(0, _Link(node, owner, lane_path, body, cursor, choice, number))
        before = [f"{lane_path}.{name}" for name in body.names[:cursor]]
        start.before = before + start.before
        if lane_path not in state.lanes and start.path in state.steps:  # it had ended: what has come in since is new
            since = next((name for name in before if name not in state.steps), since)
        at = owner
    if since is not None:
        earlier = _Start(since, workflow.place(since) or (), workflow, start.turn)
        return _opened(state, path, earlier, workflow, verb)
    start.before = state.names[: state.names.index(at)] + start.before
    return start


def _opened_again(
    state: WorkflowState, starts: list[_Start], reset: set[str], history: _History
) -> tuple[dict[str, Frame], dict[str, Lane]]:
    """The frames and lanes that are open when it starts over."""
    if not any(start.chain or start.number is not None for start in starts):
        return {}, {}
    frames = {path: Frame(*frame.to_tree()) for path, frame in state.frames.items() if path not in reset}
    lanes = {path: Lane(*state.lanes[path].to_tree()) for frame in frames.values() for path in frame.open}
    for start in starts:
        for link in start.chain:
            if link.node.kind in CONCURRENT:
                if link.owner not in frames:
                    frames[link.owner] = _ended_fork(link, history.written.get(link.owner, {}))
                if not _reopened(frames[link.owner], link, lanes):
                    break
            else:
                for path in [path for path, lane in lanes.items() if lane.owner == link.owner]:
                    del lanes[path]
                frames[link.owner] = Frame(letter(link.node), link.choice, link.number, open=[link.lane])
                lanes[link.lane] = Lane(link.owner, link.body.names, link.body.kinds, link.cursor)
        if start.number is not None:
            last = f"{start.path}[{start.number}].{start.names[-1]}"
            frames[start.path] = Frame("h", choice=True, number=start.number, last=last)
    for start in starts:
        forked = (link for link in start.chain if link.node.kind in CONCURRENT)
        for link, tree in zip(forked, start.written, strict=False):
            fork = frames[link.owner].fork
            if fork is not None:
                fork.writes.pop(link.lane, None)
                if tree is not None:
                    fork.writes[link.lane] = Writes(*tree)
    return frames, lanes


def _ended_fork(link: _Link, written: dict[str, Writes]) -> Frame:
    """The frame of a parallel or map as it was when all its lanes had ended."""
    node, count = link.node, int(link.choice)
    bodies = {key: [body.names, body.kinds] for key, body in (node.bodies or {}).items()}
    writes = {lane: writes.to_tree() for lane, writes in written.items()}
    return Frame(
        letter(node), count, count, fork=[bodies, 0, node.max_concurrency, node.wait_all, [], None, writes]
    )  # fmt: skip


def _reopened(frame: Frame, link: _Link, lanes: dict[str, Lane]) -> bool:
    """Let a lane of a fork go on where the start is; False if it has not begun, and will by itself."""
    fork, lane = frame.fork, link.lane
    assert fork is not None  # noqa: S101 -- called for forks
    if not has_begun(link.owner, frame, lane):
        return False
    if fork.failed.pop(lane, None) is not None or lane not in frame.open:
        fork.left += 1
    frame.open[lane] = None
    lanes[lane] = Lane(link.owner, link.body.names, link.body.kinds, link.cursor)
    return True


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


def _from(state: WorkflowState, starts: list[_Start], workflow: WorkflowDefinition) -> list[str]:
    """Every path that starts over, in the order of the definition."""
    top = [name for name in state.names if starts[0].precedes(workflow.place(name) or ())]
    nested = {path for path in (*state.steps, *state.kept) if "." in path}
    if not nested:
        return top
    places = {path: _nearest(path, workflow) for path in nested}
    late = [path for path, place in places.items() if any(start.precedes(place) for start in starts)]
    places.update((name, workflow.place(name) or ()) for name in top)
    return sorted((*top, *late), key=lambda path: places[path])


def _nearest(path: str, workflow: WorkflowDefinition) -> tuple[int, ...]:
    """The place of a path; if the definition does not have it any more, that of the nearest branch or loop around."""
    for at in (path, *around(path)):
        place = workflow.place(at)
        if place is not None:
            return place
    return ()


class _History:
    """What the log tells of the time before a retry's starts."""

    def __init__(
        self, state: WorkflowState, log: Sequence[Record], starts: list[_Start], workflow: WorkflowDefinition
    ) -> None:
        start = starts[0]
        self.last: dict[str, dict[str, Any]] = {}
        """The last successful `step` body of every path."""
        self.patience: dict[str, int | None] = {}
        """How long a wait may take, in ms, by the path of the step that returned it; None without a limit."""
        self.written: dict[str, dict[str, Writes]] = {}
        """What was written in each lane of the forks around the starts, until it came together."""
        replay = WorkflowState(state.tenant, state.name, state.id)
        before: dict[str, object] | None = None
        done: set[str] = set()
        later = False
        turns = (
            _nested_turns(log, start.turn, workflow)
            if start.chain or start.number is not None
            else _turns(log, start.path)
        )
        turn = turns.pop(0)
        lane_turns = [_LaneTurn(begun, log) for begun in starts if begun.apart]
        for record in log:
            body = record.body
            if record.type == r.RESOLVE and "undo" not in body:
                self.last[body["p"]] = {}
            if record.type == r.STEP and "e" not in body:
                self.last[body["p"]] = body
                if "w" in body:
                    due = body["w"][1]
                    self.patience[body["p"]] = None if due is None else due - record.at
            evolve(replay, record)
            if record.type == r.ADOPT:
                turn = turns.pop(0)
                was = body.get("was", {})
                self.last = {renamed(name, was): step for name, step in self.last.items()}
                self.patience = {renamed(name, was): time for name, time in self.patience.items()}
                done = {renamed(name, was) for name in done}
                later = not turn.has_come(replay)  # there are new steps before it, and they may come to run
                for lane_turn in lane_turns:
                    lane_turn.path = lane_turn.paths.pop(0)
            if "reset" in body and turn.is_ahead(replay):
                before = None
            if turn.has_come(replay) and (before is None or (later and record.type != r.ADOPT)):
                later = False
                before = dict(replay.data)  # its turn has come; what it or an undoing writes comes later
                done = set(replay.steps)
            for lane_turn in lane_turns:
                lane_turn.look(replay, reset="reset" in body)
        self.data = dict(replay.data) if before is None else before
        """As it was when the turn of the first start last came."""
        self.done = set(replay.steps) if before is None else done
        """The paths that had a part in the history when that turn came."""
        for lane_turn in lane_turns:
            lane_turn.start.written = lane_turn.written or []
            for owner, writes in lane_turn.forks.items():
                self.written.setdefault(owner, writes)


class _LaneTurn:
    """The turn of a start in a lane of a fork: what had been written there, and in the forks around to their end."""

    def __init__(self, start: _Start, log: Sequence[Record]) -> None:
        self.start = start
        self.paths = _earlier_names(log, start.turn.path)
        self.path = self.paths.pop(0)
        self._number = start.turn.number
        """Of a while that decides again: the iteration before the decision."""
        self.written: list[list[Any] | None] | None = None
        self.forks: dict[str, dict[str, Writes]] = {}
        """By the path of the fork, as it is now."""
        self._owners = [link.owner for link in start.chain if link.node.kind in CONCURRENT]

    def look(self, replay: WorkflowState, *, reset: bool) -> None:
        """A record has been folded."""
        lanes = list(fork_lanes(replay, self.path))[::-1]
        for owner, (_, fork) in zip(self._owners, lanes, strict=False):
            self.forks[owner] = fork.writes
        number, frame = self._number, replay.frames.get(self.path)
        come, ahead = number is None, self.path not in replay.steps
        if number is not None and frame is not None:
            come, ahead = frame.number == number and not frame.open, frame.number <= number
        if reset and ahead:
            self.written = None
        if self.written is None and lanes and come and is_next(replay, self.path) and not replay.undoing:
            found = [fork.writes.get(lane) for lane, fork in lanes]
            self.written = [None if writes is None else Writes(*writes.to_tree()).to_tree() for writes in found]


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

    __slots__ = ("_apart", "_number", "_path", "_place", "_workflow")

    def __init__(self, path: str, start: _Start, workflow: WorkflowDefinition) -> None:
        self._path = path
        self._place = start.place
        self._workflow = workflow
        self._number = start.number
        self._apart = bool(start.apart)
        """Of a while: the iteration before the decision."""

    def is_ahead(self, replay: WorkflowState) -> bool:
        """Whether the turn is still to come, or is just coming."""
        if self._apart:
            return self._path not in replay.steps
        at = current(replay)
        place = None if at is None else self._workflow.place(at)
        if at is None or place is None:
            return False
        frame = replay.frames.get(at)
        return (place if frame is None else (*place, frame.number + 1)) <= self._place

    def has_come(self, replay: WorkflowState) -> bool:
        """Whether the turn has come."""
        if not (is_next(replay, self._path) if self._apart else current(replay) == self._path):
            return False
        frame = replay.frames.get(self._path)
        return (None if frame is None else frame.number) == self._number


def _nested_turns(log: Sequence[Record], start: _Start, workflow: WorkflowDefinition) -> list[_TopTurn | _NestedTurn]:
    return [_NestedTurn(path, start, workflow) for path in _earlier_names(log, start.path)]


def _earlier_names(log: Sequence[Record], path: str) -> list[str]:
    """What a path was called in each of the definitions that the instance went through, the first one first."""
    paths = [path]
    for record in reversed(log):
        if record.type == r.ADOPT:
            path = renamed(path, {now: before for before, now in record.body.get("was", {}).items()})
            paths.append(path)
    return paths[::-1]


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
