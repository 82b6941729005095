"""What the engine needs from outside, as small protocols; it must not contain an implementation.

A store author implements `WorkflowStorage` and runs the contract suite of `flux_core.testing` against it.
Every write is conditional: there is no method that overwrites what another invocation may have written.
"""

from __future__ import annotations

from flux_core.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol
else:
    Protocol = object


class InstanceRef(NamedTuple):
    """The key of one instance. The three parts are checked names (PROTOCOL, Security)."""

    tenant: str
    workflow: str
    id: str


class Header(NamedTuple):
    """What the list and due indexes know of an instance. Changes only at episode boundaries (PROTOCOL rule 2).

    `due` is a conservative hint in milliseconds since the epoch: the instance may need a tick from then on
    (PROTOCOL rule 7); None means that nothing but a signal or an operator can move it.
    """

    status: str
    created_at: int
    updated_at: int
    epoch: int
    seq: int
    due: int | None


class Mail(NamedTuple):
    """One signal in the mailbox: put if absent by (`name`, `id`), never changed."""

    name: str
    id: str
    at: int
    body: bytes


class Due(NamedTuple):
    """An entry of the due index."""

    ref: InstanceRef
    due: int


class Listed(NamedTuple):
    """An entry of the list index."""

    ref: InstanceRef
    header: Header


class Page(NamedTuple):
    """One page of a listing. `cursor` is opaque; None says that this was the last page."""

    items: Sequence[Listed]
    cursor: str | None


