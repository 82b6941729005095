"""The input is the caller's: checked before anything is written, the same for every step, and nobody changes it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
import pydantic
import pytest

from flux_core import CallerError, Conflict, Context, InputInvalid, create_workflow, wait

if TYPE_CHECKING:
    from tests.core.conftest import Lab


class PydanticOrder(pydantic.BaseModel):
    sku: str
    count: int = 1


@dataclass
class DataclassOrder:
    sku: str
    count: int = 1


class MsgspecOrder(msgspec.Struct):
    sku: str
    count: int = 1


class TypedDictOrder(TypedDict):
    sku: str
    count: int


def callable_order(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict) or "sku" not in raw:
        message = "an order needs a sku"
        raise ValueError(message)
    return {"count": 1, **raw}


SCHEMAS = [PydanticOrder, DataclassOrder, MsgspecOrder, TypedDictOrder, callable_order]
RAW = {"sku": "x-1", "count": 2}


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
class TestASchema:
    def test_gives_handlers_the_typed_input_in_the_first_run_and_after_a_resume(self, schema: Any, lab: Lab) -> None:
        seen: list[Any] = []

        def look(ctx: Context) -> None:
            value = ctx.input
            seen.append((type(value), value["sku"] if isinstance(value, dict) else value.sku))

        w = create_workflow("order").input(schema).step("a", look).step("gate", lambda ctx: wait("go")).step("b", look)
        lab.engine().execute(w, RAW, "o-1")
        lab.engine().signal(w, "o-1", "go")
        expected = dict if schema in (TypedDictOrder, callable_order) else schema
        assert seen == [(expected, "x-1")] * 2

    def test_refuses_what_does_not_fit_before_anything_is_written(self, schema: Any, lab: Lab) -> None:
        w = create_workflow("order").input(schema).step("a", lab.note("a"))
        with pytest.raises(InputInvalid, match="sku"):
            lab.engine().execute(w, {"count": 1}, "o-1")
        assert lab.storage.tail(lab.ref("o-1")) is None
        assert lab.calls == []

    def test_agrees_with_the_same_raw_input(self, schema: Any, lab: Lab) -> None:
        w = create_workflow("order").input(schema).step("a", lab.note("a"))
        lab.engine().execute(w, RAW, "o-1")
        assert not lab.engine().execute(w, {"count": 2, "sku": "x-1"}, "o-1").created
        with pytest.raises(Conflict):
            lab.engine().execute(w, {"sku": "x-2", "count": 2}, "o-1")


@pytest.mark.parametrize("schema", [PydanticOrder, DataclassOrder, MsgspecOrder], ids=lambda schema: schema.__name__)
class TestAModel:
    def test_may_be_passed_built(self, schema: Any, lab: Lab) -> None:
        w = create_workflow("order").input(schema).step("a", lambda ctx: ctx.input.count)
        result = lab.engine().execute(w, schema(sku="x-1", count=2), "o-1")
        assert result.history[0].output == 2
        assert not lab.engine().execute(w, schema(sku="x-1", count=2), "o-1").created

    def test_may_be_kept_in_data_and_outputs_without_registering_it(self, schema: Any, lab: Lab) -> None:
        def keep(ctx: Context) -> object:
            ctx.data["order"] = ctx.input
            return ctx.input

        w = create_workflow("order").input(schema).step("a", keep).step("b", lambda ctx: wait("go"))
        w.step("c", lambda ctx: [ctx.data["order"], ctx.results["a"]])
        lab.engine().execute(w, RAW, "o-1")
        result = lab.engine().signal(w, "o-1", "go")
        assert result.history[2].output == [schema(sku="x-1", count=2)] * 2

    def test_that_a_handler_changes_fails_its_step(self, schema: Any, lab: Lab) -> None:
        def change(ctx: Context) -> None:
            ctx.input.count = 99

        w = create_workflow("order").input(schema).step("a", change)
        result = lab.engine().execute(w, RAW, "o-1")
        assert (result.status, result.error.type if result.error else None) == ("failed", "InputMutated")


def set_key(ctx: Context) -> None:
    ctx.input["new"] = 1


def change_nested(ctx: Context) -> None:
    ctx.input["items"][0]["n"] = 2


def append(ctx: Context) -> None:
    ctx.input["items"].append(1)


def remove(ctx: Context) -> None:
    del ctx.input["items"]


def change_type(ctx: Context) -> None:
    ctx.input["one"] = True


def put_an_object(ctx: Context) -> None:
    ctx.input["new"] = object()


class TestAHandlerThatChangesTheInput:
    @pytest.mark.parametrize("change", [set_key, change_nested, append, remove, change_type, put_an_object])
    def test_fails_its_step_without_a_retry_and_is_told_what_to_do(self, change: Any, lab: Lab) -> None:
        def handler(ctx: Context) -> None:
            lab.calls.append("a")
            change(ctx)

        raw = {"items": [{"n": 1}], "one": 1}
        result = lab.engine().execute(create_workflow("order").step("a", handler), raw, "o-1")
        assert (result.status, lab.calls) == ("failed", ["a"])
        assert "step 'a' changed ctx.input, which belongs to the caller; copy what you want to change" in str(
            result.error
        )
        assert raw == {"items": [{"n": 1}], "one": 1}, "nor did the caller's own object change"

    @pytest.mark.parametrize("change", [set_key, change_nested, append, remove])
    def test_changes_it_for_nobody_else(self, change: Any, lab: Lab) -> None:
        seen: list[Any] = []

        def undo(ctx: Context) -> None:
            seen.append(ctx.input)

        w = create_workflow("order").step("a", lab.note("a"), compensate=undo).step("b", change)
        raw = {"items": [{"n": 1}], "one": 1}
        result = lab.engine().execute(w, raw, "o-1")
        assert (result.status, seen) == ("rolled_back", [raw])
        assert lab.engine().get(w, "o-1").state.input == raw

    def test_and_then_raises_leaves_it_unchanged_for_the_next_attempt(self, lab: Lab) -> None:
        seen: list[Any] = []

        def handler(ctx: Context) -> None:
            seen.append(repr(ctx.input))
            if ctx.attempt == 1:
                ctx.input["items"].append(2)
                raise OSError

        lab.engine().execute(create_workflow("order").step("a", handler), {"items": [1]})
        assert seen == ["{'items': [1]}"] * 2

    def test_in_a_condition_fails_the_step_or_changes_nothing(self, lab: Lab) -> None:
        def when(ctx: Context) -> bool:
            ctx.input["items"].append(2)
            return True

        seen: list[Any] = []
        w = create_workflow("order", retries=0).step("a", lambda ctx: seen.append(list(ctx.input["items"])), when=when)
        result = lab.engine().execute(w, {"items": [1]})
        assert result.status == "failed" or seen == [[1]]

    def test_that_only_reads_it_is_fine(self, lab: Lab) -> None:
        def read(ctx: Context) -> object:
            return sorted(ctx.input["items"])

        result = lab.engine().execute(create_workflow("order").step("a", read), {"items": [2, 1]})
        assert result.history[0].output == [1, 2]

    def test_may_keep_a_part_of_it_in_data_and_change_that_later(self, lab: Lab) -> None:
        def keep(ctx: Context) -> None:
            ctx.data["items"] = ctx.input["items"]

        def change(ctx: Context) -> None:
            ctx.data["items"].append(2)

        w = create_workflow("order").step("a", keep).step("b", change).step("c", lambda ctx: ctx.input)
        result = lab.engine().execute(w, {"items": [1]})
        assert (result.status, result.data, result.history[2].output) == (
            "completed",
            {"items": [1, 2]},
            {"items": [1]},
        )


class TestTheRawInput:
    @pytest.mark.parametrize(
        "raw",
        [object(), {"x": object()}, [print], {"x": {"y": float}}],
        ids=["alone", "in a dict", "in a list", "deep"],
    )
    def test_that_cannot_be_stored_is_invalid_and_names_the_place(self, raw: Any, lab: Lab) -> None:
        with pytest.raises(InputInvalid, match="workflow 'order': the input") as caught:
            lab.engine().execute(create_workflow("order").step("a", lab.note("a")), raw, "o-1")
        assert isinstance(caught.value, CallerError)
        assert lab.storage.tail(lab.ref("o-1")) is None

    def test_is_not_shared_with_the_caller(self, lab: Lab) -> None:
        raw = {"items": [1]}

        def handler(ctx: Context) -> object:
            raw["items"].append(2)
            return ctx.input

        result = lab.engine().execute(create_workflow("order").step("a", handler), raw, "o-1")
        assert result.history[0].output == {"items": [1]}

    @pytest.mark.parametrize("raw", [None, 0, "", [], {}, (1,), Decimal("1.0"), b"x"], ids=repr)
    def test_may_be_anything_that_can_be_stored(self, raw: Any, lab: Lab) -> None:
        result = lab.engine().execute(create_workflow("order").step("a", lambda ctx: [ctx.input]), raw)
        assert repr(result.history[0].output) == repr([raw])

    def test_that_the_definition_no_longer_accepts_makes_the_instance_stuck_not_lost(self, lab: Lab) -> None:
        w = create_workflow("order").step("gate", lambda ctx: wait("go")).step("b", lambda ctx: ctx.input)
        lab.engine().execute(w, {"count": 1}, "o-1")
        strict = create_workflow("order").input(PydanticOrder)
        strict.step("gate", lambda ctx: wait("go")).step("b", lambda ctx: ctx.input.count)
        result = lab.engine().signal(strict, "o-1", "go")
        assert (result.status, result.error.type if result.error else None) == ("stuck", "input_rejected")
        assert lab.engine().retry_step(w, "o-1", "b").status == "completed"

    def test_that_the_definition_no_longer_accepts_leaves_no_doubt_about_a_commit(self, lab: Lab) -> None:
        """Nothing was called, so a cancel need not ask anybody what became of an attempt."""
        w = create_workflow("order").step("gate", lambda ctx: wait("go"), compensate=lab.note("undo"))
        lab.engine().execute(w.commit("pay", lab.note("pay")), {"count": 1}, "o-1")
        strict = create_workflow("order").input(PydanticOrder).step("gate", lambda ctx: wait("go"))
        result = lab.engine().signal(strict.commit("pay", lab.note("pay")), "o-1", "go")
        assert (result.status, result.error.type if result.error else None) == ("stuck", "input_rejected")
        assert "intent" not in lab.types("o-1")
        assert lab.engine().cancel(w, "o-1").status == "cancelled"
        assert lab.calls == ["undo"]
