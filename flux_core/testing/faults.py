"""Stores that count their calls, and that fail at the call one names: the crash injector.

It wraps any `WorkflowStorage` and must not know what a call means for a workflow. A `FaultyStorage` stands for one
invocation's connection: once it has crashed it stays dead, and the next invocation gets a new one over the same
store and the same plan, which goes on counting.

    plan = FaultPlan({7: CRASH_AFTER})
    engine(FaultyStorage(store, plan))   # dies with InvocationDied after its seventh call has taken effect
    engine(FaultyStorage(store, plan))   # the next invocation: calls 8, 9, ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from flux_core.errors import StorageUnavailable

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Mapping, Sequence

    from flux_core.ports import Due, Header, InstanceRef, Mail, Page, PayloadStorage, WorkflowStorage

T = TypeVar("T")

CRASH_BEFORE: Final = "crash before"
"""The invocation dies before the call takes effect."""
CRASH_AFTER: Final = "crash after"
"""The invocation dies after the call has taken effect; nobody sees the answer."""
LOST_RESPONSE: Final = "lost response"
"""The call takes effect and `StorageUnavailable` is raised."""
UNAVAILABLE: Final = "unavailable"
"""The call has no effect and `StorageUnavailable` is raised."""

FAULTS: Final = (CRASH_BEFORE, CRASH_AFTER, LOST_RESPONSE, UNAVAILABLE)
WRITES: Final = frozenset(
    {"append", "put_mail", "put_snapshot", "nudge", "settle", "purge", "put_payload", "purge_payloads"}
)  # fmt: skip
"""The methods that change something; for the others a crash after is a crash before, a lost response an error."""


class InvocationDied(BaseException):
    """The process of this invocation is gone. No `except Exception` may swallow it."""


class Call(NamedTuple):
    """One storage call as it began. `number` counts from 1 over all invocations of a plan."""

    number: int
    method: str
    ref: InstanceRef | None = None
    seq: int | None = None
    """The slot of an append, the first record of a read, the number of a snapshot."""
    header: Header | None = None
    """What an append carried at an episode boundary."""
    size: int = 0
    """Bytes written."""

    @property
    def writes(self) -> bool:
        """Whether the method changes something."""
        return self.method in WRITES

    def __str__(self) -> str:
        """Short enough for a list: `append(3)+running`, `read(0)`, `mail`."""
        place = "" if self.seq is None else f"({self.seq})"
        return f"{self.method}{place}" + ("" if self.header is None else f"+{self.header.status}")


class FaultPlan:
    """Which call fails how, and what was called so far."""

    def __init__(self, faults: Mapping[int, str] | None = None) -> None:
        """`faults`: call number (from 1) -> one of `FAULTS`. None: everything goes well."""
        self.faults = dict(faults or {})
        wrong = set(self.faults.values()) - set(FAULTS)
        if wrong:
            message = f"there is no fault {wrong.pop()!r}; the faults are {', '.join(FAULTS)}"
            raise ValueError(message)
        self.calls: list[Call] = []
        self.fired: list[tuple[Call, str]] = []
        """The faults that took place."""
        self.after_death: list[Call] = []
        """Calls of invocations that had died already: there must be none."""

    @property
    def done(self) -> bool:
        """Whether every planned fault has taken place."""
        return len(self.fired) == len(self.faults)


class RecordingStorage:
    """Passes every call on and keeps a list of them, so that a test can count exactly."""

    def __init__(self, inner: WorkflowStorage) -> None:
        """`inner` is the store that does the work."""
        self.inner = inner
        self.ephemeral = inner.ephemeral
        self.snapshot_records: int = getattr(inner, "snapshot_records", 0)
        self.calls: list[Call] = []

    def take(self) -> list[str]:
        """The calls since the last `take`, each as `str(call)`."""
        taken = [str(call) for call in self.calls]
        self.calls.clear()
        return taken

    def _do(self, call: Call, work: Callable[[], T]) -> T:  # noqa: ARG002 -- FaultyStorage asks which call it is
        return work()

    def call(
        self,
        method: str,
        work: Callable[[], T],
        ref: InstanceRef | None = None,
        seq: int | None = None,
        header: Header | None = None,
        size: int = 0,
    ) -> T:
        """Count a call, and do the work."""
        call = Call(len(self.calls) + 1, method, ref, seq, header, size)
        self.calls.append(call)
        return self._do(call, work)

    # --- WorkflowStorage ---------------------------------------------------------------------------------

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """See `WorkflowStorage.append`."""
        return self.call(
            "append", lambda: self.inner.append(ref, seq, record, header), ref, seq, header, len(record)
        )  # fmt: skip

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        """See `WorkflowStorage.read`."""
        return self.call("read", lambda: self.inner.read(ref, start), ref, start)

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """See `WorkflowStorage.tail`."""
        return self.call("tail", lambda: self.inner.tail(ref), ref)

    def header(self, ref: InstanceRef) -> Header | None:
        """See `WorkflowStorage.header`."""
        return self.call("header", lambda: self.inner.header(ref), ref)

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """See `WorkflowStorage.put_mail`."""
        return self.call("put_mail", lambda: self.inner.put_mail(ref, mail), ref, size=len(mail.body))

    def mail(self, ref: InstanceRef) -> list[Mail]:
        """See `WorkflowStorage.mail`."""
        return self.call("mail", lambda: self.inner.mail(ref), ref)

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """See `WorkflowStorage.put_snapshot`."""
        return self.call(
            "put_snapshot", lambda: self.inner.put_snapshot(ref, seq, state), ref, seq, size=len(state)
        )  # fmt: skip

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """See `WorkflowStorage.snapshot`."""
        return self.call("snapshot", lambda: self.inner.snapshot(ref), ref)

    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        """See `WorkflowStorage.nudge`."""
        return self.call("nudge", lambda: self.inner.nudge(ref, epoch, due), ref)

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        """See `WorkflowStorage.settle`."""
        return self.call("settle", lambda: self.inner.settle(ref, seq, due, then), ref, seq)

    def due(self, until: int, limit: int) -> list[Due]:
        """See `WorkflowStorage.due`."""
        return self.call("due", lambda: self.inner.due(until, limit))

    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """See `WorkflowStorage.list`."""
        return self.call("list", lambda: self.inner.list(tenant, workflow, statuses, limit, cursor))

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """See `WorkflowStorage.purge`."""
        return self.call("purge", lambda: self.inner.purge(ref, seq), ref, seq)

    def ensure(self) -> None:
        """See `WorkflowStorage.ensure`; not counted."""
        self.inner.ensure()

    def close(self) -> None:
        """See `WorkflowStorage.close`; not counted."""
        self.inner.close()


class RecordingPayloads:
    """The payloads of a `ClaimCheckStorage` around a `RecordingStorage`: their calls are counted, and fail, with it.

    storage = FaultyStorage(store, plan)
    engine(ClaimCheckStorage(storage, RecordingPayloads(payloads, storage)))   # dies at calls of either
    """

    def __init__(self, inner: PayloadStorage, storage: RecordingStorage) -> None:
        """`inner` does the work; `storage` counts."""
        self.inner = inner
        self.ephemeral = inner.ephemeral
        self._storage = storage

    def put(self, ref: InstanceRef, digest: str, data: bytes) -> None:
        """See `PayloadStorage.put`."""
        self._storage.call("put_payload", lambda: self.inner.put(ref, digest, data), ref, size=len(data))

    def get(self, ref: InstanceRef, digest: str) -> bytes:
        """See `PayloadStorage.get`."""
        return self._storage.call("get_payload", lambda: self.inner.get(ref, digest), ref)

    def purge(self, ref: InstanceRef) -> None:
        """See `PayloadStorage.purge`."""
        self._storage.call("purge_payloads", lambda: self.inner.purge(ref), ref)

    def ensure(self) -> None:
        """See `PayloadStorage.ensure`; not counted."""
        self.inner.ensure()

    def close(self) -> None:
        """See `PayloadStorage.close`; not counted."""
        self.inner.close()


class FaultyStorage(RecordingStorage):
    """One invocation's connection to a store, which fails as its plan says and stays dead once it has died."""

    def __init__(self, inner: WorkflowStorage, plan: FaultPlan) -> None:
        """Several connections, one an invocation, may share `plan`: it counts the calls of all of them."""
        super().__init__(inner)
        self.plan = plan
        self.calls: builtins.list[Call] = plan.calls
        self.dead = False

    def _do(self, call: Call, work: Callable[[], T]) -> T:
        if self.dead:
            self.plan.after_death.append(call)
            message = f"an invocation that had died went on and called {call}; something swallowed InvocationDied"
            raise AssertionError(message)
        fault = self.plan.faults.get(call.number)
        if fault is None:
            return work()
        self.plan.fired.append((call, fault))
        if fault in {CRASH_AFTER, LOST_RESPONSE}:
            work()
        if fault in {CRASH_BEFORE, CRASH_AFTER}:
            self.dead = True
            message = f"{fault} call {call.number}, {call}"
            raise InvocationDied(message)
        message = f"the store did not answer call {call.number}, {call} ({fault}, as planned)"
        raise StorageUnavailable(message)
