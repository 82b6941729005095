"""`DynamoDBStorage`: instances in one DynamoDB table. It must not know workflow rules, and deletes nothing itself.

A step is one conditional PutItem; a record with a header is one TransactWriteItems of both. The layout is in
`dynamodb_items`, requests and their time limit in `dynamodb_requests`, errors in `dynamodb_faults`, deletion in
`dynamodb_purge`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flux_aws import dynamodb_listing as listing
from flux_aws import dynamodb_purge as removal
from flux_aws import settings
from flux_aws.dynamodb_faults import too_large
from flux_aws.dynamodb_items import (
    DUE_INDEX,
    LARGEST_ITEM,
    due_partition,
    header_item,
    header_of,
    instance,
    key_of,
    log_key,
    mail_key,
    mail_of,
    number_in,
    partition,
    shard,
    size,
    snapshot_key,
)
from flux_aws.dynamodb_requests import Requests
from flux_core.deadline import MARGIN
from flux_core.errors import DefinitionError
from flux_core.ports import Due, Header, InstanceRef, Mail, Page
from flux_core.system import SystemClock, SystemEntropy

if TYPE_CHECKING:
    import builtins
    from collections.abc import Sequence
    from typing import Any

    from flux_aws.dynamodb_items import Item
    from flux_core.ports import Clock, Entropy

_TABLE_CHARACTERS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-:/")
_KEYS_AT_MOST: Final = 2_000
"""Bytes that the keys of an item can take at most; only what comes near the limit is measured exactly."""
_MOST_SHARDS: Final = 256
_LAST: Final = "L#9999999999"


class DynamoDBStorage:
    """A `WorkflowStorage` in the DynamoDB table `table` (a name or an ARN).

    `region`, `endpoint` and `session` (a `boto3.Session`) default to what AWS's own settings say. `shards` is how many
    partitions each index is spread over: it may be raised later, never lowered. `call_timeout` is in seconds: what one
    request may take with all its retries before `StorageUnavailable` is raised; the default is the margin that the
    engine keeps before an invocation's deadline. `clock` and `entropy` are for tests. Raises `DefinitionError` for
    arguments that cannot work; imports boto3 and asks AWS only when first used. Threads and forked processes may
    share it.
    """

    ephemeral = False

    def __init__(
        self,
        table: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        session: Any = None,
        shards: int = 4,
        call_timeout: float = MARGIN,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        """Check the arguments; nothing is opened."""
        if not table or not _TABLE_CHARACTERS.issuperset(table):
            raise DefinitionError(
                f"DynamoDBStorage needs the name or ARN of a table, not {table!r}: letters, digits, '_', '.' and '-'."
            )
        if type(shards) is not int or not 1 <= shards <= _MOST_SHARDS:
            raise DefinitionError(f"shards must be a whole number from 1 to {_MOST_SHARDS}, not {shards!r}.")
        if not call_timeout > 0:
            raise DefinitionError(f"call_timeout must be a positive number of seconds, not {call_timeout!r}.")
        self.shards = shards
        self._clock: Clock = clock or SystemClock()
        self._entropy: Entropy = entropy or SystemEntropy()
        self._requests = Requests(
            table, region or settings.region(), endpoint, session, call_timeout, self._clock, self._entropy
        )  # fmt: skip

    @classmethod
    def from_env(cls) -> DynamoDBStorage:
        """The store that the environment names: `FLUX_TABLE`, and AWS's own settings. `DefinitionError` if unset."""
        return cls(settings.required(settings.TABLE, "the name of the DynamoDB table of your workflows"))

    @property
    def table(self) -> str:
        """The name or ARN of the table."""
        return self._requests.table

    @property
    def client(self) -> Any:
        """The SDK's client, made if need be: to hook into (tracing, metering), not to write with."""
        return self._requests.client

    # --- the log ---------------------------------------------------------------------------------------

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """Put `record` at `seq` unless the slot is taken: None if written, else the bytes found.

        Raises `PayloadTooLarge` for a record beyond 400 KB, `PurgeUnfinished` and `LeaseLost` for an instance that is
        being deleted or was.
        """
        pk = partition(ref)
        item: Item = {"PK": {"S": pk}, "SK": {"S": log_key(seq)}, "r": {"B": record}}
        self._fits(item, len(record), ref, f"record {seq}")
        if header is None:
            found = self._requests.put(item)
        else:
            condition = "attribute_not_exists(PK)"
            failed = self._requests.transact(
                [
                    {"Put": {"Item": item, "ConditionExpression": condition}},
                    {"Put": {"Item": header_item(pk, ref, header, shard(pk, self.shards))}},
                ]
            )
            found = None if failed is None else failed[0] or {}
        if found is None:
            return None
        found = found or self._requests.get(key_of(pk, log_key(seq))) or {}
        if "r" in found:
            return bytes(found["r"]["B"])
        return self._append_above(ref, seq, item, found, header)

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        """All records from `start` on, in order; `CorruptRecord` if one is missing between them."""
        pk = partition(ref)
        pages = 0
        items: list[Item] = []
        for page in self._requests.query(_log_of(pk, start)):
            items += page
            pages += 1
        records = removal.contiguous(ref, items, start, self.table)
        cut = pages > 1 and len(records) < len(items)
        if cut and self._requests.get(key_of(pk, log_key(start + len(records) - 1))) is None:
            return self.read(ref, start)  # purged between two pages
        return records

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest record with its sequence number; None for an unknown instance."""
        query = _log_of(partition(ref), 0) | {"ScanIndexForward": False}
        for page in self._requests.query(query, 1):
            for item in page:
                if removal.is_open(item):
                    raise removal.unfinished(ref, item)
                if not removal.is_tombstone(item):
                    return number_in(item["SK"]["S"]), bytes(item["r"]["B"])
        return None

    # --- mailbox and snapshots ---------------------------------------------------------------------------

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found."""
        key = key_of(partition(ref), mail_key(mail))
        item = {**key, "at": {"N": str(mail.at)}, "r": {"B": mail.body}}
        self._fits(item, len(mail.body), ref, f"the signal {mail.name!r}")
        found = self._requests.put(item)
        if found is None:
            return None
        found = found or self._requests.get(key)
        return mail_of(found) if found else self.put_mail(ref, mail)  # purged in between: once more

    def mail(self, ref: InstanceRef) -> list[Mail]:
        """The whole mailbox, ordered by (`at`, `id`), then by name."""
        pages = self._requests.query(_begins(partition(ref), "M#"))
        return sorted(
            (mail_of(item) for page in pages for item in page), key=lambda mail: (mail.at, mail.id, mail.name)
        )

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`; harmless if there is one, or a newer one."""
        item = {**key_of(partition(ref), snapshot_key(seq)), "r": {"B": state}}
        self._fits(item, len(state), ref, f"the snapshot after record {seq}")
        self._requests.put(item)

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest snapshot with its sequence number."""
        for page in self._requests.query(_begins(partition(ref), "S#") | {"ScanIndexForward": False}, 1):
            for item in page:
                return number_in(item["SK"]["S"]), bytes(item["r"]["B"])
        return None

    # --- header and indexes ------------------------------------------------------------------------------

    def header(self, ref: InstanceRef) -> Header | None:
        """The header, `due` as the last append, nudge or settle left it; None for an unknown instance."""
        item = self._requests.get(key_of(partition(ref), "H"))
        return None if item is None else header_of(item)

    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        """Make the due entry no later than `due`, if the header still has `epoch`; False if it has another."""
        pk = partition(ref)
        found = self._requests.update(
            key_of(pk, "H"),
            "SET due = :d, DP = :p",
            "ep = :e AND (attribute_not_exists(due) OR due > :d)",
            {
                ":d": {"N": str(due)},
                ":p": {"S": due_partition(shard(pk, self.shards))},
                ":e": {"N": str(epoch)},
            },
        )
        return found is None or (bool(found) and header_of(found).epoch == epoch)

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        """Replace exactly the entry `due`, if the header is still the one of record `seq`; else False, no change."""
        pk = partition(ref)
        change, values = "REMOVE due, DP", {":s": {"N": str(seq)}, ":d": {"N": str(due)}}
        if then is not None:
            change = "SET due = :t, DP = :p"
            values |= {":t": {"N": str(then)}, ":p": {"S": due_partition(shard(pk, self.shards))}}
        return self._requests.update(key_of(pk, "H"), change, "seq = :s AND due = :d", values) is None

    def due(self, until: int, limit: int) -> list[Due]:
        """Up to `limit` entries of all tenants with `due <= until`, earliest first."""
        found: dict[InstanceRef, Due] = {}
        for number in range(self.shards if limit > 0 else 0):
            query = {
                "IndexName": DUE_INDEX,
                "KeyConditionExpression": "DP = :p AND due <= :u",
                "ExpressionAttributeValues": {":p": {"S": due_partition(number)}, ":u": {"N": str(until)}},
            }
            told = 0
            for page in self._requests.query(query, limit):
                entries = [Due(instance(item["PK"]["S"]), int(item["due"]["N"])) for item in page]
                found |= {entry.ref: entry for entry in entries}  # one that moved meanwhile is told once
                told += len(entries)
                if told >= limit:
                    break
        return sorted(found.values(), key=lambda entry: (entry.due, entry.ref))[:limit]

    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """One page of the tenant's instances, newest first.

        Raises `CallerError` for a cursor that this listing did not give out, or a limit below 1.
        """
        return listing.page(self._requests, self.shards, tenant, workflow, statuses, limit, cursor)

    # --- life cycle --------------------------------------------------------------------------------------

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """Remove all of an instance whose newest record is `seq`; else False, nothing removed.

        A purge that was interrupted is completed by another call with the same number, which `PurgeUnfinished` tells.
        """
        return removal.purge(self._requests, partition(ref), seq, self._clock.now(), self._entropy.token())

    def ensure(self) -> None:
        """For development: create the table with indexes, TTL and point-in-time recovery if it is absent."""
        from flux_aws.dynamodb_table import ensure

        ensure(self.client, self.table, self._clock)

    def close(self) -> None:
        """Release the connections; again is harmless, later calls raise `StorageUnavailable`."""
        self._requests.close()

    # --- inside ------------------------------------------------------------------------------------------

    def _append_above(self, ref: InstanceRef, seq: int, item: Item, found: Item, header: Header | None) -> bytes | None:
        """Append where `found` is no record: the tombstone of an earlier instance of this id, or nothing any more."""
        if removal.is_open(found):
            raise removal.unfinished(ref, found)
        pk = item["PK"]["S"]
        check, condition = removal.over_tombstone(pk, seq)
        parts: builtins.list[dict[str, Any]] = [{"Put": {"Item": item, "ConditionExpression": condition}}]
        if seq > 0:
            parts.append(check)
        if header is not None:
            parts.append({"Put": {"Item": header_item(pk, ref, header, shard(pk, self.shards))}})
        failed = self._requests.transact(parts)
        if failed is None:
            return None
        taken = failed[0]
        if taken is None:
            raise removal.was_purged(ref, seq)
        if "r" in taken:
            return bytes(taken["r"]["B"])
        if removal.is_open(taken):
            raise removal.unfinished(ref, taken)
        return self.append(ref, seq, item["r"]["B"], header)

    def _fits(self, item: Item, length: int, ref: InstanceRef, what: str) -> None:
        if length > LARGEST_ITEM - _KEYS_AT_MOST and (whole := size(item)) > LARGEST_ITEM:
            name = f"{what} of workflow {ref.workflow!r}, id {ref.id!r}"
            raise too_large(self.table, name[:1].upper() + name[1:], f"{whole:,} bytes")


def _begins(pk: str, prefix: str) -> dict[str, Any]:
    return {
        "KeyConditionExpression": "PK = :p AND begins_with(SK, :s)",
        "ExpressionAttributeValues": {":p": {"S": pk}, ":s": {"S": prefix}},
    }


def _log_of(pk: str, start: int) -> dict[str, Any]:
    return {
        "KeyConditionExpression": "PK = :p AND SK BETWEEN :a AND :z",
        "ExpressionAttributeValues": {":p": {"S": pk}, ":a": {"S": log_key(start)}, ":z": {"S": _LAST}},
    }
