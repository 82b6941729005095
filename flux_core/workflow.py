"""What a workflow is: its steps in order, frozen. It must not run anything, nor check what `builder` has checked."""

from __future__ import annotations

from flux_core.errors import UnknownStep
from flux_core.generics import DataT, DataT_contra, Generic, Input, Input_contra
from flux_core.paths import declared
from flux_core.retry import RetryPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Final

    from flux_core.functions import Functions
    from flux_core.generics import Handler
    from flux_core.options import OnUnknown
    from flux_core.validation import Validator

    Merge = Mapping[str, Callable[[list[Any]], object]] | Callable[[str, list[Any]], object]

STEP: Final = "step"
COMMIT: Final = "commit"
WAIT: Final = "wait"
SLEEP: Final = "sleep"
IF: Final = "if"
SWITCH: Final = "switch"
LOOP: Final = "loop"
WHILE: Final = "while"
PARALLEL: Final = "parallel"
MAP: Final = "map"
CHILD: Final = "child"
THEN, ELSE, DEFAULT, BODY = "then", "else", "default", "body"
"""Keys of `StepDefinition.bodies`, beside the names of cases and branches. `body` is that of a loop or map, and in no
path."""
COMMITS: Final = "cCkK"
UNDOABLE: Final = "SCWZK"
"""Letters of `WorkflowDefinition.kinds`: `s` step, `c` commit, `w` wait, `z` sleep, `k` child, upper case with a
compensation; `i` if, `x` switch, `l` loop, `h` while, `p` parallel, `m` map."""
DECIDING: Final = frozenset("ixlhpm")
"""The letters of the kinds that have bodies."""
UNDO: Final = "~undo"
"""The suffix of a compensation's path (PROTOCOL, Idempotency key)."""


class Defaults:
    """What a step does not say for itself: the engine's settings, applied when a definition is bound to it."""

    __slots__ = ("inline_backoff", "retries", "retry", "timeout")

    def __init__(
        self,
        retries: int = 3,
        timeout: float | None = 30.0,
        retry: RetryPolicy | None = None,
        inline_backoff: float = 2.0,
    ) -> None:
        """`timeout` and `inline_backoff` (the longest back-off slept inside an invocation) are seconds."""
        self.retries = retries
        self.timeout = timeout
        self.retry = retry or RetryPolicy()
        self.inline_backoff = inline_backoff


class Compensation(Generic[Input_contra, DataT_contra]):
    """How to undo a step, with limits of its own. `compensate=fn` is short for `compensate=compensation(fn)`."""

    __slots__ = ("handler", "on_unknown", "retries", "retry", "timeout")

    def __init__(
        self,
        handler: Handler[Input_contra, DataT_contra],
        retries: int | None,
        timeout: float | None,
        on_unknown: OnUnknown[Input_contra, DataT_contra],
        retry: RetryPolicy | None,
    ) -> None:
        self.handler = handler
        self.retries = retries
        self.timeout = timeout
        self.on_unknown = on_unknown
        self.retry = retry


class Body:
    """What a branch or a loop runs: nodes in order, their names unique."""

    __slots__ = ("names", "nodes", "places")

    def __init__(self, nodes: tuple[StepDefinition, ...]) -> None:
        self.nodes = nodes
        self.names = [node.name for node in nodes]
        self.places = {name: place for place, name in enumerate(self.names)}

    @property
    def kinds(self) -> str:
        """A letter a node."""
        return "".join(letter(node) for node in self.nodes)


class ChildCall:
    """Which workflow a child step starts, and what its end and the parent's mean for each other."""

    __slots__ = ("on_cancel", "on_failure", "wait", "workflow")

    def __init__(self, workflow: Any, *, wait: bool, on_failure: str, on_cancel: str) -> None:
        self.workflow = workflow
        """A builder, a definition, or the name of one that the engine knows."""
        self.wait = wait
        self.on_failure = on_failure
        """`fail` or `continue`: what a child that did not complete means for the step."""
        self.on_cancel = on_cancel
        """`cancel` or `abandon`: what becomes of an open child when the parent is undone."""

    @property
    def name(self) -> str:
        """The child's workflow."""
        return self.workflow if isinstance(self.workflow, str) else str(self.workflow.name)


