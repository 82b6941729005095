"""Deleting an instance (PROTOCOL rule 20): a tombstone behind its newest record, then the rest, record 0 last.

It must not decide whether an instance may be deleted. The tombstone is put if its place is free, so a writer that is
late finds the place taken, and of several who delete one wins. An instance of up to `BATCH` documents goes in one
commit with its tombstone. A longer one goes in several, each on condition that the tombstone is as the last one left
it; until then it says `left`, and the instance cannot be read, nor its id be used. The tombstone itself is removed by
Firestore, a day later: it is the only document that has the field of the TTL policy.

    purge:     [tombstone, header gone, 498 documents gone]  [498 gone]  ...  [the last and record 0 gone, nothing left]
    reader:    whole ........................................| "is being deleted" ...................| unknown
    writer:    may append ...................................| finds the tombstone ..................| may start anew
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from flux_gcp.firestore_indexes import EXPIRES
from flux_gcp.firestore_messages import create, delete, flag, moment, replace, text
from flux_gcp.firestore_wire import WRITTEN

if TYPE_CHECKING:
    from flux_gcp.firestore_messages import Message
    from flux_gcp.firestore_wire import Wire

BATCH: Final = 498
"""Documents removed by one commit, beside two others."""
_DAY: Final = 24 * 3600


def is_tombstone(document: Message) -> bool:
    """Whether a document of a log marks that an instance of this id was deleted."""
    return "purged_by" in document.fields


def is_left(tombstone: Message) -> bool:
    """Whether the deletion is not complete."""
    left: bool = tombstone.fields["left"].boolean_value
    return left


def purge(wire: Wire, instance: str, seq: int, by: str) -> bool:
    """Remove all of an instance whose newest record is `seq`; True for the one who completed it.

    `by` tells this deletion from others: it may find its own tombstone after an answer was lost.
    """
    names = wire.names
    grave = names.record(instance, seq + 1)
    rest = _rest(wire, instance, seq)
    first, rest = rest[:BATCH], rest[BATCH:]
    tombstone = _tombstone(by, left=bool(rest))
    removed = [delete(instance), *map(delete, first)]
    mark = create(grave, tombstone)
    while wire.commit([mark, *removed], wire.end()) != WRITTEN:
        found, newest = wire.get([grave, names.record(instance, seq)], wire.end())
        if found is None or not is_tombstone(found):
            return False  # somebody has written a record, or deleted it all, meanwhile
        if is_left(found):
            return finish(wire, instance, seq, by)
        if found.fields["purged_by"].string_value == by:
            return True
        if newest is None:
            return False
        mark = replace(grave, tombstone, found)  # it is that of an earlier instance of this id
    return not rest or finish(wire, instance, seq, by)


def finish(wire: Wire, instance: str, seq: int, by: str) -> bool:
    """Go on with a deletion that has begun; False if somebody else has completed it, or none has begun."""
    grave = wire.names.record(instance, seq + 1)
    while True:
        (found,) = wire.get([grave], wire.end())
        if found is None or not is_tombstone(found):
            return False
        if not is_left(found):
            mine: bool = found.fields["purged_by"].string_value == by
            return mine
        rest = _rest(wire, instance, seq)
        batch = rest[:BATCH]
        mark = replace(grave, _tombstone(by, left=len(rest) > BATCH), found)
        wire.commit([mark, *map(delete, batch)], wire.end())


def _tombstone(by: str, *, left: bool) -> dict[str, Message]:
    return {"purged_by": text(by), "left": flag(left), EXPIRES: moment(int(time.time()) + _DAY)}


def _rest(wire: Wire, instance: str, seq: int) -> list[str]:
    """The documents that are left, record 0 last."""
    names = wire.names
    found = [
        document.name
        for collection in (names.mail, names.snap, names.log)
        for document in wire.all(instance, collection, names_only=True)
    ]
    grave = names.record(instance, seq + 1)
    return [name for name in found if name != grave]
