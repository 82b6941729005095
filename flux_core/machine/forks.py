"""Parallels and maps that an instance is in: which of their lanes may go on, what each has written, how they join.

Pure like all of the machine, and without the definition. A *fork* is the frame of a parallel or map: several of its
lanes are open at a time, and one of them opens by the first record of a step in it.
"""

from __future__ import annotations

from itertools import islice

from flux_core.paths import lane_of, owner_of, place_of
from flux_core.state import Lane
from flux_core.workflow import BODY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Final

    from flux_core.state import Fork, Frame, WorkflowState, Writes

MAP_LETTER: Final = "m"


def lane_at(owner: str, frame: Frame, number: int) -> str:
    """The path of lane `number` of a fork."""
    assert frame.fork is not None  # noqa: S101 -- asked only of forks
    return f"{owner}[{number}]" if frame.kind == MAP_LETTER else f"{owner}.{list(frame.fork.bodies)[number]}"


def body_at(owner: str, frame: Frame, lane: str) -> list[Any]:
    """Names and kinds of a lane of a fork."""
    assert frame.fork is not None  # noqa: S101 -- asked only of forks
    bodies = frame.fork.bodies
    return bodies[BODY] if frame.kind == MAP_LETTER else bodies[lane[len(owner) + 1 :]]


def lanes_of(owner: str, frame: Frame) -> Iterator[str]:
    """All lanes of a fork, in order."""
    assert frame.fork is not None  # noqa: S101 -- asked only of forks
    if frame.kind == MAP_LETTER:
        return (f"{owner}[{number}]" for number in range(int(frame.choice)))
    return (f"{owner}.{branch}" for branch in frame.fork.bodies)


def enter(state: WorkflowState, path: str) -> None:
    """A forward record of the step at `path` comes: the lane of a fork that it is in opens, if it is the first."""
    lane_path = lane_of(path)
    if lane_path not in state.lanes:
        lane = begin(state, lane_path)
        if lane is not None:
            hold_open(state, lane_path, lane)


def begin(state: WorkflowState, lane_path: str) -> Lane | None:
    """A lane of a fork that begins with this record, not open yet; None if there is no such fork, or it has begun."""
    owner, inside = place_of(lane_path)
    frame = state.frames.get(owner)
    if frame is None or frame.fork is None:
        return None
    begun, bodies = frame.fork.begun, frame.fork.bodies
    if frame.kind == MAP_LETTER:
        number, (names, kinds) = int(inside), bodies[BODY]
    else:
        number, (names, kinds) = list(bodies).index(inside), bodies[inside]
    if number == frame.number:  # mostly: lanes begin one after the other
        frame.number += 1
        while frame.number in begun:
            del begun[frame.number]
            frame.number += 1
    elif _is_begun(frame, number):
        return None
    else:
        begun[number] = None
    return Lane(owner, names, kinds)


def hold_open(state: WorkflowState, lane_path: str, lane: Lane) -> None:
    """The lane outlasts the record that it began with."""
    state.frames[lane.owner].open[lane_path] = None
    state.lanes[lane_path] = lane


def has_begun(owner: str, frame: Frame, lane: str) -> bool:
    """Whether a lane of a fork has been opened; it may have ended since."""
    return _is_begun(frame, _number(owner, frame, lane))


def _is_begun(frame: Frame, number: int) -> bool:
    assert frame.fork is not None  # noqa: S101 -- asked only of forks
    return number < frame.number or number in frame.fork.begun


def _number(owner: str, frame: Frame, lane: str) -> int:
    inside = lane[len(owner) + 1 :]
    if frame.kind == MAP_LETTER:
        return int(inside[:-1])
    assert frame.fork is not None  # noqa: S101 -- asked only of forks
    return list(frame.fork.bodies).index(inside)


def upcoming(state: WorkflowState, running: Iterable[str] = ()) -> Iterator[str]:
    """The steps and decisions that come next, in each open lane, and in those that may begin now.

    `running` are attempts under way: their lanes count although no record has opened them yet. A fork whose lanes have
    all ended comes next itself, if they could not just be joined.
    """
    if state.cursor < len(state.names):
        yield from _next(state, state.names[state.cursor], list(running))


def _next(state: WorkflowState, path: str, running: list[str]) -> Iterator[str]:
    frame = state.frames.get(path)
    if frame is None:
        yield path
        return
    fork = frame.fork
    if fork is None:
        lane = next(iter(frame.open), None)
        if lane is None:
            yield path
        else:
            yield from _next(state, _in(state, lane), running)
        return
    if not fork.left:
        yield path
        return
    # New lanes come first, so that those that wait need not be looked at again for each.
    yield from _beginning(path, frame, running)
    # After a retry more may be open than may go on at a time: the others have their turn when these have ended.
    for lane in islice((lane for lane in frame.open if lane not in fork.failed), fork.limit or None):
        yield from _next(state, _in(state, lane), running)


def _in(state: WorkflowState, lane: str) -> str:
    found = state.lanes[lane]
    return f"{lane}.{found.names[found.cursor]}"


def _beginning(owner: str, frame: Frame, running: list[str]) -> Iterator[str]:
    fork, number, most = frame.fork, frame.number, int(frame.choice)
    assert fork is not None  # noqa: S101 -- asked only of forks
    busy = {lane for path in running if (lane := _lane_under(owner, path)) is not None and lane not in frame.open}
    room = (fork.limit or most) - (len(frame.open) - len(fork.failed)) - len(busy)
    while room > 0 and number < most:
        if number not in fork.begun:
            lane = lane_at(owner, frame, number)
            if lane not in busy:
                room -= 1
                yield f"{lane}.{body_at(owner, frame, lane)[0][0]}"
        number += 1


