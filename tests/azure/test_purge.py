"""The app that deletes what ended long ago: a timer, and nothing that anybody can call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from flux_blob import BlobStorage
from flux_core import FluxEngine, create_workflow
from flux_core.testing import VirtualClock
from tests.azure.in_process import Functions

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400.0
order = create_workflow("order").step("ship", lambda ctx: "shipped")
TIMER = {"json": json.dumps({"IsPastDue": False})}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def engine(tmp_path: Path, clock: VirtualClock) -> FluxEngine:
    return FluxEngine(BlobStorage(tmp_path), workflows=[order], clock=clock)


def test_it_deletes_what_ended_before_the_time_that_the_setting_says(
    monkeypatch: pytest.MonkeyPatch, engine: FluxEngine, clock: VirtualClock
) -> None:
    monkeypatch.setenv("FLUX_PURGE_AFTER", str(2 * DAY))
    functions = Functions(engine=engine)
    engine.execute(order, id="old")
    clock.advance(3 * DAY)
    engine.execute(order, id="new")
    functions.call("flux_purge", TIMER)
    assert [item.id for item in engine.list().items] == ["new"]


def test_it_has_no_other_function(monkeypatch: pytest.MonkeyPatch, engine: FluxEngine) -> None:
    monkeypatch.setenv("FLUX_PURGE_AFTER", str(2 * DAY))
    monkeypatch.setenv("FLUX_QUEUE", "flux-work")
    assert [*Functions(engine=engine)._functions] == ["flux_purge"]


def test_no_other_app_has_it(engine: FluxEngine) -> None:
    names = {*Functions(engine=engine)._functions}
    assert "flux_purge" not in names
    assert "flux_sweep" in names
