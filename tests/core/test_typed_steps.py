"""Handlers with annotations: their classes may be stored, and their steps are found by them."""

from __future__ import annotations

import functools
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import pytest

from flux_core import (
    Context,
    DefinitionError,
    Directive,
    FlowBuilder,
    WorkflowBuilder,
    create_workflow,
    flow,
    register_type,
    wait,
)
from flux_core.registered import rule_of
from flux_core.storable import types_in
from flux_core.testing import FluxTest, crash_at_every_write
from tests.core import annotated

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal as OnlyForCheckers

    from tests.core.conftest import Lab


@dataclass
class Receipt:
    number: int


@dataclass
class Line:
    receipt: Receipt


@dataclass
class Half:
    known: Receipt
    unknown: OnlyForCheckers


class Data:
    line: Line


def receipt(ctx: Context) -> Receipt:
    return Receipt(ctx.attempt)


def lines(ctx: Context[Line, Data]) -> list[Line] | None:
    return None


def half(ctx: Context) -> Half | Receipt:
    return Receipt(1)


def unresolvable(ctx: Context[NotThere]) -> Receipt | NotThere:  # type: ignore[name-defined] # noqa: F821
    return Receipt(1)


def for_checkers_alone(ctx: Context) -> OnlyForCheckers:
    raise NotImplementedError


def looked_at(*handlers: Callable[[Context], object]) -> list[list[type]]:
    return [types_in(handler) for handler in handlers]


class TestTheClassesThatAnnotationsName:
    def test_come_back_as_they_were_in_a_resumed_invocation(self, lab: Lab) -> None:
        w = annotated.order()
        lab.engine().execute(w, annotated.Order("a-1"), "o-1")
        result = lab.engine().signal(w, "o-1", "go")
        assert result.output(annotated.look) == [
            annotated.Charge("ch_1"),
            [annotated.Parcel(weight=3)],
            annotated.Label("a-1"),
            {"by": annotated.Place(7)},
            annotated.Stamp(3),
        ]

    def test_are_part_of_the_definition_like_those_in_types(self) -> None:
        told = create_workflow("w", types=[annotated.Charge]).step("a", lambda ctx: None).build().types
        found = create_workflow("w").step("a", annotated.charge).build().types
        assert told == (annotated.Charge, annotated.Colour)
        assert set(found) == {annotated.Order, annotated.Stamp, *told}

    def test_are_found_in_branches_loops_and_compensators(self) -> None:
        def undo(ctx: Context[Line]) -> None: ...

        inside = flow().step("a", receipt, compensate=undo)
        w = create_workflow("w").if_("b", lambda ctx: True, flow().loop("c", 2, inside))
        assert w.build().types == (Receipt, Line)

    def test_are_found_where_the_annotations_are_strings(self) -> None:
        assert looked_at(receipt, lines) == [[Receipt], [Line, Receipt]]

    def test_are_found_in_the_function_around_a_handler(self) -> None:
        @dataclass
        class Local:
            number: int

        def handler(ctx: Context) -> Local:
            return Local(1)

        assert types_in(handler) == [Local]

    def test_are_found_through_methods_partials_wrappers_and_objects(self) -> None:
        class Shop:
            def method(self, ctx: Context) -> Receipt:
                return Receipt(1)

            def __call__(self, ctx: Context) -> Line:
                return Line(Receipt(1))

        partial = functools.partial(functools.partial(receipt))
        assert looked_at(Shop().method, Shop(), partial, annotated.logged(receipt)) == [
            [Receipt],
            [Line, Receipt],
            [Receipt],
            [Receipt],
        ]

    def test_are_found_in_what_is_awaited_and_in_a_wait(self) -> None:
        assert types_in(annotated.later) == [annotated.Charge, annotated.Colour]

        def waits(ctx: Context) -> Receipt | Directive:
            return wait("go")

        assert types_in(waits) == [Receipt]

    def test_keep_the_name_they_were_registered_with(self) -> None:
        @register_type(name="a-name-of-its-own")
        @dataclass
        class Named:
            number: int

        def handler(ctx: Context) -> Named:
            return Named(1)

        create_workflow("w").step("a", handler).build()
        assert (rule := rule_of(Named)) is not None
        assert rule.name == "a-name-of-its-own"


