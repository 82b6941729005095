"""Recorded events as the functions-framework hands them over: Flask requests and CloudEvents."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import flask
from cloudevents.http import from_http
from functions_framework.event_conversion import background_event_to_cloud_event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent

FOLDER = Path(__file__).resolve().parents[1] / "events" / "gcp"


class Recorded(NamedTuple):
    """One HTTP request."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: str


def recorded(name: str) -> Recorded:
    """The event in `tests/events/gcp/{name}.json`."""
    return Recorded(**json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def names() -> list[str]:
    """Of all recorded events."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def flask_request(
    method: str = "POST",
    path: str = "/",
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    announced: int | None = None,
) -> flask.Request:
    """A request as Flask makes it of what a server passes on; `announced`: a Content-Length of another value."""
    environ: dict[str, object] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": query.encode().decode("latin-1"),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8080",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
    }
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
    environ["CONTENT_LENGTH"] = str(len(body) if announced is None else announced)
    return flask.Request(environ)


def as_flask(event: Recorded) -> flask.Request:
    """What the function gets of a recorded request."""
    return flask_request(event.method, event.path, event.query, event.headers, event.body.encode())


def as_cloud_event(event: Recorded) -> CloudEvent:
    """What the function gets of a recorded event; the framework converts a plain Pub/Sub push."""
    incoming = as_flask(event)
    if any(name.lower() == "ce-id" for name in event.headers) or "cloudevents" in event.headers["Content-Type"]:
        return from_http(dict(event.headers), incoming.get_data())
    return background_event_to_cloud_event(incoming)
