"""AWS's events to and from what the host takes. Pure: it must not call AWS, nor import its SDK.

Each shape is told by what only it has. Whatever cannot be read is a `CallerError`, never another exception: an event
may hold anything at all. Shapes: https://docs.aws.amazon.com/lambda/latest/dg/lambda-services.html, and one recorded
event of each in tests/events/aws.
"""

from __future__ import annotations

from binascii import Error as NotBase64
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_core.errors import CallerError
from flux_core.http import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from flux_core.http import Response

SWEEP: Final[Mapping[str, object]] = {"action": "sweep"}
"""What a scheduled rule without an input asks for."""
_QUEUE: Final = "aws:sqs"
_SHOWN: Final = 100


class Message(NamedTuple):
    """One record of a batch out of a queue."""

    id: str
    """"" for a record that names none: an answer that names it gives the whole batch back to the queue."""
    body: str
    """"" for what is no message of SQS; the host refuses it."""
    group: str | None = None
    """The group of a FIFO queue; its messages are handled in order."""


class Batch(NamedTuple):
    """What a queue brings in one invocation."""

    messages: tuple[Message, ...]


class Asked(NamedTuple):
    """A request over HTTP."""

    request: Request
    correlation: str | None
    """AWS's id of the request."""


class Direct(NamedTuple):
    """An invocation as data: of the SDK, of a rule or of a schedule."""

    mapping: Mapping[str, Any]
    correlation: str | None = None


def is_http(event: object) -> bool:
    """Whether whoever sent it waits for an answer that is a response."""
    return isinstance(event, dict) and isinstance(event.get("requestContext"), dict)


def read(event: object, base_path: str = "") -> Asked | Batch | Direct:
    """What `event` asks for. `base_path` ("/flux") is cut off the paths of requests.

    Raises `CallerError` for what is none of the events that are documented.
    """
    if not isinstance(event, dict):
        raise CallerError(f"an event of a function is a JSON object; this one is {_shown(event)}")
    if "Records" in event:
        records = event["Records"]
        return Batch(tuple(_message(record) for record in (records if isinstance(records, list) else [records])))
    if is_http(event):
        return _asked(event, base_path)
    if {"detail-type", "source", "detail"} <= event.keys():
        return _rule(event)
    return Direct(event)


def answer(response: Response) -> dict[str, object]:
    """The response as API Gateway and function URLs take it (payload format 1.0 and 2.0 alike)."""
    from base64 import b64encode

    try:
        body, encoded = response.body.decode(), False
    except UnicodeDecodeError:
        body, encoded = b64encode(response.body).decode(), True
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": body,
        "isBase64Encoded": encoded,
    }


def handled(batch: Batch, handle: Callable[[Message], bool]) -> dict[str, object]:
    """Carry out each message and say which the queue has to bring again (a partial batch response).

    `handle` says whether the message is done with. Of a FIFO group nothing is tried after one that is not.
    """
    again: list[str] = []
    held: set[str] = set()
    for message in batch.messages:
        if message.group in held or not handle(message):
            again.append(message.id)
            if message.group is not None:
                held.add(message.group)
    return {"batchItemFailures": [{"itemIdentifier": id_} for id_ in again]}


def hops(body: str) -> int:
    """How many messages have led to this one; 0 for what is no wake message."""
    if '"hops"' not in body:
        return 0
    import json

    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return 0
    count = told.get("hops") if isinstance(told, dict) else 0
    return count if type(count) is int and count > 0 else 0


# --- requests ---------------------------------------------------------------------------------------------------------


def _asked(event: dict[str, Any], base_path: str) -> Asked:
    context = event["requestContext"]
    http = context.get("http")
    if isinstance(http, dict):  # payload format 2.0: HTTP API and function URL
        method, path = http.get("method"), event.get("rawPath")
    else:  # 1.0: REST API
        method, path = event.get("httpMethod"), event.get("path")
    if not isinstance(method, str) or not isinstance(path, str):
        raise CallerError("the event has a requestContext, as requests have, but no method or no path")
    headers = {name.lower(): value for name, value in _texts(event, "headers", "multiValueHeaders").items()}
    query = _texts(event, "queryStringParameters", "multiValueQueryStringParameters")
    stage = context.get("stage")
    for prefix in (f"/{stage}" if isinstance(stage, str) else "", base_path):
        path = path.removeprefix(prefix) if prefix and path.startswith(f"{prefix}/") else path
    id_ = context.get("requestId")
    return Asked(Request(method, path, query, headers, _body(event)), id_ if isinstance(id_, str) else None)


def _texts(event: dict[str, Any], single: str, multiple: str) -> dict[str, str]:
    """Names and values; several values of one name become one with commas, as payload format 2.0 has them."""
    told = event.get(single)
    found = {name: value for name, value in told.items() if isinstance(value, str)} if isinstance(told, dict) else {}
    told = event.get(multiple)
    for name, values in told.items() if isinstance(told, dict) else ():
        if isinstance(values, list):
            found[name] = ",".join(value for value in values if isinstance(value, str))
    return {name: value for name, value in found.items() if isinstance(name, str)}


def _body(event: dict[str, Any]) -> bytes:
    body = event.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise CallerError(f"the body of a request is text; this one is {_shown(body)}")
    if event.get("isBase64Encoded") is not True:
        return body.encode("utf-8", "surrogatepass")
    from base64 import b64decode

    try:
        return b64decode(body, validate=True)
    except (NotBase64, ValueError) as error:
        raise CallerError(f"the body of the request says that it is base64, and is not: {error}") from error


# --- queues, rules ---------------------------------------------------------------------------------------------------


def _message(record: object) -> Message:
    """A record of SQS; what is none has no body, and no other record suffers from it."""
    if not isinstance(record, dict):
        return Message("", "")
    id_, body, attributes = record.get("messageId"), record.get("body"), record.get("attributes")
    group = attributes.get("MessageGroupId") if isinstance(attributes, dict) else None
    return Message(
        id_ if isinstance(id_, str) else "",
        body if isinstance(body, str) and record.get("eventSource") == _QUEUE else "",
        group if isinstance(group, str) else None,
    )


def _rule(event: dict[str, Any]) -> Direct:
    detail, id_ = event["detail"], event.get("id")
    if not isinstance(detail, dict):
        raise CallerError(f"the detail of an event of EventBridge is an object; this one is {_shown(detail)}")
    if not detail and event["detail-type"] == "Scheduled Event":
        detail = SWEEP
    return Direct(detail, id_ if isinstance(id_, str) else None)


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def sendable(result: dict[str, object]) -> dict[str, object]:
    """`result` as it can be sent: half a surrogate pair, which no encoding has, would end the whole process.

    The runtime client of Python 3.12 and later writes what a handler returns as UTF-8 without escapes.
    """
    import json

    try:
        json.dumps(result, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        cleaned: dict[str, object] = json.loads(json.dumps(result, ensure_ascii=False).encode("utf-8", "replace"))
        return cleaned
    return result
