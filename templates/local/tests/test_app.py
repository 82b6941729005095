"""The project's engine, over a file of the test's own."""

from workflows import order

from flux_core import FluxEngine
from flux_local import SQLiteStorage


def test_an_order_outlives_the_process_that_started_it(tmp_path):
    first = FluxEngine(SQLiteStorage(tmp_path / "orders.db"), workflows=[order])
    assert first.execute(order, {"sku": "tea", "total": 400}, id="o-1").status == "suspended"
    first.storage.close()

    second = FluxEngine(SQLiteStorage(tmp_path / "orders.db"), workflows=[order])
    assert second.signal(order, "o-1", "approved", {"yes": True, "by": "Ada"}).status == "completed"
    second.storage.close()


def test_the_app_knows_the_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from app import engine

    assert set(engine.workflows) == {"order"}
    engine.storage.close()