class TestAnAnnotation:
    """It is a help, never a rule."""

    def test_that_cannot_be_resolved_is_passed_over(self, lab: Lab) -> None:
        assert looked_at(unresolvable, for_checkers_alone) == [[], []]
        register_type(Receipt)
        result = lab.engine().execute(create_workflow("w").step("a", unresolvable))
        assert result.output(unresolvable) == Receipt(1)

    def test_of_a_class_with_fields_that_cannot_be_resolved_names_the_class_alone(self) -> None:
        assert types_in(half) == [Half, Receipt]

    @pytest.mark.parametrize("hint", ["1 / 0", "(", "print(", 5, ["x"], {"a": 1}, type("Odd", (), {"__args__": 5})])
    def test_may_be_anything(self, hint: object) -> None:
        def handler(ctx: Context) -> None: ...

        handler.__annotations__ = {"ctx": hint, "return": hint}
        assert create_workflow("w").step("a", handler).build().types == ()

    def test_of_a_class_whose_name_is_taken_changes_nothing(self) -> None:
        @dataclass
        class Holder:
            number: int

        @dataclass
        class Late:
            number: int

        register_type(Holder, f"{Late.__module__}:{Late.__qualname__}")

        def handler(ctx: Context) -> Late:
            return Late(1)

        assert create_workflow("w").step("a", handler).build().types == ()
        assert rule_of(Late) is None

    def test_of_a_struct_that_its_library_cannot_read_changes_nothing(self) -> None:
        class Broken(msgspec.Struct):
            number: OnlyForCheckers

        def handler(ctx: Context) -> Broken:
            raise NotImplementedError(Broken)

        assert types_in(handler) == [Broken]
        assert create_workflow("w").step("a", handler).build().types == ()

    def test_checks_no_input(self, lab: Lab) -> None:
        seen: list[object] = []

        def handler(ctx: Context[annotated.Order]) -> None:
            seen.append(ctx.input)

        lab.engine().execute(create_workflow("w").step("a", handler), {"anything": 1})
        assert seen == [{"anything": 1}]

    def test_with_types_in_brackets_is_evaluated_and_harmless(self) -> None:
        hint = annotated.charge.__annotations__["ctx"]
        assert (hint.__origin__, hint.__args__) == (Context, (annotated.Order, annotated.OrderData))
        assert annotated.order.__annotations__["return"].__origin__ is WorkflowBuilder
        assert annotated.inside.__annotations__["return"].__origin__ is FlowBuilder


class TestDataOfAPlainClass:
    def test_makes_what_its_attributes_name_storable(self) -> None:
        assert create_workflow("w").data(Data).step("a", lambda ctx: None).build().types == (Line, Receipt)

    def test_may_name_what_cannot_be_resolved(self) -> None:
        class Odd:
            number: NotThere  # type: ignore[name-defined] # noqa: F821

        assert create_workflow("w").data(Odd).step("a", lambda ctx: None).build().types == ()


