"""A store as one test sees it: with the instances of this test alone, even if others share the store.

It passes every call on. What `due` says comes from the headers of the test's own instances, so a sweep never touches
those of another test, nor those that an earlier run has left behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core.ports import Due
from flux_core.testing.faults import RecordingStorage

if TYPE_CHECKING:
    import builtins

    from flux_core.ports import Header, InstanceRef, WorkflowStorage


class OwnInstances(RecordingStorage):
    """A `WorkflowStorage` over another, whose due index holds only instances that were started through it."""

    def __init__(self, inner: WorkflowStorage) -> None:
        """`inner` may be shared."""
        super().__init__(inner)
        self.refs: dict[InstanceRef, None] = {}
        """The instances that this test has written to, in the order of their first record."""

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """See `WorkflowStorage.append`."""
        self.refs[ref] = None
        return super().append(ref, seq, record, header)

    def due(self, until: int, limit: int) -> builtins.list[Due]:
        """See `WorkflowStorage.due`; only the test's own."""
        found = []
        for ref in self.refs:
            header = self.inner.header(ref)
            if header is not None and header.due is not None and header.due <= until:
                found.append(Due(ref, header.due))
        return sorted(found, key=lambda entry: (entry.due, entry.ref))[:limit]
