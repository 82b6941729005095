"""Records, mail and snapshots <-> bytes, with the schema's version. It must not know what a record means.

The stored form is JSON in UTF-8 (lone surrogates pass), users' values tagged as in `values`. What cannot be read,
or was written by a newer version, is refused naming its key; nothing is overwritten.
"""

from __future__ import annotations

from flux_core.errors import CorruptRecord
from flux_core.jsontext import parse
from flux_core.jsontext import write as _json
from flux_core.records import SCHEMA, START, TYPES, Record
from flux_core.reference import RESERVED
from flux_core.state import (
    ErrorInfo,
    Frame,
    Kept,
    Lane,
    Lease,
    OpenIntent,
    OpenWait,
    Starting,
    StepExecution,
    WorkflowState,
)
from flux_core.values import SCALARS, decode_tree, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flux_core.ports import InstanceRef


def encode_record(record: Record) -> bytes:
    """The stored form of a record that carries its nonce."""
    text = record.text
    if text is None:
        text = ",".join(f'"{key}":{_field(key, value)}' for key, value in record.body.items())
    head = f'{{"v":1,"t":"{record.type}","ep":{record.epoch},"n":["{record.by}",{record.counter}],"at":{record.at}'
    return (f"{head},{text}}}" if text else f"{head}}}").encode("utf-8", "surrogatepass")


def _field(key: str, value: Any) -> str:
    match key:
        case "o" | "in":
            return encode(value, "the output" if key == "o" else "the input").text
        case "set" | "data":
            return _values(value)
        case "items":
            return encode(value, "the items").text
        case "frames":
            return _object((path, _frame_text(tree)) for path, tree in value.items())
        case "kept":
            return _object(
                (path, f"[{_json(how)},{encode(output, path).text},{_values(set_)},{_json(unset)},{attempt}]")
                for path, (how, output, set_, unset, attempt) in value.items()
            )
        case "w":
            signals, due, default = value
            shown = "null" if default is None else f"[{encode(default[0], 'on_timeout').text}]"
            return f"[{_json(signals)},{_json(due)},{shown}]"
        case _:
            return _json(value)


def _frame_text(tree: list[Any]) -> str:
    """The tree of a frame: what the lanes of a fork have written are users' values."""
    if len(tree) <= _FORK:
        return _json(tree)
    *fork, writes = tree[_FORK]
    told = _object((lane, f"[{_values(set_)},{_json(unset)}]") for lane, (set_, unset) in writes.items())
    return f"{_json(tree[:_FORK])[:-1]},{_json(fork)[:-1]},{told}]]"


_FORK = 5
"""The place of a fork in the tree of a frame."""


def _object(pairs: Any) -> str:
    return "{" + ",".join(f"{_json(key)}:{text}" for key, text in pairs) + "}"


def _values(values: dict[str, object]) -> str:
    return _object((key, encode(value, f"ctx.data[{key!r}]").text) for key, value in values.items())


