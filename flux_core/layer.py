"""`StorageLayer`: a store around another one that passes every call on. It must not change what it passes.

A layer that keeps bytes in another form overrides the methods that carry them: `append`, `read`, `tail`, `put_mail`,
`mail`, `put_snapshot`, `snapshot`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from flux_core.ports import Due, Header, InstanceRef, Mail, Page, WorkflowStorage


class StorageLayer:
    """A `WorkflowStorage` that asks `inner` for everything; for the methods see `WorkflowStorage`."""

    def __init__(self, inner: WorkflowStorage) -> None:
        """`inner` does the work, and is closed with this one."""
        self.inner = inner
        self.ephemeral = inner.ephemeral
        self.snapshot_records: int = getattr(inner, "snapshot_records", 0)

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """Put `record` at `seq` unless the slot is taken: None if written, else the bytes found."""
        return self.inner.append(ref, seq, record, header)

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        """All records from `start` on."""
        return self.inner.read(ref, start)

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest record with its sequence number."""
        return self.inner.tail(ref)

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found."""
        return self.inner.put_mail(ref, mail)

    def mail(self, ref: InstanceRef) -> list[Mail]:
        """The whole mailbox."""
        return self.inner.mail(ref)

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`."""
        self.inner.put_snapshot(ref, seq, state)

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest snapshot with its sequence number."""
        return self.inner.snapshot(ref)

    def header(self, ref: InstanceRef) -> Header | None:
        """The header."""
        return self.inner.header(ref)

    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        """Make the due entry no later than `due`, if the header still has `epoch`."""
        return self.inner.nudge(ref, epoch, due)

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        """Replace exactly the entry `due`, if the header is still the one of record `seq`."""
        return self.inner.settle(ref, seq, due, then)

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """Remove all of an instance whose newest record is `seq`."""
        return self.inner.purge(ref, seq)

    def ensure(self) -> None:
        """Create what the store needs."""
        self.inner.ensure()

    def close(self) -> None:
        """Release connections."""
        self.inner.close()

    def due(self, until: int, limit: int) -> list[Due]:
        """Up to `limit` entries of all tenants with `due <= until`."""
        return self.inner.due(until, limit)

    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """One page of the tenant's instances."""
        return self.inner.list(tenant, workflow, statuses, limit, cursor)
