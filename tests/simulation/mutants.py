"""The engine with one rule broken, for each rule: what the simulation must catch. For tests only.

V1 to V11 are PROTOCOL's. V9 (an HTTP signaller that writes no index entry) needs a transport that does not redeliver,
which this engine does not have yet. The others are regressions that this engine, or its like, has had.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from flux_core import MemoryStorage, engine, episode, loop
from flux_core import records as r
from flux_core import state as s
from flux_core.actions import Decision, RunStep
from flux_core.codec import decode_payload, encode_payload, encode_state
from flux_core.episode import Episode
from flux_core.events import MailRead
from flux_core.keys import mail_id
from flux_core.load import load
from flux_core.machine import attempts, decision, evolution, evolve, rewind, waiting, waking
from flux_core.ports import Header, InstanceRef, Mail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flux_core.actions import ReadMail
    from flux_core.events import Advanced
    from flux_core.records import Record

Patch = tuple[object, str, object]


class Mutant(NamedTuple):
    """One broken rule: how, what must be broken by it, and in which of the settings that shows."""

    patches: Callable[[], list[Patch]]
    breaks: tuple[str, ...]
    """The rules whose violation may be what is seen first."""
    setting: str
    store: Callable[[], MemoryStorage] = MemoryStorage


@contextmanager
def living(mutant: Mutant) -> Iterator[None]:
    """Within it the engine is the mutant."""
    patches = mutant.patches()
    kept = [(owner, name, owner.__dict__[name] if name in vars(owner) else _ABSENT) for owner, name, _ in patches]
    try:
        for owner, name, value in patches:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(kept):
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


_ABSENT = object()


def _instead_of(real: object, fake: object) -> list[Patch]:
    """`fake` wherever the core has bound `real`."""
    modules = [module for name, module in sys.modules.items() if name.startswith("flux_core.")]
    found = [(module, name) for module in modules for name, value in vars(module).items() if value is real]
    assert found, f"{real!r} is nowhere: the engine was rebuilt, so this mutant has to be, too"
    return [(module, name, fake) for module, name in found]


# --- V1 to V11 ----------------------------------------------------------------------------------------------------


def _no_second_look() -> list[Patch]:
    suspend = waiting.suspend
    return _instead_of(suspend, lambda state, now, due, *, mail, running=False: suspend(state, now, due, mail=False))


def _look_before_writing_only() -> list[Patch]:
    def signal(
        self: Any,
        workflow: Any,
        id: str,
        name: str,
        payload: object = None,
        dedupe_id: str = "",
        *,
        deadline: Any = None,
    ) -> Any:
        definition = self._workflow(workflow)
        ref = self._ref(definition, id)
        seen = load(self.storage, ref)
        self.storage.put_mail(ref, Mail(name, mail_id(dedupe_id), self.clock.now(), encode_payload(payload)))
        return self._ticked(ref, definition, seen, None, 0.0)

    return [(engine.FluxEngine, "signal", signal)]


def _without_due(record: Record) -> Record:
    if record.header is not None:
        record.header = (record.header[0], None)
    return record


def _lease_without_entry() -> list[Patch]:
    start = waking.start
    return _instead_of(start, lambda *args: _without_due(start(*args)))


def _claim_in_header_only() -> list[Patch]:
    append = Episode._append

    def only_header(self: Episode, record: Record) -> bool:
        if record.type != r.CLAIM:
            return append(self, record)
        assert record.header is not None
        self.storage.nudge(self.ref, self.state.epoch, record.header[1] or 0)
        evolve(self.state, record)
        self.state.seq -= 1
        self.owns = True
        return True

    return [(Episode, "_append", only_header)]


def _hand_over_without_entry() -> list[Patch]:
    hand_over = attempts.hand_over

    def bare(*args: Any) -> Decision:
        made = hand_over(*args)
        for record in made.records:
            _without_due(record)
        return made

    return _instead_of(hand_over, bare)


class Overwriting(MemoryStorage):
    """V6: whoever writes last, wins."""

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        log = self._logs.get(ref)
        if log is None or seq >= len(log):
            return super().append(ref, seq, record, header)
        log[seq] = record
        if header is not None:
            self._put_header(ref, header)
        return None


def _commit_without_intent() -> list[Patch]:
    begin = attempts.begin

    def bare(*args: Any, **options: Any) -> Decision:
        made = begin(*args, **options)
        return Decision(made.action) if isinstance(made.action, RunStep) else made

    return _instead_of(begin, bare)


class Splitting(MemoryStorage):
    """V8: the record first, and its index entry only with the next call."""

    def __init__(self) -> None:
        super().__init__()
        self._late: tuple[InstanceRef, Header] | None = None

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        if self._late is not None:
            self._put_header(*self._late)
        found = super().append(ref, seq, record, None)
        self._late = (ref, header) if found is None and header is not None else None
        return found


class Sweeping(MemoryStorage):
    """V10: whatever lies in the index up to the entry is cleaned away, not the entry itself."""

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        header = self._headers.get(ref)
        if header is None or header.due is None or header.due > due:
            return False
        self._put_header(ref, header._replace(due=then))
        return True


def _no_nonce_compare() -> list[Patch]:
    return [(episode, "nonce_of", lambda *args: None)]


# --- regressions ----------------------------------------------------------------------------------------------------


def _claim_of_a_wait_without_entry() -> list[Patch]:
    claim = waking.claim

    def bare(state: s.WorkflowState, *args: Any) -> Decision:
        made = claim(state, *args)
        if state.waits and not any(wait.due for wait in state.waits.values()):
            _without_due(made.records[0])
        return made

    return _instead_of(claim, bare)


def _returns_from_a_taken_slot() -> list[Patch]:
    record_all = loop._Run._record

    def careless(self: Any, records: tuple[Record, ...]) -> int:
        written = record_all(self, records)
        return len(records) if records[0].type == r.SUSP else written

    return [(loop._Run, "_record", careless)]


def _same_key_after_refund() -> list[Patch]:
    def compensated(state: s.WorkflowState, step: s.StepExecution, at: int) -> None:
        step.status = s.COMPENSATED
        step.compensated_ms = at

    return [(evolution, "_compensated", compensated)]


def _uncounted_deaths() -> list[Patch]:
    claim = evolution._EVOLVE[r.CLAIM]

    def forgetful(state: s.WorkflowState, record: Record, body: dict[str, Any]) -> None:
        claim(state, record, body)
        state.deaths = 0

    return [(evolution, "_EVOLVE", {**evolution._EVOLVE, r.CLAIM: forgetful})]


def _keeps_nothing() -> list[Patch]:
    reopening = rewind._reopening

    def all_over(*args: Any) -> dict[str, Any]:
        return {**reopening(*args), "kept": {}}

    return [(rewind, "_reopening", all_over)]


def _undoes_in_order() -> list[Patch]:
    return [(decision, "reversed", list)]


def _same_epoch() -> list[Patch]:
    claim = waking.claim

    def stale(state: s.WorkflowState, *args: Any) -> Decision:
        made = claim(state, *args)
        for record in made.records:
            record.epoch = state.epoch
        return made

    return _instead_of(claim, stale)


def _takes_mail_again() -> list[Patch]:
    def read_mail(self: Any, action: ReadMail) -> MailRead:
        ref = self.episode.ref
        mails = [(mail, decode_payload(mail.body, ref, mail.id)) for mail in self._storage.mail(ref)]
        return MailRead(mails, self._lease, resting=action.resting, due=action.due, idle=action.idle)

    return [(waiting, "_is_taken", lambda state, mail: False), (loop._Run, "_read_mail", read_mail)]


def _renews_over_a_cancel() -> list[Patch]:
    renew = Episode.renew

    def deaf(self: Episode) -> bool:
        renew(self)
        return True

    return [(Episode, "renew", deaf)]


def _forgets_doubt() -> list[Patch]:
    def next_undo(workflow: Any, state: s.WorkflowState, event: Advanced, now: int) -> Decision:
        state.doubts.clear()
        return advance(workflow, state, event, now)

    advance = decision._advance
    return [(decision, "_advance", next_undo)]


def _drops_what_a_retry_kept() -> list[Patch]:
    def turn_back(state: s.WorkflowState, _at: int, _error: str) -> None:
        state.undoing = True
        state.kept.clear()

    return [(evolution, "_turn_back", turn_back)]


def _forgetful_snapshot() -> list[Patch]:
    encode = encode_state

    def without_waits(state: s.WorkflowState) -> bytes:
        waits, state.waits = state.waits, {}
        try:
            return encode(state)
        finally:
            state.waits = waits

    return [(episode, "encode_state", without_waits)]


def _nothing() -> list[Patch]:
    return []


MUTANTS: dict[str, Mutant] = {
    "V1 no second look into the mailbox after susp": Mutant(
        _no_second_look, ("L1",), "a signal before, while and after the instance starts"
    ),
    "V2 the signaller looks at the tail only before writing": Mutant(
        _look_before_writing_only, ("L1",), "a signal before, while and after the instance starts"
    ),
    "V3 a lease without an entry in the index": Mutant(_lease_without_entry, ("I7",), "three executes of one id"),
    "V4 the claim is in the header only": Mutant(
        _claim_in_header_only, ("I6", "L6"), "a lease is stolen while a step runs"
    ),
    "V5 a hand-over without an entry in the index": Mutant(
        _hand_over_without_entry, ("I7",), "an attempt fails shortly before the deadline"
    ),
    "V6 results are written unconditionally": Mutant(
        _nothing, ("I1",), "a lease is stolen while a step runs", Overwriting
    ),
    "V7 a commit without intent": Mutant(
        _commit_without_intent, ("rule 9",), "a lease is stolen while a commit runs that quarantines"
    ),
    "V8 the index is written after the claim": Mutant(
        _nothing, ("I7",), "two executes of one id, and two deaths", Splitting
    ),
    "V10 the index is cleaned by range": Mutant(_nothing, ("I7",), "one signal sent twice", Sweeping),
    "V11 nonces are not compared": Mutant(_no_nonce_compare, ("L4",), "the answer of any write is lost"),
    "the claim of a wait without timeout makes no entry": Mutant(
        _claim_of_a_wait_without_entry, ("I7",), "a signal before, while and after the instance starts"
    ),
    "a control record in the slot of susp, and the owner returns": Mutant(
        _returns_from_a_taken_slot, ("L4",), "cancel and an instance about to be suspended"
    ),
    "a charge retried after its refund keeps its key": Mutant(_same_key_after_refund, ("key",), "retry and retry"),
    "deaths are not counted": Mutant(_uncounted_deaths, ("L6",), "whoever runs a step dies"),
    "a retry keeps no commit": Mutant(_keeps_nothing, ("rule 17",), "retry of a step before a commit that is kept"),
    "compensations run in order of completion": Mutant(_undoes_in_order, ("I9",), "cancel and a running saga"),
    "a claim of the same epoch": Mutant(_same_epoch, ("I6",), "a lease is stolen while a step runs"),
    "mail is taken twice": Mutant(_takes_mail_again, ("I4",), "two signals for two waits"),
    "a renewal overlooks the cancel in its slot": Mutant(
        _renews_over_a_cancel, ("rule 6",), "cancel while the lease is about to be renewed"
    ),
    "a cancel forgets an attempt of unknown outcome": Mutant(
        _forgets_doubt, ("rule 6", "I13", "I9"), "cancel in a durable back-off"
    ),
    "a failure drops what a retry had kept": Mutant(
        _drops_what_a_retry_kept, ("I9",), "retry of a step before a commit that is kept"
    ),
    "a snapshot forgets the open waits": Mutant(_forgetful_snapshot, ("I13",), "snapshots at every opportunity"),
}
