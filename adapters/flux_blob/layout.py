"""The keys of objects, both ways (docs/decisions/0019). It must not send a request.

Names of tenants, workflows, instances and mail hold no slash and are never `.` or `..` (PROTOCOL, Security), so each is
one segment of a key.
"""

from __future__ import annotations

from binascii import crc32
from typing import TYPE_CHECKING, Final, NamedTuple

from flux_core import state as s
from flux_core.ports import InstanceRef

if TYPE_CHECKING:
    from flux_core.ports import Header

SHARDS: Final = 4
"""Folders that the due index is spread over. All processes must agree on it."""
ACTIVE: Final = "active"
GROUPS: Final = (ACTIVE, s.COMPLETED, s.FAILED, s.CANCELLED, s.STUCK)
"""The coarse status groups of the list, the one that instances are in first before all others."""
_GROUP_OF: Final = {
    s.COMPLETED: s.COMPLETED,
    s.FAILED: s.FAILED,
    s.ROLLED_BACK: s.FAILED,
    s.CANCELLED: s.CANCELLED,
    s.STUCK: s.STUCK,
    s.BLOCKED: s.STUCK,
}
_NEWEST: Final = 9_999_999_998
"""Snapshot numbers count down from here, so that the newest is the first key and -1 still has ten digits."""
_LAST_MS: Final = 9_999_999_999_999
"""The latest time that thirteen digits hold (the year 2286); keys are hints, the header says the true one."""
_MOST_FOLDERS: Final = 4096
_BEHIND: Final = "~"
"""Greater than every character of a key."""


class DueEntry(NamedTuple):
    """An entry of the due index: it belongs to the header of record `seq`, or to its `n`-th later due time."""

    due: int
    ref: InstanceRef
    seq: int
    n: int
    token: str


class Mark(NamedTuple):
    """An entry of the list: its instance came into the group by record `seq`."""

    created_at: int
    ref: InstanceRef
    group: str
    name: str
    """`{seq}-{token}`, as the headers have it."""

    @property
    def seq(self) -> int:
        """The record that put it."""
        return int(self.name.partition("-")[0])


def group_of(status: str) -> str:
    """The group of a status; `active` for all that may still move."""
    return _GROUP_OF.get(status, ACTIVE)


class Layout:
    """The keys of one store, all of them under its root ("" or ending in a slash)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._folders: dict[InstanceRef, str] = {}

    # --- an instance -------------------------------------------------------------------------------------------

    def instance(self, ref: InstanceRef) -> str:
        """The folder of an instance, without a slash at its end."""
        folder = self._folders.get(ref)
        if folder is None:
            if len(self._folders) >= _MOST_FOLDERS:
                self._folders = {}
            name = "/".join(ref)
            folder = self._folders[ref] = f"{self.root}{crc32(name.encode()) & 0xFF:02x}/{name}"
        return folder

    def due_folders(self) -> list[str]:
        """The shards of the due index."""
        return [f"{self.root}_due/{shard}" for shard in range(SHARDS)]

    def due(self, entry: DueEntry) -> str:
        """The key of a due entry."""
        name = "/".join(entry.ref)
        shard = crc32(name.encode()) % SHARDS
        return f"{self.root}_due/{shard}/{_ms(entry.due)}/{name}/{entry.seq:010d}.{entry.n:06d}-{entry.token}"

    def due_entry(self, key: str) -> DueEntry | None:
        """What a key of the due index says; None for an object that is none of ours."""
        match key[len(self.root) :].split("/"):
            case ["_due", _, ms, tenant, workflow, id_, name]:
                place, _, token = name.partition("-")
                seq, _, n = place.partition(".")
                if ms.isdigit() and seq.isdigit() and n.isdigit():
                    return DueEntry(int(ms), InstanceRef(tenant, workflow, id_), int(seq), int(n), token)
        return None

    def marks(self, tenant: str, workflow: str = "", group: str = "") -> str:
        """The folder of a tenant's marks, of one workflow's, or of one group's."""
        return "/".join(filter(None, (f"{self.root}_list/{tenant}", workflow, group)))

    def mark(self, ref: InstanceRef, header: Header, name: str) -> str:
        """The key of a mark."""
        folder = self.marks(ref.tenant, ref.workflow, group_of(header.status))
        return f"{folder}/{_ms(_LAST_MS - header.created_at)}/{ref.id}/{name}"

    def marks_from(self, folder: str, created_at: int) -> str:
        """What to list a group after, so that the first mark is of `created_at` or older."""
        return f"{folder}/{_ms(_LAST_MS - created_at - 1)}{_BEHIND}"

    def mark_of(self, key: str) -> Mark | None:
        """What a key of the list says; None for an object that is none of ours."""
        match key[len(self.root) :].split("/"):
            case ["_list", tenant, workflow, group, ms, id_, name]:
                if ms.isdigit() and name.partition("-")[0].isdigit():
                    return Mark(_LAST_MS - int(ms), InstanceRef(tenant, workflow, id_), group, name)
        return None


def record(base: str, seq: int) -> str:
    """The key of a record."""
    return f"{base}/L/{seq:010d}"


def change(base: str, seq: int, n: int) -> str:
    """The key of the `n`-th later due time (from 1) of the header in record `seq`."""
    return f"{base}/L/{seq:010d}.{n:06d}"


def before_record(base: str, seq: int) -> str:
    """What to list the log after, so that the first key is record `seq`."""
    return f"{base}/L/{seq - 1:010d}{_BEHIND}" if seq > 0 else ""


def place_in_log(key: str) -> tuple[int, int]:
    """Record number, and number of the later due time (0: the record itself)."""
    seq, _, n = key.rpartition("/")[2].partition(".")
    return int(seq), int(n or 0)


def snapshot(base: str, seq: int) -> str:
    """The key of the snapshot after record `seq`; -1 is before all."""
    return f"{base}/S/{_NEWEST - seq:010d}"


def snapshot_seq(key: str) -> int:
    """The record that a snapshot's key names."""
    return _NEWEST - int(key.rpartition("/")[2])


def mail(base: str, name: str, id: str) -> str:
    """The key of a mail."""
    return f"{base}/M/{name}/{id}"


def payload(base: str, digest: str) -> str:
    """The key of a payload."""
    return f"{base}/P/{digest}"


def _ms(time: int) -> str:
    return f"{min(max(time, 0), _LAST_MS):013d}"
