"""The layout of the table: keys, attributes, and values to items and back (PROTOCOL, Layouts). It must not call AWS.

One partition an instance, `PK = I#{tenant}#{workflow}#{id}`; names cannot contain `#`, and every character that they
can contain sorts after it. In it:

    SK              attributes
    H               the header: st status, w workflow, c created, u updated, ep epoch, seq, due; LP, LS, DP for the
                    indexes
    L#{seq:010d}    r: the bytes of a record; or, above the log of a purged instance, its tombstone (`gone`)
    M#{name}#{id}   at, r: mail
    S#{seq:010d}    r: a snapshot of the state after record seq

GSI1 (LP, LS) lists: `LP = {tenant}#{group}#{shard}`, `LS = {created:013d}#{id}#{workflow}`, and holds what a listing
shows. GSI2 (DP, due) is the due index, sparse: only a header with something due has `DP = D#{shard}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import crc32

from flux_core.cursor import ListKey
from flux_core.ports import Header, InstanceRef, Mail
from flux_core.state import BLOCKED, CANCELLED, COMPLETED, FAILED, ROLLED_BACK, STUCK

if TYPE_CHECKING:
    from typing import Any

    Item = dict[str, dict[str, Any]]
    """An item as DynamoDB's interface has it: attribute -> {type: value}."""

LIST_INDEX: Final = "GSI1"
DUE_INDEX: Final = "GSI2"
EXPIRES: Final = "expires_at"
"""The TTL attribute, seconds since the epoch. Only a tombstone ever has it (PROTOCOL rule 20)."""
LARGEST_ITEM: Final = 400 * 1024
"""Bytes of one item, keys and names of attributes included."""

ACTIVE: Final = "active"
_GROUPS: Final = {
    COMPLETED: "completed",
    FAILED: "failed",
    ROLLED_BACK: "failed",
    CANCELLED: "cancelled",
    STUCK: "stuck",
    BLOCKED: "stuck",
}
GROUPS: Final = (ACTIVE, "stuck", "completed", "failed", "cancelled")
"""Coarse status groups, in the order in which a listing reads them: where instances come from before where they go."""
_LAST_STAMP: Final = 10**13 - 1


def group(status: str) -> str:
    """The group that instances of `status` are listed in."""
    return _GROUPS.get(status, ACTIVE)


def partition(ref: InstanceRef) -> str:
    """The partition key of an instance."""
    return "I#" + "#".join(ref)


def instance(key: str) -> InstanceRef:
    """The instance whose partition key is `key`."""
    _, *names = key.split("#")
    return InstanceRef(*names)


def shard(key: str, shards: int) -> int:
    """Which shard of the indexes an instance is in; always the same for the same number of shards."""
    return crc32(key.encode()) % shards


def log_key(seq: int) -> str:
    """The sort key of record `seq`."""
    return f"L#{seq:010d}"


def snapshot_key(seq: int) -> str:
    """The sort key of snapshot `seq`; that of -1 sorts before all others, since `-` does before digits."""
    return f"S#{seq:010d}"


def number_in(key: str) -> int:
    """The sequence number in the sort key of a record or a snapshot."""
    return int(key[2:])


def key_of(pk: str, sk: str) -> Item:
    """The primary key."""
    return {"PK": {"S": pk}, "SK": {"S": sk}}


def mail_key(mail: Mail) -> str:
    """The sort key of a mail."""
    return f"M#{mail.name}#{mail.id}"


def mail_of(item: Item) -> Mail:
    """The mail in an item."""
    _, name, unique = item["SK"]["S"].split("#", 2)
    return Mail(name, unique, int(item["at"]["N"]), bytes(item["r"]["B"]))


def list_partition(tenant: str, of_group: str, number: int) -> str:
    """The partition key of one shard of a group in the list index."""
    return f"{tenant}#{of_group}#{number}"


def list_key(key: ListKey) -> str:
    """The sort key in the list index: sorts as `ListKey` does."""
    return f"{min(max(key.created_at, 0), _LAST_STAMP):013d}#{key.id}#{key.workflow}"


def due_partition(number: int) -> str:
    """The partition key of one shard of the due index."""
    return f"D#{number}"


def header_item(pk: str, ref: InstanceRef, header: Header, number: int) -> Item:
    """The item of a header whose instance is in shard `number` of the indexes."""
    item = {
        "PK": {"S": pk},
        "SK": {"S": "H"},
        "st": {"S": header.status},
        "w": {"S": ref.workflow},
        "c": {"N": str(header.created_at)},
        "u": {"N": str(header.updated_at)},
        "ep": {"N": str(header.epoch)},
        "seq": {"N": str(header.seq)},
        "LP": {"S": list_partition(ref.tenant, group(header.status), number)},
        "LS": {"S": list_key(ListKey(header.created_at, ref.id, ref.workflow))},
    }
    if header.due is not None:
        item["due"] = {"N": str(header.due)}
        item["DP"] = {"S": due_partition(number)}
    return item


def header_of(item: Item) -> Header:
    """The header in an item, or in an entry of the list index."""
    due = item.get("due")
    return Header(
        item["st"]["S"],
        int(item["c"]["N"]),
        int(item["u"]["N"]),
        int(item["ep"]["N"]),
        int(item["seq"]["N"]),
        None if due is None else int(due["N"]),
    )


def size(item: Item) -> int:
    """Bytes of an item by AWS's published rules: names, UTF-8 of strings, raw bytes, digits of numbers."""
    total = 0
    for name, typed in item.items():
        ((kind, value),) = typed.items()
        total += len(name)
        total += _digits(value) if kind == "N" else len(value.encode()) if kind == "S" else len(value)
    return total


def _digits(number: str) -> int:
    """One byte for two significant digits, and one."""
    significant = number.strip("-").strip("0") or "0"
    return (len(significant) + 1) // 2 + 1
