"""One instance as one JSON object, out of a store and into another: back-ups, moves, a bug report that can be run.

It must not decide anything about an instance, and goes through the `WorkflowStorage` port alone. The object holds every
record byte by byte, the mailbox and the header; a snapshot is not in it, since the import makes it anew from the log.
Text that is UTF-8 stands there as it is, other bytes (lone surrogates) as `{"base64": ...}`.

Nothing half imported can run. Before the first record a mark is put where snapshots are, which `load` refuses; it is
lifted by the real snapshot, after everything else. The header is written without a due time, which comes last.

    mark -> records, the header with its own -> mail -> due entry -> snapshot, which takes the place of the mark
"""

from __future__ import annotations

from flux_core.codec import corrupt, encode_state
from flux_core.errors import CallerError, Conflict, CorruptRecord
from flux_core.keys import content_hash
from flux_core.load import BEFORE_ALL, check_imported, fold_raw, import_mark, unknown_instance
from flux_core.machine.waiting import mail_key
from flux_core.names import check_key
from flux_core.ports import Header, InstanceRef, Mail
from flux_core.state import SUSPENDED, WorkflowState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final, TypeVar

    from flux_core.ports import WorkflowStorage

    T = TypeVar("T")

FORMAT: Final = "flux-instance"
VERSION: Final = 1

IMPORTED: Final = "imported"
"""It was not there, and is now."""
COMPLETED: Final = "completed"
"""An earlier import had been interrupted; the rest is there now."""
SAME: Final = "same"
"""It was there already, exactly so; nothing was written."""
NEWER: Final = "newer"
"""It was there already and has gone on since; nothing was written."""


class Exported:
    """An exported instance that was read and found whole."""

    __slots__ = ("header", "log", "mail", "ref", "state")

    def __init__(self, ref: InstanceRef, header: Header, log: list[bytes], mail: list[Mail]) -> None:
        """`CorruptRecord` if the records are none of a log, or the header is not that of one of them."""
        self.ref = ref
        self.header = header
        self.log = log
        self.mail = mail
        self.state = WorkflowState(*ref)
        """What the log folds to."""
        for raw in log:
            record = fold_raw(self.state, raw, ref)
            if self.state.seq == header.seq and record.epoch != header.epoch:
                raise corrupt(ref, "the header", f"it has epoch {header.epoch}, and its record {record.epoch}")
        if not 0 <= header.seq < len(log) or header.created_at != self.state.created_at:
            raise corrupt(ref, "the header", f"it is that of record {header.seq}, which is not in the log")


# --- out ----------------------------------------------------------------------------------------------------


def export_instance(storage: WorkflowStorage, ref: InstanceRef) -> dict[str, object]:
    """The instance as a tree of JSON types, as of one moment, whoever is running it.

    `UnknownInstance` if there is none, `CorruptRecord` if it cannot be read, `ImportUnfinished` if it is not whole.
    """
    log = storage.read(ref)
    if not log:
        raise unknown_instance(ref)
    check_imported(storage.snapshot(ref), log[0], ref)
    # A header that is read after the log and is of one of its records is the one that belongs to it.
    while (header := storage.header(ref)) is not None and header.seq >= len(log):
        more = storage.read(ref, len(log))
        if not more:
            break
        log += more
    if header is None:
        raise corrupt(ref, "the header", "there is none")
    found = Exported(ref, header, log, storage.mail(ref))  # mail after the log: all that the log has taken is there
    return {
        "format": FORMAT,
        "v": VERSION,
        **ref._asdict(),
        "header": header._asdict(),
        "log": [_shown(raw) for raw in found.log],
        "mail": [{**mail._asdict(), "body": _shown(mail.body)} for mail in found.mail],
        "sum": _sum(ref, header, log, found.mail),
    }


# --- in -----------------------------------------------------------------------------------------------------


def read_exported(tree: object) -> Exported:
    """An exported instance from its tree of JSON types.

    `CallerError` for what is none, `CorruptRecord` naming the key for one that is damaged, cut off, changed by hand or
    of a newer form.
    """
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise CallerError(f'it is no exported instance: those are JSON objects with "format": "{FORMAT}"')
    version = tree.get("v")
    if version != VERSION:
        raise CorruptRecord(f"it has the form {version!r}, this kit reads {VERSION}; import it with a newer Flux")
    ref = InstanceRef(*(_name(tree, key) for key in InstanceRef._fields))
    header = _header(_part(tree, "header", dict))
    log = [_bytes(item, f"log[{seq}]") for seq, item in enumerate(_part(tree, "log", list))]
    mail = [_mail(item, f"mail[{number}]") for number, item in enumerate(_part(tree, "mail", list))]
    if tree.get("sum") != _sum(ref, header, log, mail):
        raise _damaged("sum", "it is not that of the rest, which was damaged or changed since the export")
    return Exported(ref, header, log, mail)


