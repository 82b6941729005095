"""The test's own copies of the workflows, in which every call is noted and may be played by a stub.

The user's definitions stay as they are, and what a copy does without a stub is what the original does.
"""

from __future__ import annotations

from copy import copy
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

from flux_core.directives import Verify
from flux_core.engine import FluxEngine
from flux_core.errors import DefinitionError
from flux_core.testing.attempts import Logbook
from flux_core.testing.journal import RUN, UNDONE
from flux_core.workflow import Body, Nodes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flux_core.builder import WorkflowBuilder
    from flux_core.context import Context
    from flux_core.testing.attempts import Attempt
    from flux_core.testing.clock import VirtualClock
    from flux_core.testing.stubs import Stub
    from flux_core.workflow import StepDefinition, WorkflowDefinition

    Handler = Callable[[Context], object]

HANDLER: Final = "handler"
COMPENSATE: Final = "compensate"
WHEN: Final = "when"
VERIFY: Final = "verify"
PARTS: Final = (HANDLER, COMPENSATE, WHEN, VERIFY)


class Stage:
    """Copies of workflows whose handlers ask for their stub first, and the attempts that were made."""

    def __init__(self, clock: VirtualClock) -> None:
        self.logbook = Logbook(clock)
        self.faults: list[str] = []
        """What went wrong with a stub, which the test must hear of."""
        self._clock = clock
        self._stubs: dict[tuple[str, str, str], Stub] = {}
        self._copies: dict[WorkflowDefinition, WorkflowDefinition] = {}
        self._handlers: set[Handler] = set()
        """Those of the copies, by which they are known, bound to an engine's defaults or not."""

    def staged(self, definition: WorkflowDefinition) -> WorkflowDefinition:
        """The test's copy of `definition`, the same one every time; a copy is its own."""
        if definition.steps[0].handler in self._handlers:
            return definition
        found = self._copies.get(definition)
        if found is None:
            found = self._copies[definition] = copy(definition)
            found.steps = tuple(self._step(definition.name, step) for step in definition.steps)
            found.by_path = Nodes(found.steps)
            self._handlers.update(step.handler for step in found.by_path.values())
        return found

    def put(self, definition: WorkflowDefinition, step: str, part: str, stub: Stub) -> None:
        """Let `stub` play a part of a step from now on; `UnknownStep` or `DefinitionError` if there is no such part."""
        found = _declared(definition, step)
        there = {
            HANDLER: True,
            COMPENSATE: found.compensate is not None,
            WHEN: found.when is not None,
            VERIFY: isinstance(found.on_unknown, Verify),
        }
        if not there.get(part):
            message = (
                f"step {step!r} of workflow {definition.name!r} has no {part!r} that a stub could play; it has "
                f"{', '.join(name for name in PARTS if there[name])}"
            )
            raise DefinitionError(message)
        self._stubs[definition.name, step, part] = stub

    def remove(self, definition: WorkflowDefinition, step: str, part: str) -> None:
        """From now on the part is the workflow's own again."""
        _declared(definition, step)
        self._stubs.pop((definition.name, step, part), None)

    def _step(self, workflow: str, step: StepDefinition) -> StepDefinition:
        made = copy(step)
        made.handler = self._noted(workflow, step.path, HANDLER, step.handler, RUN)
        if step.when is not None:
            made.when = self._condition(workflow, step.path, step.when)
        if step.compensate is not None:
            made.compensate = copy(step.compensate)
            made.compensate.handler = self._noted(workflow, step.path, COMPENSATE, step.compensate.handler, UNDONE)
        if isinstance(step.on_unknown, Verify):
            made.on_unknown = Verify(self._stubbed(workflow, step.path, VERIFY, step.on_unknown.probe))
        if step.bodies is not None:
            made.bodies = {
                key: Body(tuple(self._step(workflow, node) for node in body.nodes)) for key, body in step.bodies.items()
            }
        return made

    def _stubbed(self, workflow: str, path: str, part: str, real: Handler) -> Handler:
        key, stubs, clock, faults = (workflow, path, part), self._stubs, self._clock, self.faults

        def play(ctx: Context) -> object:
            stub = stubs.get(key)
            if stub is None:
                return real(ctx)
            value = stub.play(ctx, clock, faults)
            return real(ctx) if stub.real else value

        return play

    def _noted(self, workflow: str, path: str, part: str, real: Handler, what: str) -> Handler:
        play, logbook = self._stubbed(workflow, path, part, real), self.logbook

        def call(ctx: Context) -> object:
            attempt = logbook.begin(ctx, what)
            try:
                value = play(ctx)
            except BaseException as error:
                logbook.end(attempt, error=error)
                raise
            if isawaitable(value):
                return awaited(attempt, value)
            logbook.end(attempt, value)
            return value

        async def awaited(attempt: Attempt, value: Awaitable[object]) -> object:
            try:
                result = await value
            except BaseException as error:
                logbook.end(attempt, error=error)
                raise
            logbook.end(attempt, result)
            return result

        return call

    def _condition(self, workflow: str, path: str, real: Handler) -> Handler:
        """A condition that raises is an attempt that failed; one that answers is none."""
        play, logbook = self._stubbed(workflow, path, WHEN, real), self.logbook

        def ask(ctx: Context) -> object:
            try:
                value = play(ctx)
            except BaseException as error:
                logbook.end(logbook.begin(ctx, RUN), error=error)
                raise
            return awaited(ctx, value) if isawaitable(value) else value

        async def awaited(ctx: Context, value: Awaitable[object]) -> object:
            try:
                return await value
            except BaseException as error:
                logbook.end(logbook.begin(ctx, RUN), error=error)
                raise

        return ask


def _declared(definition: WorkflowDefinition, path: str) -> StepDefinition:
    """The node that is declared at `path` (`poll.fetch`, for every iteration); `UnknownStep` if there is none."""
    return definition.by_path[path] if path in definition.by_path else definition.step(path)


class StagedEngine(FluxEngine):
    """A `FluxEngine` that runs a stage's copies of whatever workflow it is given."""

    def __init__(self, stage: Stage, storage: Any, **options: Any) -> None:
        self._stage = stage
        super().__init__(storage, **options)

    def _workflow(self, workflow: WorkflowBuilder | WorkflowDefinition | str) -> WorkflowDefinition:
        known = not isinstance(workflow, str) and hasattr(workflow, "build")
        return super()._workflow(self._stage.staged(workflow.build()) if known else workflow)  # type: ignore[union-attr]
