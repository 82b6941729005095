"""One invocation's ownership of one instance: the only place that appends to a log as its owner.

Whatever runs at the same time in an invocation, one appender at a time (PROTOCOL rule 16). It knows nonces, leases
and taken slots; it must not know what a workflow means.
"""

from __future__ import annotations

from _thread import allocate_lock

from flux_core.codec import decode_record, encode_record, encode_state, nonce_of
from flux_core.errors import LeaseLost, StorageUnavailable
from flux_core.load import fold_raw
from flux_core.machine import evolve, renewal
from flux_core.ports import Header
from flux_core.records import ADOPT, CONTROL, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.ports import Clock, InstanceRef, WorkflowStorage
    from flux_core.state import WorkflowState

_SNAPSHOT_FROM = 32 * 1024
"""Bytes of log since the last snapshot below which no new one is worth it (PROTOCOL rule 12)."""


class Episode:
    """From a claim (or start) to the record that releases the instance."""

    __slots__ = (
        "_counter",
        "_extended",
        "_lock",
        "_snapshot_records",
        "_told",
        "by",
        "clock",
        "log_bytes",
        "log_records",
        "owns",
        "ref",
        "snapshot_bytes",
        "state",
        "storage",
    )

    def __init__(
        self,
        ref: InstanceRef,
        state: WorkflowState,
        storage: WorkflowStorage,
        clock: Clock,
        by: str,
        told: Callable[[Record], None] | None = None,
    ) -> None:
        """`by` is the nonce's constant part; `told` is called with each record appended, once it is folded."""
        self.ref = ref
        self.state = state
        self.storage = storage
        self.clock = clock
        self.by = by
        self.log_bytes = 0
        """Bytes of log that a reader has to read after the last snapshot."""
        self.log_records = 0
        """Records of log that a reader has to read after the last snapshot."""
        self.snapshot_bytes = 0
        self.owns = False
        """Whether the latest claim (or start) is this episode's."""
        self._snapshot_records: int = getattr(storage, "snapshot_records", 0)
        self._told = told
        self._counter = 0
        self._extended = clock.monotonic()
        self._lock = allocate_lock()

    def append(self, record: Record) -> bool:
        """Make `record` durable and fold it. False: a control record came first; it is folded, decide again.

        `LeaseLost` if another invocation has claimed the instance; `StorageUnavailable` if the store does not answer.
        """
        with self._lock:
            return self._append(record)

    def renew(self) -> bool:
        """Extend the lease (PROTOCOL rule 14). False: a control record in the way was folded first, decide again."""
        undisturbed = True
        with self._lock:
            if self.state.owned:
                while not self._append(renewal(self.state, self.clock.now())):
                    undisturbed = False
        return undisturbed

    def lease_left(self) -> float:
        """Seconds of the lease that are left by the monotonic clock."""
        return self._extended + self.state.lease.ms / 1000 - self.clock.monotonic()

    def save_snapshot(self) -> None:
        """Write a snapshot if more was logged since the last one than a reader should have to read (rule 12)."""
        many = 0 < self._snapshot_records < self.log_records
        if many or self.log_bytes > max(_SNAPSHOT_FROM, self.snapshot_bytes):
            raw = encode_state(self.state)
            self.storage.put_snapshot(self.ref, self.state.seq, raw)
            self.log_bytes, self.log_records, self.snapshot_bytes = 0, 0, len(raw)

    def _append(self, record: Record) -> bool:
        state, at = self.state, self.clock.monotonic()
        self._counter += 1
        record.by, record.counter = self.by, self._counter
        written = write_record(self.storage, self.ref, state, record)
        if not written:
            self._absorb()
            return False
        evolve(state, record)
        self._extended = at
        self.log_bytes += written
        self.log_records += 1
        if record.header is not None:
            self.owns = state.owned
        if self._told is not None:
            self._told(record)
        return True

    def _absorb(self) -> None:
        """Somebody was there first: fold what verbs asked for; anything else means that the instance is lost."""
        state = self.state
        for raw in self.storage.read(self.ref, state.seq + 1):
            record = decode_record(raw, self.ref, state.seq + 1)
            asked_for = record.type in CONTROL or (record.type == ADOPT and not state.owned)
            if not asked_for or record.epoch != state.epoch:
                message = f"workflow {state.name!r}, id {state.id!r} was taken over by another invocation"
                raise LeaseLost(message)
            fold_raw(state, raw, self.ref)
            self.log_records += 1
            self.log_bytes += len(raw)  # whoever appended it has told of it


def write_record(storage: WorkflowStorage, ref: InstanceRef, state: WorkflowState, record: Record) -> int:
    """Put `record`, which carries its nonce, at the place after `state`: its length, or 0 if another record is there.

    If the store does not answer it is asked once more with the same bytes: the nonce tells whether the first got
    through (PROTOCOL rule 3).
    """
    seq = state.seq + 1
    raw = encode_record(record)
    header = None
    if record.header is not None:
        status, due = record.header
        created = state.created_at if seq else record.at
        header = Header(status, created, record.at, record.epoch, seq, due)
    try:
        found = storage.append(ref, seq, raw, header)
    except StorageUnavailable:
        found = storage.append(ref, seq, raw, header)
    if found is not None and nonce_of(found, ref, seq) != (record.by, record.counter):
        return 0
    return len(raw)
