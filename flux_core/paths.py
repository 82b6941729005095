"""How steps inside branches and loops are named: `check.then.notify`, `poll[17].fetch`. Text, and nothing else.

A *lane* is one open body: `check.then`, or `poll[17]`, the eighteenth iteration. A step's path is its lane's, a dot and
its name; at the top level, where the lane is "", it is the name. Nothing here knows definitions or states.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def lane_of(path: str) -> str:
    """The lane that a step is in: `poll[17]` for `poll[17].fetch`, "" at the top level."""
    return path.rpartition(".")[0]


def owner_of(lane: str) -> str:
    """The branch or loop that a lane belongs to: `poll` for `poll[17]`, `check` for `check.then`."""
    return lane[: lane.rindex("[")] if lane.endswith("]") else lane.rpartition(".")[0]


def place_of(lane: str) -> tuple[str, str]:
    """The branch or loop that a lane belongs to, and which of its lanes it is: `poll` and `17`, `check` and `then`."""
    if lane.endswith("]"):
        owner, _, inside = lane[:-1].rpartition("[")
    else:
        owner, _, inside = lane.rpartition(".")
    return owner, inside


def around(path: str) -> Iterator[str]:
    """The branches and loops that a step is in, the innermost first."""
    while lane := lane_of(path):
        path = owner_of(lane)
        yield path


def root_of(path: str) -> str:
    """The name of the top-level step that `path` is, or is in."""
    return path.partition(".")[0].partition("[")[0]


def declared(path: str) -> str:
    """The path as the definition has it: `poll.fetch` for `poll[17].fetch`."""
    while "[" in path:
        before, _, rest = path.partition("[")
        path = before + rest.partition("]")[2]
    return path


def iteration_of(path: str) -> int | None:
    """The 0-based number of the innermost iteration or item that a step is in; None outside of loops and maps."""
    while lane := lane_of(path):
        if lane.endswith("]"):
            return int(lane[lane.rindex("[") + 1 : -1])
        path = owner_of(lane)
    return None


def renamed(path: str, was: Mapping[str, str]) -> str:
    """`path` after a renaming. `was`: of the nodes whose own name has changed, declared path before -> after."""
    before, now = "", []
    for segment in path.split("."):
        name, bracket, number = segment.partition("[")
        before = f"{before}.{name}" if before else name
        after = was.get(before)
        now.append((name if after is None else after.rpartition(".")[2]) + bracket + number)
    return ".".join(now)
