"""Branches, loops and forks that an instance is in, and what follows when a step in one has ended.

Pure like all of the machine, and without the definition: a `decide` record brings the names of the bodies it enters. A
*frame* is a branch, loop, parallel or map that was entered and has not ended, a *lane* an open body of one.
"""

from __future__ import annotations

from flux_core import state as s
from flux_core.machine import forks
from flux_core.paths import lane_of, owner_of
from flux_core.state import DONE, Fork, Frame, Lane, StepExecution
from flux_core.workflow import BODY, COMMITS, UNDO, UNDOABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flux_core.state import ErrorInfo, WorkflowState

_LOOP, _WHILE, _PARALLEL, _MAP = "l", "h", "p", forks.MAP_LETTER


def current(state: WorkflowState) -> str | None:
    """The path of the next step to run, or decision to make; None at the end of the workflow.

    In a fork the first of them: `forks.upcoming` lists all.
    """
    path, fork = innermost(state)
    return next(forks.upcoming(state)) if fork else path


def innermost(state: WorkflowState) -> tuple[str | None, bool]:
    """What comes next outside of forks; or the first fork on the way there, and True."""
    if state.cursor >= len(state.names):
        return None, False
    path = state.names[state.cursor]
    frames = state.frames
    while (frame := frames.get(path)) is not None:
        if frame.fork is not None:
            return path, True
        if not frame.open:
            break
        lane_path = next(iter(frame.open))
        lane = state.lanes[lane_path]
        path = f"{lane_path}.{lane.names[lane.cursor]}"
    return path, False


def next_steps(state: WorkflowState) -> list[str]:
    """All that comes next: one path, or none, outside of forks."""
    path, fork = innermost(state)
    return list(forks.upcoming(state)) if fork else [] if path is None else [path]


def is_next(state: WorkflowState, path: str) -> bool:
    """Whether a step comes next in its lane, which may be one of a fork that has not begun."""
    lane_path = lane_of(path)
    if not lane_path:
        return state.cursor < len(state.names) and state.names[state.cursor] == path
    name = path[len(lane_path) + 1 :]
    lane = state.lanes.get(lane_path)
    if lane is not None:
        return lane.names[lane.cursor] == name
    owner = owner_of(lane_path)
    frame = state.frames.get(owner)
    if frame is None or frame.fork is None or forks.has_begun(owner, frame, lane_path):
        return False
    return bool(forks.body_at(owner, frame, lane_path)[0][0] == name)


def is_inside(path: str, composite: str) -> bool:
    """Whether `path` is somewhere in a branch or loop."""
    return path.startswith((f"{composite}.", f"{composite}["))


def letter_of(state: WorkflowState, path: str) -> str:
    """The letter of a step: by its lane if that is open, else what it left when it ended; "" if it is not known."""
    lane_path = lane_of(path)
    lane = state.lanes.get(lane_path) if lane_path else None
    names, kinds = (state.names, state.kinds) if lane is None else (lane.names, lane.kinds)
    name = path[len(lane_path) + 1 :] if lane_path else path
    if (lane is not None or not lane_path) and name in names:
        return kinds[names.index(name)]
    step = state.steps.get(path)
    return "" if step is None else step.letter


def decided(state: WorkflowState, step: StepExecution, body: dict[str, Any], at: int) -> None:
    """A decision is on record: its body opens, or the branch or loop has ended."""
    path, kind, choice = step.path, body["k"], body["c"]
    frame = state.frames.get(path)
    step.decision = choice
    step.error = None
    if kind == _MAP:
        state.items[path] = body["items"]
    if kind in _FORKING:
        step.status = s.RUNNING
        bodies = body.get("bodies") or {BODY: [body["names"], body["kinds"]]}
        frame = state.frames[path] = Frame(kind, choice)
        frame.fork = Fork(bodies, choice, body.get("mc", 0), "all" in body)
        if not choice:
            join(state, step, frame, at)
        return
    if "names" not in body:
        arrived(state, step, at, None if frame is None else _output(state, frame))
        return
    step.status = s.RUNNING
    if frame is None:
        frame = state.frames[path] = Frame(kind, choice)
        number = 0
    else:
        number = frame.number + 1
    frame.number = number
    _open(state, path, frame, body["names"], body["kinds"])


_FORKING = frozenset({_PARALLEL, _MAP})


def said(body: dict[str, Any]) -> str:
    """A `decide` record in words, for whoever shows a log: `check: then`, `poll: goes on`, `each: 3 times`."""
    kind, choice = body["k"], body["c"]
    if kind == _WHILE:
        return f"{body['p']}: {'goes on' if choice else 'ends'}"
    units = _UNITS.get(kind)
    return f"{body['p']}: {choice} {units[choice != 1]}" if units else f"{body['p']}: {choice}"


_UNITS = {_LOOP: ("time", "times"), _PARALLEL: ("branch", "branches"), _MAP: ("item", "items")}


def arrived(state: WorkflowState, step: StepExecution, at: int, output: object, how: str = s.COMPLETED) -> None:
    """A step has ended well, and with it perhaps the branches and loops around it."""
    step.status = how
    step.ended_ms = at
    step.waiting_for = ()
    if how == s.COMPLETED:
        step.output = output
        step.error = None
    path = step.path
    frame = state.frames.get(path)
    if frame is not None:
        if frame.open:
            close(state, path)
        else:
            del state.frames[path]
    lane_path, _, name = path.rpartition(".")
    if not lane_path:
        move_on(state)
        return
    lane = state.lanes.get(lane_path)
    if lane is None:
        # The lane of a fork begins with this step; if it is the only one, the lane ends with it, and was never open.
        lane = forks.begin(state, lane_path)
        if lane is None:
            raise KeyError(lane_path)
        if len(lane.names) > 1:
            forks.hold_open(state, lane_path, lane)
    _keep_letter(lane, step, name)
    if len(lane.names) > 1:
        advance(state, lane_path, lane, at)
    else:
        _ended(state, lane_path, lane, at)