def decode_record(raw: bytes, ref: InstanceRef, seq: int) -> Record:
    """The record at key `seq`; `CorruptRecord` names the key if it cannot be read."""
    tree = _tree(raw, ref, f"record {seq}")
    try:
        record = Record(tree["t"], tree["ep"], tree["at"], tree)
        known = record.type in TYPES
        record.by, record.counter = tree["n"]
        for name in _ENVELOPE:
            del tree[name]
        if b'"$' in raw:
            _untag(tree)
    except CorruptRecord as error:
        raise corrupt(ref, f"record {seq}", str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise corrupt(ref, f"record {seq}", f"its fields are not those of a record ({error!r})") from error
    if not known:
        raise corrupt(ref, f"record {seq}", f"type {record.type!r} is not known here; perhaps a newer kit knows it")
    return record


_ENVELOPE = ("v", "t", "ep", "n", "at")


def _untag(body: dict[str, Any]) -> None:
    for key in ("o", "in"):
        if key in body:
            body[key] = decode_tree(body[key])
    for key in ("set", "data"):
        if key in body:
            body[key] = _untagged(body[key])
    if "kept" in body:
        body["kept"] = {
            path: [how, decode_tree(output), _untagged(set_), unset, attempt]
            for path, (how, output, set_, unset, attempt) in body["kept"].items()
        }
    if "items" in body:
        body["items"] = decode_tree(body["items"])
    for tree in body.get("frames", {}).values():
        if len(tree) > _FORK:
            for writes in tree[_FORK][-1].values():
                writes[0] = _untagged(writes[0])
    if "w" in body and body["w"][2] is not None:
        body["w"][2] = [decode_tree(body["w"][2][0])]


def _untagged(values: dict[str, Any]) -> dict[str, object]:
    return {key: decode_tree(value) for key, value in values.items()}


def nonce_of(raw: bytes, ref: InstanceRef, seq: int) -> tuple[str, int]:
    """Who wrote a record (PROTOCOL rule 3)."""
    record = decode_record(raw, ref, seq)
    return record.by, record.counter


def encode_payload(payload: object) -> bytes:
    """A signal's payload as mail keeps it. `Unserialisable` names what cannot be kept."""
    return f'{{"v":1,"o":{encode(payload, "the payload").text}}}'.encode("utf-8", "surrogatepass")


def decode_payload(raw: bytes, ref: InstanceRef, mail: str) -> object:
    """The payload of mail; `CorruptRecord` names it if it cannot be read."""
    tree = _tree(raw, ref, f"mail {mail}")
    if "o" not in tree:
        raise corrupt(ref, f"mail {mail}", "it has no payload")
    try:
        return decode_tree(tree["o"])
    except CorruptRecord as error:
        raise corrupt(ref, f"mail {mail}", str(error)) from error


def encode_state(state: WorkflowState) -> bytes:
    """A snapshot. `decode_state` of it equals the fold of the log up to `state.seq` (PROTOCOL, I13)."""
    steps = _object((path, _step_text(step)) for path, step in state.steps.items())
    waits = _object(
        (path, _field("w", [list(wait.signals), wait.due, wait.default])) for path, wait in state.waits.items()
    )
    kept = {path: keep.to_tree() for path, keep in state.kept.items()}
    plain = {
        "v": SCHEMA,
        "seq": state.seq,
        **{name: getattr(state, name) for name in _PLAIN},
        "lease": [state.lease.ms, state.lease.cap],
        "intents": {
            key: [intent.attempt, intent.undo, None if intent.error is None else intent.error.to_tree()]
            for key, intent in state.intents.items()
        },
        "failure": None if state.failure is None else state.failure.to_tree(),
        "error": None if state.error is None else state.error.to_tree(),
        **{name: list(getattr(state, name)) for name in _KEYS},
        **_nested(state),
    }
    parts = (
        _json(plain)[:-1],
        f'"in":{encode(state.input, "the input").text}',
        f'"data":{_values(state.data)}',
        f'"steps":{steps}',
        f'"waits":{waits}',
        *_forked(state),
        f'"kept":{_field("kept", kept)}}}',
    )
    return ",".join(parts).encode("utf-8", "surrogatepass")


def _nested(state: WorkflowState) -> dict[str, object]:
    """What there is only in branches and loops."""
    fields: dict[str, dict[str, object]] = {
        "lanes": {path: lane.to_tree() for path, lane in state.lanes.items()},
        "decisions": {path: step.decision for path, step in state.steps.items() if step.decision is not None},
        "kin": {path: step.child for path, step in state.steps.items() if step.child is not None},
        "letters": {path: step.letter for path, step in state.steps.items() if step.letter},
    }
    return {name: values for name, values in fields.items() if values}


def _forked(state: WorkflowState) -> list[str]:
    """What there is only in branches and loops, and holds users' values."""
    parts = []
    if state.frames:
        parts.append(f'"frames":{_field("frames", {path: frame.to_tree() for path, frame in state.frames.items()})}')
    if state.starting is not None:
        asked = encode(state.starting.input, "the input").text
        parts.append(f'"starting":{_json(state.starting.to_tree())[:-1]},{asked}]')
    if state.items:
        items = ((path, encode(items, f"the items of {path}").text) for path, items in state.items.items())
        parts.append(f'"maps":{_object(items)}')
    return parts


_PLAIN = (
    "version",
    "fingerprint",
    "names",
    "kinds",
    "origins",
    "patches",
    "input_hash",
    "status",
    "epoch",
    "owned",
    "paused",
    "lease_until",
    "deaths",
    "pauses",
    "time_limit",
    "expires",
    "created_at",
    "updated_at",
    "completed_at",
    "cursor",
    "generation",
    "discarded",
    "retry_at",
    "parent",
    "rests",
    "undoing",
    "cancel",
    "stuck",
)
_KEYS = ("completed", "consumed", "doubts", "children")


def _step_text(step: StepExecution) -> str:
    """What nearly every step has, and behind its output what only few have, if this is one of them."""
    plain = _json([step.status, step.attempt, step.started_ms, step.ended_ms, step.run_ms])[:-1]
    output = "null" if step.output is None else encode(step.output, f"the output of {step.path}").text
    if step.error is None and not step.undo_attempt and step.compensated_ms is None and not step.waiting_for:
        return f"{plain},{output}]"
    rare = _json([step.error, step.undo_attempt, step.compensated_ms, list(step.waiting_for)])[1:]
    return f"{plain},{output},{rare}"


def _steps(tree: dict[str, list[Any]]) -> dict[str, StepExecution]:
    """The opposite of `_step_text`."""
    steps = {}
    for path, fields in tree.items():
        if len(fields) == _USUAL:
            steps[path] = StepExecution(path, *fields)
            continue
        step = steps[path] = StepExecution(path, *fields[:_USUAL])
        step.error, step.undo_attempt, step.compensated_ms, signals = fields[_USUAL:]
        step.waiting_for = tuple(signals)
    return steps


_USUAL = 6
"""So many fields nearly every step has; the last of them is its output."""


def decode_state(raw: bytes, ref: InstanceRef, seq: int) -> WorkflowState:
    """A snapshot's state; `CorruptRecord` names its key if it cannot be read."""
    where = f"snapshot {seq}"
    tree = _tree(raw, ref, where)
    try:
        if b'"$' in raw:
            _untag_state(tree)
        return _state(tree, ref, seq)
    except CorruptRecord as error:
        raise corrupt(ref, where, str(error)) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise corrupt(ref, where, f"its fields are not those of a snapshot ({error!r})") from error


def _untag_state(tree: dict[str, Any]) -> None:
    _untag(tree)
    for fields in tree["steps"].values():
        output = fields[_USUAL - 1]
        if type(output) not in SCALARS:
            fields[_USUAL - 1] = decode_tree(output)
    for wait in tree["waits"].values():
        if wait[2] is not None:
            wait[2] = [decode_tree(wait[2][0])]
    if "maps" in tree:
        tree["maps"] = _untagged(tree["maps"])
    if "starting" in tree:
        tree["starting"][-1] = decode_tree(tree["starting"][-1])


def _state(tree: dict[str, Any], ref: InstanceRef, seq: int) -> WorkflowState:
    state = WorkflowState(ref.tenant, ref.workflow, ref.id)
    state.seq = seq
    for name in _PLAIN:
        setattr(state, name, tree[name])
    for name in _KEYS:
        setattr(state, name, dict.fromkeys(tree[name]))
    state.lease = Lease(*tree["lease"])
    state.input = tree["in"]
    state.data = tree["data"]
    state.failure = None if tree["failure"] is None else ErrorInfo.of(tree["failure"])
    state.error = None if tree["error"] is None else ErrorInfo.of(tree["error"])
    for key, (attempt, undo, error) in tree["intents"].items():
        known = None if error is None else ErrorInfo.of(error)
        state.intents[key] = OpenIntent(attempt, undo=undo, error=known)
    state.kept = {path: Kept(*fields) for path, fields in tree["kept"].items()}
    for path, (signals, due, default) in tree["waits"].items():
        state.waits[path] = OpenWait(tuple(signals), due, default)
    state.steps = _steps(tree["steps"])
    state.frames = {path: Frame(*fields) for path, fields in tree.get("frames", {}).items()}
    state.lanes = {path: Lane(*fields) for path, fields in tree.get("lanes", {}).items()}
    state.items = tree.get("maps", {})
    if "starting" in tree:
        state.starting = Starting(*tree["starting"])
    for path, child in tree.get("kin", {}).items():
        state.steps[path].child = child
    for path, decision in tree.get("decisions", {}).items():
        state.steps[path].decision = decision
    for path, letter in tree.get("letters", {}).items():
        state.steps[path].letter = letter
    return state


def _tree(raw: bytes, ref: InstanceRef, where: str) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = parse(raw.decode("utf-8", "surrogatepass"))
        version = tree["v"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise corrupt(ref, where, f"it is not JSON of the kit ({error})") from error
    if raw.startswith(RESERVED):
        message = (
            f"{where} of {ref.tenant}/{ref.workflow}/{ref.id} is kept outside of the store, or the instance is being "
            f"deleted; give FluxEngine the payloads= that the instance was written with. Nothing was changed."
        )
        raise CorruptRecord(message)
    if version != SCHEMA:
        message = (
            f"{where} of {ref.tenant}/{ref.workflow}/{ref.id} has schema version {version!r}, this kit reads {SCHEMA}; "
            f"upgrade flux-serverless where this invocation runs. Nothing was changed."
        )
        raise CorruptRecord(message)
    return tree


def corrupt(ref: InstanceRef, where: str, what: str) -> CorruptRecord:
    """The error for what is stored at `where` of an instance and cannot be read because of `what`."""
    return CorruptRecord(
        f"{where} of {ref.tenant}/{ref.workflow}/{ref.id} cannot be read: {what}; restore the record from a "
        f"backup of the store, which this kit never does by itself. Nothing was changed."
    )


def check_start(record: Record, ref: InstanceRef) -> Record:
    """`record`, which must be the first of a log."""
    if record.type != START:
        raise corrupt(ref, "record 0", f"it is of type {record.type!r}, not {START!r}")
    return record
