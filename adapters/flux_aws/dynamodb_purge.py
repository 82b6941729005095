"""Removing an instance: the only place that deletes. The role that runs workflows needs no permission for it.

    tombstone at seq + 1  ->  mail, snapshots, records from 1 on  ->  record 0, header; the tombstone gets its end
    |  nobody can append; reading says that it is being removed     |  gone; the id may be used again

The tombstone stands above the newest record, so that whoever believes to own the instance finds his next slot taken
(PROTOCOL rule 20). Until all is gone it is open, and says which purge it belongs to: every deletion is one transaction
with a check that it still is, so a purger that was asleep cannot touch a new instance of the same id. A purge that
died half-way is completed by calling it again. A day after its end DynamoDB removes the tombstone by TTL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flux_aws.dynamodb_items import EXPIRES, key_of, log_key, number_in
from flux_core.errors import CorruptRecord, LeaseLost, PurgeUnfinished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flux_aws.dynamodb_items import Item
    from flux_aws.dynamodb_requests import Requests
    from flux_core.ports import InstanceRef

KEEP_TOMBSTONE: Final = 86_400
"""Seconds; DynamoDB's TTL then removes it within some days."""
_AT_ONCE: Final = 99
"""Deletions in one transaction, which holds 100 parts."""
CLOSED: Final = f"attribute_exists({EXPIRES})"


def is_tombstone(item: Item) -> bool:
    """Whether the item stands for a purge, not for a record."""
    return "gone" in item


def is_open(item: Item) -> bool:
    """Whether it is the tombstone of a purge that has not come to its end."""
    return "gone" in item and EXPIRES not in item


def unfinished(ref: InstanceRef, tombstone: Item) -> PurgeUnfinished:
    """The error for who reads an instance that is being removed."""
    return PurgeUnfinished(
        f"workflow {ref.workflow!r}, id {ref.id!r} (tenant {ref.tenant!r}) is being deleted; if that was interrupted, "
        f"delete it again to complete it",
        number_in(tombstone["SK"]["S"]) - 1,
    )


def was_purged(ref: InstanceRef, seq: int) -> LeaseLost:
    """The error for who appends to an instance that is gone."""
    return LeaseLost(
        f"workflow {ref.workflow!r}, id {ref.id!r} (tenant {ref.tenant!r}) was deleted meanwhile; record {seq} was not "
        f"written"
    )


def over_tombstone(pk: str, seq: int) -> tuple[dict[str, Any], str]:
    """How record `seq` of a new instance takes the place of an old one's tombstone: a check, and the condition.

    The tombstone ends only with record 0 of the old instance: that record `seq - 1` is there proves it to be new.
    """
    check = {"ConditionCheck": {"Key": key_of(pk, log_key(seq - 1)), "ConditionExpression": "attribute_exists(r)"}}
    return check, f"attribute_not_exists(PK) OR {CLOSED}"


def purge(requests: Requests, pk: str, seq: int, now: int, by: str) -> bool:
    """Remove the instance whose newest record is `seq`; True if it was this call that came to the end of it.

    `now` is in milliseconds, `by` a token of this call alone. Completes a purge of the same `seq` that was begun.
    """
    grave = key_of(pk, log_key(seq + 1))
    gone = _begin(requests, pk, seq, grave, by)
    if gone is None:
        return False
    check = {
        "ConditionCheck": {
            "Key": grave,
            "ConditionExpression": f"gone = :g AND attribute_not_exists({EXPIRES})",
            "ExpressionAttributeValues": {":g": {"S": gone}},
        }
    }
    asked = {"KeyConditionExpression": "PK = :p", "ExpressionAttributeValues": {":p": {"S": pk}}}
    keep = {"H", log_key(0)}
    for items in requests.query(asked | {"ProjectionExpression": "PK, SK, gone"}):
        keys = [item["SK"]["S"] for item in items if item["SK"]["S"] not in keep and not is_tombstone(item)]
        for place in range(0, len(keys), _AT_ONCE):
            deletions = [{"Delete": {"Key": key_of(pk, key)}} for key in keys[place : place + _AT_ONCE]]
            if requests.transact([check, *deletions]) is not None:
                return False  # somebody else has completed it
    return _end(requests, pk, grave, gone, now, by)


def _begin(requests: Requests, pk: str, seq: int, grave: Item, by: str) -> str | None:
    """Put the tombstone: what it says; None if the newest record is another, or the purge is at its end."""
    if seq < 0:
        return None
    failed = requests.transact(
        [
            {
                "Put": {
                    "Item": {**grave, "gone": {"S": by}},
                    "ConditionExpression": f"attribute_not_exists(PK) OR {CLOSED}",
                }
            },
            {"ConditionCheck": {"Key": key_of(pk, log_key(seq)), "ConditionExpression": "attribute_exists(r)"}},
        ]
    )
    if failed is None:
        return by
    found = failed[0]
    return found["gone"]["S"] if found is not None and is_open(found) else None


def _end(requests: Requests, pk: str, grave: Item, gone: str, now: int, by: str) -> bool:
    failed = requests.transact(
        [
            {
                "Update": {
                    "Key": grave,
                    "UpdateExpression": f"SET {EXPIRES} = :e, ended = :b",
                    "ConditionExpression": f"gone = :g AND attribute_not_exists({EXPIRES})",
                    "ExpressionAttributeValues": {
                        ":e": {"N": str(now // 1000 + KEEP_TOMBSTONE)},
                        ":b": {"S": by},
                        ":g": {"S": gone},
                    },
                }
            },
            {"Delete": {"Key": key_of(pk, log_key(0))}},
            {"Delete": {"Key": key_of(pk, "H")}},
        ]
    )
    return failed is None or (failed[0] or {}).get("ended") == {"S": by}  # ours, if its answer was lost


def contiguous(ref: InstanceRef, items: Sequence[Item], start: int, table: str) -> list[bytes]:
    """The records in `items` of one log, tombstones left out; `CorruptRecord` if one is missing between them."""
    records: list[bytes] = []
    for item in items:
        if is_open(item):
            raise unfinished(ref, item)
        if is_tombstone(item):
            continue
        if (there := number_in(item["SK"]["S"])) != start + len(records):
            raise CorruptRecord(
                f"The log of {ref.workflow}/{ref.id} (tenant {ref.tenant}) in the DynamoDB table {table!r} has no "
                f"record {start + len(records)}, but has record {there}. Restore the table to a point in time before "
                f"that. Nothing was changed."
            )
        records.append(bytes(item["r"]["B"]))
    return records
