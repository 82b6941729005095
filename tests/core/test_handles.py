"""`engine.instance` and `engine.aio`: the engine's verbs, with the two names filled in, and as coroutines."""

from __future__ import annotations

import asyncio
import inspect
from contextvars import ContextVar
from threading import Barrier, get_ident
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import CallerError, FluxEngine, FluxResult, UnknownInstance, UnknownWorkflow, create_workflow, wait

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from flux_core import Context, WorkflowBuilder
    from tests.core.conftest import Lab

    def _types(engine: FluxEngine) -> None:
        """Held by the type checker alone: the handles keep the verbs' signatures."""
        from typing import assert_type

        run = engine.instance("order", "o-1")
        assert_type(run.signal("go", {"n": 1}, dedupe_id="m"), FluxResult)
        assert_type(run.delete(force=True), None)
        _ = assert_type(engine.aio.execute("order", 1, "o-1", deadline=5.0), Coroutine[Any, Any, FluxResult])
        _ = assert_type(engine.aio.instance("order", "o-1").get(), Coroutine[Any, Any, FluxResult])
        run.signal()  # type: ignore[call-arg]
        _ = engine.aio.execute()  # type: ignore[call-overload]


PER_INSTANCE = (
    "execute", "signal", "retry_step", "resume", "cancel", "pause", "unpause", "complete_step", "skip_step", "wake",
    "get", "audit", "check", "delete",
)  # fmt: skip
NOT_A_VERB = {"aio", "describe", "instance", "workflows", "redacted", "scheduled", "storage"}


def order(lab: Lab) -> WorkflowBuilder:
    return create_workflow("order").step("a", lambda ctx: wait("go")).step("b", lab.note("b"))


def verbs_of(kind: type) -> set[str]:
    return {
        name
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and not name.startswith("_") and name not in NOT_A_VERB
    }


class TestTheHandle:
    def test_drives_its_instance(self, lab: Lab) -> None:
        run = lab.engine().instance(order(lab), "o-1")
        assert run.execute({"n": 1}).created
        assert run.status == "suspended"
        assert run.pause(who="ann").status == "paused"
        assert run.unpause().status == "suspended"
        assert run.signal("go", 7).status == "completed"
        assert [entry.verb for entry in run.audit()] == ["pause", "unpause"]
        assert run.retry_step("b", force=True).status == "completed"
        assert run.check().possible
        assert (run.get().history[0].output, repr(run)) == (7, "<Instance order/o-1>")
        lab.clock.advance(3600)
        run.delete()
        with pytest.raises(UnknownInstance):
            run.get()

    def test_has_every_verb_that_names_an_instance(self, lab: Lab) -> None:
        run = lab.engine().instance(order(lab), "o-1")
        not_of_one = {"callback", "execute_batch", "list", "recover", "sweep"}
        assert verbs_of(FluxEngine) - not_of_one == set(PER_INSTANCE)
        for name in PER_INSTANCE:
            assert callable(getattr(run, name))
            assert getattr(run, name).__doc__

    def test_takes_a_registered_name_and_refuses_an_unknown_one_at_once(self, lab: Lab) -> None:
        engine = lab.engine(workflows=[order(lab)])
        assert engine.instance("order", "o-1").execute().status == "suspended"
        with pytest.raises(UnknownWorkflow):
            engine.instance("ordr", "o-1")

    def test_refuses_an_id_that_is_no_name_at_once(self, lab: Lab) -> None:
        with pytest.raises(CallerError, match="the id"):
            lab.engine().instance(order(lab), "a/b")


class TestTheCoroutines:
    def test_are_all_the_verbs_with_the_same_results(self, lab: Lab) -> None:
        async def play() -> list[str]:
            aio = lab.engine(workflows=[order(lab)]).aio
            statuses = [(await aio.execute("order", None, "o-1")).status]
            run = aio.instance("order", "o-1")
            statuses.append((await run.pause()).status)
            statuses.append((await run.unpause()).status)
            statuses.append((await aio.signal("order", "o-1", "go")).status)
            assert [item.id for item in (await aio.list()).items] == ["o-1"]
            assert await aio.recover() == []
            assert (await aio.execute_batch("order", [1, 2])).total == 2
            return statuses

        assert asyncio.run(play()) == ["suspended", "paused", "suspended", "completed"]

    def test_lack_no_verb(self, lab: Lab) -> None:
        aio = lab.engine(workflows=[order(lab)]).aio
        for name in verbs_of(FluxEngine):
            assert inspect.iscoroutinefunction(getattr(aio, name)), name
        for name in PER_INSTANCE:
            assert inspect.iscoroutinefunction(getattr(aio.instance("order", "o-1"), name)), name

    def test_raise_what_the_verbs_raise(self, lab: Lab) -> None:
        with pytest.raises(UnknownInstance):
            asyncio.run(lab.engine(workflows=[order(lab)]).aio.get("order", "o-1"))

    def test_run_at_the_same_time_and_leave_the_loop_free(self) -> None:
        meet = Barrier(3, timeout=30)
        caller = get_ident()

        def together(ctx: Context) -> bool:
            meet.wait()
            return get_ident() != caller

        w = create_workflow("order").step("together", together)
        engine = FluxEngine()

        async def play() -> list[FluxResult]:
            one, two = (asyncio.ensure_future(engine.aio.execute(w)) for _ in range(2))
            await asyncio.to_thread(meet.wait)
            return [await one, await two]

        assert [result.history[0].output for result in asyncio.run(play())] == [True, True]

    def test_see_the_callers_context_variables(self) -> None:
        tenant: ContextVar[str] = ContextVar("tenant", default="nobody")

        async def play() -> FluxResult:
            tenant.set("ann")
            return await FluxEngine().aio.execute(create_workflow("order").step("a", lambda ctx: tenant.get()))

        assert asyncio.run(play()).history[0].output == "ann"

    def test_run_async_handlers(self) -> None:
        async def handler(ctx: Context) -> str:
            await asyncio.sleep(0)
            return "done"

        w = create_workflow("order").step("a", handler)

        async def play() -> FluxResult:
            return await FluxEngine().aio.execute(w)

        assert asyncio.run(play()).history[0].output == "done"
