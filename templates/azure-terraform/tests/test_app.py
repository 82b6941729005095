"""The functions of the app, in this process, over a file. The store in the cloud is Blob Storage."""

import json
from pathlib import Path
from types import SimpleNamespace

import azure.functions as func
import pytest
from workflows import order

from flux_azure import blueprint
from flux_azure.host_json import host_json
from flux_local import SQLiteStorage


@pytest.fixture
def post(tmp_path):
    """Send a request to the app as the Functions host brings it."""
    store = SQLiteStorage(tmp_path / "orders.db")
    app = func.FunctionApp()
    app.register_functions(blueprint(order, storage=store))
    functions = {one.get_function_name(): one.get_user_function() for one in app.get_functions()}

    def send(path, body):
        name = "flux_invoke" if path == "/invoke" else "flux_workflows"
        request = func.HttpRequest(method="POST", url=f"https://test{path}", body=json.dumps(body).encode())
        context = SimpleNamespace(invocation_id="i-1", trace_context=None, thread_local_storage=SimpleNamespace())
        return functions[name](request, context)

    yield send
    store.close()


def test_a_small_order_is_answered_when_it_has_been_shipped(post):
    answer = post("/workflows/order/executions", {"sku": "tea", "total": 40})
    assert (answer.status_code, json.loads(answer.get_body())["status"]) == (200, "completed")


def test_a_large_order_waits_for_its_approval_in_the_store(post):
    asked = {"action": "execute", "workflow": "order", "id": "o-1", "input": {"sku": "tea", "total": 400}}
    assert post("/invoke", asked).status_code == 202
    signalled = post("/workflows/order/executions/o-1/signals/approved", {"yes": True, "by": "Ada"})
    assert json.loads(signalled.get_body())["status"] == "completed"


def test_an_order_without_a_total_is_refused(post):
    answer = post("/workflows/order/executions", {"sku": "tea"})
    assert answer.status_code == 422
    assert "total" in json.loads(answer.get_body())["detail"]


def test_the_app_that_is_deployed_has_its_functions(monkeypatch):
    monkeypatch.setenv("FLUX_QUEUE", "flux-work")
    import function_app

    names = {one.get_function_name() for one in function_app.app.get_functions()}
    assert names == {"flux_workflows", "flux_invoke", "flux_callbacks", "flux_sweep", "flux_work"}


def test_host_json_fits_the_kit():
    written = json.loads((Path(__file__).parents[1] / "src" / "host.json").read_text())
    assert written == host_json()
