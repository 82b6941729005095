"""What a store holds in the place of bytes that are kept outside, and of an instance that is being removed.

Both begin with `RESERVED`, and `ClaimCheckStorage` puts nothing else of that beginning into a store, so whatever else
it finds there is what it says. This module must not read or write a store.

    {"ref":"<sha256>","len":70000,"v":"P1","t":"step","ep":2,"n":["<by>",7],"at":1767225600000}   a record's
    {"ref":"<sha256>","len":70000,"v":"P1"}                                                       mail's, a snapshot's
    {"ref":null,"v":"P1","t":"purge","by":"<token>","at":1767225600000,"of":12}                   the mark
"""

from __future__ import annotations

from flux_core.jsontext import parse
from flux_core.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

RESERVED: Final = b'{"ref":'
"""How the kit's own records, mail and snapshots never begin: those begin with their schema's version."""

_FORM: Final = "P1"
_HEAD: Final = b'{"v":1,"t":"'
_HEAD_MOST: Final = 256
"""Bytes within which the envelope of a record ends."""
_DIGEST: Final = 64


class Reference(NamedTuple):
    """Where bytes are that are kept outside: their SHA-256 in hexadecimal digits, and how many there are."""

    digest: str
    length: int

    def to_bytes(self, record: bytes = b"") -> bytes:
        """What stands for them; with the envelope of `record`, if that is what they are."""
        return b'{"ref":"%b","len":%d,%b}' % (self.digest.encode(), self.length, _envelope(record))

    @classmethod
    def of(cls, raw: bytes) -> Reference | PurgeMark:
        """What `raw`, which begins with `RESERVED`, says; `ValueError` if it is damaged."""
        try:
            tree = parse(raw.decode())
            if tree["v"] == _FORM and tree["ref"] is None:
                return PurgeMark(tree["by"], tree["at"], tree["of"])
            digest, length = tree["ref"], tree["len"]
            if tree["v"] == _FORM and len(digest) == _DIGEST and type(length) is int:
                int(digest, 16)
                return cls(digest, length)
        except (KeyError, TypeError, RecursionError) as error:
            message = f"its fields are not those of a reference ({error!r})"
            raise ValueError(message) from error
        message = f"it is no reference of the form {_FORM!r}"
        raise ValueError(message)


class PurgeMark(NamedTuple):
    """The last record of an instance that is being removed."""

    by: str
    """Who removes it: 32 hexadecimal digits."""
    at: int
    """Since when, in milliseconds since the epoch."""
    of: int
    """The number of the last record before the first mark."""

    def to_bytes(self) -> bytes:
        """The record."""
        return b'{"ref":null,"v":"P1","t":"purge","by":"%b","at":%d,"of":%d}' % (self.by.encode(), self.at, self.of)


def _envelope(record: bytes) -> bytes:
    """The fields that a reader needs without the body: type, epoch, nonce and time; not of what is no record."""
    at = record.find(b',"at":', 0, _HEAD_MOST) if record.startswith(_HEAD) else -1
    if at < 0:
        return b'"v":"P1"'
    end = at + len(b',"at":')
    while record[end : end + 1].isdigit():
        end += 1
    return b'"v":"P1",' + record[len(b'{"v":1,') : end]
