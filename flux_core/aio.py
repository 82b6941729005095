"""The verbs for callers who run an event loop: each is a coroutine. It must not contain anything else of a verb.

A verb runs on a thread of the loop's executor with a copy of the caller's context variables, so the loop is never
blocked. `async def` handlers run on the kit's own loop, not on the caller's: what is bound to the caller's loop (an
open HTTP session) cannot be used in them. A coroutine that is cancelled stops waiting; the verb goes on to its end.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, ParamSpec, TypeVar

    from flux_core.engine import FluxEngine, Workflow
    from flux_core.instance import Instance

    P = ParamSpec("P")
    T = TypeVar("T")


class AsyncEngine:
    """`await engine.aio.execute(order, {...})`: every verb of the engine, with the same arguments and errors."""

    def __init__(self, engine: FluxEngine) -> None:
        """`engine` does the work and may be used directly beside this."""
        self.engine = engine
        self.execute = _awaited(engine.execute)
        self.execute_batch = _awaited(engine.execute_batch)
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
        self.get = _awaited(engine.get)
        self.list = _awaited(engine.list)
        self.audit = _awaited(engine.audit)
        self.check = _awaited(engine.check)
        self.delete = _awaited(engine.delete)

    def instance(self, workflow: Workflow, id: str) -> AsyncInstance:
        """A handle of one instance whose verbs are coroutines."""
        return AsyncInstance(self.engine.instance(workflow, id))


class AsyncInstance:
    """Like `Instance`; `await run.signal("approval")`."""

    def __init__(self, run: Instance) -> None:
        """Each attribute is the verb of that name (see `FluxEngine`), with workflow and id filled in."""
        self.workflow = run.workflow
        self.id = run.id
        self.execute = _awaited(run.execute)
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

    def __repr__(self) -> str:
        return f"<AsyncInstance {self.workflow}/{self.id}>"


def _awaited(verb: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio

        return await asyncio.to_thread(verb, *args, **kwargs)

    call.__name__, call.__doc__ = verb.__name__, verb.__doc__
    return call