def _keep_letter(lane: Lane, step: StepExecution, name: str) -> None:
    letter = lane.kinds[lane.names.index(name)]
    if letter in _TELLING:
        step.letter = letter


_TELLING = frozenset({*COMMITS, *UNDOABLE})


def advance(state: WorkflowState, lane_path: str, lane: Lane, at: int) -> None:
    """Put the cursor of a lane on its first step that is neither completed nor skipped; behind the last, it ends."""
    names, steps = lane.names, state.steps
    cursor, end = lane.cursor, len(names)
    while cursor < end and (other := steps.get(f"{lane_path}.{names[cursor]}")) is not None and other.status in DONE:
        cursor += 1
    lane.cursor = cursor
    if cursor == end:
        _ended(state, lane_path, lane, at)


def _ended(state: WorkflowState, lane_path: str, lane: Lane, at: int) -> None:
    """All steps of a lane have ended: the next iteration begins, is to be decided, or the whole has ended."""
    owner = lane.owner
    frame = state.frames[owner]
    if lane_path in frame.open:
        del frame.open[lane_path]
        del state.lanes[lane_path]
    if frame.fork is not None:
        frame.fork.left -= 1
        if not frame.fork.left:
            join(state, state.steps[owner], frame, at)
        return
    frame.last = f"{lane_path}.{lane.names[-1]}"
    if frame.kind == _WHILE:
        return
    if frame.kind == _LOOP and frame.number + 1 < int(frame.choice):
        frame.number += 1
        _open(state, owner, frame, lane.names, lane.kinds)
        return
    arrived(state, state.steps[owner], at, _output(state, frame))


def join(
    state: WorkflowState, step: StepExecution, frame: Frame, at: int, merged: dict[str, Any] | None = None
) -> None:
    """All lanes of a fork have ended: what they have written comes together, unless they contradict each other.

    `merged` is what was made of the contradictions. Without it the fork stays, and is what comes next.
    """
    fork, path = frame.fork, step.path
    assert fork is not None  # noqa: S101 -- called for forks
    if fork.failed or (merged is None and forks.conflicts(path, frame)):
        return
    written, told = forks.gathered(path, frame), forks.output(state, path, frame)
    del state.frames[path]
    state.joins += 1
    forks.write(state, path, written)
    if merged is not None:
        forks.write(state, path, merged)
    arrived(state, step, at, told)


def _open(state: WorkflowState, owner: str, frame: Frame, names: list[str], kinds: str) -> None:
    lane_path = f"{owner}[{frame.number}]" if frame.kind in {_LOOP, _WHILE} else f"{owner}.{frame.choice}"
    frame.open[lane_path] = None
    state.lanes[lane_path] = Lane(owner, names, kinds)


def _output(state: WorkflowState, frame: Frame) -> object:
    """The output of the last step of the last body; None if that was skipped."""
    step = None if frame.last is None else state.steps.get(frame.last)
    return step.output if step is not None and step.status == s.COMPLETED else None


def close(state: WorkflowState, path: str) -> None:
    """End the frame at `path` and what is open inside; steps there that have not ended are skipped."""
    for inner in [inner for inner in state.frames if inner == path or is_inside(inner, path)]:
        for lane_path in state.frames.pop(inner).open:
            lane = state.lanes.pop(lane_path)
            for name in lane.names:
                step = state.steps.get(f"{lane_path}.{name}")
                if step is not None:
                    _keep_letter(lane, step, name)
    waiting: tuple[dict[str, Any], ...] = (state.waits, state.retry_at, state.children)
    for paths in waiting:
        for inner in [inner for inner in paths if is_inside(inner.removesuffix(UNDO), path)]:
            del paths[inner]
    for step in state.steps.values():
        if step.status in _UNENDED and is_inside(step.path, path):
            step.status = s.SKIPPED
            step.waiting_for = ()


def dropped(state: WorkflowState, lane_path: str, fork: Fork, error: ErrorInfo, at: int) -> None:
    """A lane of a fork that waits for all has failed: nothing in it goes on."""
    fork.failed[lane_path] = error.to_tree()
    fork.left -= 1
    for path in [path for path in state.retry_at if path.startswith(f"{lane_path}.")]:
        del state.retry_at[path]
    for path in [path for path in state.waits if path.startswith(f"{lane_path}.")]:
        if path not in state.children:  # whose end is still awaited, when all is undone
            del state.waits[path]
        step = state.steps[path]
        step.status, step.error, step.ended_ms, step.waiting_for = s.FAILED, error.message, at, ()


_UNENDED = frozenset({s.PENDING, s.RUNNING, s.SUSPENDED, s.FAILED})


def move_on(state: WorkflowState) -> None:
    """Put the cursor of the top level on its first step that is neither completed nor skipped."""
    names = state.names
    steps = state.steps
    cursor = state.cursor
    end = len(names)
    while cursor < end and (step := steps.get(names[cursor])) is not None and step.status in DONE:
        cursor += 1
    state.cursor = cursor


def broken_off(state: WorkflowState, at: int, error: str) -> None:
    """The instance turns back: the branches and loops that it is in have failed."""
    for path in state.frames:
        step = state.steps[path]
        step.status = s.FAILED
        step.error = error
        step.ended_ms = at


def resumed(state: WorkflowState) -> None:
    """The instance is open again: so are the branches and loops that it is in."""
    for path, frame in state.frames.items():
        step = state.steps[path]
        step.status = s.RUNNING
        step.decision = frame.choice
        step.output = step.error = step.ended_ms = None
