"""What `execute` takes. Type checkers hold this file; nobody runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

from flux_core import BatchResult, FluxEngine, FluxResult, WorkflowBuilder, WorkflowDefinition, create_workflow
from flux_core.aio import AsyncInstance
from flux_core.instance import Instance
from flux_core.testing import FluxTest, Run
from tests.typing.contexts import of_input, plain
from tests.typing.models import DictOrder, GiftOrder, Order

if TYPE_CHECKING:
    from collections.abc import Mapping

engine = FluxEngine()
order = create_workflow("order").input(Order).step("a", of_input)
untyped = create_workflow("untyped").step("a", plain)
dicts = create_workflow("dicts").input(DictOrder).step("a", plain)


def the_model_or_a_mapping(raw: Mapping[str, object], body: dict[str, Any], anything: Any) -> None:
    assert_type(engine.execute(order, Order("a-1")), FluxResult)
    engine.execute(order, GiftOrder("a-1"), "o-1", deadline=3)
    engine.execute(order, {"sku": "a-1", "count": 2})
    engine.execute(order, raw)
    engine.execute(order, body)
    engine.execute(order, input=anything, id="o-1")
    engine.execute(order.build(), Order("a-1"))
    engine.execute(dicts, {"sku": "a-1"})
    engine.execute(dicts, body)


def anything_where_nothing_is_declared(known: WorkflowBuilder | WorkflowDefinition | str, value: object) -> None:
    engine.execute(untyped)
    engine.execute(untyped, 5)
    engine.execute(untyped, None, "o-1")
    engine.execute(untyped.build(), [1])
    engine.execute("order")
    engine.execute("order", 5)
    engine.execute(known, value)


def the_same_for_the_other_ways_to_execute() -> None:
    assert_type(engine.execute_batch(order, [Order("a-1"), GiftOrder("a-2")], ids=["a", "b"]), BatchResult)
    engine.execute_batch(order, [{"sku": "a-1"}, {"sku": "a-2"}])
    engine.execute_batch(untyped, [1, "two"])
    engine.execute_batch("order", [1, "two"])
    run = assert_type(engine.instance(order, "o-1"), Instance[Order])
    assert_type(run.execute(Order("a-1")), FluxResult)
    assert_type(engine.instance("order", "o-1"), Instance[Any])
    engine.instance(untyped, "o-1").execute()
    flux = FluxTest(order, untyped)
    assert_type(flux.execute(order, Order("a-1")), Run)
    flux.execute(untyped, id="o-1")
    flux.execute("order", 5)


async def and_for_coroutines() -> None:
    assert_type(await engine.aio.execute(order, Order("a-1"), "o-1", deadline=5), FluxResult)
    await engine.aio.execute(order, {"sku": "a-1"})
    await engine.aio.execute(untyped)
    assert_type(await engine.aio.execute_batch(order, [Order("a-1")]), BatchResult)
    run = assert_type(engine.aio.instance(order, "o-1"), AsyncInstance[Order])
    assert_type(await run.execute(Order("a-1")), FluxResult)
    await engine.aio.instance("order", "o-1").execute()
