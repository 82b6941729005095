"""The workflows behind an HTTP function, in this process, over a file. The store in the cloud is Firestore."""

import flask
import pytest
from workflows import order

from flux_gcp import http_function
from flux_local import SQLiteStorage


@pytest.fixture
def post(tmp_path, monkeypatch):
    """Send a request to the function as Cloud Run brings it."""
    monkeypatch.setenv("FLUX_SWEEPER", "on")
    store = SQLiteStorage(tmp_path / "orders.db")
    handler = http_function(order, storage=store)

    def send(path, body):
        with flask.Flask("test").test_request_context(path, method="POST", json=body):
            return flask.current_app.make_response(handler(flask.request))

    yield send
    store.close()


def test_a_small_order_is_answered_when_it_has_been_shipped(post):
    answer = post("/workflows/order/executions", {"sku": "tea", "total": 40})
    assert (answer.status_code, answer.json["status"]) == (200, "completed")


def test_a_large_order_waits_for_its_approval_in_the_store(post):
    asked = {"action": "execute", "workflow": "order", "id": "o-1", "input": {"sku": "tea", "total": 400}}
    assert post("/invoke", asked).status_code == 202
    signalled = post("/workflows/order/executions/o-1/signals/approved", {"yes": True, "by": "Ada"})
    assert signalled.json["status"] == "completed"


def test_an_order_without_a_total_is_refused(post):
    answer = post("/workflows/order/executions", {"sku": "tea"})
    assert answer.status_code == 422
    assert "total" in answer.json["detail"]


def test_the_functions_that_are_deployed_are_there():
    import main

    assert callable(main.handler)
    assert callable(main.callbacks)
    assert callable(main.rotation)
