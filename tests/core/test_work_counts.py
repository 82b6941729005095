"""What the engine does for a step, counted in calls of its own functions: no clock is asked, so no machine matters."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import flux_core
from flux_core import Context, FluxEngine, MemoryStorage, WorkflowDefinition, create_workflow, flow
from flux_core.load import load
from flux_core.ports import InstanceRef

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

HERE = flux_core.__path__[0]


def _work(ctx: Context) -> None:
    """As little as can be."""


def _calls(do: Callable[[], object]) -> int:
    """How many functions of the engine `do` calls."""
    count = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(HERE)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        do()
    finally:
        sys.setprofile(before)
    return count


def _a_step(make: Callable[[int], WorkflowDefinition]) -> float:
    """Calls that one step more costs."""
    few, many = make(20), make(70)

    def run(workflow: WorkflowDefinition) -> int:
        engine = FluxEngine(MemoryStorage(), workflows=[workflow])
        engine.execute(workflow)
        return _calls(lambda: engine.execute(workflow))

    return (run(many) - run(few)) / 50


def _plain(count: int) -> WorkflowDefinition:
    workflow = create_workflow("plain")
    for number in range(count):
        workflow.step(f"step-{number}", _work)
    return workflow.build()


def _map(count: int) -> WorkflowDefinition:
    return create_workflow("mapped").map("each", list(range(count)), _work, max_concurrency=1).build()


def _map_of_two(count: int) -> WorkflowDefinition:
    body = flow().step("a", _work).step("b", _work)
    return create_workflow("twice").map("each", list(range(count // 2)), body, max_concurrency=1).build()


def test_an_item_of_one_step_costs_at_most_fourteen_calls_more_than_a_plain_step() -> None:
    assert _a_step(_map) <= _a_step(_plain) + 14


def test_a_step_of_an_item_of_two_costs_at_most_eighteen_calls_more() -> None:
    assert _a_step(_map_of_two) <= _a_step(_plain) + 18


def test_reading_a_snapshot_costs_one_call_a_step() -> None:
    def reading(count: int) -> int:
        body = create_workflow("resumed").map("each", list(range(count)), _work, max_concurrency=1)
        workflow = body.wait("ask", "go").build()
        storage = MemoryStorage()
        result = FluxEngine(storage).execute(workflow, id="i-1")
        ref = InstanceRef("default", "resumed", "i-1")
        assert result.status == "suspended"
        assert storage.snapshot(ref) is not None
        return _calls(lambda: load(storage, ref))

    assert reading(1500) - reading(1000) == 500
