"""What Google's services send, read as Flux understands it; nothing they send raises anything but a `CallerError`."""

from __future__ import annotations

import json

import pytest

from flux_core.errors import CallerError
from flux_core.http import Response
from flux_gcp import events
from flux_gcp.events import Trace
from tests.gcp.requests import as_cloud_event, as_flask, flask_request, names, recorded

PUBSUB = [name for name in names() if name.startswith("pubsub_") and name != "pubsub_attributes_only"]


class TestRequests:
    @pytest.mark.parametrize("name", [name for name in names() if not name.startswith("pubsub_")])
    def test_every_recorded_request_keeps_its_parts(self, name: str) -> None:
        event = recorded(name)
        request = events.request(as_flask(event))
        assert (request.method, request.path, request.body.decode()) == (event.method, event.path, event.body)
        assert {key.lower(): value for key, value in event.headers.items()}.items() <= dict(request.headers).items()

    def test_names_of_headers_are_in_lower_case(self) -> None:
        request = events.request(as_flask(recorded("http_execute")))
        assert request.headers["idempotency-key"] == "order-17"

    def test_the_query_is_decoded_once(self) -> None:
        request = events.request(flask_request("GET", "/workflows/order/executions", "include=data%2Chistory&limit=5"))
        assert request.query == {"include": "data,history", "limit": "5"}

    def test_a_parameter_given_twice_is_a_list_with_commas_as_on_every_cloud(self) -> None:
        request = events.request(flask_request("GET", "/", "status=failed&limit=1&status=stuck"))
        assert request.query == {"status": "failed,stuck", "limit": "1"}

    def test_a_body_that_ends_too_early_is_the_callers_fault(self) -> None:
        with pytest.raises(CallerError, match="the body of the request cannot be read"):
            events.request(flask_request(body=b'{"action"', announced=500))

    def test_an_answer_becomes_what_flask_takes(self) -> None:
        response = Response(202, {"content-type": "application/json"}, b"{}")
        assert events.answer(response) == (b"{}", 202, {"content-type": "application/json"})


class TestTasks:
    @pytest.mark.parametrize("name", ["cloud_tasks_wake", "cloud_tasks_retry"])
    def test_cloud_tasks_is_known_by_its_header(self, name: str) -> None:
        assert events.is_task(events.request(as_flask(recorded(name))))

    @pytest.mark.parametrize("name", ["http_direct", "cloud_scheduler_sweep", "http_execute"])
    def test_nobody_else_is_taken_for_it(self, name: str) -> None:
        assert not events.is_task(events.request(as_flask(recorded(name))))

    def test_its_header_means_nothing_on_another_route(self) -> None:
        task = recorded("cloud_tasks_wake")._replace(path="/workflows/order/executions")
        assert not events.is_task(events.request(as_flask(task)))


class TestMessages:
    @pytest.mark.parametrize("name", PUBSUB)
    def test_a_message_is_its_data(self, name: str) -> None:
        assert json.loads(events.message(as_cloud_event(recorded(name))))["action"] in {
            "execute",
            "signal",
            "sweep",
            "wake",
        }

    def test_one_that_has_only_attributes_is_refused(self) -> None:
        with pytest.raises(CallerError, match="no Pub/Sub message with data"):
            events.message(as_cloud_event(recorded("pubsub_attributes_only")))

    def test_an_event_of_another_service_is_refused_with_what_to_do(self) -> None:
        with pytest.raises(CallerError, match=r"storage\.object\.v1\.finalized.*trigger it with a Pub/Sub topic"):
            events.message(as_cloud_event(recorded("storage_finalized")))

    @pytest.mark.parametrize(
        "data",
        [
            None,
            "text",
            [],
            {},
            {"message": None},
            {"message": "x"},
            {"message": {}},
            {"message": {"data": 7}},
            {"message": {"data": ""}},
        ],
    )
    def test_what_is_no_message_is_refused(self, data: object) -> None:
        event = as_cloud_event(recorded("pubsub_wake"))
        event.data = data
        with pytest.raises(CallerError, match="no Pub/Sub message with data"):
            events.message(event)

    @pytest.mark.parametrize("data", ["%%%", "e30", "e3 0=", "é", "e30=\n"])
    def test_data_that_is_no_base64_is_refused(self, data: str) -> None:
        event = as_cloud_event(recorded("pubsub_wake"))
        event.data = {"message": {"data": data}}
        with pytest.raises(CallerError, match="not base64"):
            events.message(event)


class TestTraces:
    ID = "105445aa7843bc8bf206b12000100000"

    @pytest.mark.parametrize("name", names())
    def test_every_recorded_request_has_one(self, name: str) -> None:
        headers = {key.lower(): value for key, value in recorded(name).headers.items()}
        assert events.trace(headers) == Trace(self.ID, "0000000000000001", sampled=True)

    def test_googles_older_header_says_the_same(self) -> None:
        found = events.trace({"x-cloud-trace-context": f"{self.ID}/12289;o=1"})
        assert found == Trace(self.ID, "0000000000003001", sampled=True)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (ID, Trace(ID, "", sampled=False)),
            (f"{ID}/1", Trace(ID, "0000000000000001", sampled=False)),
            (f"{ID}/1;o=0", Trace(ID, "0000000000000001", sampled=False)),
            (f"{ID}/0;o=1", Trace(ID, "", sampled=True)),
            (f"{ID.upper()}/99999999999999999999;o=1", Trace(ID, "", sampled=True)),
        ],
    )
    def test_its_later_parts_are_optional(self, text: str, expected: Trace) -> None:
        assert events.trace({"x-cloud-trace-context": text}) == expected

    @pytest.mark.parametrize(
        "text", ["", "-", "/", ";", "x/1;o=1", f"{'0' * 32}/1;o=1", f"{ID}0/1", '{"severity": "ALERT"}', "é" * 32]
    )
    def test_what_is_no_trace_is_none(self, text: str) -> None:
        assert events.trace({"x-cloud-trace-context": text, "traceparent": text}) is None

    @pytest.mark.parametrize(
        "text",
        [
            f"00-{ID}-{'0' * 16}-01",
            f"00-{'0' * 32}-{'1' * 16}-01",
            f"00-{ID}-{'1' * 16}",
            f"00-{ID}-{'1' * 16}-zz",
            f"00-{ID.upper()}-{'1' * 16}-01",
        ],
    )
    def test_a_traceparent_that_is_wrong_gives_way_to_the_older_header(self, text: str) -> None:
        found = events.trace({"traceparent": text, "x-cloud-trace-context": f"{self.ID}/2;o=0"})
        assert found == Trace(self.ID, "0000000000000002", sampled=False)