class StepDefinition:
    """One node of a definition. `path` names it within the instance; at the top level it is the name itself.

    A branch or a loop is a node with `bodies`, whose handler tells what to do: its condition, selector or number.
    """

    def __init__(
        self,
        name: str,
        handler: Handler,
        *,
        kind: str = STEP,
        retries: int | None = None,
        timeout: float | None = None,
        when: Handler | None = None,
        compensate: Compensation | None = None,
        on_unknown: OnUnknown = "quarantine",
        give_up_on: tuple[type[BaseException], ...] = (),
        retry: RetryPolicy | None = None,
        index: int = -1,
        inline_backoff: float = 2.0,
        aliases: tuple[str, ...] = (),
        bodies: dict[str, Body] | None = None,
        max_iterations: int = 0,
        max_concurrency: int = 0,
        wait_all: bool = False,
        merge: Merge | None = None,
        child: ChildCall | None = None,
    ) -> None:
        self.name = name
        self.path = self.declared = name
        """`path` has iterations (`poll[17].fetch`) if the node was looked up so, `declared` never (`poll.fetch`)."""
        self.index = index
        """The place at the top level; of a nested node, that of the branch or loop it is in."""
        self.handler = handler
        self.function = handler
        """The handler as the workflow was given it. A test may play another in its place."""
        self.kind = kind
        """`step`, `commit`, `wait`, `sleep`, `child`, `if`, `switch`, `loop`, `while`, `parallel` or `map`; with the
        name, what the fingerprint is made of."""
        self.commit = kind == COMMIT
        self.retries = retries
        self.timeout = timeout
        self.when = when
        self.compensate = compensate
        self.on_unknown = on_unknown
        self.give_up_on = give_up_on
        self.retry = retry
        self.inline_backoff = inline_backoff
        self.aliases = aliases
        """Names that the step had in earlier definitions."""
        self.bodies = bodies
        """What a branch or a loop may run, by case; None for all other nodes."""
        self.max_iterations = max_iterations
        self.max_concurrency = max_concurrency
        """So many branches or items may be in progress at a time; 0 without a limit."""
        self.wait_all = wait_all
        """A branch or item that fails lets the others go on to their end."""
        self.merge = merge
        """What becomes of a key of `ctx.data` that several branches or items have written."""
        self.child = child

    @property
    def keeps(self) -> bool:
        """Whether a retry of an earlier step keeps its success: it has an effect of its own."""
        return self.commit or self.child is not None

    def at(self, path: str) -> StepDefinition:
        """A copy for one iteration, whose `path` has its number."""
        copy = StepDefinition.__new__(StepDefinition)
        copy.__dict__ = self.__dict__.copy()
        copy.path = path
        return copy

    def under(self, prefix: str, index: int) -> StepDefinition:
        """A copy for the inside of a branch or loop, whose paths begin with `prefix`."""
        copy = _copy(self)
        copy.path = copy.declared = prefix + self.declared
        copy.index = index
        copy.bodies = self._bodies_of(lambda node: node.under(prefix, index))
        return copy

    def filled(self, retries: int | None, timeout: float | None, retry: RetryPolicy | None) -> StepDefinition:
        """A copy whose options, where nothing was said, are these, and so in its bodies."""
        copy = self._with_options(retries, timeout, retry)
        copy.bodies = self._bodies_of(lambda node: node.filled(retries, timeout, retry))
        return copy

    def _with_options(self, retries: int | None, timeout: float | None, retry: RetryPolicy | None) -> StepDefinition:
        copy = _copy(self)
        copy.retries = retries if self.retries is None else self.retries
        copy.timeout = timeout if self.timeout is None else self.timeout
        copy.retry = self.retry or retry
        return copy

    def _bodies_of(self, change: Callable[[StepDefinition], StepDefinition]) -> dict[str, Body] | None:
        """The bodies with every node changed."""
        if self.bodies is None:
            return None
        return {key: Body(tuple(map(change, body.nodes))) for key, body in self.bodies.items()}

    def entered(self, choice: str | int) -> Body | None:
        """The body that a decision enters: that of a case, or of a loop that goes on; None if there is none."""
        if self.bodies is None or self.kind in NUMBERED:
            return self.bodies[BODY] if self.bodies is not None and choice else None
        return self.bodies.get(str(choice))

    def first_of(self, number: int) -> StepDefinition:
        """The node with which lane `number` of a parallel or map begins, at its path."""
        bodies = self.bodies or {}
        if self.kind == MAP:
            first = bodies[BODY].nodes[0]
            return first.at(f"{self.path}[{number}].{first.name}")
        branch = list(bodies)[number]
        first = bodies[branch].nodes[0]
        return first.at(f"{self.path}.{branch}.{first.name}")

    def bound(self, defaults: Defaults, index: int) -> StepDefinition:
        """A copy in which every option has a value."""
        undo = self.compensate
        if undo is not None:
            undo = Compensation(
                undo.handler,
                defaults.retries if undo.retries is None else undo.retries,
                defaults.timeout if undo.timeout is None else undo.timeout,
                undo.on_unknown,
                undo.retry or defaults.retry,
            )
        copy = self._with_options(defaults.retries, defaults.timeout, defaults.retry)
        copy.compensate = undo
        copy.index = index
        copy.inline_backoff = defaults.inline_backoff
        copy.bodies = self._bodies_of(lambda node: node.bound(defaults, index))
        return copy

    def time_limit(self, *, undo: bool) -> float | None:
        """Seconds that an attempt of the step, or of its compensation, may take; None without a limit."""
        return self.compensate.timeout if undo and self.compensate is not None else self.timeout

    def describe(self) -> dict[str, Any]:
        """The node as plain data, with `bodies` if it is a branch or a loop."""
        told: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "commit": self.commit,
            "retries": self.retries,
            "timeout": self.timeout,
            "has_condition": self.when is not None,
            "has_compensation": self.compensate is not None,
        }
        if self.bodies is not None:
            told["bodies"] = {key: [node.describe() for node in body.nodes] for key, body in self.bodies.items()}
        if self.kind == WHILE:
            told["max_iterations"] = self.max_iterations
        if self.child is not None:
            told["workflow"], told["wait"] = self.child.name, self.child.wait
            told["on_failure"], told["on_cancel"] = self.child.on_failure, self.child.on_cancel
        if self.kind in CONCURRENT:
            told["max_concurrency"] = self.max_concurrency or None
            told["on_error"] = "wait_all" if self.wait_all else "fail_fast"
            told["has_merge"] = self.merge is not None
        return told


