"""What a handler sees of its instance. It offers values and must not offer a way to change the instance.

A context belongs to one attempt. When the attempt is cut by its time limit the context goes dead: whatever the late
handler still does with it raises, and changes nothing.
"""

from __future__ import annotations

from _thread import allocate_lock

from flux_core.data import Data
from flux_core.errors import DefinitionError, StepTimeout
from flux_core.keys import idempotency_key
from flux_core.paths import iteration_of, lane_of, owner_of, renamed, root_of
from flux_core.secret import Secret
from flux_core.state import COMPENSATED, COMPENSATING, COMPENSATION_FAILED, COMPLETED, RUNNING, StepExecution
from flux_core.values import copied
from flux_core.workflow import UNDO, WHILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from flux_core.logger import StepLog
    from flux_core.ports import Clock, InstanceRef, Logger
    from flux_core.revealed import Revealed
    from flux_core.secret import Secrets
    from flux_core.state import WorkflowState
    from flux_core.workflow import StepDefinition


class Surroundings:
    """What all attempts of one invocation share. The engine makes it; contexts read it."""

    __slots__ = ("clock", "input", "logger", "patches", "ref", "secrets", "state")

    def __init__(
        self,
        ref: InstanceRef,
        state: WorkflowState,
        input_: object,
        clock: Clock,
        logger: Logger,
        secrets: Secrets,
        patches: tuple[str, ...],
    ) -> None:
        self.ref = ref
        self.state = state
        self.input = input_
        self.clock = clock
        self.logger = logger
        self.secrets = secrets
        self.patches = patches
        """What the definition at hand declares."""


_revealing = allocate_lock()
_MOST_NAMED = 50
"""Steps that a message lists: a loop may have thousands."""
_SUCCEEDED = frozenset({COMPLETED, COMPENSATING, COMPENSATED, COMPENSATION_FAILED})
"""Statuses of a step that has an output: a compensator needs that of the step it undoes."""


class Results:
    """`ctx.results["charge"]`: the outputs of steps that succeeded. A skipped step is absent. Read-only.

    In a branch or loop a name means the step nearest to the one that asks: of its own body, then of those around it.
    """

    __slots__ = ("_lane", "_steps")

    def __init__(self, steps: dict[str, StepExecution], lane: str = "") -> None:
        self._steps = steps
        self._lane = lane
        """The lane of the step that asks."""

    def _find(self, path: object) -> StepExecution | None:
        if not isinstance(path, str):
            return None
        lane = self._lane
        while lane:
            step = self._steps.get(f"{lane}.{path}")
            if step is not None and step.status in _SUCCEEDED:
                return step
            lane = lane_of(owner_of(lane))
        step = self._steps.get(path)
        return step if step is not None and step.status in _SUCCEEDED else None

    def __getitem__(self, path: str) -> Any:
        step = self._find(path)
        if step is None:
            names = list(self)
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            there = ", ".join(names[:_MOST_NAMED]) + more or "none yet"
            message = f"{path} (no step of that name has an output; those that have: {there})"
            raise KeyError(message)
        return copied(step.output)

    def get(self, path: str, default: Any = None) -> Any:
        """The output at `path`, or `default`."""
        step = self._find(path)
        return default if step is None else copied(step.output)

    def __contains__(self, path: object) -> bool:
        return self._find(path) is not None

    def __iter__(self) -> Iterator[str]:
        return (path for path, step in self._steps.items() if step.status in _SUCCEEDED)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Results({list(self)})"


