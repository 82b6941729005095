"""A handle of one instance: the engine's verbs without naming the workflow and the id each time.

It holds names only, nothing of the instance, and must not add a verb that the engine does not have.
"""

from __future__ import annotations

from flux_core.generics import Generic, Input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Concatenate, ParamSpec, TypeVar, overload

    from flux_core.engine import DeadlineLike, FluxEngine, Workflow
    from flux_core.generics import NoInput
    from flux_core.result import FluxResult
    from flux_core.workflow import WorkflowDefinition

    P = ParamSpec("P")
    T = TypeVar("T")


class Instance(Generic[Input]):
    """`run = engine.instance(order, "o-1")`, then `run.signal("approval")`. The instance need not exist yet."""

    def __init__(self, engine: FluxEngine, workflow: WorkflowDefinition[Input], id: str) -> None:
        """Each attribute is the verb of that name (see `FluxEngine`), with workflow and id filled in."""
        self.engine = engine
        self.workflow = workflow.name
        self.id = id
        self.signal = _of(engine.signal, workflow, id)
        self.retry_step = _of(engine.retry_step, workflow, id)
        self.resume = _of(engine.resume, workflow, id)
        self.cancel = _of(engine.cancel, workflow, id)
        self.pause = _of(engine.pause, workflow, id)
        self.unpause = _of(engine.unpause, workflow, id)
        self.complete_step = _of(engine.complete_step, workflow, id)
        self.skip_step = _of(engine.skip_step, workflow, id)
        self.wake = _of(engine.wake, workflow, id)
        self.get = _of(engine.get, workflow, id)
        self.audit = _of(engine.audit, workflow, id)
        self.check = _of(engine.check, workflow, id)
        self.delete = _of(engine.delete, workflow, id)
        self._definition: WorkflowDefinition = workflow

    if TYPE_CHECKING:

        @overload
        def execute(
            self: Instance[NoInput], input: None = None, *, deadline: DeadlineLike | None = None, advance: bool = True
        ) -> FluxResult: ...
        @overload
        def execute(
            self, input: Input | Mapping[str, object], *, deadline: DeadlineLike | None = None, advance: bool = True
        ) -> FluxResult: ...

    def execute(
        self, input: object = None, *, deadline: DeadlineLike | None = None, advance: bool = True
    ) -> FluxResult:
        """Start it, or return it as it is if the same input has started it before."""
        return self.engine.execute(self._definition, input, self.id, deadline=deadline, advance=advance)

    @property
    def status(self) -> str:
        """The status as the store has it now; `UnknownInstance` if it does not exist."""
        return self.get().status

    def __repr__(self) -> str:
        return f"<Instance {self.workflow}/{self.id}>"


def _of(verb: Callable[Concatenate[Workflow, str, P], T], workflow: WorkflowDefinition, id_: str) -> Callable[P, T]:
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return verb(workflow, id_, *args, **kwargs)

    call.__name__, call.__doc__ = verb.__name__, verb.__doc__
    return call
