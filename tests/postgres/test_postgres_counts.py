"""What an instance costs on PostgreSQL: one statement a write, and not one more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import FluxEngine, InstanceRef, create_workflow, wait
from flux_core.testing import RecordingStorage
from flux_local import PostgresStorage
from flux_local.postgres_statement import Session

if TYPE_CHECKING:
    from tests.services.postgres import Postgres


ORDER = InstanceRef("acme", "order", "1")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first words of every statement that goes to the server."""
    told: list[str] = []
    execute = Session.execute

    def counted(self: Session, query: str, values: Any = (), /) -> object:
        told.append(" ".join(query.split()[:2]))
        return execute(self, query, values)

    monkeypatch.setattr(Session, "execute", counted)
    return told


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_a_run_of_one_episode_costs_a_statement_a_step_and_two_more(
    store: PostgresStorage, statements: list[str], steps: int
) -> None:
    flow = create_workflow("flow")
    for number in range(steps):
        flow.step(f"step-{number}", lambda ctx: {"ok": True})
    assert FluxEngine(store).execute(flow, {}, "f-1").status == "completed"
    assert statements == ["WITH put", *["INSERT INTO"] * steps, "WITH put"]


def test_a_taken_slot_costs_one_more(store: PostgresStorage, statements: list[str]) -> None:
    for _ in range(2):
        store.append(ORDER, 0, b"start")
    assert statements == ["INSERT INTO", "INSERT INTO", "SELECT record"]


def test_a_wait_and_its_signal_cost_a_statement_a_call_of_the_port(
    store: PostgresStorage, statements: list[str]
) -> None:
    calls = RecordingStorage(store)
    flow = create_workflow("flow").step("ask", lambda ctx: wait("go")).step("end", lambda ctx: 1)
    engine = FluxEngine(calls, workflows=[flow])
    engine.execute(flow, {}, "f-1")
    engine.signal(flow, "f-1", "go", {"by": "Ada"})
    assert engine.get(flow, "f-1").status == "completed"
    assert len(statements) == len(calls.take()) > 10


def test_a_new_connection_asks_once_what_is_there(
    postgres: Postgres, store: PostgresStorage, schema: str, statements: list[str]
) -> None:
    second = PostgresStorage(postgres.url, schema=schema, timeout=60)
    second.header(ORDER)
    second.header(ORDER)
    second.close()
    assert statements == ["SELECT to_regclass(?)", "SELECT status,", "SELECT status,"]