class Context:
    """The argument of every handler, condition, compensator and probe."""

    __slots__ = (
        "_around", "_data", "_recorded", "_step", "_undo", "attempt", "ends", "revealed", "touched_input", "written",
    )  # fmt: skip

    def __init__(
        self,
        around: Surroundings,
        step: StepDefinition | None,
        attempt: int,
        recorded: dict[str, object],
        undo: bool = False,  # noqa: FBT001, FBT002 -- made for every attempt: a keyword costs
    ) -> None:
        """`recorded` is the data as the records say; a copy of it is made when it is first asked for."""
        self._around: Surroundings | None = around
        self._step = step
        self._recorded = recorded
        self._data: Any = None
        self._undo = undo
        self.ends: float | None = None
        """When the attempt is cut, by the monotonic clock."""
        self.attempt = attempt
        """1 for the first attempt of the step."""
        self.touched_input = False
        self.written = False
        self.revealed: Revealed | None = None
        """The values of the secrets that this attempt asked for."""

    def _live(self) -> Surroundings:
        around = self._around
        if around is None:
            name = None if self._step is None else self._step.path
            message = f"this attempt of step {name!r} has been cut by its time limit; nothing it does counts any more"
            raise StepTimeout(message)
        return around

    def kill(self) -> None:
        """From now on everything raises: the attempt was cut."""
        self._around = None

    @property
    def id(self) -> str:
        """The instance's id."""
        return self._live().ref.id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._live().ref.workflow

    @property
    def name(self) -> str:
        """The workflow's name, as in the seeds."""
        return self._live().ref.workflow

    @property
    def tenant(self) -> str:
        """The instance's tenant."""
        return self._live().ref.tenant

    @property
    def input(self) -> Any:
        """What `execute` was given, as `.input(...)` made it. It belongs to the caller: changing it fails the step."""
        around = self._live()
        self.touched_input = True
        return around.input

    @property
    def data(self) -> Any:
        """The instance's data: a dictionary whose keys are also attributes. A successful attempt's writes are kept."""
        if self._around is None or not self.written:
            self._live()
            self.written = True
            self._data = Data(self._recorded)
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        self._live()
        self.written = True
        self._data = Data(value) if type(value) is dict else value

    @property
    def results(self) -> Results:
        """The outputs of completed steps, by name, or by path (`poll[17].fetch`)."""
        around, step = self._live(), self._step
        if step is None:
            return Results(around.state.steps)
        lane = lane_of(step.path) if "." in step.path else ""
        if step.kind == WHILE and (frame := around.state.frames.get(step.path)) is not None:
            lane = f"{step.path}[{frame.number}]"  # a condition looks at what the last iteration brought
        return Results(around.state.steps, lane)

    @property
    def step(self) -> str | None:
        """The name of the step; None in the hooks of the workflow."""
        return None if self._step is None else self._step.name

    @property
    def path(self) -> str | None:
        """Where the step is: its name, in branches and loops `poll[17].fetch`; None in the hooks of the workflow."""
        return None if self._step is None else self._step.path

    @property
    def iteration(self) -> int:
        """The 0-based iteration of the innermost loop that the step is in; `AttributeError` outside of loops.

        In the condition of a `.while_` it is that of the iteration to come.
        """
        around, step = self._live(), self._step
        if step is not None and step.kind == WHILE:
            frame = around.state.frames.get(step.path)
            return 0 if frame is None else frame.number + 1
        number = None if step is None else iteration_of(step.path)
        if number is None:
            message = f"{self.path!r} is in no loop, so it has no iteration"
            raise AttributeError(message)
        return number

    @property
    def status(self) -> str:
        """The instance's status."""
        return self._live().state.status

    @property
    def current_step(self) -> int:
        """The step's 0-based place in the definition; of a nested step, that of the branch or loop it is in."""
        return self._live().state.cursor if self._step is None else self._step.index

    @property
    def history(self) -> list[StepExecution]:
        """What became of every step so far, in definition order; nested ones follow their branch or loop."""
        state, step = self._live().state, self._step
        if step is None or self._undo:
            return history(state)
        return history(state, _shown_running(state.steps.get(step.path), step.path, self.attempt))

    @property
    def idempotency_key(self) -> str:
        """Pass it to the other side: the same over crashes and retries, new once the effect was undone (PROTOCOL)."""
        around = self._live()
        if self._step is None:
            message = "only a step has an idempotency key"
            raise AttributeError(message)
        path = self._step.path
        return key_of(around.state, path + UNDO if self._undo else path)

    def patch(self, name: str) -> bool:
        """Whether the instance was started by a definition that had `name` among its `patches`.

        The answer is the same in every step of an instance and after any deployment, so code behind it can rely on
        what steps before it did. `DefinitionError` for a name that the workflow does not declare.
        """
        around = self._live()
        if name not in around.patches:
            message = (
                f"ctx.patch({name!r}): workflow {around.ref.workflow!r} declares no such patch; declare it with "
                f"create_workflow(..., patches=[{name!r}])"
            )
            raise DefinitionError(message)
        return name in around.state.patches

    @property
    def log(self) -> StepLog:
        """The engine's logger, with the instance and the step filled in."""
        from flux_core.logger import StepLog

        around = self._live()
        return StepLog(around.logger, around.ref, self)

    def secret(self, secret: Secret | str) -> str:
        """The value of a secret, asked of `FluxEngine(secrets=...)` each time. Do not store it, nor keep it for later.

        What the attempt returns or writes to `ctx.data` is refused if it holds the value (`SecretExposed`), and where
        the attempt's error or `ctx.log` quotes it, `[redacted]` is shown. `SecretsNotConfigured`, `UnknownSecret` and
        `SecretUnavailable` say why there is none. It blocks for as long as the resolver does.
        """
        name = secret.name if isinstance(secret, Secret) else Secret(secret).name
        value = self._live().secrets.value(name, self.step)
        self._live()  # the attempt may have been cut while the resolver was asked
        from flux_core.revealed import Revealed

        with _revealing:
            if self.revealed is None:
                self.revealed = Revealed()
        self.revealed.add(name, value)
        return value

    def remaining(self) -> float | None:
        """Seconds until the attempt is cut; None if it has no limit."""
        around = self._live()
        return None if self.ends is None else max(0.0, self.ends - around.clock.monotonic())

    def __repr__(self) -> str:
        name = None if self._step is None else self._step.path
        return f"<Context of step {name!r}, attempt {self.attempt}>"


