"""The verbs for callers who run an event loop: each is a coroutine. It must not contain anything else of a verb.

A verb runs on a thread of the loop's executor with a copy of the caller's context variables, so the loop is never
blocked. `async def` handlers run on the kit's own loop, not on the caller's: what is bound to the caller's loop (an
open HTTP session) cannot be used in them. A coroutine that is cancelled stops waiting; the verb goes on to its end.
"""

from __future__ import annotations

from flux_core.generics import Generic, Input

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from typing import Any, ParamSpec, TypeVar, overload

    from flux_core.engine import DeadlineLike, Declared, FluxEngine, Workflow
    from flux_core.generics import NoInput
    from flux_core.instance import Instance
    from flux_core.result import BatchResult, FluxResult

    P = ParamSpec("P")
    T = TypeVar("T")


class AsyncEngine:
    """`await engine.aio.execute(order, {...})`: every verb of the engine, with the same arguments and errors."""

    def __init__(self, engine: FluxEngine) -> None:
        """`engine` does the work and may be used directly beside this."""
        self.engine = engine
        self._execute: Callable[..., Any] = engine.execute
        self._execute_batch: Callable[..., Any] = engine.execute_batch
        self.signal = _awaited(engine.signal)
        self.retry_step = _awaited(engine.retry_step)
        self.resume = _awaited(engine.resume)
        self.cancel = _awaited(engine.cancel)
        self.pause = _awaited(engine.pause)
        self.unpause = _awaited(engine.unpause)
        self.complete_step = _awaited(engine.complete_step)
        self.skip_step = _awaited(engine.skip_step)
        self.wake = _awaited(engine.wake)
        self.recover = _awaited(engine.recover)
        self.sweep = _awaited(engine.sweep)
        self.callback = _awaited(engine.callback)
        self.get = _awaited(engine.get)
        self.list = _awaited(engine.list)
        self.audit = _awaited(engine.audit)
        self.check = _awaited(engine.check)
        self.delete = _awaited(engine.delete)

    if TYPE_CHECKING:

        @overload
        async def execute(
            self, workflow: Declared[NoInput], input: None = None, id: str | None = None,
            *, deadline: DeadlineLike | None = None, advance: bool = True,
        ) -> FluxResult: ...  # fmt: skip
        @overload
        async def execute(
            self, workflow: Declared[Input], input: Input | Mapping[str, object], id: str | None = None,
            *, deadline: DeadlineLike | None = None, advance: bool = True,
        ) -> FluxResult: ...  # fmt: skip
        @overload
        async def execute(
            self, workflow: str, input: object = None, id: str | None = None,
            *, deadline: DeadlineLike | None = None, advance: bool = True,
        ) -> FluxResult: ...  # fmt: skip

    async def execute(self, *args: Any, **named: Any) -> FluxResult:
        """`FluxEngine.execute`."""
        result: FluxResult = await _awaited(self._execute)(*args, **named)
        return result

    if TYPE_CHECKING:

        @overload
        async def execute_batch(
            self, workflow: Declared[Input], inputs: Iterable[Input | Mapping[str, object]],
            *, ids: Sequence[str] | Callable[[Any], str] | None = None, concurrency: int = 8,
            on_progress: Callable[[int, int], object] | None = None,
        ) -> BatchResult: ...  # fmt: skip
        @overload
        async def execute_batch(
            self, workflow: str, inputs: Iterable[object],
            *, ids: Sequence[str] | Callable[[Any], str] | None = None, concurrency: int = 8,
            on_progress: Callable[[int, int], object] | None = None,
        ) -> BatchResult: ...  # fmt: skip

    async def execute_batch(self, *args: Any, **named: Any) -> BatchResult:
        """`FluxEngine.execute_batch`."""
        result: BatchResult = await _awaited(self._execute_batch)(*args, **named)
        return result

    if TYPE_CHECKING:

        @overload
        def instance(self, workflow: Declared[Input], id: str) -> AsyncInstance[Input]: ...
        @overload
        def instance(self, workflow: str, id: str) -> AsyncInstance: ...

    def instance(self, workflow: Workflow, id: str) -> AsyncInstance:
        """A handle of one instance whose verbs are coroutines."""
        return AsyncInstance(self.engine.instance(workflow, id))


class AsyncInstance(Generic[Input]):
    """Like `Instance`; `await run.signal("approval")`."""

    def __init__(self, run: Instance[Input]) -> None:
        """Each attribute is the verb of that name (see `FluxEngine`), with workflow and id filled in."""
        self.workflow = run.workflow
        self.id = run.id
        self._execute: Callable[..., Any] = run.execute
        self.signal = _awaited(run.signal)
        self.retry_step = _awaited(run.retry_step)
        self.resume = _awaited(run.resume)
        self.cancel = _awaited(run.cancel)
        self.pause = _awaited(run.pause)
        self.unpause = _awaited(run.unpause)
        self.complete_step = _awaited(run.complete_step)
        self.skip_step = _awaited(run.skip_step)
        self.wake = _awaited(run.wake)
        self.get = _awaited(run.get)
        self.audit = _awaited(run.audit)
        self.check = _awaited(run.check)
        self.delete = _awaited(run.delete)

    if TYPE_CHECKING:

        @overload
        async def execute(
            self: AsyncInstance[NoInput], input: None = None, *, deadline: DeadlineLike | None = None
        ) -> FluxResult: ...
        @overload
        async def execute(
            self, input: Input | Mapping[str, object], *, deadline: DeadlineLike | None = None
        ) -> FluxResult: ...

    async def execute(self, *args: Any, **named: Any) -> FluxResult:
        """`Instance.execute`."""
        result: FluxResult = await _awaited(self._execute)(*args, **named)
        return result

    def __repr__(self) -> str:
        return f"<AsyncInstance {self.workflow}/{self.id}>"


def _awaited(verb: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio

        return await asyncio.to_thread(verb, *args, **kwargs)

    call.__name__, call.__doc__ = verb.__name__, verb.__doc__
    return call
