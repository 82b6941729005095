"""Reading one instance: its newest snapshot, if there is one, and the records after it. It must not write."""

from __future__ import annotations

from flux_core.codec import check_start, corrupt, decode_record, decode_state
from flux_core.errors import ImportUnfinished, UnknownInstance
from flux_core.keys import content_hash
from flux_core.machine import evolve
from flux_core.ports import InstanceRef
from flux_core.state import WorkflowState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from flux_core.ports import WorkflowStorage
    from flux_core.records import Record

BEFORE_ALL: Final = -1
"""The number of a snapshot that stands before record 0: the mark of an import that is not complete (`transfer`)."""


class Loaded:
    """An instance as the store has it, and what reading it cost."""

    __slots__ = ("log_bytes", "log_records", "snapshot_bytes", "state")

    def __init__(self, state: WorkflowState, log_bytes: int = 0, snapshot_bytes: int = 0, log_records: int = 0) -> None:
        self.state = state
        self.log_bytes = log_bytes
        self.log_records = log_records
        self.snapshot_bytes = snapshot_bytes


def load(storage: WorkflowStorage, ref: InstanceRef) -> Loaded:
    """The instance; `UnknownInstance` if there is none, `CorruptRecord` if it cannot be read.

    `ImportUnfinished` if not all of it is here yet.
    """
    state, snapshot_bytes = WorkflowState(*ref), 0
    kept = storage.snapshot(ref)
    if kept is not None and kept[0] != BEFORE_ALL:
        state, snapshot_bytes = decode_state(kept[1], ref, kept[0]), len(kept[1])
    raws = storage.read(ref, state.seq + 1)
    if state.seq < 0:
        if not raws:
            raise unknown_instance(ref)
        if kept is not None:
            check_imported(kept, raws[0], ref)
    for raw in raws:
        fold_raw(state, raw, ref)
    return Loaded(state, sum(map(len, raws)), snapshot_bytes, len(raws))


def caught_up(storage: WorkflowStorage, loaded: Loaded) -> Loaded:
    """The same instance with what has been recorded since; the state is the same object, folded on."""
    state = loaded.state
    ref = InstanceRef(state.tenant, state.name, state.id)
    for raw in storage.read(ref, state.seq + 1):
        fold_raw(state, raw, ref)
        loaded.log_bytes += len(raw)
    return loaded


def import_mark(first: bytes) -> bytes:
    """What the snapshot before record 0 holds while the instance that begins with `first` is being imported.

    It names the record, so that one that was left behind before any record came means nothing to another instance.
    """
    return b'{"v":1,"importing":"%b"}' % content_hash(first.decode("utf-8", "surrogateescape")).encode()


def check_imported(kept: tuple[int, bytes] | None, first: bytes, ref: InstanceRef) -> None:
    """`ImportUnfinished` if the snapshot `kept` says so of the log that begins with `first`."""
    if kept == (BEFORE_ALL, import_mark(first)):
        message = (
            f"workflow {ref.workflow!r}, id {ref.id!r} is being imported, or its import was interrupted; import it "
            f"again to complete it, it cannot run before"
        )
        raise ImportUnfinished(message)


def fold_raw(state: WorkflowState, raw: bytes, ref: InstanceRef) -> Record:
    """Fold the record after `state`, and return it; `CorruptRecord` names it if it cannot be read or does not fit."""
    seq = state.seq + 1
    record = decode_record(raw, ref, seq)
    if seq == 0:
        check_start(record, ref)
    try:
        evolve(state, record)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise corrupt(ref, f"record {seq}", f"it does not fit what came before it ({error!r})") from error
    return record


def load_log(storage: WorkflowStorage, ref: InstanceRef) -> list[Record]:
    """Every record from the first on."""
    return [decode_record(raw, ref, seq) for seq, raw in enumerate(storage.read(ref))]


def unknown_instance(ref: InstanceRef) -> UnknownInstance:
    """The error for an id that nobody has started."""
    return UnknownInstance(f"workflow {ref.workflow!r} has no instance {ref.id!r} in tenant {ref.tenant!r}")