class HookContext(Context):
    """What a hook sees: the same values, but copies of whatever could be changed. Hooks never change an outcome."""

    __slots__ = ()

    @property
    def input(self) -> Any:
        """A copy of the input."""
        return copied(self._live().input)

    @property
    def data(self) -> Any:
        """A copy of the data as recorded, the same one every time."""
        if self._data is None:
            self._data = Data({key: copied(value) for key, value in self._live().state.data.items()})
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        self._data = value


def key_of(state: WorkflowState, path: str) -> str:
    """The idempotency key of a step's next attempt or open one, of its compensation's if `path` says so."""
    step = path.removesuffix(UNDO)
    origin = renamed(step, state.origins) if state.origins else step  # a renamed step keeps its key
    k = state.discarded.get(step, 0)
    return idempotency_key(state.tenant, state.name, state.id, origin + path[len(step) :], k)


def history(state: WorkflowState, shown: StepExecution | None = None) -> list[StepExecution]:
    """One entry a step in definition order; those that never ran are pending. `shown` takes the place of its own.

    Nested steps, if they have run, follow the top-level branch or loop that they are in, in the order they began.
    """
    steps = state.steps if shown is None else {**state.steps, shown.path: shown}
    inside: dict[str, list[StepExecution]] = {}
    for path, step in steps.items():
        if step.nested:
            inside.setdefault(root_of(path), []).append(step)
    top = [steps.get(name) or StepExecution(name) for name in state.names]
    if not inside:
        return top
    return [entry for step in top for entry in (step, *inside.get(step.path, ()))]


def _shown_running(entry: StepExecution | None, path: str, attempt: int) -> StepExecution:
    shown = StepExecution(path)
    shown.attempt = attempt
    shown.status = RUNNING
    if entry is not None:
        shown.started_ms = entry.started_ms
        shown.decision = entry.decision
    return shown
