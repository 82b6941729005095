"""Requests to one DynamoDB table: a client made when first needed, and one time limit for a request with its retries.

It must not know what an item means. The SDK's own retries are off: they know neither the time that is left nor which
conflicts pass. A time-line of the worst request, for `call_timeout` t:

    0                                t/2                                t
    | attempt, pause, attempt, ...    | no attempt begins here           |
                                      | the last one: connect t/6, answer t/3
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from flux_aws.dynamodb_faults import condition_failed, no_endpoint, not_installed, passes, reasons_of, translate
from flux_core.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from flux_aws.dynamodb_items import Item
    from flux_core.ports import Clock, Entropy

_FIRST_PAUSE: Final = 0.025
_LONGEST_PAUSE: Final = 1.0
_CONNECTIONS: Final = 64
"""How many threads may use the client at a time before one has to make a connection of its own."""
_FREE: Final = "attribute_not_exists(PK)"
_TELL: Final = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
"""A failed condition gives back what it found: no second request, and nothing can happen in between."""


class Requests:
    """What a store asks of its table. Any number of threads may use it, and forked children make their own client."""

    def __init__(
        self,
        table: str,
        region: str | None,
        endpoint: str | None,
        session: Any,
        call_timeout: float,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Makes nothing yet. `session` is a `boto3.Session` or None; `call_timeout` is in seconds."""
        self.table = table
        self.region = region
        self.endpoint = endpoint
        self.session = session
        self.call_timeout = call_timeout
        self._clock = clock
        self._entropy = entropy
        self._latest_begin = call_timeout / 2
        self._making = threading.Lock()
        self._client: Any = None
        self._process = os.getpid()
        self._errors: tuple[type[Exception], ...] = ()
        self._closed = False

    # --- writes: None if done -------------------------------------------------------------------------------

    def put(self, item: Item) -> Item | None:
        """Put an item where none is: None if done, else the item found ({} if it is not told)."""
        return self._conditional(
            "put_item",
            {
                "TableName": self.table,
                "Item": item,
                "ConditionExpression": _FREE,
                **_TELL,
            },
        )

    def update(self, key: Item, change: str, condition: str, values: Item) -> Item | None:
        """Change an item on a condition: None if done, else the item found ({} if there is none)."""
        return self._conditional(
            "update_item",
            {
                "TableName": self.table,
                "Key": key,
                "UpdateExpression": change,
                "ConditionExpression": condition,
                "ExpressionAttributeValues": values,
                **_TELL,
            },
        )

    def transact(self, parts: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[Item | None] | None:
        """Do all of `parts` or none: None if done, else for each what failed its condition ({} if nothing is there).

        A part is `{"Put": {...}}` and so on, without the table. The token is drawn for this call and serves its own
        retries only: one made of the bytes would tell a later writer of the same bytes, for ten minutes, that they
        are there, even if they have been purged in between (docs/decisions).
        """
        items = [
            {action: {"TableName": self.table, **_TELL, **asked} for action, asked in part.items()} for part in parts
        ]
        try:
            self.call("transact_write_items", {"TransactItems": items, "ClientRequestToken": self._entropy.token()})
        except self._errors as error:
            return [
                reason.get("Item") or {} if reason.get("Code") == "ConditionalCheckFailed" else None
                for reason in reasons_of(error)
            ]
        return None

    # --- reads, always consistent save those of an index ------------------------------------------------------

    def get(self, key: Item) -> Item | None:
        """The item, as every acknowledged write left it."""
        item: Item | None = self.call(
            "get_item", {"TableName": self.table, "Key": key, "ConsistentRead": True}
        ).get("Item")  # fmt: skip
        return item

    def query(self, parameters: Mapping[str, Any], limit: int | None = None) -> Iterator[list[Item]]:
        """The pages of a query, each a request with a time limit of its own; `limit` is for each page."""
        asked = {"TableName": self.table, "ConsistentRead": "IndexName" not in parameters, **parameters}
        if limit is not None:
            asked["Limit"] = limit
        while True:
            answer = self.call("query", asked)
            yield answer["Items"]
            after = answer.get("LastEvaluatedKey")
            if not after:
                return
            asked["ExclusiveStartKey"] = after

    # --- one request --------------------------------------------------------------------------------------------

    def call(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Ask AWS, again where that may help and time allows.

        Raises the SDK's error if a condition did not hold, and the kit's error for everything else.
        """
        client = self._client
        if client is None or self._process != os.getpid():
            client = self._make()
        begun, pause = self._clock.monotonic(), _FIRST_PAUSE
        while True:
            try:
                answer: dict[str, Any] = getattr(client, operation)(**parameters)
            except self._errors as error:
                if condition_failed(error):
                    raise
                wait = pause * self._entropy.uniform()
                late = self._clock.monotonic() - begun + wait > self._latest_begin
                if late or not passes(error):
                    raise translate(error, self.table, client.meta.region_name) from error
                self._clock.sleep(wait)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                return answer

    def close(self) -> None:
        """Release the connections; later calls raise `StorageUnavailable`."""
        with self._making:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def client(self) -> Any:
        """The SDK's client, made if need be: for `ensure`, and for who measures or hooks in."""
        client = self._client
        return self._make() if client is None or self._process != os.getpid() else client

    # --- inside -----------------------------------------------------------------------------------------------

    def _conditional(self, operation: str, parameters: Mapping[str, Any]) -> Item | None:
        try:
            self.call(operation, parameters)
        except self._errors as error:
            found: Item | None = getattr(error, "response", {}).get("Item")
            return found or {}
        return None

    def _make(self) -> Any:
        if self._process != os.getpid():  # a child of a fork: nobody in it holds the lock of its parent
            self._making = threading.Lock()
        with self._making:
            if self._closed:
                raise StorageUnavailable(
                    f"This DynamoDBStorage on the table {self.table!r} was closed. Make a new one."
                )
            if self._client is not None and self._process == os.getpid():
                return self._client  # another thread was quicker
            try:
                import boto3
                from botocore.config import Config
                from botocore.exceptions import BotoCoreError, ClientError
            except ImportError as error:
                raise not_installed(error) from error

            self._errors = (BotoCoreError, ClientError)
            config = Config(
                connect_timeout=self.call_timeout / 6,
                read_timeout=self.call_timeout / 3,
                retries={"total_max_attempts": 1, "mode": "standard"},
                max_pool_connections=_CONNECTIONS,
                parameter_validation=False,  # what is sent is built here, and DynamoDB checks it again
                tcp_keepalive=True,
            )
            try:
                session = self.session or boto3.session.Session()
                client = session.client(
                    "dynamodb", region_name=self.region, endpoint_url=self.endpoint, config=config
                )  # fmt: skip
            except self._errors as error:
                raise translate(error, self.table, self.region or "no region") from error
            except ValueError as error:
                raise no_endpoint(self.endpoint) from error
            self._process = os.getpid()
            self._client = client
            return client
