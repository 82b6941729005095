"""The bytes of objects, both ways: one line of text, then the content as it is. It must not know where they lie.

    R1 12 tok                                                 a record; record 12 has the newest header, with tok
    R1 = running 1700000000000 1700000000000 3 17 - tok mark  a record with a header
    A1 1700000000000 tok                                      a later due time
    M1 1700000000000                                          mail
    T1 1700000000000 tok sha256                               the tombstone of an instance that is being removed

`-` stands for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from flux_core.errors import CorruptRecord
from flux_core.ports import Header, Mail

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

NO_HEADER = -1
"""Where a record names the newest header, and there is none."""


class Standing(NamedTuple):
    """A header with what ties its index entries to it."""

    header: Header
    token: str
    """That of its due entry."""
    mark: str
    """The name of its instance's entry in the list: that of the record that came into the group."""


class Kept(NamedTuple):
    """A record as its object has it."""

    record: bytes
    pointer: int
    """The record with the newest header, this one included; `NO_HEADER` if there is none."""
    token: str
    """That of the header; "" if there is none."""
    standing: Standing | None
    """What this record itself carries."""


class Tombstone(NamedTuple):
    """Stands in the slot after the last record while an instance is removed."""

    at: int
    token: str
    first: str
    """The hash of record 0: that of another instance means nothing."""


class Change(NamedTuple):
    """A due time that came after its header."""

    due: int | None
    token: str


def pack_record(record: bytes, pointer: int, token: str) -> bytes:
    """A record without a header."""
    return f"R1 {pointer} {token}\n".encode() + record


def pack_headed(record: bytes, standing: Standing) -> bytes:
    """A record with its header."""
    status, created_at, updated_at, epoch, seq, due = standing.header
    line = f"R1 = {status} {created_at} {updated_at} {epoch} {seq} {_or_none(due)} {standing.token} {standing.mark}\n"
    return line.encode() + record


def unpack_record(raw: bytes, key: str, seq: int) -> Kept | Tombstone:
    """What `pack_record`, `pack_headed` or `pack_tombstone` made for slot `seq`."""

    def read(line: list[str], content: bytes) -> Kept | Tombstone:
        match line:
            case ["R1", "=", status, created, updated, epoch, at, due, token, mark]:
                header = Header(status, int(created), int(updated), int(epoch), int(at), _number(due))
                return Kept(content, seq, token, Standing(header, token, mark))
            case ["R1", pointer, token]:
                return Kept(content, int(pointer), token, None)
            case ["T1", at, token, first]:
                return Tombstone(int(at), token, first)
        raise ValueError(line)

    return _unpacked(raw, key, read)


def pack_tombstone(tombstone: Tombstone) -> bytes:
    """A tombstone."""
    return f"T1 {tombstone.at} {tombstone.token} {tombstone.first}\n".encode()


def pack_change(change: Change) -> bytes:
    """A later due time."""
    return f"A1 {_or_none(change.due)} {change.token}\n".encode()


def unpack_change(raw: bytes, key: str) -> Change:
    """What `pack_change` made."""

    def read(line: list[str], _: bytes) -> Change:
        kind, due, token = line
        if kind != "A1":
            raise ValueError(line)
        return Change(_number(due), token)

    return _unpacked(raw, key, read)


def pack_mail(mail: Mail) -> bytes:
    """A mail; name and id are its key."""
    return b"M1 %d\n%b" % (mail.at, mail.body)


def unpack_mail(raw: bytes, key: str) -> Mail:
    """What `pack_mail` made."""

    def read(line: list[str], content: bytes) -> Mail:
        kind, at = line
        if kind != "M1":
            raise ValueError(line)
        name, id_ = key.split("/")[-2:]
        return Mail(name, id_, int(at), content)

    return _unpacked(raw, key, read)


def _unpacked(raw: bytes, key: str, read: Callable[[list[str], bytes], T]) -> T:
    line, end, content = raw.partition(b"\n")
    try:
        return read(line.decode("ascii").split(" ") if end else [], content)
    except ValueError as error:
        raise CorruptRecord(
            f"The object {key} cannot be read: it begins with {raw[:40]!r}. It was damaged, is of a later version of "
            "Flux, or is none of Flux's. Nothing was changed."
        ) from error


def _or_none(due: int | None) -> str:
    return "-" if due is None else str(due)


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)