class TestAnOutputByItsHandler:
    def run(self, lab: Lab, w: WorkflowBuilder) -> object:
        return lab.engine().execute(w).raise_for_status().history[-1].output

    def test_is_that_of_the_step_whose_handler_it_is(self, lab: Lab) -> None:
        async def second(ctx: Context) -> str:
            return f"second after {ctx.results[first]}"

        def first(ctx: Context) -> str:
            return "first"

        w = create_workflow("w").step("a", first).commit("b", second)
        w.step("c", lambda ctx: [ctx.results[first], ctx.results[second], ctx.results["a"]])
        assert self.run(lab, w) == ["first", "second after first", "first"]

    def test_is_found_for_a_decorated_handler(self, lab: Lab) -> None:
        w = create_workflow("w")

        @w.step
        def bare(ctx: Context) -> int:
            return 1

        @w.commit("other")
        async def named(ctx: Context) -> int:
            return 2

        assert self.run(lab, w.step("c", lambda ctx: [ctx.results[bare], ctx.results[named]])) == [1, 2]

    def test_is_found_for_methods_and_for_objects_that_cannot_be_hashed(self, lab: Lab) -> None:
        @dataclass
        class Shop:
            name: str

            def pack(self, ctx: Context) -> str:
                return f"packed by {self.name}"

            def __call__(self, ctx: Context) -> str:
                return f"called {self.name}"

        ann = Shop("Ann")
        w = create_workflow("w").step("a", functools.partial(Shop.pack, ann)).step("b", ann)
        assert self.run(lab, w.step("c", lambda ctx: ctx.results[ann])) == "called Ann"

    def test_is_found_for_a_bound_method_which_is_made_anew_at_each_look(self, lab: Lab) -> None:
        class Shop:
            def pack(self, ctx: Context) -> str:
                return "packed"

        shop = Shop()
        w = create_workflow("w").step("a", shop.pack)
        assert self.run(lab, w.step("c", lambda ctx: ctx.results[shop.pack])) == "packed"

    def test_is_absent_where_the_step_was_skipped(self, lab: Lab) -> None:
        w = create_workflow("w").step("a", receipt, when=lambda ctx: False)
        w.step("b", lambda ctx: [receipt in ctx.results, ctx.results.get(receipt), ctx.results.get(receipt, 5)])
        assert self.run(lab, w) == [False, None, 5]

    def test_that_is_missing_says_whose_handler_it_is(self, lab: Lab) -> None:
        w = create_workflow("w").step("x", lambda ctx: 1).step("a", receipt, when=lambda ctx: False)
        w.step("b", lambda ctx: ctx.results[receipt], retries=0)
        told = "receipt (it is the handler of a, which has no output here; those that have: x)"
        assert told in str(lab.engine().execute(w).error)

    def test_of_a_function_that_is_no_handler_says_so(self, lab: Lab) -> None:
        w = create_workflow("w").step("b", lambda ctx: ctx.results[receipt], retries=0)
        told = "receipt (it is the handler of no step; those that have: none yet)"
        assert told in str(lab.engine().execute(w).error)

    def test_of_a_condition_is_not_that_of_its_branch(self, lab: Lab) -> None:
        def holds(ctx: Context) -> bool:
            return True

        w = create_workflow("w").if_("a", holds, receipt).step("b", lambda ctx: holds in ctx.results)
        assert self.run(lab, w) is False

    def test_is_seen_by_a_compensator_and_by_a_hook(self, lab: Lab) -> None:
        seen: list[object] = []

        def undo(ctx: Context) -> None:
            seen.append(ctx.results[receipt])

        def fails(ctx: Context) -> None:
            raise DefinitionError

        engine = lab.engine(on={"workflow_error": lambda ctx, error: seen.append(receipt in ctx.results)})
        engine.execute(create_workflow("w").step("a", receipt, compensate=undo).step("b", fails))
        assert seen[0] == Receipt(1)
        assert len(seen) == 2

    def test_is_found_after_the_step_was_renamed(self, lab: Lab) -> None:
        def look(ctx: Context) -> Receipt:
            return ctx.results[receipt]

        before = create_workflow("w").step("old", receipt).step("go", lambda ctx: wait("go")).step("look", look)
        lab.engine().execute(before, None, "o-1")
        after = create_workflow("w").step("new", receipt, aliases=["old"]).step("go", lambda ctx: wait("go"))
        result = lab.engine().signal(after.step("look", look), "o-1", "go")
        assert result.output(look) == result.output(receipt) == result.output("new") == Receipt(1)


