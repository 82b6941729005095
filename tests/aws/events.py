"""The events that AWS brings, as recorded in tests/events/aws, and the context that Lambda gives with them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from awslambdaric.lambda_context import LambdaContext

EVENTS = Path(__file__).resolve().parents[1] / "events" / "aws"


def recorded(name: str) -> Any:
    """An event out of the folder."""
    return json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8"))


def records(*bodies: object) -> dict[str, Any]:
    """A batch of messages with these bodies; what is no text is written as JSON."""
    (like,) = recorded("sqs-execute")["Records"]
    texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
    return {"Records": [like | {"messageId": f"m-{number}", "body": text} for number, text in enumerate(texts)]}


def request(method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """A request of the HTTP API; `path` may have a query."""
    event = recorded("http-api-execute")
    path, _, query = path.partition("?")
    event |= {"rawPath": path, "rawQueryString": query, "headers": headers or {}}
    event["queryStringParameters"] = dict(pair.split("=") for pair in query.split("&")) if query else {}
    event["requestContext"]["http"] |= {"method": method, "path": path}
    event["body"] = body if isinstance(body, str | None) else json.dumps(body)
    return event


def context(seconds: float = 60.0) -> LambdaContext:
    """The runtime client's own context, of an invocation that has `seconds` left."""
    end = int((time.time() + seconds) * 1000)
    arn = "arn:aws:lambda:eu-central-1:123456789012:function:flux-worker"
    return LambdaContext("7f0b1d5c-request", None, None, end, arn)
