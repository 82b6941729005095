"""The wire between a store's client and AWS: what goes over it, and what goes wrong on it.

The hooks are botocore's own, below its retries: what happens here is what would happen on a network.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from botocore.httpsession import URLLib3Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_aws import DynamoDBStorage


class Sent(NamedTuple):
    """A request that went over the wire."""

    operation: str
    body: dict[str, Any]


class Answer(NamedTuple):
    """What AWS says instead."""

    status: int
    body: dict[str, Any]


def refusal(code: str, message: str = "no", status: int = 400, **more: object) -> Answer:
    return Answer(status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message, **more})


def cancelled(*reasons: str) -> Answer:
    """A transaction that was not carried out, with the reason for each of its parts."""
    return refusal(
        "TransactionCanceledException",
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{', '.join(reasons)}]",
        CancellationReasons=[{"Code": reason, "Message": reason} for reason in reasons],
    )


LOST = "the answer is lost"
"""AWS does it, and nobody hears of it."""
DROPPED = "the request is lost"


class Wire:
    """The wire of one store. `trouble` is what happens to the next requests, one each; None lets one through."""

    def __init__(self, store: DynamoDBStorage) -> None:
        self.sent: list[Sent] = []
        self.trouble: list[str | Answer | None] = []
        self.before: Callable[[Sent], object] | None = None
        """Called as a request is about to leave."""
        self._own = URLLib3Session()
        store.client.meta.events.register("before-send.dynamodb.*", self._on_request)

    def take(self) -> list[str]:
        """The operations since the last time."""
        taken = [sent.operation for sent in self.sent]
        self.sent.clear()
        return taken

    def _on_request(self, request: Any, **_: object) -> AWSResponse | None:
        target = request.headers["X-Amz-Target"]
        name = target.decode() if isinstance(target, bytes) else target
        sent = Sent(name.partition(".")[2], json.loads(request.body))
        self.sent.append(sent)
        if self.before is not None:
            self.before(sent)
        trouble = self.trouble.pop(0) if self.trouble else None
        if trouble == DROPPED:
            raise ConnectTimeoutError(endpoint_url=request.url)
        if trouble == LOST:
            self._own.send(request)
            raise ReadTimeoutError(endpoint_url=request.url)
        if isinstance(trouble, Answer):
            return _response(request.url, trouble)
        return None


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: object) -> list[bytes]:
        return [self._body]


def _response(url: str, answer: Answer) -> AWSResponse:
    body = json.dumps(answer.body).encode()
    headers = {"content-type": "application/x-amz-json-1.0", "content-length": str(len(body))}
    return AWSResponse(url, answer.status, headers, _Raw(body))
