"""The way to Firestore: one channel, three calls, and what to do when one of them is not answered.

It must not know what a document means. It imports Google's libraries at its top, which takes some 0.4 s: so it is
itself imported when a store is first used. The calls are Firestore's own (Commit, BatchGetDocuments, RunQuery) with the
library's messages; its `Client` would translate every value twice, and its transactions cost two calls more.
"""

from __future__ import annotations

import os
from random import random
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from google.api_core.gapic_v1 import routing_header
from google.cloud.firestore_v1.services.firestore.transports import FirestoreGrpcTransport

from flux_gcp import settings as names
from flux_gcp.firestore_faults import PASSING, is_too_large, no_credentials, no_project, translate, was_closed
from flux_gcp.firestore_layout import Layout
from flux_gcp.firestore_messages import (
    BatchGetRequest,
    BatchGetResponse,
    CommitRequest,
    CommitResponse,
    RunQueryRequest,
    RunQueryResponse,
    by_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from google.auth.credentials import Credentials

    from flux_gcp.firestore_messages import Message
    from flux_gcp.settings import FirestoreSettings

T = TypeVar("T")

WRITTEN: Final = 0
REFUSED: Final = 1
"""A condition did not hold."""
REFUSED_LATE: Final = 2
"""A condition did not hold when the commit was tried again, after an answer had been lost: it may have been ours."""
_REFUSALS: Final = frozenset({"ALREADY_EXISTS", "FAILED_PRECONDITION"})

_SERVICE = "/google.firestore.v1.Firestore/"
PAGE: Final = 300
"""Documents of a log or a mailbox that one call reads at most; each has a time limit of its own."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 3.0
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


class Wire:
    """The connection of one store. Threads share it."""

    def __init__(self, settings: FirestoreSettings, credentials: Credentials | None) -> None:
        """Find credentials and project, and make the channel; nothing is sent yet."""
        self.settings = settings
        emulator = os.environ.get(names.EMULATOR)
        project = settings.project or os.environ.get(names.GOOGLE_PROJECT)
        if emulator:
            channel = grpc.insecure_channel(emulator, options=_OPTIONS)
            project = project or "flux-emulator"
        else:
            channel, project = _connect(credentials, project)
        self.emulated = bool(emulator)
        self.names = Layout(project, settings)
        self.closed = False
        self.metadata = [("google-cloud-resource-prefix", self.names.database)]
        if emulator:
            self.metadata.append(("authorization", "Bearer owner"))
        self._to_database = (*self.metadata, _route("database", self.names.database))
        self._channel = channel
        self._commit = channel.unary_unary(
            f"{_SERVICE}Commit",
            request_serializer=CommitRequest.SerializeToString,
            response_deserializer=CommitResponse.FromString,
        )
        self._get = channel.unary_stream(
            f"{_SERVICE}BatchGetDocuments",
            request_serializer=BatchGetRequest.SerializeToString,
            response_deserializer=BatchGetResponse.FromString,
        )
        self._query = channel.unary_stream(
            f"{_SERVICE}RunQuery",
            request_serializer=RunQueryRequest.SerializeToString,
            response_deserializer=RunQueryResponse.FromString,
        )

    def end(self) -> float:
        """When a call of the store that begins now has to be over, by the monotonic clock."""
        return monotonic() + self.settings.timeout

    def close(self) -> None:
        """End calls that are under way, and release the channel."""
        self.closed = True
        self._channel.close()

    # --- the three calls -----------------------------------------------------------------------------------

    def commit(self, writes: Sequence[Message], end: float, refusals: Iterable[str] = _REFUSALS) -> int:
        """All of `writes` or none: `WRITTEN`, or `REFUSED` if a condition of one did not hold.

        `refusals` are the codes that say the latter.
        """
        request = CommitRequest(database=self.names.database, writes=writes)
        lost = False
        pause = _FIRST_PAUSE
        while True:
            try:
                self._commit(request, timeout=self._limit(end), metadata=self._to_database)
            except grpc.RpcError as error:
                if error.code().name in refusals and not is_too_large(error.details() or ""):
                    return REFUSED_LATE if lost else REFUSED
                pause = self._after(error, pause, end)
                lost = True
            except ValueError as error:
                raise self._closed(error) from error
            else:
                return WRITTEN

    def get(self, documents: Sequence[str], end: float) -> list[Message | None]:
        """The named documents, in that order; None for one that is not there."""
        request = BatchGetRequest(database=self.names.database, documents=documents)

        def ask() -> list[Message | None]:
            found: dict[str, Message] = {}
            for answer in self._get(request, timeout=self._limit(end), metadata=self._to_database):
                if answer.HasField("found"):
                    found[answer.found.name] = answer.found
            return [found.get(name) for name in documents]

        return self._again(ask, end)

    def query(self, parent: str, question: Message, end: float) -> list[Message]:
        """The documents under `parent` that a query finds, in its order."""
        return self.queries(parent, [question], end)[0]

    def queries(self, parent: str, questions: Sequence[Message], end: float) -> list[list[Message]]:
        """The same for several, one after the other: all of them find what was there at the time of the first."""
        as_of: Message | None = None
        found = []
        for question in questions:
            documents, as_of = self._page(parent, question, end, as_of)
            found.append(documents)
        return found

    def all(self, parent: str, collection: str, *, until: str = "", names_only: bool = False) -> list[Message]:
        """All documents of a collection under `parent`, in the order of their names, up to `until` itself.

        However many: each `PAGE` is a call with the whole time limit, and all find what was there at the first.
        """
        as_of: Message | None = None
        found: list[Message] = []
        while True:
            after = found[-1].name if found else ""
            question = by_name(collection, PAGE, after=after, until=until, names_only=names_only)
            page, as_of = self._page(parent, question, self.end(), as_of)
            found += page
            if len(page) < PAGE:
                return found

    def _page(self, parent: str, question: Message, end: float, as_of: Message | None) -> tuple[list[Message], Message]:
        request = RunQueryRequest(parent=parent, structured_query=question, read_time=as_of)
        metadata = (*self.metadata, _route("parent", parent))

        def ask() -> list[Message]:
            return [*self._query(request, timeout=max(end - monotonic(), 0.0), metadata=metadata)]

        answers = self._again(ask, end)
        read_time = next(answer.read_time for answer in reversed(answers) if answer.HasField("read_time"))
        return [answer.document for answer in answers if answer.HasField("document")], read_time

    # --- what is not answered ------------------------------------------------------------------------------

    def _again(self, ask: Callable[[], T], end: float) -> T:
        pause = _FIRST_PAUSE
        while True:
            try:
                return ask()
            except grpc.RpcError as error:
                pause = self._after(error, pause, end)
            except ValueError as error:
                raise self._closed(error) from error

    def _after(self, error: grpc.RpcError, pause: float, end: float) -> float:
        """Sleep before the next attempt, and say how long to sleep after that; or raise what there is to say."""
        code, details = error.code().name, error.details() or ""
        if self.closed:
            raise was_closed(self.names.database) from error
        nap = pause * (0.5 + random() / 2)  # noqa: S311 -- only spreads attempts
        if code not in PASSING or is_too_large(details) or monotonic() + nap >= end:
            raise translate(code, details, self.settings, self.names.database) from error
        sleep(nap)
        return min(pause * 2, _LONGEST_PAUSE)

    def _limit(self, end: float) -> float:
        """Seconds after which an attempt is taken for lost and made again, if there is time."""
        return min(max(end - monotonic(), 0.0), self.settings.timeout / 2)

    def _closed(self, error: ValueError) -> Exception:
        """What grpc says of a closed channel is a ValueError; another one is a fault of ours."""
        return was_closed(self.names.database) if self.closed else error


def _route(key: str, value: str) -> tuple[str, str]:
    header: tuple[str, str] = routing_header.to_grpc_metadata(((key, value),))
    return header


def _connect(credentials: Credentials | None, project: str | None) -> tuple[grpc.Channel, str]:
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    if credentials is None:
        try:
            credentials, found = google.auth.default(scopes=FirestoreGrpcTransport.AUTH_SCOPES)
        except GoogleAuthError as error:
            raise no_credentials(error) from error
        project = project or found
    if not project:
        raise no_project()
    host = f"{FirestoreGrpcTransport.DEFAULT_HOST}:443"
    channel = FirestoreGrpcTransport.create_channel(
        host, credentials=credentials, scopes=FirestoreGrpcTransport.AUTH_SCOPES, options=_OPTIONS
    )
    return channel, project
