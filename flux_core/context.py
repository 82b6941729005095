"""What a handler sees of its instance. It offers values and must not offer a way to change the instance.

A context belongs to one attempt. When the attempt is cut by its time limit the context goes dead: whatever the late
handler still does with it raises, and changes nothing.
"""

from __future__ import annotations

from _thread import allocate_lock

from flux_core.data import Data
from flux_core.errors import DefinitionError, StepTimeout
from flux_core.generics import DataT_co, Generic, Input_co
from flux_core.machine.forks import seen_data
from flux_core.machine.identity import key_of
from flux_core.names import check_key
from flux_core.paths import iteration_of, lane_of, owner_of, root_of
from flux_core.retry import seconds
from flux_core.secret import Secret
from flux_core.state import COMPENSATED, COMPENSATING, COMPENSATION_FAILED, COMPLETED, RUNNING, StepExecution
from flux_core.values import copied
from flux_core.workflow import UNDO, WHILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta
    from typing import Any, TypeVar, overload

    from flux_core.callbacks import Callbacks
    from flux_core.generics import Async, Output, Plain, Suspending
    from flux_core.logger import StepLog
    from flux_core.ports import Clock, InstanceRef, Logger
    from flux_core.revealed import Revealed
    from flux_core.secret import Secrets
    from flux_core.state import WorkflowState
    from flux_core.workflow import StepDefinition, WorkflowDefinition

    D = TypeVar("D")


class Surroundings:
    """What all attempts of one invocation share. The engine makes it; contexts read it."""

    __slots__ = ("callbacks", "clock", "definition", "input", "logger", "ref", "secrets", "state")

    def __init__(
        self,
        ref: InstanceRef,
        state: WorkflowState,
        input_: Any,
        clock: Clock,
        logger: Logger,
        secrets: Secrets,
        definition: WorkflowDefinition,
        callbacks: Callbacks | None = None,
    ) -> None:
        """`definition` is the one at hand."""
        self.callbacks = callbacks
        self.ref = ref
        self.state = state
        self.input = input_
        self.clock = clock
        self.logger = logger
        self.secrets = secrets
        self.definition = definition


_revealing = allocate_lock()
_MOST_NAMED = 50
"""Steps that a message lists: a loop may have thousands."""
_SUCCEEDED = frozenset({COMPLETED, COMPENSATING, COMPENSATED, COMPENSATION_FAILED})
"""Statuses of a step that has an output: a compensator needs that of the step it undoes."""


class Results:
    """`ctx.results["charge"]`: the outputs of steps that succeeded. A skipped step is absent. Read-only.

    `ctx.results[charge]` finds the step whose handler `charge` is, and type checkers know what that returns. In a
    branch or loop both mean the step nearest to the one that asks: of its own body, then of those around it.
    """

    __slots__ = ("_definition", "_lane", "_steps")

    def __init__(self, steps: dict[str, StepExecution], lane: str, definition: WorkflowDefinition | None) -> None:
        """`lane` is that of the step that asks. Without the definition, steps are not found by their handlers."""
        self._steps = steps
        self._lane = lane
        self._definition = definition

    def _find(self, step: object) -> StepExecution | None:
        if isinstance(step, str):
            lane = self._lane
            while lane:
                found = self._steps.get(f"{lane}.{step}")
                if found is not None and found.status in _SUCCEEDED:
                    return found
                lane = lane_of(owner_of(lane))
            found = self._steps.get(step)
            return found if found is not None and found.status in _SUCCEEDED else None
        if callable(step) and self._definition is not None:
            for path in self._definition.functions.paths(step, self._lane):
                found = self._steps.get(path)
                if found is not None and found.status in _SUCCEEDED:
                    return found
        return None

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, step: str) -> Any: ...
        @overload
        def __getitem__(self, step: Suspending) -> Any: ...
        @overload
        def __getitem__(self, step: Async[Output]) -> Output: ...
        @overload
        def __getitem__(self, step: Plain[Output]) -> Output: ...

    def __getitem__(self, step: object) -> Any:
        """The output; `KeyError` if there is none, `DefinitionError` if a function is the handler of several steps."""
        found = self._find(step)
        if found is None:
            names = list(self)
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            there = ", ".join(names[:_MOST_NAMED]) + more or "none yet"
            message = f"{self._missing(step)}; those that have: {there})"
            raise KeyError(message)
        return copied(found.output)

    def _missing(self, step: object) -> str:
        if isinstance(step, str) or not callable(step):
            return f"{step} (no step of that name has an output"
        from flux_core.functions import name_of

        if self._definition is None:
            return f"{name_of(step)} (a copied result finds steps by name or path alone"
        paths = self._definition.functions.of(step)
        owners = f"the handler of {', '.join(paths)}, which has no output here" if paths else "the handler of no step"
        return f"{name_of(step)} (it is {owners}"

    if TYPE_CHECKING:

        @overload
        def get(self, step: str, default: Any = None) -> Any: ...
        @overload
        def get(self, step: Suspending, default: object = None) -> Any: ...
        @overload
        def get(self, step: Async[Output]) -> Output | None: ...
        @overload
        def get(self, step: Plain[Output]) -> Output | None: ...
        @overload
        def get(self, step: Async[Output], default: D) -> Output | D: ...
        @overload
        def get(self, step: Plain[Output], default: D) -> Output | D: ...

    def get(self, step: object, default: Any = None) -> Any:
        """The output of `step`, or `default`."""
        found = self._find(step)
        return default if found is None else copied(found.output)

    def __contains__(self, step: object) -> bool:
        return self._find(step) is not None

    def __iter__(self) -> Iterator[str]:
        # A copy of the dictionary: another lane may add to it meanwhile.
        return (path for path, step in list(self._steps.items()) if step.status in _SUCCEEDED)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Results({list(self)})"


