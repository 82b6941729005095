"""Deleting what ended long ago: the verb of a function of its own. It must not touch what has not ended.

Of an engine's tenant, a page at a time, the youngest of the old ones first; what there was no time for is left to the
next call.
"""

from __future__ import annotations

from flux_core.cursor import ListKey, encode_cursor
from flux_core.deadline import Deadline
from flux_core.errors import CallerError, CorruptRecord, ImportUnfinished, Refused, UnknownInstance, UnknownWorkflow
from flux_core.retry import seconds
from flux_core.state import CANCELLED, COMPLETED, FAILED, ROLLED_BACK
from flux_core.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

    from flux_core.engine import DeadlineLike, FluxEngine
    from flux_core.result import InstanceSummary

ENDED: Final = (COMPLETED, FAILED, ROLLED_BACK, CANCELLED)
"""A stuck instance has not ended: somebody still has to decide."""
_PAGE: Final = 100


class Purged(NamedTuple):
    """What became of the instances that ended before the time that was given."""

    deleted: int
    left: int
    """That could not be deleted: each is a line of the log."""
    finished: bool
    """False if more may be as old: the limit was reached, or the time was up."""


def purge(engine: FluxEngine, older_than: float, limit: int = 1000, *, deadline: DeadlineLike | None = None) -> Purged:
    """Delete up to `limit` instances that ended more than `older_than` seconds ago, until `deadline` comes near."""
    end = None
    if deadline is not None:
        end = Deadline(deadline if callable(deadline) else seconds(deadline, "purge(deadline=...)"), engine.clock)
    before = engine.clock.now() - round(older_than * 1000)
    deleted = left = 0
    for item in _old(engine, before):
        if deleted >= limit or (end is not None and end.budget() <= 0):
            return Purged(deleted, left, finished=False)
        try:
            engine.delete(item.workflow, item.id)
            deleted += 1
        except UnknownInstance:  # somebody else deletes it, or has done so
            continue
        except (Refused, UnknownWorkflow, CorruptRecord, ImportUnfinished) as error:
            left += 1
            engine.logger.warn("not deleted", workflow=item.workflow, id=item.id, error=str(error))
    return Purged(deleted, left, finished=True)


def _old(engine: FluxEngine, before: int) -> Iterator[InstanceSummary]:
    """Those that ended before. None of them began after: so the listing begins there, where the store allows it."""
    cursor: str | None = encode_cursor(engine.tenant, ListKey(before + 1, "", ""))
    try:
        page = engine.list(None, ENDED, _PAGE, cursor)
    except CallerError:  # a store with cursors of its own
        page = engine.list(None, ENDED, _PAGE)
    while True:
        for item in page.items:
            if item.updated_at <= before:
                yield item
        if page.cursor is None:
            return
        page = engine.list(None, ENDED, _PAGE, page.cursor)
