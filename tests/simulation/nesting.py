"""Random nested definitions, and what a run of one has to give when nothing goes wrong.

A spec is a tree of `Node`. `expected(spec)` walks it in plain recursion, without engine, machine or paths' own code;
`tests/simulation/playground.py` makes the workflow of a spec. Whatever a node computes depends on its `uid`, on the
iterations around it and on the data so far, never on its name: renaming changes no result but the paths.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

LEAVES = ("step", "commit", "wait", "sleep")
LOOPING = ("loop", "while")


class Node:
    """One node. `bodies` by case; of a loop the only key is "body"."""

    def __init__(self, uid: int, name: str, kind: str) -> None:
        self.uid = uid
        self.name = name
        self.kind = kind
        self.bodies: dict[str, list[Node]] = {}
        self.times = 0
        """Iterations of a loop or while."""
        self.told = False
        """Whether a loop's number comes from a function."""
        self.policy = "retry"
        """Of a commit: retry, verify or quarantine."""
        self.undo = False
        self.conditional = False
        self.trips = 0
        """Attempts that fail before one succeeds."""
        self.doubtful = False
        """Whether such a failure is an unknown outcome (commits)."""
        self.fatal: tuple[int, ...] | None = None
        """The iterations in which it fails for good, until the world is mended."""
        self.aliases: list[str] = []


def drawn(dice: Random) -> list[Node]:
    """A spec of one to four top-level nodes, up to three levels of branches and loops, and at most forty steps."""
    while True:
        uids = iter(range(1, 1000))
        spec = _lane(dice, uids, 0)
        size = len(expected(spec, mended=True).order)
        if size <= 40:
            break
    if dice.random() < 0.5:
        ran = list(expected(spec, mended=True).seen)
        uid, iterations = dice.choice(ran)
        next(node for node in nodes(spec) if node.uid == uid).fatal = iterations
    return spec


def _lane(dice: Random, uids: Any, depth: int) -> list[Node]:
    return [_node(dice, next(uids), name, uids, depth) for name in "abcd"[: dice.choice((1, 2, 2, 3, 4))]]


def _node(dice: Random, uid: int, name: str, uids: Any, depth: int) -> Node:
    composite = dice.random() < (0.6, 0.45, 0.3, 0.0)[depth]
    kind = dice.choice(("if", "switch", "loop", "while")) if composite else dice.choices(LEAVES, (6, 6, 2, 1))[0]
    node = Node(uid, name, kind)
    if dice.random() < 0.12 and kind not in {"wait", "sleep"}:
        node.trips = dice.choice((1, 1, 2))
        node.doubtful = dice.random() < 0.4
    if kind == "if":
        cases = ["then"] if dice.random() < 0.3 else ["then", "else"]
    elif kind == "switch":
        cases = ["x", "y", "default"]
    else:
        cases = ["body"]
        node.times = dice.choice((0, 1, 2, 2, 3))
        node.told = dice.random() < 0.5
    if composite:
        node.bodies = {case: _lane(dice, uids, depth + 1) for case in cases}
        return node
    node.policy = dice.choice(("retry", "verify", "quarantine"))
    node.undo = dice.random() < 0.35 and kind != "sleep"
    node.conditional = dice.random() < 0.12
    return node


def nodes(spec: list[Node]) -> list[Node]:
    """All nodes, at every level."""
    return [one for node in spec for one in (node, *(o for body in node.bodies.values() for o in nodes(body)))]


def lanes(spec: list[Node]) -> list[list[Node]]:
    """All bodies, the top level first."""
    return [spec, *(lane for node in spec for body in node.bodies.values() for lane in lanes(body))]


class Fails(Exception):
    """The node at `path` fails for good."""


