"""Every event that AWS may bring, as recorded, means what it should; what it may not bring is refused one by one."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from flux_aws import events
from flux_aws.events import Asked, Batch, Direct, Message, answer, handled, hops, read, sendable
from flux_core.errors import CallerError
from flux_core.http import Response, to_invocation
from tests.aws.events import EVENTS, recorded


def asked(name: str, base_path: str = "") -> Asked:
    """The request of a recorded event."""
    found = read(recorded(name), base_path)
    assert isinstance(found, Asked)
    return found


EXECUTE: tuple[str, dict[str, object]] = ("execute", {"workflow": "order", "id": "o-1", "input": {"sku": "tea"}})
GET: tuple[str, dict[str, object]] = ("get", {"workflow": "order", "id": "o-1"})
REQUESTS: dict[str, tuple[str, dict[str, object]]] = {
    "http-api-execute": EXECUTE,
    "http-api-named-stage": EXECUTE,
    "function-url-execute": EXECUTE,
    "rest-api-execute": EXECUTE,
    "http-api-get": GET,
    "rest-api-get": GET,
    "function-url-iam-get": GET,
    "http-api-signal": (
        "signal",
        {"workflow": "order", "id": "o-1", "name": "approval", "payload": {"by": "Ada"}, "dedupe_id": "click-17"},
    ),
    "rest-api-callback": (
        "callback",
        {"token": "k1.eyJ0Ijoib3JkZXIifQ.c2lnbmF0dXJl", "payload": {"approved": True}},
    ),
}
MAPPINGS = {
    "direct-execute": {"action": "execute", "workflow": "order", "input": {"sku": "tea"}, "id": "o-5"},
    "eventbridge-rule": {"action": "execute", "workflow": "order", "input": {"sku": "tea"}, "id": "o-4"},
    "eventbridge-scheduled-rule": {"action": "sweep"},
    "scheduler-sweep": {"action": "sweep", "limit": 500},
}


class TestRequests:
    @pytest.mark.parametrize("name", REQUESTS)
    def test_a_recorded_request_means_the_same_through_every_door(self, name: str) -> None:
        invocation = to_invocation(asked(name).request, 262_144)
        assert (invocation.action, invocation.arguments) == REQUESTS[name]

    @pytest.mark.parametrize("name", ["http-api-get", "rest-api-get"])
    def test_several_values_of_a_name_are_one_list(self, name: str) -> None:
        assert to_invocation(asked(name).request, 1).include == ("data", "history")

    def test_the_stage_and_the_path_of_the_public_url_are_cut_off(self) -> None:
        event = recorded("rest-api-get")
        event["path"] = "/shop/workflows/order/executions/o-1"
        event["requestContext"]["path"] = event["path"]
        found = read(event, "/shop")
        assert isinstance(found, Asked)
        assert found.request.path == "/workflows/order/executions/o-1"

    def test_a_route_that_begins_like_the_stage_is_left_alone(self) -> None:
        event = recorded("http-api-get")
        event["requestContext"]["stage"] = "work"
        found = read(event)
        assert isinstance(found, Asked)
        assert found.request.path == "/workflows/order/executions/o-1"

    @pytest.mark.parametrize(
        ("name", "id_"),
        [("http-api-execute", "JKJaXmPLvHcESHA="), ("rest-api-get", "c6af9ac6-7b61-11e6-9a41-93e8deadbeef")],
    )
    def test_aws_own_id_of_the_request_goes_into_the_log(self, name: str, id_: str) -> None:
        assert asked(name).correlation == id_

    @pytest.mark.parametrize(
        "broken",
        [
            {"body": "{'\u00e4", "isBase64Encoded": True},
            {"body": "abc", "isBase64Encoded": True},
            {"body": ["a"]},
            {"rawPath": None},
            {"requestContext": {"http": {"method": 5}}},
            {"requestContext": {}},
        ],
    )
    def test_a_request_that_cannot_be_read_is_the_callers_error(self, broken: dict[str, object]) -> None:
        event = recorded("http-api-execute") | broken
        assert events.is_http(event)
        with pytest.raises(CallerError):
            read(event)

    def test_what_is_no_text_among_headers_and_query_is_left_out(self) -> None:
        event = recorded("rest-api-get")
        event["headers"] = {"A": 1, "B": "b"}
        event["multiValueHeaders"] = {"C": ["1", 2, "3"], "D": "d"}
        event["queryStringParameters"] = ["x"]
        event["multiValueQueryStringParameters"] = None
        found = read(event)
        assert isinstance(found, Asked)
        assert found.request.headers == {"b": "b", "c": "1,3"}
        assert found.request.query == {}

    def test_half_a_surrogate_pair_is_for_the_reader_of_the_body_to_refuse(self) -> None:
        found = read(recorded("http-api-execute") | {"body": '"\ud800"'})
        assert isinstance(found, Asked)
        with pytest.raises(CallerError, match="UTF-8"):
            to_invocation(found.request, 262_144)


class TestResponses:
    def test_text_goes_as_text(self) -> None:
        assert answer(Response(202, {"content-type": "application/json"}, '{"id":"ö"}'.encode())) == {
            "statusCode": 202,
            "headers": {"content-type": "application/json"},
            "body": '{"id":"ö"}',
            "isBase64Encoded": False,
        }

    def test_other_bytes_go_as_base64(self) -> None:
        told = answer(Response(200, {}, b"\xff"))
        assert (told["body"], told["isBase64Encoded"]) == (base64.b64encode(b"\xff").decode(), True)

    def test_nothing_that_the_runtime_client_cannot_write_is_returned(self) -> None:
        """The client of Python 3.12 and later ends its process over it."""
        assert sendable({"detail": "no \ud800", "list": [{"\udfff": 1}]}) == {"detail": "no ?", "list": [{"?": 1}]}
        fine: dict[str, object] = {"detail": "ö\U0001f600"}
        assert sendable(fine) is fine


class TestMappings:
    @pytest.mark.parametrize("name", MAPPINGS)
    def test_a_recorded_event_is_an_invocation_as_data(self, name: str) -> None:
        found = read(recorded(name))
        assert isinstance(found, Direct)
        assert found.mapping == MAPPINGS[name]

    def test_an_event_of_a_rule_is_told_by_its_id(self) -> None:
        found = read(recorded("eventbridge-rule"))
        assert isinstance(found, Direct)
        assert found.correlation == "6a7e8feb-b491-4cf7-a9f1-bf3703467718"

    @pytest.mark.parametrize("detail", [None, 5, "sweep", ["a"]])
    def test_a_rule_whose_detail_is_no_object_is_refused(self, detail: object) -> None:
        with pytest.raises(CallerError, match="detail"):
            read(recorded("eventbridge-rule") | {"detail": detail})

    @pytest.mark.parametrize("event", [None, 5, "text", [1], True, 1.5, "x" * 1000])
    def test_what_is_no_object_is_refused_without_being_repeated_at_length(self, event: object) -> None:
        with pytest.raises(CallerError) as told:
            read(event)
        assert len(str(told.value)) < 300


class TestBatches:
    def test_a_recorded_batch_is_its_messages(self) -> None:
        batch = read(recorded("sqs-wakes"))
        assert isinstance(batch, Batch)
        assert [message.id[-4:] for message in batch.messages] == ["0001", "0002"]
        assert [hops(message.body) for message in batch.messages] == [1, 7]
        assert {message.group for message in batch.messages} == {None}

    def test_what_is_handled_goes_and_what_is_not_comes_again(self) -> None:
        batch = read(recorded("sqs-wakes"))
        assert isinstance(batch, Batch)
        kept = handled(batch, lambda message: message.id.endswith("1"))
        assert kept == {"batchItemFailures": [{"itemIdentifier": batch.messages[1].id}]}
        assert handled(batch, lambda _: True) == {"batchItemFailures": []}

    def test_after_a_failure_nothing_else_of_a_fifo_group_is_tried(self) -> None:
        batch = read(recorded("sqs-fifo"))
        assert isinstance(batch, Batch)
        tried: list[str] = []

        def handle(message: Message) -> bool:
            tried.append(str(json.loads(message.body)["id"]))
            return "o-3" not in message.body

        kept = handled(batch, handle)
        assert tried == ["o-1", "o-2", "o-3", "o-4"]
        assert kept == {"batchItemFailures": [{"itemIdentifier": batch.messages[n].id} for n in (2, 4)]}

    def test_a_redriven_message_is_a_message(self) -> None:
        batch = read(recorded("sqs-redriven"))
        assert isinstance(batch, Batch)
        assert json.loads(batch.messages[0].body)["id"] == "o-9"

    @pytest.mark.parametrize("record", [None, 5, "a", [], {}, {"messageId": 5, "eventSource": "aws:sqs", "body": "a"}])
    def test_a_record_without_an_id_gives_the_whole_batch_back(self, record: object) -> None:
        """AWS: an empty item identifier is a complete failure. Nothing is lost that way."""
        batch = read({"Records": [*recorded("sqs-wakes")["Records"], record]})
        assert isinstance(batch, Batch)
        kept = handled(batch, lambda message: message.id != "")
        assert kept == {"batchItemFailures": [{"itemIdentifier": ""}]}

    @pytest.mark.parametrize("records", [None, 5, "a", {}])
    def test_records_that_are_no_list_are_one_that_cannot_be_read(self, records: object) -> None:
        assert read({"Records": records}) == Batch((Message("", ""),))

    def test_records_of_another_service_are_no_messages(self) -> None:
        assert read(recorded("s3-notification")) == Batch((Message("", ""),))

    @pytest.mark.parametrize(
        "body",
        ["", "{", '"hops"', '["hops"]', '{"hops": "3"}', '{"hops": true}', '{"hops": -1}', "[" * 5000 + '"hops"'],
    )
    def test_hops_are_counted_for_wake_messages_only(self, body: str) -> None:
        assert hops(body) == 0


def test_powertools_answers_the_same_for_a_batch() -> None:
    """The convention is Powertools' `process_partial_response`, which costs a tenth of a second to import."""
    from aws_lambda_powertools.utilities.batch import (
        BatchProcessor,
        EventType,
        SqsFifoPartialProcessor,
        process_partial_response,
    )

    def raising(*failing: str) -> Any:
        def handle(record: Any) -> None:
            if json.loads(record.body).get("id") in failing:
                raise ValueError

        return handle

    for name, processor, failing in [
        ("sqs-wakes", BatchProcessor(event_type=EventType.SQS), ("o-2",)),
        ("sqs-wakes", BatchProcessor(event_type=EventType.SQS), ()),
        ("sqs-fifo", SqsFifoPartialProcessor(skip_group_on_error=True), ("o-1",)),
        ("sqs-fifo", SqsFifoPartialProcessor(skip_group_on_error=True), ("o-2", "o-3")),
    ]:
        event = recorded(name)
        theirs = process_partial_response(
            event=event,
            record_handler=raising(*failing),
            processor=processor,
            context=None,
        )
        batch = read(event)
        assert isinstance(batch, Batch)
        ours = handled(batch, lambda message, failing=failing: json.loads(message.body)["id"] not in failing)  # type: ignore[misc]
        assert ours == theirs


def test_every_recorded_event_is_used_here_or_by_the_handler() -> None:
    names = {path.stem for path in EVENTS.glob("*.json")}
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert {name for name in names if f'"{name}"' not in tests} == set()
