"""DynamoDB played by moto in the test's own process, as users' tests have it: one thread, and everything works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from moto import mock_aws

from flux_aws import DynamoDBStorage
from flux_core import FluxEngine, InstanceRef, create_workflow, flow, sleep, wait
from flux_core.testing import FluxTest, VirtualClock
from tests.simulation.driving import disturbed
from tests.simulation.shapes import SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamoDBStorage]:
    monkeypatch.delenv("AWS_ENDPOINT_URL_DYNAMODB", raising=False)
    with mock_aws():
        opened = DynamoDBStorage("flux", region="eu-central-1")
        opened.ensure()
        yield opened
        opened.close()


SMALL = ("plain steps", "a signal", "sleeps", "a saga with a broken compensator", "snapshots", "a loop with snapshots")


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.name in SMALL], ids=str)
def test_a_run_ends_as_in_memory(store: DynamoDBStorage, shape: object) -> None:
    disturbed(shape, store, {})  # type: ignore[arg-type]


def test_the_test_kit_runs_on_it(store: DynamoDBStorage) -> None:
    order = create_workflow("order").step("ask", lambda ctx: wait("go")).step("nap", lambda ctx: sleep(3600))
    flux = FluxTest(order, storage=store)
    flux.execute(order, {}).signal("go").assert_status("suspended")
    flux.advance(hours=2)
    assert [summary.status for summary in flux.engine.list().items] == ["completed"]


def test_a_long_history_is_read_back_whole(store: DynamoDBStorage) -> None:
    order = create_workflow("order").loop("each", 150, flow().step("work", lambda ctx: "x" * 10_000))
    engine = FluxEngine(store, clock=VirtualClock(), longest_invocation=0)
    engine.execute(order, {}, "1")
    result = engine.get(order, "1")
    assert result.status == "completed"
    assert len([step for step in result.history if step.path.endswith("work")]) == 150
    engine.delete(order, "1")
    assert store.tail(InstanceRef("default", "order", "1")) is None
