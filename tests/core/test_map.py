"""`.map`: a body for each item, several at the same time, every step of every item a checkpoint of its own."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import DefinitionError, FluxEngine, MemoryStorage, NonRetryable, create_workflow, flow
from flux_core.codec import decode_state, encode_state
from flux_core.load import load
from flux_core.testing import check_invariants
from tests.core.conftest import Killed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_core import Context, FluxResult
    from tests.core.conftest import Lab


@dataclass
class Order:
    lines: list[str]


def statuses(result: FluxResult) -> dict[str, str]:
    return {step.path: step.status for step in result.history}


class TestAMap:
    def test_runs_its_body_for_each_item_and_brings_their_outputs_in_order(self, lab: Lab) -> None:
        body = flow().step("a", lambda ctx: ctx.item * 10).step("b", lambda ctx: ctx.results["a"] + ctx.iteration)
        w = create_workflow("order").map("ship", [3, 1, 2], body).step("end", lambda ctx: ctx.results["ship[1].a"])
        result = lab.engine().execute(w, None, "o-1")
        assert result.history[0].output == [30, 11, 22]
        assert result.history[0].decision == 3
        assert result.history[-1].output == 10
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_takes_its_items_from_a_function_the_input_or_the_data(self, lab: Lab) -> None:
        def shout(ctx: Context) -> str:
            return str(ctx.item).upper()

        def generated(ctx: Context) -> Iterator[str]:
            lab.calls.append("asked")
            return iter(("g", "h"))

        async def later(ctx: Context) -> tuple[str, ...]:
            return ("i",)

        def store(ctx: Context) -> None:
            ctx.data["found"] = {"lines": ["d"]}

        w = create_workflow("order").input(Order).step("store", store)
        w.map("m1", "input.lines", shout).map("m2", "data.found.lines", shout)
        w.map("m3", generated, shout).map("m4", later, shout).map("m5", lambda ctx: ctx.input.lines, shout)
        result = lab.engine().execute(w, Order(["a", "b"]), "o-1")
        outputs = {step.path: step.output for step in result.history}
        assert [outputs[f"m{n}"] for n in range(1, 6)] == [["A", "B"], ["D"], ["G", "H"], ["I"], ["A", "B"]]
        assert lab.calls == ["asked"]

    def test_of_no_items_is_completed_with_an_empty_list(self, lab: Lab) -> None:
        result = lab.engine().execute(create_workflow("order").map("ship", [], lab.note("a")), None, "o-1")
        assert [(step.path, step.status, step.output) for step in result.history] == [("ship", "completed", [])]

    @pytest.mark.parametrize("answer", [None, 3, "text", {"a": 1}])
    def test_whose_items_are_no_list_fails_at_once(self, answer: object, lab: Lab) -> None:
        w = create_workflow("order").map("ship", lambda ctx: ctx.input, lab.note("a"))
        result = lab.engine().execute(w, answer, "o-1")
        assert (result.status, result.history[0].attempt) == ("failed", 1)
        assert "the items of map 'ship' must be a list" in str(result.error)

    def test_records_its_items_so_that_no_resume_asks_again(self, lab: Lab) -> None:
        def items(ctx: Context) -> list[int]:
            lab.calls.append("asked")
            return [len(lab.calls), 7]

        def work(ctx: Context) -> int:
            if ctx.item == 7 and "died" not in lab.calls:
                lab.calls.append("died")
                raise Killed
            return int(ctx.item)

        w = create_workflow("order").map("ship", items, work, max_concurrency=1)
        with pytest.raises(Killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        result = lab.engine().wake(w, "o-1")
        assert (result.history[0].output, lab.calls) == ([1, 7], ["asked", "died"])

    def test_items_belong_to_the_instance_and_each_attempt_gets_a_copy(self, lab: Lab) -> None:
        def spoil(ctx: Context) -> object:
            ctx.item.append(1)
            if ctx.attempt == 1:
                raise ValueError
            return ctx.item

        result = lab.engine().execute(create_workflow("order").map("ship", [[0]], spoil), None, "o-1")
        assert result.history[0].output == [[0, 1]] or result.history[0].output == [[0]]
        assert load(lab.storage, lab.ref("o-1")).state.items == {"ship": [[0]]}

    def test_has_at_most_so_many_items_in_progress(self, lab: Lab) -> None:
        body = flow().step("a", lambda ctx: lab.calls.append(f"a{ctx.item}")).wait("ask", "go")
        w = create_workflow("order").map("ship", list(range(5)), body, max_concurrency=2)
        lab.engine().execute(w, None, "o-1")
        assert lab.calls == ["a0", "a1"]
        lab.engine().signal(w, "o-1", "go")
        assert lab.calls == ["a0", "a1", "a2"]
        last = [lab.engine().signal(w, "o-1", "go").status for _ in range(4)][-1]
        assert (last, len(lab.calls)) == ("completed", 5)
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_in_a_loop_and_a_map_in_a_map_have_their_own_items(self, lab: Lab) -> None:
        inner = flow().map("inner", lambda ctx: [ctx.item, ctx.item + 1], lambda ctx: ctx.item * 100)
        w = create_workflow("order").loop("twice", 2, flow().map("outer", [1, 5], inner))
        result = lab.engine().execute(w, None, "o-1")
        outputs = {step.path: step.output for step in result.history}
        assert outputs["twice"] == [[100, 200], [500, 600]]
        assert outputs["twice[1].outer[1].inner[0].run"] == 500
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_is_undone_in_reverse_order_of_completion_with_the_items(self, lab: Lab) -> None:
        def pay(ctx: Context) -> None:
            lab.calls.append(f"pay {ctx.item}")
            ctx.data[ctx.item] = ctx.idempotency_key

        def refund(ctx: Context) -> None:
            assert ctx.data[ctx.item]
            lab.calls.append(f"refund {ctx.item}")

        def fail(ctx: Context) -> None:
            raise NonRetryable("no")

        w = create_workflow("order").map("ship", ["a", "b", "c"], flow().commit("pay", pay, compensate=refund))
        result = lab.engine().execute(w.step("end", fail), None, "o-1")
        assert result.status == "rolled_back"
        assert lab.calls == ["pay a", "pay b", "pay c", "refund c", "refund b", "refund a"]
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_goes_through_ten_thousand_items_over_many_invocations(self, lab: Lab) -> None:
        def work(ctx: Context) -> int:
            lab.calls.append("work")
            if len(lab.calls) % 2500 == 0:
                raise Killed
            return int(ctx.item)

        w = create_workflow("order").map("ship", list(range(10_000)), work)
        with pytest.raises(Killed):
            lab.engine().execute(w, None, "o-1")
        while lab.engine().get(w, "o-1").status != "completed":
            lab.past_the_lease()
            with suppress(Killed):
                lab.engine().wake(w, "o-1")
        assert lab.engine().get(w, "o-1").history[0].output == list(range(10_000))
        assert len(lab.calls) <= 10_000 + 4 * 10  # at most the items in flight again

    def test_is_handed_over_when_the_time_of_the_invocation_ends(self, lab: Lab) -> None:
        def slow(ctx: Context) -> None:
            lab.clock.advance(1)
            lab.calls.append(str(ctx.item))

        w = create_workflow("order").map("ship", list(range(20)), slow, timeout=5, max_concurrency=1)
        result = lab.engine().execute(w, None, "o-1", deadline=8)
        count = 1
        while result.status != "completed":
            result = lab.engine().wake(w, "o-1", deadline=8)
            count += 1
        assert len(lab.calls) == 20
        assert count > 2
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_survives_a_snapshot_in_the_middle(self, lab: Lab) -> None:
        def write(ctx: Context) -> None:
            ctx.data[f"k{ctx.item}"] = {"bytes": b"x", "n": ctx.item}

        w = create_workflow("order").map("ship", [1, 2, 3], flow().step("write", write).wait("ask", "go"))
        lab.engine().execute(w, None, "o-1")
        state = load(lab.storage, lab.ref("o-1")).state
        again = decode_state(encode_state(state), lab.ref("o-1"), state.seq)
        assert encode_state(again) == encode_state(state)
        assert again.frames["ship"].fork is not None
        assert again.frames["ship"].fork.writes["ship[1]"].set == {"k2": {"bytes": b"x", "n": 2}}

    def test_costs_one_record_a_step_and_one_for_the_items(self, lab: Lab) -> None:
        w = create_workflow("order").map("ship", [1, 2, 3], flow().step("a", lab.note("a")).commit("b", lab.note("b")))
        lab.engine().execute(w, None, "o-1")
        assert sorted(lab.types("o-1")) == sorted(["start", "decide", *["step", "intent", "step"] * 3, "end"])


class TestItsData:
    def test_comes_together_in_the_order_of_the_items(self, lab: Lab) -> None:
        w = create_workflow("order").map("ship", ["b", "a"], lambda ctx: ctx.data.update({ctx.item: 1}))
        assert list(lab.engine().execute(w, None, "o-1").data) == ["b", "a"]

    def test_key_written_by_two_items_is_a_conflict_unless_it_is_merged(self, lab: Lab) -> None:
        def count(ctx: Context) -> None:
            ctx.data["sum"] = ctx.item

        result = lab.engine().execute(create_workflow("order").map("ship", [1, 2, 3], count), None, "o-1")
        assert "'ship[0]' and 'ship[1]' and 1 more have both written ctx.data['sum']" in str(result.error)
        w = create_workflow("other").map("ship", [1, 2, 3], count, merge={"sum": sum})
        assert lab.engine().execute(w, None, "o-1").data == {"sum": 6}


class TestRetry:
    def test_of_one_item_leaves_the_others_alone(self, lab: Lab) -> None:
        def work(ctx: Context) -> str:
            lab.calls.append(f"{ctx.path}")
            ctx.data[ctx.item] = lab.calls.count(f"{ctx.path}")
            return f"{ctx.item}{lab.calls.count(f'{ctx.path}')}"

        w = create_workflow("order").map("ship", ["a", "b", "c"], work).step("end", lambda ctx: dict(ctx.data))
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().retry_step(w, "o-1", "ship[1].work", force=True)
        assert lab.calls == ["ship[0].work", "ship[1].work", "ship[2].work", "ship[1].work"]
        assert (result.history[0].output, result.history[-1].output) == (["a1", "b2", "c1"], {"a": 1, "b": 2, "c": 1})
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_that_opens_several_items_again_runs_as_many_at_a_time_as_ever(self, lab: Lab) -> None:
        def last(ctx: Context) -> None:
            lab.calls.append(f"b{ctx.item}")
            if ctx.item == 2 and lab.calls.count("b2") == 1:
                raise NonRetryable("not yet")

        body = flow().step("a", lambda ctx: lab.calls.append(f"a{ctx.item}"), compensate=lambda ctx: None)
        w = create_workflow("order").map("ship", [0, 1, 2], body.step("b", last), max_concurrency=1)
        assert lab.engine().execute(w, None, "o-1").status == "rolled_back"
        lab.calls.clear()
        lab.calls += ["b2", "|"]
        assert lab.engine().retry_step(w, "o-1", "ship[2].b").status == "completed"
        assert lab.calls == ["b2", "|", "a2", "b2", "a0", "b0", "a1", "b1"]

    @pytest.mark.parametrize("iterations", [1, 2])
    def test_of_a_while_in_an_item_keeps_what_its_iterations_have_written(self, lab: Lab, iterations: int) -> None:
        def work(ctx: Context) -> None:
            lab.calls.append(f"{ctx.path}")
            ctx.data.log = [*ctx.data.get("log", []), ctx.path]

        body = flow().while_("again", lambda ctx: ctx.iteration < iterations, flow().step("work", work))
        w = create_workflow("order").map("each", [0, 1], body, merge={"log": lambda logs: [*logs[0], *logs[1]]})
        done = lab.engine().execute(w, None, "o-1")
        calls = list(lab.calls)
        result = lab.engine().retry_step(w, "o-1", "each[1].again", force=True)
        assert (result.status, result.data, lab.calls) == ("completed", done.data, calls)
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_of_a_failed_map_goes_on_with_the_items_that_are_left(self, lab: Lab) -> None:
        def work(ctx: Context) -> int:
            lab.calls.append(str(ctx.item))
            if ctx.item == 2 and lab.calls.count("2") == 1:
                raise NonRetryable("not yet")
            return int(ctx.item)

        w = create_workflow("order").map("ship", list(range(5)), work, max_concurrency=1)
        assert lab.engine().execute(w, None, "o-1").status == "failed"
        result = lab.engine().resume(w, "o-1")
        assert (result.status, result.history[0].output) == ("completed", [0, 1, 2, 3, 4])
        assert lab.calls == ["0", "1", "2", "2", "3", "4"]


class TestADefinition:
    @pytest.mark.parametrize("items", [3, None, "orders", "ctx.orders"])
    def test_with_wrong_items_says_what_they_may_be(self, items: Any) -> None:
        with pytest.raises(DefinitionError, match="items must be a list, a function of the context, or where they are"):
            create_workflow("order").map("ship", items, lambda ctx: None)

    def test_outside_of_a_map_there_is_no_item(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: ctx.item)
        assert "is in no map, so it has no item" in str(lab.engine(default_retries=0).execute(w, None, "o-1").error)

    def test_of_a_step_that_takes_its_time_has_its_items_run_at_the_same_time(self) -> None:
        met = threading.Barrier(4, timeout=20)
        w = create_workflow("order").map("ship", list(range(12)), lambda ctx: met.wait() >= 0, max_concurrency=4)
        assert FluxEngine(MemoryStorage()).execute(w).history[0].output == [True] * 12

    def test_runs_on_threads_with_a_real_clock(self) -> None:
        w = create_workflow("order").map("ship", list(range(200)), lambda ctx: ctx.item)
        result = FluxEngine(MemoryStorage()).execute(w)
        assert result.history[0].output == list(range(200))
