"""`FluxTest` runs workflows in process: the engine's verbs, its options, and what a run shows of its instance."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    Conflict,
    DefinitionError,
    MemoryStorage,
    NonRetryable,
    Refused,
    Unknown,
    UnknownInstance,
    create_workflow,
    wait,
)
from flux_core.keys import idempotency_key
from flux_core.testing import FluxTest
from tests.kit.orders import INPUT, order_workflow

if TYPE_CHECKING:
    from flux_core import Context, WorkflowBuilder


class TestARun:
    def test_is_what_the_handlers_made_of_it(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        run = flux.execute(order, INPUT, id="o-1")
        assert (run.workflow, run.id, run.created, run.status) == ("order", "o-1", True, "suspended")
        assert run.waiting_for == ("approval",)
        run.signal("approval", {"by": "Ada"})
        assert not run.waiting_for
        flux.advance(hours=1)
        assert run.status == run.result.status == "completed"
        assert run.data == {"charged": 5}
        assert [step.status for step in run.history] == ["completed"] * 4
        assert run.output("ship") == "shipped, Ada agrees"
        assert run.error is None
        assert repr(run) == "<Run order/o-1 completed>"

    def test_of_the_same_id_and_input_is_the_one_there_is(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        assert flux.execute(order, INPUT, id="o-1").created
        assert not flux.execute(order, INPUT, id="o-1").created
        with pytest.raises(Conflict, match="exists already with other input"):
            flux.execute(order, {"amount": 6}, id="o-1")

    def test_without_an_id_has_one_that_repeats_with_the_seed(self) -> None:
        order = order_workflow()
        first, again, other = (FluxTest(order, seed=seed).execute(order, INPUT).id for seed in (1, 1, 2))
        assert first == again != other

    def test_can_be_had_by_its_id(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        flux.execute(order, INPUT, id="o-1")
        assert flux.instance("order", "o-1").waiting_for == ("approval",)
        with pytest.raises(UnknownInstance, match="'o-2'"):
            flux.instance(order, "o-2")

    def test_tells_the_idempotency_key_that_a_step_was_given(self) -> None:
        seen = []
        flow = create_workflow("flow").step("pay", lambda ctx: seen.append(ctx.idempotency_key))
        run = FluxTest(flow).execute(flow, id="1")
        assert seen == [run.idempotency_key("pay")] == [idempotency_key("default", "flow", "1", "pay", 0)]
        assert run.idempotency_key("pay", undo=True) == idempotency_key("default", "flow", "1", "pay~undo", 0)

    def test_may_be_of_a_workflow_that_was_not_announced(self) -> None:
        order = order_workflow()
        assert FluxTest().execute(order, INPUT).waiting_for == ("approval",)


class TestVerbs:
    def test_signals_may_come_early_twice_and_too_late(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: wait("first")).step("b", lambda ctx: wait("second"))
        flux = FluxTest(flow)
        run = flux.execute(flow)
        run.signal("second", 2)
        run.signal("second", 2, dedupe_id="mail-1")
        run.signal("second", 2, dedupe_id="mail-1")
        with pytest.raises(Conflict):
            run.signal("second", 3, dedupe_id="mail-1")
        run.assert_waiting("first")
        assert run.signal("first", 1).status == "completed"
        with pytest.raises(Refused, match="it has completed"):
            run.signal("first", 4)

    def test_an_assertion_may_follow_a_verb(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: wait("first")).step("b", lambda ctx: wait("second"))
        run = FluxTest(flow).execute(flow)
        run.pause().assert_status("paused")
        run.unpause().signal("first", 1).assert_waiting("second").assert_step("a", output=1)
        run.complete_step("b", 2).assert_completed()

    def test_cancel_undoes(self) -> None:
        order = order_workflow()
        run = FluxTest(order).execute(order, INPUT)
        assert run.cancel("ordered twice", who="ada").status == "cancelled"
        assert run.data == {"charged": 5, "refunded": True}
        assert str(run.error) == "ordered twice"

    def test_a_failed_step_is_retried_or_resumed(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: None).step("b", lambda ctx: ctx.data.get("n"))
        flux = FluxTest(flow)
        flux.stub("b", raises=NonRetryable("broken"))
        run = flux.execute(flow)
        run.assert_failed("broken")
        assert run.resume(who="ada", why="perhaps now").status == "failed"
        flux.unstub("b")
        assert run.retry_step("b", data={"n": 7}, who="ada", why="it is mended").status == "completed"
        assert run.output("b", int) == 7

    def test_a_stuck_step_is_completed_or_skipped(self) -> None:
        flow = create_workflow("flow").commit("pay", lambda ctx: None).commit("post", lambda ctx: None)
        flux = FluxTest(flow)
        for step in ("pay", "post"):
            flux.stub(step, raises=Unknown("silence"))
        run = flux.execute(flow)
        assert run.complete_step("pay", {"id": 1}, who="ada", why="seen").status == "stuck"
        assert run.skip_step("post").status == "completed"
        run.assert_step("pay", status="completed", output={"id": 1}).assert_step("post", status="skipped")

    def test_a_paused_run_waits_for_the_end_of_the_pause(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        run = flux.execute(order, INPUT)
        run.pause(who="ada", why="stocktaking")
        flux.advance(days=4)
        run.assert_status("paused")
        run.unpause()
        run.assert_rolled_back("in time", step="approval")

    def test_wake_is_harmless(self) -> None:
        order = order_workflow()
        assert FluxTest(order).execute(order, INPUT).wake().status == "suspended"

    def test_all_other_verbs_are_the_engine_s(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        flux.stub("charge", returns={"id": "ch_1"})
        assert flux.engine.execute_batch(order, [INPUT] * 3, concurrency=1).succeeded == 3
        page = flux.engine.list(status="suspended")
        assert {flux.instance(order, item.id).output("charge")["id"] for item in page.items} == {"ch_1"}


class TestOptions:
    def test_are_the_engine_s(self) -> None:
        told: list[str] = []
        flow = create_workflow("flow").step("a", lambda ctx: 1 / 0)
        flux = FluxTest(flow, default_retries=1, on={"step_error": lambda name, ctx, error: told.append(error.type)})
        run = flux.execute(flow)
        run.assert_failed(ZeroDivisionError).assert_step("a", attempts=2)
        assert told == ["ZeroDivisionError"]

    @pytest.mark.parametrize("taken", ["clock", "entropy", "workflows"])
    def test_what_the_kit_brings_itself_is_refused(self, taken: str) -> None:
        options: dict[str, Any] = {taken: None}
        with pytest.raises(DefinitionError, match=f"FluxTest brings its own {taken}"):
            FluxTest(**options)

    def test_a_given_store_may_be_shared_and_the_tenants_keep_tests_apart(self) -> None:
        order, store = order_workflow(), MemoryStorage()
        one, other = FluxTest(order, storage=store), FluxTest(order, storage=store)
        first, second = one.execute(order, INPUT, id="o-1"), other.execute(order, {"amount": 6}, id="o-1")
        assert first.created
        assert second.created
        one.advance(days=3)
        first.assert_rolled_back()
        second.assert_waiting("approval")

    def test_a_given_tenant_is_taken(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: ctx.tenant)
        assert FluxTest(flow, tenant="acme").execute(flow).output("a") == "acme"
        assert FluxTest(flow).execute(flow).output("a") == "default"

    def test_the_logger_still_hears_everything(self) -> None:
        heard: list[str] = []

        class Ear:
            def debug(self, message: str, **fields: object) -> None:
                heard.append(message)

            info = warn = error = debug

        def talk(ctx: Context) -> None:
            ctx.log.info("hello")
            ctx.log.warn("oh")

        flow = create_workflow("flow").step("talk", talk)
        FluxTest(flow, logger=Ear()).execute(flow)
        assert [line for line in heard if line in {"hello", "oh"}] == ["hello", "oh"]


class TestTheUsersDefinition:
    def test_is_left_as_it_was(self) -> None:
        def real(ctx: Context) -> str:
            return "real"

        flow = create_workflow("flow").step("a", real).build()
        before = flow.describe()
        flux = FluxTest(flow)
        flux.stub("a", returns="stubbed")
        assert flux.execute(flow).output("a") == "stubbed"
        assert flow.steps[0].handler is real
        assert flow.describe() == before
        assert FluxTest(flow).execute(flow).output("a") == "real"

    def test_the_latest_of_a_name_is_the_one_that_runs(self) -> None:
        def version(text: str) -> WorkflowBuilder:
            return create_workflow("flow").step("ask", lambda ctx: wait("go")).step("say", lambda ctx: text)

        flux = FluxTest()
        run = flux.execute(version("old"), id="1")
        flux.execute(version("new"), id="2")
        run.signal("go")
        assert run.output("say") == "new"


def test_handlers_may_be_async_and_no_thread_is_started() -> None:
    async def look_up(ctx: Context) -> int:
        return 42

    async def fail(ctx: Context) -> None:
        raise NonRetryable("no")

    flow = create_workflow("flow").step("look-up", look_up).step("fail", fail)
    before = threading.active_count()
    run = FluxTest(flow).execute(flow)
    assert run.output("look-up", int) == 42
    run.assert_failed(NonRetryable)
    assert threading.active_count() == before
