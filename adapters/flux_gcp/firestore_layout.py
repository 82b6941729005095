"""Where everything lies in Firestore: names of collections, documents and fields, shards. It must not import Google's.

    flux_inst/{hash}~{tenant}~{workflow}~{id}              the header: what the list and due indexes know
        flux_log/{9999999998 - seq:010d}                   one record; the newest comes first
        flux_mail/m~{name}~{mail id}                       one signal
        flux_snap/{9999999998 - seq:010d}                  one snapshot, its further parts {number}.1, .2, ...

Firestore reads names forwards only ("does not support descending key scans"), and what is asked for most is the newest
record and the newest snapshot: so a document is named by how much room its number leaves below a constant.
The hash keeps instances whose ids are counted up from falling on one tablet of Firestore, and the name from
beginning with two underscores, which Firestore reserves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from flux_core.ports import InstanceRef
    from flux_gcp.settings import FirestoreSettings

SHARDS: Final = 10
"""Firestore takes 500 writes a second into one sequential index; a query may ask for up to 30 values at once."""
DISJUNCTIONS: Final = 30
"""What a query may ask for at once: shards times statuses."""
LARGEST: Final = 1022 * 1024
"""Bytes of one record, mail or part of a snapshot: a document may have 1 MiB, its name and field names included."""
PARTS: Final = 9
"""Documents that a snapshot may be spread over: a commit may have 10 MiB."""
_TOP = 9_999_999_998
"""The number of a snapshot may be -1 (an import that is under way), so the constant leaves room for that."""


class Layout:
    """The names of one store."""

    __slots__ = ("database", "documents", "inst", "log", "mail", "snap")

    def __init__(self, project: str, settings: FirestoreSettings) -> None:
        self.database = f"projects/{project}/databases/{settings.database}"
        self.documents = f"{self.database}/documents"
        self.inst, self.log, self.mail, self.snap = collections(settings.prefix)

    def instance(self, ref: InstanceRef) -> str:
        """The document that holds the header, and under which the rest lies."""
        key = "~".join(ref)
        return f"{self.documents}/{self.inst}/{crc32(key.encode()) & 0xFFFF:04x}~{key}"

    def record(self, instance: str, seq: int) -> str:
        """The document of one record."""
        return f"{instance}/{self.log}/{_TOP - seq:010d}"

    def letter(self, instance: str, name: str, id: str) -> str:
        """The document of one mail."""
        return f"{instance}/{self.mail}/m~{name}~{id}"

    def snapshot(self, instance: str, seq: int, part: int = 0) -> str:
        """The document of a snapshot, or of a further part of it."""
        more = f".{part}" if part else ""
        return f"{instance}/{self.snap}/{_TOP - seq:010d}{more}"


def collections(prefix: str) -> tuple[str, str, str, str]:
    """The names of the collections: headers, log, mail, snapshots."""
    return f"{prefix}inst", f"{prefix}log", f"{prefix}mail", f"{prefix}snap"


def seq_of(name: str) -> int:
    """The number of the record or snapshot that a document holds."""
    return _TOP - int(name.rpartition("/")[2])


def letter_of(name: str) -> tuple[str, str]:
    """Name and id of the mail that a document holds."""
    _, signal, id_ = name.rpartition("/")[2].split("~")
    return signal, id_


def shard(ref: InstanceRef) -> int:
    """Which part of the list and due indexes an instance is in."""
    return crc32("~".join(ref).encode()) // 0x10000 % SHARDS
