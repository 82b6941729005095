"""Recorded events of every trigger, through Microsoft's converters, the functions and the engine, to the answer."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import azure.functions as func
import pytest

from flux_azure.events import message_body, to_request
from flux_azure.handler import NotDone
from flux_core import FluxEngine, create_workflow, wait
from flux_local import SQLiteStorage
from tests.azure.in_process import EVENTS, Functions, recorded

if TYPE_CHECKING:
    from pathlib import Path

ORDER = create_workflow("order").step("approval", lambda ctx: wait("approved")).step("ship", lambda ctx: "shipped")


@pytest.fixture
def engine(tmp_path: Path) -> FluxEngine:
    engine = FluxEngine(SQLiteStorage(tmp_path / "flux.db"), workflows=[ORDER])
    engine.execute("order", {"total": 1}, "order-1")
    return engine


@pytest.fixture
def functions(engine: FluxEngine, monkeypatch: pytest.MonkeyPatch) -> Functions:
    monkeypatch.setenv("FLUX_QUEUE", "flux-work")
    return Functions(engine=engine)


ANSWERS = {
    "http_execute": (202, "order-7"),
    "http_execute_async_by_code": (202, "order-8"),
    "http_execute_under_api": (202, "order-9"),
    "http_execute_core_tools": (202, "order-10"),
    "http_execute_easy_auth": (202, "order-11"),
    "http_get": (200, "order-1"),
    "http_signal": (200, "order-1"),
    "http_cancel": (200, "order-1"),
    "http_invoke": (202, "order-12"),
}


class TestARecordedEvent:
    @pytest.mark.parametrize("name", sorted(ANSWERS))
    def test_over_http_is_answered(self, functions: Functions, name: str) -> None:
        answer = functions.play(name)
        body = json.loads(answer.get_body())
        assert (answer.status_code, body["id"]) == ANSWERS[name], body
        assert answer.headers["content-type"] == "application/json"

    def test_that_lists_is_answered(self, functions: Functions) -> None:
        answer = functions.play("http_list")
        assert [one["id"] for one in json.loads(answer.get_body())["items"]] == ["order-1"]

    def test_with_a_token_of_nobody_is_refused(self, functions: Functions) -> None:
        answer = functions.play("http_callback")
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")

    @pytest.mark.parametrize("name", ["queue_wake", "queue_wake_base64", "queue_execute", "queue_fifth_delivery"])
    def test_from_the_queue_is_done_with(self, functions: Functions, engine: FluxEngine, name: str) -> None:
        assert functions.play(name) is None
        assert engine.get("order", "order-13" if name == "queue_execute" else "order-1").status == "suspended"

    def test_from_the_queue_that_nobody_can_read_is_given_back(self, functions: Functions) -> None:
        with pytest.raises(NotDone, match="is not JSON"):
            functions.play("queue_unreadable")

    @pytest.mark.parametrize("name", ["timer", "timer_past_due", "timer_without_monitor"])
    def test_of_the_timer_sweeps(self, functions: Functions, engine: FluxEngine, name: str) -> None:
        engine.execute("order", {"total": 1}, "order-2", advance=False)
        assert functions.play(name) is None
        assert engine.get("order", "order-2").status == "suspended"

    def test_each_is_played_by_a_test(self) -> None:
        others = {"http_list", "http_callback", "timer", "timer_past_due", "timer_without_monitor"}
        queued = {"queue_wake", "queue_wake_base64", "queue_execute", "queue_fifth_delivery", "queue_unreadable"}
        assert set(recorded()) == set(ANSWERS) | others | queued


class TestARequest:
    @pytest.mark.parametrize(
        ("url", "path"),
        [
            ("https://a.example/workflows/order/executions?x=1#y", "/workflows/order/executions"),
            ("https://a.example/api/workflows/order/executions", "/workflows/order/executions"),
            ("https://a.example/Workflows/order/executions", "/Workflows/order/executions"),
            ("https://a.example/v1/orders/workflows/workflows/executions", "/workflows/workflows/executions"),
            ("https://a.example/workflows", "/workflows"),
            ("/workflows/order", "/workflows/order"),
            ("https://[::1/workflows/order", "/workflows/order"),
            ("https://a.example", "a.example"),
            ("", ""),
        ],
    )
    def test_begins_where_the_routes_do(self, url: str, path: str) -> None:
        assert to_request(func.HttpRequest("GET", url, body=b""), "/workflows").path == path

    def test_does_not_show_the_key_of_the_host(self) -> None:
        event = func.HttpRequest("GET", "/workflows", params={"code": "k", "clientId": "c", "mode": "sync"}, body=b"")
        assert to_request(event, "/workflows").query == {"mode": "sync"}

    def test_has_headers_in_lower_case(self) -> None:
        event = func.HttpRequest("GET", "/workflows", headers={"Idempotency-Key": "k"}, body=b"")
        assert to_request(event, "/workflows").headers == {"idempotency-key": "k"}


class TestAMessage:
    @pytest.mark.parametrize(
        "text", ['{"action": "sweep"}', ' {"a": 1}\n', "nonsense", "bm9uc2Vuc2U=", "", "====", "ü"]
    )
    def test_that_is_no_base64_of_an_object_stays_as_it_is(self, text: str) -> None:
        assert message_body(func.QueueMessage(body=text)) == text.strip().encode()

    @pytest.mark.parametrize("text", ['{"action": "sweep"}', ' {"a": "ü"}'])
    def test_in_base64_is_decoded(self, text: str) -> None:
        encoded = base64.b64encode(text.encode())
        assert message_body(func.QueueMessage(body=encoded)) == text.encode()


def test_the_recorded_events_hold_no_real_address() -> None:
    for path in EVENTS.glob("*.json"):
        assert "azurewebsites.net" not in path.read_text().replace("flux-orders.azurewebsites.net", "").replace(
            "CN=*.azurewebsites.net", ""
        )