class TestAHandlerOfSeveralSteps:
    def test_of_one_body_is_ambiguous_and_not_retried(self, lab: Lab) -> None:
        w = create_workflow("w").step("a", receipt).step("b", receipt).step("c", lambda ctx: ctx.results[receipt])
        result = lab.engine().execute(w)
        assert result.error is not None
        assert (result.error.type, result.history[-1].retries) == ("DefinitionError", 0)
        told = "workflow 'w': receipt is the handler of several steps (a, b); name the one whose output you mean"
        assert told in result.error.message

    def test_is_ambiguous_whether_or_not_both_have_run(self, lab: Lab) -> None:
        w = create_workflow("w").step("a", receipt).step("b", receipt, when=lambda ctx: False)
        w.step("c", lambda ctx: receipt in ctx.results)
        assert lab.engine().execute(w).status == "failed"

    def test_means_the_nearest_one_in_branches_and_loops(self, lab: Lab) -> None:
        def number(ctx: Context) -> str:
            return ctx.path or ""

        def look(ctx: Context) -> str:
            return ctx.results[number]

        body = flow().step("own", number).step("look", look)
        w = create_workflow("w").step("top", number).if_("b", lambda ctx: True, flow().step("look", look))
        w.loop("each", 2, body).loop("bare", 2, look).step("look", look)
        outputs = {step.path: step.output for step in lab.engine().execute(w).history}
        assert outputs["b.then.look"] == "top"
        assert (outputs["each[0].look"], outputs["each[1].look"]) == ("each[0].own", "each[1].own")
        assert (outputs["bare[1].look"], outputs["look"]) == ("top", "top")

    def test_means_the_one_of_its_own_branch_or_item_where_these_run_at_the_same_time(self, lab: Lab) -> None:
        def number(ctx: Context) -> str:
            return ctx.path or ""

        def look(ctx: Context) -> str:
            return ctx.results[number]

        body = flow().step("own", number).step("look", look)
        w = create_workflow("w").step("top", number).map("each", [1, 2, 3], body)
        w.parallel("fan", flow("a").step("own", number).step("look", look), flow("b").step("look", look))
        result = lab.engine().execute(w)
        assert result.output("each") == ["each[0].own", "each[1].own", "each[2].own"]
        assert result.output("fan") == {"a": "fan.a.own", "b": "top"}

    def test_means_the_iteration_before_in_the_condition_of_a_while(self, lab: Lab) -> None:
        def fetch(ctx: Context) -> int:
            return ctx.iteration

        w = create_workflow("w").while_("poll", lambda ctx: ctx.results.get(fetch, 0) < 3, fetch)
        assert lab.engine().execute(w).output("poll") == 3

    def test_is_not_found_inside_of_a_loop_from_outside_but_by_its_path(self, lab: Lab) -> None:
        w = create_workflow("w").loop("each", 2, receipt)
        result = lab.engine().execute(w)
        with pytest.raises(KeyError, match=r"the handler of each.receipt, which has no output here; those that have: "):
            result.output(receipt)
        assert result.output("each[1].receipt") == Receipt(1)


class TestTheOutputOfAnExecution:
    w = create_workflow("w").step("a", receipt).step("b", lines)

    def test_is_given_by_handler_name_and_path(self, lab: Lab) -> None:
        result = lab.engine().execute(self.w, None, "o-1")
        assert result.output(receipt) == result.output("a") == Receipt(1)
        assert result.output(lines) is None
        assert lab.engine().get(self.w, "o-1").output(receipt) == Receipt(1)

    def test_is_a_copy(self, lab: Lab) -> None:
        result = lab.engine().execute(create_workflow("w").step("a", lambda ctx: [1]))
        result.output("a").append(2)
        assert result.output("a") == [1]

    def test_of_a_step_without_one_is_a_key_error(self, lab: Lab) -> None:
        result = lab.engine().execute(create_workflow("w").step("a", receipt, when=lambda ctx: False))
        with pytest.raises(KeyError, match="no step of that name has an output"):
            result.output("a")

    def test_is_found_by_name_in_a_pickled_result(self, lab: Lab) -> None:
        again = pickle.loads(pickle.dumps(lab.engine().execute(self.w)))  # noqa: S301 -- our own bytes
        assert (again.status, again.output("a")) == ("completed", Receipt(1))
        with pytest.raises(KeyError, match="finds steps by name or path alone"):
            again.output(receipt)


class TestInTheTestKit:
    def test_a_stubbed_step_is_found_by_its_own_handler(self) -> None:
        def look(ctx: Context) -> int:
            return ctx.results[receipt].number

        w = create_workflow("w").step("a", receipt).step("b", look)
        flux = FluxTest(w)
        flux.stub("a", returns=Receipt(7))
        run = flux.execute(w)
        assert (run.output(look), run.output(receipt)) == (7, Receipt(7))

    def test_a_run_without_the_output_fails_with_its_story(self) -> None:
        run = FluxTest().execute(create_workflow("w").step("a", receipt, when=lambda ctx: False))
        with pytest.raises(AssertionError, match=r"w/.*receipt \(it is the handler of a(.|\n)*skipped"):
            run.output(receipt)

    def test_outputs_by_handler_survive_a_crash_at_every_write(self) -> None:
        def look(ctx: Context) -> int:
            return ctx.results[made].number

        def made(ctx: Context) -> Receipt:
            return Receipt(5)

        w = create_workflow("w").commit("a", made, idempotent=True).loop("b", 2, look)
        crash_at_every_write(w)


def test_annotations_do_not_change_what_a_workflow_is() -> None:
    bare = create_workflow("w").step("a", lambda ctx: None).build()
    assert create_workflow("w").step("a", receipt).build().fingerprint == bare.fingerprint
