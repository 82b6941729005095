"""`story` prints an instance readably: the log with the effects between its records, mailbox, header, snapshot.

It must not change anything, and it must work for an instance that is broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux_core.codec import decode_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flux_core.ports import InstanceRef, WorkflowStorage
    from flux_core.records import Record
    from flux_core.testing.journal import Effect


def story(storage: WorkflowStorage, ref: InstanceRef, effects: Sequence[Effect] | None = None) -> str:
    """The instance as lines of text: log (with the effects between the records), mailbox, header and snapshot."""
    lines = [f"{ref.workflow}/{ref.id} (tenant {ref.tenant})"]
    told = list(effects or ())
    begun = 0
    for seq, raw in enumerate(storage.read(ref)):
        record = decode_record(raw, ref, seq)
        begun = begun or record.at
        lines.append(_line(seq, record, begun))
        lines += [f"          ** {_effect_line(effect)}" for effect in told if effect.tail == seq]
    lines += [f"  effect  ** {_effect_line(effect)}" for effect in told if effect.tail is None]
    lines += [f"  mail    {mail.name}/{mail.id[:8]} at +{mail.at - begun} {mail.body!r}" for mail in storage.mail(ref)]
    header = storage.header(ref)
    if header is not None:
        due = "none" if header.due is None else f"+{header.due - begun}"
        lines.append(f"  header  {header.status} of record {header.seq}, epoch {header.epoch}, due {due}")
    kept = storage.snapshot(ref)
    if kept is not None:
        lines.append(f"  snap    after record {kept[0]}, {len(kept[1])} bytes")
    return "\n".join(lines)


def _line(seq: int, record: Record, begun: int) -> str:
    body: dict[str, Any] = {key: value for key, value in record.body.items() if key not in {"fp", "ih", "ver"}}
    shown = " ".join(f"{key}={_short(value)}" for key, value in body.items())
    who = f"ep{record.epoch} {record.by[:4]}.{record.counter:<3}"
    return f"  {seq:>4}  +{record.at - begun:<8} {who} {record.type} {shown}"


def _effect_line(effect: Effect) -> str:
    return f"{effect.what} {effect.path}, attempt {effect.attempt}, key {effect.key[:8]}, epoch {effect.epoch}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:80]}... ({len(text)})"  # noqa: PLR2004 -- a line of a terminal
