"""Google's events to what a `Host` takes, and answers back: HTTP requests, tasks, CloudEvents, trace headers.

Pure: no SDK, no clock, no environment, and nothing of Flask's or of cloudevents' is imported. What an event says is
checked by the core; what cannot even be read as an event is a `CallerError`.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_core.errors import CallerError
from flux_core.http import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    import flask
    from cloudevents.http import CloudEvent
    from werkzeug.datastructures import Headers

    from flux_core.http import Response

    Answer = tuple[bytes, int, dict[str, str]]
    """What Flask makes its response of."""

PUBLISHED: Final = "google.cloud.pubsub.topic.v1.messagePublished"
"""The type of the CloudEvent that carries a Pub/Sub message (Eventarc, Events, Pub/Sub)."""
QUEUE_HEADER: Final = "x-cloudtasks-queuename"
TASK_HEADER: Final = "x-cloudtasks-taskname"
"""Every request of Cloud Tasks to an HTTP target has them (Cloud Tasks, Create HTTP target tasks)."""
SCHEDULER_HEADER: Final = "x-cloudscheduler"
"""Every request of Cloud Scheduler has it (Cloud Scheduler, `HttpTarget.headers`)."""
WAKES: Final = "/invoke"
"""Where tasks are delivered: the route that takes a verb as data."""

_HEX: Final = frozenset("0123456789abcdef")
_TRACE, _SPAN = 32, 16
"""Hexadecimal digits."""
_PARTS: Final = 4
_MOST: Final = 2**64 - 1


class Trace(NamedTuple):
    """Which trace a request belongs to."""

    id: str
    """32 hexadecimal digits."""
    span: str
    """16 hexadecimal digits, or nothing."""
    sampled: bool


def request(incoming: flask.Request) -> Request:
    """A request of the functions-framework; `CallerError` for a body that is shorter than was announced."""
    from werkzeug.exceptions import HTTPException

    try:
        body = incoming.get_data()
    except HTTPException as error:
        raise CallerError(f"the body of the request cannot be read: {error.description}") from error
    headers = {name.lower(): value for name, value in incoming.headers.items()}
    # Of a name that is there twice one text with commas, as AWS's gateways have it.
    query = {name: ",".join(values) for name, values in incoming.args.lists()}
    return Request(incoming.method, incoming.path, query, headers, body)


def answer(response: Response) -> Answer:
    """A response as Flask takes it."""
    return response.body, response.status, dict(response.headers)


def is_task(incoming: Request) -> bool:
    """Whether Cloud Tasks delivers it: it is brought again without end, until it is answered 2xx."""
    return QUEUE_HEADER in incoming.headers and _is_invocation(incoming)


def is_sweep(incoming: Request) -> bool:
    """Whether Cloud Scheduler asks: nobody waits for the answer, so it may take the whole budget."""
    return SCHEDULER_HEADER in incoming.headers and _is_invocation(incoming)


def message(event: CloudEvent) -> bytes:
    """What a Pub/Sub message holds; `CallerError` for another event, or one without data."""
    kind = event["type"]
    if kind != PUBLISHED:
        raise CallerError(f"the event is a {kind!r}; this function takes {PUBLISHED}: trigger it with a Pub/Sub topic")
    held = event.data.get("message") if isinstance(event.data, dict) else None
    data = held.get("data") if isinstance(held, dict) else None
    if not isinstance(data, str) or not data:
        raise CallerError(
            'the event has no Pub/Sub message with data: publish JSON text such as {"action": "wake", ...}'
        )
    try:
        return b64decode(data, validate=True)
    except ValueError as error:
        raise CallerError(f"the data of the Pub/Sub message is not base64: {error}") from error


def trace(headers: Mapping[str, str] | Headers) -> Trace | None:
    """The trace that headers name: W3C's `traceparent`, else Google's older one."""
    return _parent(headers.get("traceparent", "")) or _context(headers.get("x-cloud-trace-context", ""))


def _is_invocation(incoming: Request) -> bool:
    return incoming.method == "POST" and incoming.path.strip("/") == WAKES.strip("/")


def _parent(text: str) -> Trace | None:
    """`00-{32 hex}-{16 hex}-{2 hex}` (W3C Trace Context); ids of zeros alone are none."""
    parts = text.strip().split("-")
    if len(parts) < _PARTS or not (_is_id(parts[1], _TRACE) and _is_id(parts[2], _SPAN) and _is_hex(parts[3], 2)):
        return None
    return Trace(parts[1], parts[2], bool(int(parts[3], 16) & 1))


def _context(text: str) -> Trace | None:
    """`{32 hex}/{decimal span};o={0 or 1}`, the last two parts optional (Cloud Trace, Trace context)."""
    head, _, options = text.strip().partition(";")
    name, _, span = head.partition("/")
    if not _is_id(name.lower(), _TRACE):
        return None
    number = int(span) if span.isascii() and span.isdigit() and len(span) <= len(str(_MOST)) else 0
    return Trace(name.lower(), f"{number:016x}" if 0 < number <= _MOST else "", options.strip() == "o=1")


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and _HEX.issuperset(text)


def _is_id(text: str, length: int) -> bool:
    return _is_hex(text, length) and text.strip("0") != ""