def _copy(step: StepDefinition) -> StepDefinition:
    copy = StepDefinition.__new__(StepDefinition)
    copy.__dict__ = step.__dict__.copy()  # without slots, since every iteration makes a copy
    return copy


if TYPE_CHECKING:
    _ByPath = dict[str, StepDefinition]
else:
    _ByPath = dict


class Nodes(_ByPath):
    """Every node of a definition by its path, with or without iterations: `poll.fetch` and `poll[17].fetch`."""

    __slots__ = ("_located",)

    def __init__(self, steps: Iterable[StepDefinition]) -> None:
        super().__init__()
        self._located: dict[str, StepDefinition] = {}
        self._take(steps)

    def _take(self, steps: Iterable[StepDefinition]) -> None:
        for step in steps:
            self[step.declared] = step
            for body in (step.bodies or {}).values():
                self._take(body.nodes)

    def __missing__(self, path: str) -> StepDefinition:
        located = self._located
        found = located.get(path)
        if found is None:
            if "[" not in path:
                raise KeyError(path)
            if len(located) >= _MOST_LOCATED:
                located.clear()
            found = located[path] = self[declared(path)].at(path)
        return found


_MOST_DIGITS = 9
_MOST_LOCATED = 256
"""A loop asks for each node of an iteration several times, and then never again."""