def beginning(frame: Frame) -> tuple[int | None, bool]:
    """The number of the lane of a fork that begins next, if one may, and whether another lane goes on beside it.

    For a fork in which nothing is under way, waits, or backs off: the short way to what `upcoming` would say.
    """
    fork, number, most = frame.fork, frame.number, int(frame.choice)
    assert fork is not None  # noqa: S101 -- asked only of forks
    room = (fork.limit or most) - (len(frame.open) - len(fork.failed))
    if room <= 0 or number >= most or fork.begun:
        return None, False
    return number, bool(frame.open) or (room > 1 and number + 1 < most)


def _lane_under(owner: str, path: str) -> str | None:
    """The lane of the fork at `owner` that `path` is in; None if it is elsewhere."""
    if path.startswith(f"{owner}["):
        return path[: path.index("]", len(owner)) + 1]
    if path.startswith(f"{owner}."):
        return f"{owner}.{path[len(owner) + 1 :].partition('.')[0]}"
    return None


def to_join(state: WorkflowState, path: str) -> bool:
    """Whether `path` is a fork whose lanes have all ended or failed, but have not come together."""
    frame = state.frames.get(path)
    return frame is not None and frame.fork is not None and not frame.fork.left


def is_under(owner: str, path: str) -> bool:
    """Whether `path` is in a lane of the fork at `owner`."""
    return _lane_under(owner, path) is not None


def fork_lanes(state: WorkflowState, path: str) -> Iterator[tuple[str, Fork]]:
    """The lanes of open forks that a step is in, with these forks, the innermost first."""
    lane = lane_of(path)
    while lane:
        owner = owner_of(lane)
        frame = state.frames.get(owner)
        if frame is not None and frame.fork is not None:
            yield lane, frame.fork
        lane = lane_of(owner)


def scope(state: WorkflowState, path: str) -> Writes | None:
    """Where a step writes: the lane of the innermost fork around it; None if it is in none, and writes to the data."""
    for lane, fork in fork_lanes(state, path):
        return fork.written(lane)
    return None


def write(state: WorkflowState, path: str, body: dict[str, Any]) -> None:
    """Make the changes of a record of the step at `path`."""
    set_, unset = body.get("set", {}), body.get("del", ())
    writes = scope(state, path) if state.frames and "." in path else None
    if writes is not None:
        writes.take(set_, unset)
        return
    data = state.data
    for key in unset:
        data.pop(key, None)
    data.update(set_)


def seen_data(state: WorkflowState, path: str) -> dict[str, object]:
    """`ctx.data` as a step sees it: as it was at the forks around it, and what was written in its own lanes since.

    The values are those of the state itself, not copies.
    """
    data = dict(state.data)
    for lane, fork in reversed(list(fork_lanes(state, path))):
        writes = fork.writes.get(lane)
        if writes is not None:
            writes.over(data)
    return data


def is_apart(state: WorkflowState, path: str) -> bool:
    """Whether a step is in a lane of an open fork, and so sees and writes data of its own."""
    frames, lane = state.frames, path.rpartition(".")[0]
    while lane:
        owner = owner_of(lane)
        frame = frames.get(owner)
        if frame is not None and frame.fork is not None:
            return True
        lane = owner.rpartition(".")[0]
    return False


def is_over(state: WorkflowState, path: str) -> bool:
    """Whether nothing more is attempted at `path`: the instance is being undone, or the lane has failed."""
    return state.undoing or any(lane in fork.failed for lane, fork in fork_lanes(state, path))


def holding(state: WorkflowState, path: str) -> tuple[str, Fork] | None:
    """The lane, and its fork, in which a failure at `path` stays until the others have ended; None if it is in none."""
    for lane, fork in fork_lanes(state, path):
        if fork.wait_all:
            return lane, fork
    return None


def conflicts(owner: str, frame: Frame) -> dict[str, list[str]]:
    """The keys of `ctx.data` that several lanes of a fork have written or deleted, with these lanes, in order."""
    assert frame.fork is not None  # noqa: S101 -- asked only of forks
    writes = frame.fork.writes
    if len(writes) < 2:  # noqa: PLR2004 -- one cannot contradict itself
        return {}
    by_key: dict[str, list[str]] = {}
    for lane in lanes_of(owner, frame):
        if lane in writes:
            for key in (*writes[lane].set, *writes[lane].unset):
                by_key.setdefault(key, []).append(lane)
    return {key: lanes for key, lanes in by_key.items() if len(lanes) > 1}


def gathered(owner: str, frame: Frame) -> dict[str, Any]:
    """What all lanes have written, as the changes of one record; of keys that several have written, the last."""
    assert frame.fork is not None  # noqa: S101 -- asked only of forks
    set_: dict[str, object] = {}
    unset: dict[str, None] = {}
    writes = frame.fork.writes
    for lane in lanes_of(owner, frame) if writes else ():
        if lane in writes:
            for key in writes[lane].unset:
                set_.pop(key, None)
                unset[key] = None
            for key, value in writes[lane].set.items():
                unset.pop(key, None)
                set_[key] = value
    return {"set": set_, "del": list(unset)}


def output(state: WorkflowState, owner: str, frame: Frame) -> object:
    """A list of the outputs of a map's items, or a dict of those of a parallel's branches."""
    assert frame.fork is not None  # noqa: S101 -- asked only of forks
    steps, bodies = state.steps, frame.fork.bodies
    if frame.kind == MAP_LETTER:
        last = bodies[BODY][0][-1]
        found = [steps.get(f"{owner}[{number}].{last}") for number in range(int(frame.choice))]
        return [None if step is None else step.output for step in found]
    ended = {branch: steps.get(f"{owner}.{branch}.{names[-1]}") for branch, (names, _) in bodies.items()}
    return {branch: None if step is None else step.output for branch, step in ended.items()}
