"""What a verb returns. Values only; they must not reach back into the store."""

from __future__ import annotations

from flux_core.context import Results, history
from flux_core.errors import WorkflowFailed
from flux_core.state import BLOCKED, CANCELLED, FAILED, ROLLED_BACK, STUCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, overload

    from flux_core.generics import Async, Output, Plain, Suspending
    from flux_core.state import ErrorInfo, StepExecution, WorkflowState
    from flux_core.workflow import WorkflowDefinition

_BAD = frozenset({FAILED, ROLLED_BACK, CANCELLED, STUCK, BLOCKED})


class FluxResult:
    """The instance as the verb left it."""

    __slots__ = ("_definition", "_history", "created", "data", "duration", "error", "id", "state", "status", "workflow")

    def __init__(
        self, state: WorkflowState, definition: WorkflowDefinition, duration: float, *, created: bool = False
    ) -> None:
        self._definition: WorkflowDefinition | None = definition
        self.state = state
        """Everything that is known of the instance."""
        self.workflow = state.name
        self.id = state.id
        self.status = state.status
        self.data: dict[str, object] = dict(state.data)
        self._history: list[StepExecution] | None = None
        self.error: ErrorInfo | None = state.error or state.failure
        """Why it failed, is stuck, blocked or was cancelled; `str()` is the message."""
        self.duration = duration
        """Seconds this call took."""
        self.created = created
        """Whether this call created the instance."""

    @property
    def history(self) -> list[StepExecution]:
        """One entry a step in definition order. The same list every time."""
        if self._history is None:
            self._history = history(self.state)
        return self._history

    if TYPE_CHECKING:

        @overload
        def output(self, step: str) -> Any: ...
        @overload
        def output(self, step: Suspending) -> Any: ...
        @overload
        def output(self, step: Async[Output]) -> Output: ...
        @overload
        def output(self, step: Plain[Output]) -> Output: ...

    def output(self, step: object) -> Any:
        """The output of a completed step: by its name, its path (`poll[17].fetch`) or its handler, as `ctx.results`.

        `KeyError` if there is none, `DefinitionError` if a function is the handler of several steps.
        """
        return Results(self.state.steps, "", self._definition)[step]  # type: ignore[call-overload]

    def raise_for_status(self) -> FluxResult:
        """Itself, or `WorkflowFailed` if the instance failed, was undone or cancelled, or needs an operator."""
        if self.status in _BAD:
            at = f" at step {self.error.step!r}" if self.error is not None and self.error.step else ""
            message = f"workflow {self.workflow!r}, id {self.id!r} is {self.status}{at}: {self.error}"
            raise WorkflowFailed(message)
        return self

    def __getstate__(self) -> tuple[None, dict[str, object]]:
        """A copy in another process has no functions."""
        return None, {name: None if name == "_definition" else getattr(self, name) for name in self.__slots__}

    def __repr__(self) -> str:
        return f"<FluxResult {self.workflow}/{self.id} {self.status}>"


class BatchItem:
    """One input of `execute_batch` and what became of it."""

    __slots__ = ("error", "id", "index", "result", "status", "success")

    def __init__(self, index: int, result: FluxResult | None, error: BaseException | None) -> None:
        self.index = index
        self.result = result
        self.id = None if result is None else result.id
        self.status = None if result is None else result.status
        self.success = result is not None and result.status not in _BAD
        self.error: object = error if result is None else result.error
        """The exception that `execute` raised, or the instance's error."""

    def __repr__(self) -> str:
        return f"<BatchItem {self.index} {self.id} {self.status or self.error!r}>"


class BatchResult:
    """What became of all the inputs of `execute_batch`, in their order."""

    __slots__ = ("failed", "results", "succeeded", "total")

    def __init__(self, results: list[BatchItem]) -> None:
        self.results = results
        self.total = len(results)
        self.succeeded = sum(item.success for item in results)
        self.failed = self.total - self.succeeded

    def __repr__(self) -> str:
        return f"<BatchResult {self.succeeded} of {self.total} succeeded>"


class InstanceSummary:
    """An entry of `engine.list(...)`: what the list index knows, as of the instance's last episode boundary."""

    __slots__ = ("created_at", "due", "id", "status", "tenant", "updated_at", "workflow")

    def __init__(
        self,
        tenant: str,
        workflow: str,
        id: str,
        status: str,
        created_at: int,
        updated_at: int,
        due: int | None,
    ) -> None:
        self.tenant = tenant
        self.workflow = workflow
        self.id = id
        self.status = status
        self.created_at = created_at
        """Milliseconds since the epoch, like `updated_at` and `due`."""
        self.updated_at = updated_at
        self.due = due

    def __repr__(self) -> str:
        return f"<{self.workflow}/{self.id} {self.status}>"


class InstancePage:
    """One page of `engine.list(...)`; `cursor` fetches the next, None says that this was the last."""

    __slots__ = ("cursor", "items")

    def __init__(self, items: list[InstanceSummary], cursor: str | None) -> None:
        self.items = items
        self.cursor = cursor