class Context(Generic[Input_co, DataT_co]):
    """The argument of every handler, condition, compensator and probe."""

    __slots__ = (
        "_around", "_data", "_recorded", "_step", "_undo", "attempt", "ends", "revealed", "touched_input", "written",
    )  # fmt: skip

    def __init__(
        self,
        around: Surroundings,
        step: StepDefinition | None,
        attempt: int,
        recorded: dict[str, object] | Callable[[], dict[str, object]],
        undo: bool = False,  # noqa: FBT001, FBT002 -- made for every attempt: a keyword costs
    ) -> None:
        """`recorded` is the data as the records say, or a function that tells it; it is copied when it is asked for."""
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

    def _known(self) -> dict[str, object]:
        recorded = self._recorded
        if recorded.__class__ is not dict:
            recorded = self._recorded = recorded()  # type: ignore[operator]
        self.written = True
        return recorded

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
    def input(self) -> Input_co:
        """What `execute` was given, as `.input(...)` made it. It belongs to the caller: changing it fails the step."""
        around = self._live()
        self.touched_input = True
        return around.input  # type: ignore[no-any-return]  # the model is what .input(...) made of it

    @property
    def data(self) -> DataT_co:
        """The instance's data: a dictionary whose keys are also attributes. A successful attempt's writes are kept."""
        if self._around is None or not self.written:
            self._live()
            self._data = Data(self._known())
        return self._data  # type: ignore[no-any-return]  # the model is what the workflow says of its data

    @data.setter
    def data(self, value: Any) -> None:
        self._live()
        self._known()
        self._data = Data(value) if type(value) is dict else value

    @property
    def results(self) -> Results:
        """The outputs of completed steps, by name, by path (`poll[17].fetch`), or by the function that made them."""
        around, step = self._live(), self._step
        if step is None:
            return Results(around.state.steps, "", around.definition)
        lane = lane_of(step.path) if "." in step.path else ""
        if step.kind == WHILE and (frame := around.state.frames.get(step.path)) is not None:
            lane = f"{step.path}[{frame.number}]"  # a condition looks at what the last iteration brought
        return Results(around.state.steps, lane, around.definition)

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
        """The 0-based number of the innermost loop's iteration, or map's item; `AttributeError` outside of these.

        In the condition of a `.while_` it is that of the iteration to come.
        """
        around, step = self._live(), self._step
        if step is not None and step.kind == WHILE:
            frame = around.state.frames.get(step.path)
            return 0 if frame is None else frame.number + 1
        number = None if step is None else iteration_of(step.path)
        if number is None:
            message = f"{self.path!r} is in no loop or map, so it has no iteration"
            raise AttributeError(message)
        return number

    @property
    def item(self) -> Any:
        """What the innermost map around the step is at; `AttributeError` outside of maps. A copy: change it freely."""
        around, path = self._live(), self.path or ""
        while lane := lane_of(path):
            path = owner_of(lane)
            if lane.endswith("]") and path in around.state.items:
                return copied(around.state.items[path][int(lane[len(path) + 1 : -1])])
        message = f"{self.path!r} is in no map, so it has no item"
        raise AttributeError(message)

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
        if name not in around.definition.patches:
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

    def callback_url(self, signal: str, *, expires: float | timedelta | None = None) -> str:
        """A link by which somebody outside sends `signal` to this instance, once, without any other permission.

        Whoever has it can POST a JSON payload to it until it `expires` (seconds or timedelta; the engine's setting
        if not given). Attempts of the same step give out links that count as one; a step that is retried by hand gives
        out a new one, and the old one is spent. `DefinitionError` without `FluxEngine(callbacks=...)`.
        """
        around, path = self._live(), self.path
        if around.callbacks is None:
            message = (
                f"ctx.callback_url({signal!r}): the engine does not know where callbacks arrive; give it "
                f"FluxEngine(callbacks=Callbacks(url, keys)), on a cloud FLUX_PUBLIC_URL and FLUX_CALLBACK_KEYS"
            )
            raise DefinitionError(message)
        if path is None:
            message = "only a step can give out a callback link"
            raise DefinitionError(message)
        from flux_core.callbacks import Ticket

        limit = around.callbacks.expires if expires is None else seconds(expires, "callback_url(expires=...)")
        return around.callbacks.url(
            Ticket(
                *around.ref,
                check_key("signal name", signal),
                path,
                around.state.discarded.get(path, 0),
                around.state.generation,
                around.clock.now() + round(limit * 1000),
            )
        )

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
            state, step = self._live().state, self._step
            data = state.data if step is None or not state.frames else seen_data(state, step.path)
            self._data = Data({key: copied(value) for key, value in data.items()})
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        self._data = value


def history(state: WorkflowState, shown: StepExecution | None = None) -> list[StepExecution]:
    """One entry a step in definition order; those that never ran are pending. `shown` takes the place of its own.

    Nested steps, if they have run, follow the top-level branch or loop that they are in, in the order they began.
    """
    steps = dict(state.steps)  # another lane may add to it meanwhile
    if shown is not None:
        steps[shown.path] = shown
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