def compare(storage: WorkflowStorage, exported: Exported) -> str:
    """What `import_instance` would do and return. Writes nothing; raises as that does."""
    ref, log = exported.ref, exported.log
    there = storage.read(ref)
    if not there:
        return IMPORTED
    for seq, (here, given) in enumerate(zip(there, log, strict=False)):
        if here != given:
            raise _conflict(ref, f"record {seq} is another one")
    unfinished = storage.snapshot(ref) == (BEFORE_ALL, import_mark(log[0]))
    if unfinished and len(there) <= len(log):
        return COMPLETED
    if unfinished or len(there) < len(log):
        raise _conflict(ref, f"it has {len(there)} records there and {len(log)} in the export")
    box = {(mail.name, mail.id): mail.body for mail in storage.mail(ref)}
    for mail in exported.mail:
        if box.get((mail.name, mail.id)) != mail.body:
            raise _conflict(ref, f"the signal {mail.name!r} ({mail.id}) is not there, or is another one")
    return SAME if len(there) == len(log) and len(box) == len(exported.mail) else NEWER


def import_instance(storage: WorkflowStorage, exported: Exported) -> str:
    """Put an exported instance into a store: `IMPORTED`, `COMPLETED`, `SAME` or `NEWER`. Again is harmless.

    It keeps tenant, workflow and id, because its idempotency keys are made from them. `Conflict` if another instance
    of that name is there, or an earlier state of this one. After `StorageUnavailable` import it again; until then
    nothing can run it.
    """
    outcome = compare(storage, exported)
    if outcome not in {IMPORTED, COMPLETED}:
        return outcome
    ref, header, state = exported.ref, exported.header, exported.state
    mark = import_mark(exported.log[0])
    storage.put_snapshot(ref, BEFORE_ALL, mark)
    kept = storage.snapshot(ref)
    if kept is not None and kept[0] == BEFORE_ALL and kept[1] != mark:
        raise _conflict(ref, "the import of another one was interrupted; complete that, then delete it")
    asleep = header._replace(due=None)
    for seq, raw in enumerate(exported.log):
        found = storage.append(ref, seq, raw, asleep if seq == header.seq else None)
        if found is not None and found != raw:
            raise _conflict(ref, f"record {seq} is another one")
    for mail in exported.mail:
        there = storage.put_mail(ref, mail)
        if there is not None and there.body != mail.body:
            raise _conflict(ref, f"the signal {mail.name!r} ({mail.id}) is another one")
    due = _due(header, state, storage.mail(ref))
    if due is not None:
        storage.nudge(ref, header.epoch, due)
    storage.put_snapshot(ref, state.seq, encode_state(state))
    return outcome


def _due(header: Header, state: WorkflowState, box: Iterable[Mail]) -> int | None:
    """When somebody has to look: as the header says, or at once if mail is there that nobody has told it of."""
    times = [] if header.due is None else [header.due]
    if state.status == SUSPENDED:
        wanted = {signal for wait in state.waits.values() for signal in wait.signals}
        times += [mail.at for mail in box if mail.name in wanted and mail_key(mail) not in state.consumed]
    return min(times, default=None)


# --- the form -----------------------------------------------------------------------------------------------


def _sum(ref: InstanceRef, header: Header, log: list[bytes], mail: list[Mail]) -> str:
    """A hash of the whole, the same however the JSON is laid out."""
    bodies = (raw.decode("utf-8", "surrogateescape") for raw in (*log, *(one.body for one in mail)))
    heads = (f"{one.name}/{one.id}/{one.at}" for one in mail)
    fields = (*ref, *(str(field) for field in header), str(len(log)), *heads, *bodies)
    return content_hash("".join(f"{len(field)}:{field}" for field in fields))


def _shown(raw: bytes) -> object:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        from base64 import b64encode

        return {"base64": b64encode(raw).decode()}


def _bytes(value: object, key: str) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _damaged(key, "it is no text of Unicode") from error
    if not isinstance(value, dict) or not isinstance(value.get("base64"), str):
        raise _damaged(key, 'it is neither a text nor {"base64": ...}')
    from base64 import b64decode

    try:
        return b64decode(value["base64"], validate=True)
    except ValueError as error:
        raise _damaged(key, f"it is no base64 ({error})") from error


def _header(tree: dict[str, object]) -> Header:
    created, updated, epoch, seq = (
        _part(tree, key, int, "header.") for key in ("created_at", "updated_at", "epoch", "seq")
    )
    due = None if tree.get("due") is None else _part(tree, "due", int, "header.")
    return Header(_part(tree, "status", str, "header."), created, updated, epoch, seq, due)


def _mail(value: object, key: str) -> Mail:
    if not isinstance(value, dict):
        raise _damaged(key, "it is no object")
    name, id_ = (_part(value, field, str, f"{key}.") for field in ("name", "id"))
    return Mail(name, id_, _part(value, "at", int, f"{key}."), _bytes(value.get("body"), f"{key}.body"))


def _name(tree: dict[str, object], key: str) -> str:
    try:
        return check_key(key, tree.get(key))
    except CallerError as error:
        raise _damaged(key, str(error)) from error


def _part(tree: dict[str, object], key: str, kind: type[T], within: str = "") -> T:
    value = tree.get(key)
    if type(value) is not kind:
        raise _damaged(f"{within}{key}", f"it should be of type {kind.__name__}, and is {value!r:.40}")
    return value


def _damaged(key: str, what: str) -> CorruptRecord:
    return CorruptRecord(f"the export is damaged at {key!r}: {what}; export the instance again. Nothing was imported.")


def _conflict(ref: InstanceRef, what: str) -> Conflict:
    return Conflict(
        f"workflow {ref.workflow!r}, id {ref.id!r} of tenant {ref.tenant!r} exists already and is not what was "
        f"exported: {what}; delete the one that is there, or leave it. What is there was not changed."
    )