class Expected:
    """What a run has to give."""

    def __init__(self) -> None:
        self.status = "completed"
        self.data: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        """By path, of everything that succeeded."""
        self.statuses: dict[str, str] = {}
        self.order: list[str] = []
        """Paths of steps and commits, in the order in which their handlers take effect."""
        self.undo: list[str] = []
        """Paths in the order of undoing."""
        self.failed: str | None = None
        self.seen: dict[tuple[int, tuple[int, ...]], str] = {}
        """Where each node ran: by uid and iterations."""


def expected(spec: list[Node], *, mended: bool, looks: bool = False) -> Expected:
    """The outcome without crashes; `mended`: nothing fails for good any more; `looks`: steps see results."""
    found = Expected()
    undoable: list[tuple[str, int]] = []

    def find(lane: str, name: str) -> Any:
        """`ctx.results.get(name)`, from a step in `lane`."""
        while lane:
            if f"{lane}.{name}" in found.outputs:
                return found.outputs[f"{lane}.{name}"]
            lane = (lane.rpartition("[")[0] if lane.endswith("]") else lane.rpartition(".")[0]).rpartition(".")[0]
        return found.outputs.get(name)

    def lane(body: list[Node], prefix: str, iterations: tuple[int, ...]) -> Any:
        out = None
        for place, node in enumerate(body):
            out = one(node, prefix, iterations, body[place - 1].name if place else "a")
        return out

    def one(node: Node, prefix: str, iterations: tuple[int, ...], before: str) -> Any:
        path = f"{prefix}.{node.name}" if prefix else node.name
        found.seen[node.uid, iterations] = path
        number = found.data.get("n", 0)
        if node.conditional and skipped(node, number):
            found.statuses[path] = "skipped"
            return None
        if node.fatal == iterations and not mended and node.kind not in {"wait", "sleep"}:
            found.failed = path
            raise Fails(path)
        out: Any = None
        if node.bodies:
            if node.kind in LOOPING:
                for index in range(node.times):
                    out = lane(node.bodies["body"], f"{path}[{index}]", (*iterations, index))
            else:
                case = chosen(node, number)
                if case in node.bodies:
                    out = lane(node.bodies[case], f"{path}.{case}", iterations)
        elif node.kind == "wait":
            out = {"signal": f"s{node.uid % 3}"}
        elif node.kind != "sleep":
            found.order.append(path)
            out = effect(node, iterations, found.data, find(prefix, before) if looks else None)
        found.outputs[path] = out
        found.statuses[path] = "completed"
        if node.undo:
            undoable.append((path, node.uid))
        return deepcopy(out)

    try:
        lane(spec, "", ())
    except Fails:
        found.status = "rolled_back" if undoable else "failed"
        for path, uid in reversed(undoable):
            found.undo.append(path)
            unwrite(uid, found.data)
    return found


def chosen(node: Node, number: int) -> str:
    """The case of an if or switch; what is in no body means that none is entered."""
    if node.kind == "if":
        return "then" if (number + node.uid) % 3 else "else"
    return ("x", "y", "default")[(number + node.uid) % 3]


def skipped(node: Node, number: int) -> bool:
    """Whether the condition of a conditional step does not hold."""
    return (number + node.uid) % 3 == 0


def effect(node: Node, iterations: tuple[int, ...], data: Any, before: Any) -> list[Any]:
    """The output of a step or commit, and what it writes to `data`; a quarantined commit neither reads nor writes."""
    if node.kind == "commit" and node.policy == "quarantine":
        return [node.uid, *iterations]
    number = (data.get("n", 0) * 31 + node.uid + 7 * sum(iterations)) % 10_007
    data["n"] = number
    data[f"k{node.uid % 4}"] = [node.uid, "x" * (number % 400)]
    if node.uid % 5 == 0:
        data.pop(f"k{(node.uid + 1) % 4}", None)
    return [node.uid, *iterations, number, before[0] if isinstance(before, list) else before]


def unwrite(uid: int, data: Any) -> None:
    """What the compensation of a step writes to `data`."""
    data["undone"] = [*data.get("undone", []), uid]
    data["n"] = data.get("n", 0) + 1