class WorkflowStorage(Protocol):
    """Where instances live: one append-only log each, a mailbox, snapshots, and two indexes.

    Reads see every write that was acknowledged before they began; only `due` and `list` may lag behind, where they
    read a secondary index that is consistent in the end (DynamoDB). Every method raises `StorageUnavailable` when
    the store did not answer; a write may then have happened or not.

    A store that bills each record read may also have `snapshot_records`, an int: a snapshot is then also worth it where
    more records than that would have to be read without one (PROTOCOL rule 12). Without it, or 0, only bytes count.
    """

    ephemeral: bool
    """True if a restart loses everything (memory). Cloud handlers refuse such a store."""

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """Put `record` at key `seq` unless something is there: None if written, else the bytes found.

        With `header`, the header (and with it both indexes) changes in the same commit; if the slot was taken,
        the header stays. A store without such commits puts the new due entry first, then the record, then the
        list entry, and removes the superseded due entry last, by exact key (PROTOCOL rule 7).
        The caller has seen record `seq - 1`; the store need not check that, but must not read a gap as a whole log.
        """

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        """All records from `start` on, contiguous and in order; empty if there are none."""

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest record with its sequence number; None for an unknown instance."""

    def header(self, ref: InstanceRef) -> Header | None:
        """The header, its `due` as the last append, nudge or settle left it; None for an unknown instance."""

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found."""

    def mail(self, ref: InstanceRef) -> list[Mail]:
        """The whole mailbox, ordered by (`at`, `id`)."""

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`. Equal for equal `seq`, so writing it twice is harmless.

        An older snapshot that comes late does not count; the store need keep only the newest. Number -1, before
        any record, marks an instance that is being imported; it gives way to every other.
        """

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest snapshot with its sequence number."""

    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        """Make the due entry no later than `due`, if the header still has `epoch`; False if it has another.

        True also when the entry was early enough already; False for an unknown instance.
        """

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        """Replace exactly the entry `due`, if the header is still the one of record `seq`; else False, no change."""

    def due(self, until: int, limit: int) -> list[Due]:
        """Up to `limit` entries of all tenants with `due <= until`, earliest first."""

    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Instances, newest first (by `created_at`, then id); no entry twice, none missed that exists throughout.

        Raises `CallerError` for a cursor that a listing of this tenant did not give out, and for a limit below 1.
        """

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """Remove all of an instance whose newest record is `seq`, record 0 last; else False, nothing removed.

        A store that needs several commits for it raises `PurgeUnfinished` to who reads or appends meanwhile; after one
        that was interrupted, another call with the same number completes it.
        """

    def ensure(self) -> None:
        """Create what the store needs (tables, indexes) if it is absent."""

    def close(self) -> None:
        """Release connections; again is harmless. Using the store afterwards raises `StorageUnavailable`."""


class PayloadStorage(Protocol):
    """Where the bytes go that are too large for a store: by instance and by their own SHA-256 (PROTOCOL rule 13).

    A payload never changes, so there is nothing to be conditional about but "put if absent". The engine wraps its
    store in `ClaimCheckStorage`, which puts a payload before the record that names it, checks the hash of all it reads,
    and purges them only once no record can name one. Every method raises `StorageUnavailable` when the service did not
    answer; a write may then have happened or not.
    """

    ephemeral: bool
    """True if a restart loses everything (memory)."""

    def put(self, ref: InstanceRef, digest: str, data: bytes) -> None:
        """Keep `data`, whose SHA-256 is `digest` (64 hexadecimal digits), unless the instance has it already.

        It must be as durable as a record of the store when this returns, and a `get` that begins then must see it.
        """

    def get(self, ref: InstanceRef, digest: str) -> bytes:
        """The payload, not checked against its hash; `PayloadMissing` naming where it was looked for if it is gone."""

    def purge(self, ref: InstanceRef) -> None:
        """Remove all payloads of the instance, those that no record names too; harmless if there are none."""

    def ensure(self) -> None:
        """Create what the payload store needs (a folder, a bucket) if it is absent."""

    def close(self) -> None:
        """Release connections; again is harmless. Using it afterwards raises `StorageUnavailable`."""


class Codec(Protocol):
    """A reversible change of everything that is stored, such as encryption at rest. Thread-safe.

    `context` says where the bytes stand: `tenant/workflow/id/L/7` for record 7, `.../S/7` for a snapshot,
    `.../M/name/mail-id` for mail, `.../P/sha256` for a payload. It is the same when they are read, so it can be
    associated data: bytes that were moved to another place are then refused.
    """

    def encode(self, data: bytes, context: bytes) -> bytes:
        """What to store instead of `data`. It need not give the same twice."""

    def decode(self, data: bytes, context: bytes) -> bytes:
        """What `encode` was given. Any exception means that the bytes cannot be read."""


class Clock(Protocol):
    """Time as an argument: virtual in tests."""

    def now(self) -> int:
        """Wall-clock milliseconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back; only differences mean anything."""

    def sleep(self, seconds: float) -> None:
        """Block this invocation for `seconds` (short back-offs only)."""


class Entropy(Protocol):
    """Randomness as an argument: seeded in tests."""

    def token(self) -> str:
        """32 hexadecimal digits (128 random bits): instance ids and invocation nonces."""

    def uniform(self) -> float:
        """A number in [0, 1): the jitter of a back-off."""


class Scheduler(Protocol):
    """A queue that brings ticks: how a cloud goes on with an instance in another invocation (PROTOCOL rule 8).

    Nothing depends on it but how soon: the due index knows of every tick, and the sweeper asks for it again.
    """

    horizon: float
    """Seconds: the longest delay that it can carry out. What is due later, the sweeper asks for in time."""

    def wake(self, ref: InstanceRef, delay: float) -> None:
        """Have the instance ticked once `delay` seconds (0 to `horizon`) have passed, at least once, and not sooner.

        `SchedulerUnavailable` if the service did not answer. It must return within seconds: an invocation waits for it.
        """


class TraceSink(Protocol):
    """Where trace events go. An exception in `emit` is logged and counted, and changes nothing."""

    def emit(self, event: Mapping[str, object]) -> None:
        """Take one event (fields: SEMANTICS, Trace events). It must not keep the invocation waiting."""


class Logger(Protocol):
    """The engine's own log lines; `FluxConsoleLogger`, `FluxSilentLogger` or anything of this form."""

    def debug(self, message: str, **fields: object) -> None:
        """For who looks for a fault."""

    def info(self, message: str, **fields: object) -> None:
        """What happens."""

    def warn(self, message: str, **fields: object) -> None:
        """What somebody should look at."""

    def error(self, message: str, **fields: object) -> None:
        """What somebody must look at."""
