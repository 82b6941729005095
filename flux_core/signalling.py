"""Puts a signal into the mailbox of an instance, so that it is lost in no race. It must not advance the instance.

Whether a signal still counts, and whether somebody has to be woken for it, is looked at before it is put and after.
"""

from __future__ import annotations

from flux_core import records as r
from flux_core import state as s
from flux_core.codec import decode_payload, decode_record
from flux_core.errors import Conflict
from flux_core.load import load, unknown_instance
from flux_core.machine import check_verb
from flux_core.machine.waiting import mail_key
from flux_core.values import canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from flux_core.load import Loaded
    from flux_core.ports import Clock, InstanceRef, Mail, WorkflowStorage

_AT_REST: Final = frozenset({r.SUSP, r.ADOPT})
"""Records after which an instance has no owner and may wait for mail alone."""
_GRACE_MS: Final = 5000
"""So much later than a signal's own tick the sweeper would look after it."""


def deliver(
    storage: WorkflowStorage, clock: Clock, ref: InstanceRef, mail: Mail, *, advance: bool, nudge: bool
) -> tuple[Loaded, bool]:
    """Put `mail` (its time is that of the putting): the instance as it is then, and whether a tick may move it.

    `advance` and `nudge`, and what is refused, as `FluxEngine.signal` has it.
    """
    tail = storage.tail(ref)
    if tail is None:
        raise unknown_instance(ref)
    last = decode_record(tail[1], ref, tail[0])
    ended = last.body["s"] if last.type == r.END else None
    if last.type in {r.ADOPT, r.RESOLVE}:  # they may follow the end without opening it
        ended = load(storage, ref).state.status
    if ended in {s.COMPLETED, s.CANCELLED}:
        late = _late(storage, ref, mail)
        if late is not None:
            return late, False
    if (nudge or not advance) and last.type in _AT_REST:
        grace = _GRACE_MS if advance else 0
        storage.nudge(ref, last.epoch, clock.now() + grace)
    mail = mail._replace(at=clock.now())
    _check_same(ref, mail, storage.put_mail(ref, mail))
    # Only now is the tail's word final: an owner who suspends after this look reads the mail himself (rule 5).
    loaded = load(storage, ref)
    if mail_key(mail) not in loaded.state.consumed:
        check_verb("signal", loaded.state)  # it may have ended between the two looks, without this signal
        if not advance and loaded.state.status == s.SUSPENDED and mail.name in loaded.state.awaited:
            # Its owner may have let go of it between the two looks, and not have seen the mail.
            storage.nudge(ref, loaded.state.epoch, clock.now())
    return loaded, True


def _late(storage: WorkflowStorage, ref: InstanceRef, mail: Mail) -> Loaded | None:
    """The instance if the signal was delivered before it ended, None if it was opened again; refused otherwise."""
    loaded = load(storage, ref)
    for found in storage.mail(ref):
        if (found.name, found.id) == (mail.name, mail.id):
            _check_same(ref, mail, found)
            return loaded
    check_verb("signal", loaded.state)
    return None


def _check_same(ref: InstanceRef, mail: Mail, found: Mail | None) -> None:
    """`Conflict` if another payload is there already."""
    if found is None or found.body == mail.body:
        return
    where = f"{mail.name}/{mail.id}"
    if canonical(decode_payload(found.body, ref, where)) != canonical(decode_payload(mail.body, ref, where)):
        message = (
            f"signal {mail.name!r} to workflow {ref.workflow!r}, id {ref.id!r} was sent before with the same "
            f"dedupe_id and another payload; use another dedupe_id for another message"
        )
        raise Conflict(message)
