"""Declaring a workflow: a builder that only collects, checks the whole once, and freezes it. It runs nothing.

`create_workflow(...)` returns the builder; `.build()`, or the first use by an engine, makes the definition. Messages
of `DefinitionError` say what to change.
"""

from __future__ import annotations

from flux_core.errors import DefinitionError
from flux_core.generics import DataT, Input
from flux_core.handlers import annotations_of
from flux_core.names import check_workflow_name
from flux_core.nodes import FlowBuilder, NodeCollector, flow
from flux_core.options import checked_names, checked_retries, checked_retry, checked_timeout, checked_workflow_timeout
from flux_core.step_options import compensation
from flux_core.workflow import WorkflowDefinition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, overload

    from flux_core.generics import Model
    from flux_core.options import Duration
    from flux_core.retry import RetryPolicy
    from flux_core.workflow import StepDefinition

__all__ = ["FlowBuilder", "WorkflowBuilder", "compensation", "create_workflow", "flow"]


class WorkflowBuilder(NodeCollector[Input, DataT]):
    """Collects a workflow. Each call returns the builder; the definition is frozen at `.build()` or first use."""

    def __init__(
        self,
        name: str,
        version: str,
        retries: int | None,
        timeout: float | None,
        retry: RetryPolicy | None,
        types: tuple[type, ...],
        *,
        whole: float | None = None,
        patches: tuple[str, ...] = (),
    ) -> None:
        """`timeout` (an attempt) and `whole` (the instance) are seconds."""
        super().__init__(f"workflow {name!r}", retries, timeout, retry)
        self.name = name
        self._version = version
        self._whole = whole
        self._patches = patches
        self._types = types
        self._schema: object = None
        self._model: type | None = None
        self._built: WorkflowDefinition[Input, DataT] | None = None

    if TYPE_CHECKING:

        @overload
        def input(self, schema: type[Model]) -> WorkflowBuilder[Model, DataT]: ...
        @overload
        def input(self, schema: Callable[..., object]) -> WorkflowBuilder[Any, DataT]: ...

    def input(self, schema: object) -> Any:
        """What `execute` accepts: a pydantic model, dataclass, msgspec.Struct, TypedDict or a validating callable."""
        self._open("input")
        self._schema = schema
        return self

    def data(self, model: type[Model]) -> WorkflowBuilder[Input, Model]:
        """The type of `ctx.data`, so that its values may be of the model's own registered types."""
        self._open("data")
        if not isinstance(model, type):
            message = f"workflow {self.name!r}: .data(...) takes a class, such as a TypedDict or a model; got {model!r}"
            raise DefinitionError(message)
        self._model = model
        typed: WorkflowBuilder[Input, Any] = self
        return typed

    def build(self) -> WorkflowDefinition[Input, DataT]:
        """Check and freeze; the same definition every time. `DefinitionError` says what to change."""
        if self._built is None:
            self.checked_steps()
            self._built = self._freeze()
            self._frozen = True
        return self._built

    def describe(self) -> dict[str, Any]:
        """The definition as plain data (see `WorkflowDefinition.describe`)."""
        return self.build().describe()

    def _freeze(self) -> WorkflowDefinition[Input, DataT]:
        validator = None
        if self._schema is not None:
            from flux_core.validation import input_validator

            validator = input_validator(self._schema)
        types = self._registered()
        return WorkflowDefinition(
            self.name,
            self._version,
            tuple(self._steps),
            validator,
            types,
            timeout=self._whole,
            patches=self._patches,
        )

    def _registered(self) -> tuple[type, ...]:
        """The classes that may be stored: those it was told of, then those that its handlers' annotations name."""
        from flux_core.registered import register_type

        types: dict[type, None] = {}
        if self._schema is not None or self._types or self._model is not None:
            from flux_core.storable import types_of, types_of_data

            for model in (self._schema, *self._types):
                types.update(dict.fromkeys(types_of(model)))
            if self._model is not None:
                types.update(dict.fromkeys(types_of_data(self._model)))
            for found in types:
                register_type(found)
        annotated = [function for function in _functions(self._steps) if annotations_of(function)]
        if annotated:
            from flux_core.storable import types_in

            for function in annotated:
                for found in types_in(function):
                    try:
                        types[register_type(found)] = None
                    except Exception:  # noqa: BLE001, S112 -- what cannot be stored says so when it is tried
                        continue
        return tuple(types)


def _functions(steps: Iterable[StepDefinition]) -> Iterator[object]:
    """The functions that may produce what is stored."""
    for step in steps:
        yield step.handler
        if step.compensate is not None:
            yield step.compensate.handler
        for body in (step.bodies or {}).values():
            yield from _functions(body.nodes)


def create_workflow(
    name: str,
    *,
    version: str = "1",
    timeout: Duration | None = None,
    retries: int | None = None,
    step_timeout: Duration | None = None,
    retry: RetryPolicy | None = None,
    types: Iterable[type] = (),
    patches: Iterable[str] = (),
) -> WorkflowBuilder:
    """Start declaring a workflow.

    `version` is yours, kept with every instance. `timeout` (seconds or timedelta) bounds the whole: an instance that
    has not ended by then notices at its next checkpoint or timer, is undone and fails with `WorkflowTimeout`; a retry
    gives it the same time again, and an instance keeps the limit that it was started with. `retries`, `step_timeout`
    (seconds or timedelta an attempt) and `retry` are defaults for its steps. `types` are dataclasses, models or enums
    that may be stored in `ctx.data` and outputs; those of `.input(...)` and `.data(...)` are known already. `patches`
    are names for `ctx.patch(name)`: true in instances that were started since the name was declared here.
    """
    check_workflow_name(name)
    where = f"workflow {name!r}"
    if type(version) is not str or not version:
        message = f'{where}: version must be a non-empty string such as "1"; got {version!r}'
        raise DefinitionError(message)
    checked = checked_retry(where, retry)
    return WorkflowBuilder(
        name,
        version,
        checked_retries(where, retries),
        checked_timeout(where, step_timeout, "step_timeout"),
        checked,
        tuple(types),
        whole=checked_workflow_timeout(where, timeout),
        patches=checked_names(where, "patches", patches),
    )
