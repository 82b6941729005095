"""A server between a store and the emulator: it counts what Firestore would bill, and loses answers when it is told to.

It speaks Firestore's own protocol over the network, so the store under test and its client are the real ones.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import grpc

from flux_gcp.firestore_messages import (
    BatchGetRequest,
    BatchGetResponse,
    CommitRequest,
    RunQueryRequest,
    RunQueryResponse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flux_gcp.firestore_messages import Message

COMMIT, GET, QUERY = "Commit", "BatchGetDocuments", "RunQuery"
_SERVICE = "/google.firestore.v1.Firestore/"


class Bill(NamedTuple):
    """What Firestore would bill, and how many calls it took."""

    commits: int = 0
    writes: int = 0
    deletes: int = 0
    gets: int = 0
    queries: int = 0
    reads: int = 0
    """Documents read; a query that finds none, and a document that is not there, count as one."""


class Trouble(NamedTuple):
    """What happens to one call."""

    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    details: str = "the connection was lost"
    after: bool = False
    """Whether Firestore has done it before the answer is lost."""
    wait: float = 0.0
    """Seconds until the trouble shows."""


LOST = Trouble(after=True)
DOWN = Trouble()


class Relay(grpc.GenericRpcHandler):
    """One relay. `trouble` says what becomes of call number n (from 1) of a method; None: it goes through."""

    def __init__(self, emulator: str) -> None:
        self.trouble: Callable[[str, int], Trouble | None] = lambda method, number: None
        self.seen: list[tuple[str, Message]] = []
        """Every request, also those that met trouble."""
        self.meanwhile: Callable[[str, int], object] = lambda method, number: None
        """Called before a call goes through, with its number: somebody else's work."""
        self.limits: list[float | None] = []
        """Seconds that the client gave each call when it came."""
        self._bill = Counter[str]()
        self._numbers = Counter[str]()
        self._lock = threading.Lock()
        self._channel = grpc.insecure_channel(emulator, options=_OPTIONS)
        self._server = grpc.server(ThreadPoolExecutor(32), handlers=[self], options=_OPTIONS)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def take(self) -> Bill:
        """The bill since the last `take`."""
        with self._lock:
            bill = Bill(**self._bill)
            self._bill.clear()
            self.seen.clear()
        return bill

    def again(self, trouble: Callable[[str, int], Trouble | None]) -> None:
        """Count calls from 1 again, with other trouble."""
        with self._lock:
            self._numbers.clear()
            self.trouble = trouble

    def close(self) -> None:
        """Stop at once."""
        self._server.stop(None).wait()
        self._channel.close()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Pass a call on, as bytes."""
        method = str(handler_call_details.method).rpartition("/")[2]
        metadata = tuple(
            (key, value)
            for key, value in handler_call_details.invocation_metadata
            if key in {"authorization", "google-cloud-resource-prefix", "x-goog-request-params"}
        )
        if method == COMMIT:
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: self._pass_on(method, request, context, metadata)[0]
            )
        return grpc.unary_stream_rpc_method_handler(
            lambda request, context: iter(self._pass_on(method, request, context, metadata))
        )

    def _pass_on(
        self, method: str, request: bytes, context: grpc.ServicerContext, metadata: tuple[tuple[str, str | bytes], ...]
    ) -> list[bytes]:
        message = _REQUESTS[method].FromString(request)
        with self._lock:
            self._numbers[method] += 1
            number = self._numbers[method]
            self.seen.append((method, message))
            self.limits.append(context.time_remaining())
            trouble = self.trouble(method, number)
        if trouble is not None and not trouble.after:
            self._fail(trouble, context)
        self.meanwhile(method, number)
        try:
            if method == COMMIT:
                once: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(_SERVICE + method)
                answers = [once(request, metadata=metadata)]
            else:
                many: grpc.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(_SERVICE + method)
                answers = list(many(request, metadata=metadata))
        except grpc.RpcError as error:
            self._count(method, message, [])
            context.abort(error.code(), error.details() or "")
        self._count(method, message, answers)
        if trouble is not None:
            self._fail(trouble, context)
        return answers

    def _fail(self, trouble: Trouble, context: grpc.ServicerContext) -> None:
        time.sleep(trouble.wait)
        context.abort(trouble.code, trouble.details)

    def _count(self, method: str, message: Message, answers: list[bytes]) -> None:
        with self._lock:
            if method == COMMIT:
                self._bill["commits"] += 1
                if answers:  # a commit that is refused writes nothing
                    gone = sum(write.HasField("delete") for write in message.writes)
                    self._bill["writes"] += len(message.writes) - gone
                    self._bill["deletes"] += gone
            elif method == GET:
                self._bill["gets"] += 1
                self._bill["reads"] += sum(map(len, map(_documents, answers)))
            else:
                self._bill["queries"] += 1
                found = sum(RunQueryResponse.FromString(answer).HasField("document") for answer in answers)
                self._bill["reads"] += max(found, 1)


def _documents(answer: bytes) -> list[str]:
    found = BatchGetResponse.FromString(answer)
    return [found.found.name or found.missing] if found.HasField("found") or found.missing else []


def relays(emulator: str) -> Iterator[Relay]:
    """The body of a fixture."""
    relay = Relay(emulator)
    yield relay
    relay.close()


_REQUESTS = {COMMIT: CommitRequest, GET: BatchGetRequest, QUERY: RunQueryRequest}
_OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