class WorkflowDefinition(Generic[Input, DataT]):
    """A frozen workflow. Engines bind it to their defaults; everybody else reads it."""

    __slots__ = (
        "_functions", "by_path", "fingerprint", "name", "patches", "steps", "timeout", "types", "validator", "version",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        version: str,
        steps: tuple[StepDefinition, ...],
        validator: Validator | None = None,
        types: tuple[type, ...] = (),
        *,
        timeout: float | None = None,
        patches: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.version = version
        self.steps = steps
        self.validator = validator
        self.types = types
        self.timeout = timeout
        """Seconds that an instance may take from its start (or retry) to its end; None without a limit."""
        self.patches = patches
        """Names that `ctx.patch` may ask for."""
        self.by_path = Nodes(steps)
        self._functions: Functions | None = None
        self.fingerprint = _fingerprint(steps)
        """A hash of [(name, kind)]: equal fingerprints can continue each other's instances."""

    @property
    def kinds(self) -> str:
        """A letter a step: what an instance keeps of a definition beside the names (see `machine.adoption`)."""
        return "".join(letter(step) for step in self.steps)

    @property
    def functions(self) -> Functions:
        """Its steps and commits by their handlers."""
        if self._functions is None:
            from flux_core.functions import Functions

            told = ((path, node.function) for path, node in self.by_path.items() if node.kind in {STEP, COMMIT})
            self._functions = Functions(self.name, told)
        return self._functions

    def step(self, path: str) -> StepDefinition:
        """The step of that path, in a loop with its iteration (`poll[17].fetch`); `UnknownStep` lists what there is."""
        if self.place(path) is None:
            hint = ""
            if path in self.by_path:
                hint = "; a step in a loop or map is named with its number, counted from 0, as in poll[0].fetch"
            message = f"workflow {self.name!r} has no step {path!r}; its steps are {', '.join(self.by_path)}{hint}"
            raise UnknownStep(message)
        return self.by_path[path]

    def place(self, path: str) -> tuple[int, ...] | None:
        """Where a path stands in the order of running: places compare as their steps follow each other.

        None if the definition has no such path. A branch or loop stands before what is in it.
        """
        first, *rest = path.split(".")
        name, bracket, number = first.partition("[")
        node = self.by_path.get(name)
        if node is None:
            return None
        place = [node.index if node.index >= 0 else self.steps.index(node)]
        while bracket or rest:
            bodies = node.bodies
            if bodies is None:
                return None
            if node.kind in NUMBERED:
                digits = number[:-1]
                if not (number.endswith("]") and digits.isdecimal() and len(digits) <= _MOST_DIGITS):
                    return None
                if str(int(digits)) != digits:
                    return None
                place.append(int(digits))
                body = bodies[BODY]
            else:
                case = None if bracket or not rest else rest.pop(0)
                if case is None or case not in bodies:
                    return None
                place.append(list(bodies).index(case))
                body = bodies[case]
            if not rest:
                return None
            name, bracket, number = rest.pop(0).partition("[")
            index = body.places.get(name)
            if index is None:
                return None
            place.append(index)
            node = body.nodes[index]
        return tuple(place)

    def bound(self, defaults: Defaults) -> WorkflowDefinition:
        """A copy in which every step has its retries, timeout and back-off, from itself or from `defaults`."""
        steps = tuple(step.bound(defaults, index) for index, step in enumerate(self.steps))
        return WorkflowDefinition(
            self.name, self.version, steps, self.validator, self.types, timeout=self.timeout, patches=self.patches
        )

    def describe(self) -> dict[str, Any]:
        """The definition as plain data."""
        return {
            "name": self.name,
            "version": self.version,
            "fingerprint": self.fingerprint,
            "timeout": self.timeout,
            "patches": list(self.patches),
            "steps": [step.describe() for step in self.steps],
        }

    def build(self) -> WorkflowDefinition[Input, DataT]:
        """Itself, so that builders and definitions can be passed alike."""
        return self


def _fingerprint(steps: tuple[StepDefinition, ...]) -> str:
    from hashlib import sha256

    shape = "\n".join(f"{path} {node.kind}" for path, node in Nodes(steps).items())
    return sha256(shape.encode()).hexdigest()[:16]


_LETTERS: Final = {
    STEP: "s", COMMIT: "c", WAIT: "w", SLEEP: "z", IF: "i", SWITCH: "x", LOOP: "l", WHILE: "h", PARALLEL: "p", MAP: "m",
    CHILD: "k",
}  # fmt: skip
LOOPS: Final = frozenset({LOOP, WHILE})
NUMBERED: Final = LOOPS | {MAP}
"""The kinds whose bodies are told apart by a number: `poll[17]`."""
CONCURRENT: Final = frozenset({PARALLEL, MAP})
"""The kinds whose bodies run at the same time."""


def letter(step: StepDefinition) -> str:
    """What an instance keeps of a node beside its name."""
    sign = _LETTERS[step.kind]
    return sign.upper() if step.compensate is not None else sign
