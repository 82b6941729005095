"""The invariants of PROTOCOL, checked on one instance as the store has it.

It must not repair or change anything, and it does not trust the engine: everything is computed from the log, the
mailbox, the header, the payloads that they name, and the journal of effects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core import records as r
from flux_core import state as s
from flux_core.claim_check import ClaimCheckStorage
from flux_core.codec import decode_record, encode_state
from flux_core.errors import PayloadMissing
from flux_core.flight import MOST
from flux_core.keys import idempotency_key, mail_id, sha256
from flux_core.load import load
from flux_core.machine import current, evolve, takeover_at, timer
from flux_core.machine.children import needed
from flux_core.machine.forks import is_over
from flux_core.machine.identity import end_id, end_signal, is_end_signal
from flux_core.machine.lanes import is_next, letter_of
from flux_core.machine.waking import is_resting
from flux_core.paths import lane_of, renamed
from flux_core.ports import InstanceRef
from flux_core.state import WorkflowState
from flux_core.testing.journal import RUN, UNDONE, Effect
from flux_core.testing.story import story
from flux_core.workflow import COMMITS, UNDO, UNDOABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flux_core.ports import WorkflowStorage
    from flux_core.records import Record
    from flux_core.workflow import WorkflowDefinition


def check_invariants(
    storage: WorkflowStorage,
    ref: InstanceRef,
    effects: Sequence[Effect] | None = None,
    *,
    workflow: WorkflowDefinition | None = None,
    before: Sequence[bytes] | None = None,
    at_rest: bool = False,
) -> None:
    """Raise `AssertionError` naming the first invariant that does not hold, with the instance's story.

    `effects` adds those about effects (I3, I11, keys); `workflow` those that need the definition (the end of a
    saga, quarantine); `before`, the log as it was once, that it has only grown; `at_rest`, that nothing is left
    owned or unanswered when no invocation runs and none has crashed since (L1, L2, L4).
    """
    _check_payloads(storage, ref)
    raws = storage.read(ref)
    try:
        _must(bool(raws), "I8", "there is no start record, so nobody can have been told that the instance exists")
        grown = before is None or list(before) == raws[: len(before)]
        _must(grown, "I1", f"the log of {len(raws)} records does not continue the {len(before or ())} seen before")
        walk = _Walk(storage, ref, workflow, list(effects or ()))
        for seq, raw in enumerate(raws):
            walk.take(seq, decode_record(raw, ref, seq))
        _check_tail(storage, ref, len(raws))
        walk.finish()
        _check_index(storage, ref, walk.state, walk.statuses)
        _check_snapshot(storage, ref, walk.state)
        if at_rest:
            _check_rest(storage, ref, walk.state)
    except AssertionError as error:
        message = f"{error}\n{story(storage, ref, effects)}"
        raise AssertionError(message) from None


class _Walk:
    """The log from its first record on: each is checked against the state before it, then folded."""

    def __init__(
        self,
        storage: WorkflowStorage,
        ref: InstanceRef,
        workflow: WorkflowDefinition | None,
        effects: list[Effect],
    ) -> None:
        self.ref = ref
        self.state = WorkflowState(*ref)
        self.statuses: list[tuple[str, int]] = []
        """Status and epoch after each record."""
        self._workflow = workflow
        self._mails = {f"{mail.name}/{mail.id}" for mail in storage.mail(ref)}
        self._received: set[str] = set()
        self._successes: dict[str, int] = {}
        """Paths that have succeeded in this generation, and the record that says so."""
        self._order: list[str] = []
        """Paths in the order they succeeded in this generation."""
        self._undone: list[int] = []
        """Places in `_order` that were compensated in this generation."""
        self._intents: dict[tuple[int, str, int], int] = {}
        self._commits: set[str] = set()
        self._effects = effects
        self._pending = sorted((e for e in effects if e.tail is not None), key=lambda effect: effect.tail or 0)
        self._seen: dict[tuple[int, str, int], int] = {}
        self._succeeded_keys: dict[str, int] = {}
        self._late: dict[int, int] = {}
        """Effects of epochs that had been superseded."""
        self._most_late: dict[int, int] = {}
        """How many effects such an epoch may have: as many as there could be attempts under way when it ended."""

    def take(self, seq: int, record: Record) -> None:
        """Check record `seq` and fold it."""
        _must((record.type == r.START) == (seq == 0), "I1", f"record {seq} is of type {record.type}")
        self._check_epoch(seq, record)
        self._check_status(seq, record)
        self._check_step(seq, record)
        turned = self.state.undoing
        if record.type == r.CLAIM:
            self._most_late[self.state.epoch] = at_once(self.state)
        evolve(self.state, record)
        if self.state.undoing and not turned:
            self._order = list(self.state.completed)  # with what a retry had kept for later
        if record.type == r.RETRY or "reset" in record.body:
            self._successes = {path: at for path, at in self._successes.items() if path in self.state.completed}
            self._order = list(self.state.completed)
            self._undone.clear()
        if record.type == r.ADOPT:
            self._rename(record.body.get("was", {}))
            # A step that was gone and comes back behind what is done is another one.
            self._successes = {path: at for path, at in self._successes.items() if path in self.state.steps}
        self.statuses.append((self.state.status, self.state.epoch))
        while self._pending and self._pending[0].tail == seq:
            self._check_effect(self._pending.pop(0))

    def _rename(self, was: dict[str, str]) -> None:
        stale = set(was.values())
        self._successes = {renamed(path, was): at for path, at in self._successes.items() if path not in stale}
        self._order = [renamed(path, was) for path in self._order if path not in stale]
        self._commits = {renamed(path, was) for path in self._commits}

        def now(key: str) -> str:
            plain = key.removesuffix(UNDO)
            return renamed(plain, was) + key[len(plain) :]

        self._intents = {(generation, now(key), a): at for (generation, key, a), at in self._intents.items()}

    def finish(self) -> None:
        """What can be said only of the whole."""
        _must(not self._pending, "I1", f"effects saw records that are gone: {self._pending}")
        counts: dict[tuple[str, int, str], int] = {}
        if self._workflow is None or self.state.generation or self.state.origins:
            return
        for effect in self._effects:
            there = effect.path in self._commits and self._workflow.place(effect.path) is not None
            if there and self._workflow.by_path[effect.path].on_unknown == "quarantine":
                spot = (effect.path, 0, effect.key)
                counts[spot] = counts.get(spot, 0) + 1
                _must(counts[spot] == 1, "I3", f"commit {effect.path!r} with quarantine took effect twice: {effect}")

    def _check_epoch(self, seq: int, record: Record) -> None:
        state = self.state
        if record.type in {r.START, r.CLAIM}:
            _must(
                record.epoch > state.epoch, "I6", f"record {seq} claims with epoch {record.epoch} after {state.epoch}"
            )
            return
        _must(record.epoch == state.epoch, "I6", f"record {seq} has epoch {record.epoch}, the claim has {state.epoch}")
        if record.type not in r.CONTROL and record.type not in {r.BLOCKED, r.ADOPT}:
            _must(state.owned, "I6", f"record {seq} ({record.type}) was written by an owner although nobody owned it")

    def _check_status(self, seq: int, record: Record) -> None:
        status = self.state.status
        if status in s.TERMINAL:
            fine = record.type in {r.RETRY, r.RESOLVE, r.ADOPT}
            _must(fine, "I5", f"record {seq} ({record.type}) follows the end ({status})")
        elif status in {s.STUCK, s.PAUSED}:
            fine = record.type in r.CONTROL or record.type == r.ADOPT
            _must(fine, "I5", f"record {seq} ({record.type}) follows while the instance is {status}")
        if record.type == r.END:
            open_ = [*self.state.intents, *self.state.doubts]
            _must(not open_, "rule 9", f"record {seq} ends the instance while nobody knows the outcome of {open_}")
            if record.body["s"] == s.COMPLETED:
                _must(self.state.cursor == len(self.state.names), "I12", f"record {seq} completes before the last step")
        known = self._workflow is not None and self._workflow.fingerprint == self.state.fingerprint
        if record.type == r.END and record.body["s"] != s.COMPLETED and known and self._workflow is not None:
            # A compensation that a later definition has added was not there yet, one that it took away is not known.
            undoable = [path for path in self.state.completed if self._letter(path) in UNDOABLE]
            places, nodes = self._workflow.place, self._workflow.by_path
            left = [path for path in undoable if places(path) is not None and nodes[path].compensate is not None]
            _must(not left, "I9", f"record {seq} ends as {record.body['s']}, but {left} were not compensated")

    def _check_step(self, seq: int, record: Record) -> None:
        state, body = self.state, record.body
        path = body.get("p", "")
        if record.type == r.INTENT:
            key = path + UNDO if "undo" in body else path
            spot = (state.generation, key, body["a"])
            _must(spot not in self._intents, "I3", f"records {self._intents.get(spot)} and {seq} are the same intent")
            self._intents[spot] = seq
            if "undo" not in body:
                self._commits.add(path)
                fine = path not in self._successes
                _must(fine, "I3", f"intent {seq} of {path!r} follows its success in {self._successes.get(path)}")
                settles = "u" in body or path in state.intents  # what became of an earlier attempt comes first
                fine = settles or not state.undoing
                _must(fine, "rule 6", f"intent {seq} of {path!r} was written after the cancel or failure")
        if record.type == r.TIMEOUT and "p" not in body:
            late = state.expires is not None and state.expires <= record.at
            _must(late and not state.undoing, "rule 6", f"record {seq} ends the workflow's time at {state.expires}")
            return
        forward = {r.STEP, r.SKIPPED, r.DECIDE, r.CHILD, r.RECV, r.TIMEOUT}
        if record.type in forward or (record.type == r.INTENT and "undo" not in body):
            fine = state.undoing or is_next(state, path)
            _must(fine, "I12", f"record {seq} ({record.type}) is of step {path!r}, but the next is {current(state)!r}")
        if record.type in {r.RECV, r.TIMEOUT}:
            _must(path in state.waits, "I10", f"record {seq} ({record.type}) ends a wait of {path!r} that is not open")
        if record.type == r.RECV:
            mail = body["m"]
            _must(mail in self._mails, "I4", f"record {seq} receives {mail}, which is not in the mailbox")
            _must(mail not in self._received, "I4", f"record {seq} receives {mail} a second time")
            self._received.add(mail)
        if record.type == r.COMP:
            self._check_compensation(seq, path)
        if record.type == r.STEP and "c" in body:
            self._order = [other for other in self._order if other != path]
            self._order.append(path)  # the effect of a commit is made although it goes on waiting
        if _succeeds(record):
            first = self._successes.get(path)
            _must(first is None, "I2", f"record {seq} is a second success of {path!r} after {first}")
            self._successes[path] = seq
            if path not in self._order:
                self._order.append(path)
            self._succeeded_keys.setdefault(self._key(path), seq)

    def _check_compensation(self, seq: int, path: str) -> None:
        _must(path in self.state.completed, "I9", f"record {seq} compensates {path!r}, which has no success to undo")
        place = self._order.index(path)
        fine = not self._undone or place < self._undone[-1]
        _must(fine, "I9", f"record {seq} compensates {path!r} out of order or again; completed: {self._order}")
        self._undone.append(place)

    def _check_effect(self, effect: Effect) -> None:
        state = self.state
        superseded = effect.epoch is not None and effect.epoch < state.epoch
        if superseded:
            epoch = effect.epoch or 0
            count = self._late[epoch] = self._late.get(epoch, 0) + 1
            most = self._most_late.get(epoch, 1)
            what = f"epoch {epoch} had been superseded and had effect {count}, at most {most} were under way: {effect}"
            _must(count <= most, "I11", what)
            return
        plain = effect.path.removesuffix(UNDO)
        wanted = self._key(plain, effect.path)
        _must(effect.key == wanted, "idempotency key", f"{effect} used another key than {wanted}")
        _must(state.owned, "I6", f"{effect} began although nobody owned the instance")
        if effect.what == RUN:
            done = self._successes.get(plain)
            _must(done is None, "I2", f"{effect} began after the step's success in record {done}")
        if effect.what == UNDONE or (
            self._letter(plain) in COMMITS and effect.path in {key for _, key, _ in self._intents}
        ):
            spot = (state.generation, effect.path, effect.attempt)
            _must(spot in self._intents, "I3", f"{effect} began without an intent")
            count = self._seen[spot] = self._seen.get(spot, 0) + 1
            _must(count == 1, "I3", f"{effect}: this attempt took effect {count} times")
            if effect.what == RUN:
                done = self._succeeded_keys.get(effect.key)
                _must(done is None, "I3", f"{effect} used a key that succeeded in record {done}")

    def _letter(self, path: str) -> str:
        """What the instance keeps of a step's kind; a step that it does not have is a commit, to be strict."""
        return letter_of(self.state, path) or "c"

    def _key(self, plain: str, path: str | None = None) -> str:
        ref = self.ref
        k = self.state.discarded.get(plain, 0)
        origin = renamed(plain, self.state.origins) + (path or plain)[len(plain) :]
        return idempotency_key(ref.tenant, ref.workflow, ref.id, origin, k)


def at_once(state: WorkflowState) -> int:
    """How many attempts an invocation can have under way at the same time: the `max_concurrency` that I11 speaks of."""
    forks = {path: frame for path, frame in state.frames.items() if frame.fork is not None}

    def inside(lane: str) -> int:
        found = state.lanes[lane]
        if f"{lane}.{found.names[found.cursor]}" in state.waits:
            return 0
        within = [path for path in forks if lane_of(path) == lane or lane_of(path).startswith(f"{lane}.")]
        outer = min(within, key=len, default=None)
        return 1 if outer is None else of(outer)

    def of(path: str) -> int:
        frame = forks[path]
        fork = frame.fork
        if fork is None:
            return 1
        begun = [lane for lane in frame.open if lane not in fork.failed]
        fresh = fork.left - len(begun)
        if fork.limit:
            fresh = min(fresh, fork.limit - len(begun))
        return sum(map(inside, begun)) + max(0, fresh)

    outer = min(forks, key=len, default=None)
    return 1 if outer is None else max(1, min(of(outer), MOST))


def _succeeds(record: Record) -> bool:
    """Whether the record is the success of a step."""
    body = record.body
    match record.type:
        case r.STEP:
            return "e" not in body and "w" not in body
        case r.RECV | r.TIMEOUT:
            return "e" not in body
        case r.CHILD:
            return "wait" not in body
        case r.RESOLVE:
            return body["h"] == s.COMPLETED and "undo" not in body and "reset" not in body
        case _:
            return False


def _check_payloads(storage: WorkflowStorage, ref: InstanceRef) -> None:
    """I14, if a claim check is among the layers of the store. No story: it could not be read."""
    layer: object = storage
    while layer is not None and not isinstance(layer, ClaimCheckStorage):
        layer = getattr(layer, "inner", None)
    if layer is None:
        return
    for where, (digest, length) in layer.references(ref):
        try:
            data = layer.payloads.get(ref, digest)
        except PayloadMissing as error:
            message = f"I14: {where} of {'/'.join(ref)} names a payload that is gone: {error}"
            raise AssertionError(message) from error
        fine = len(data) == length and sha256(data) == digest
        _must(fine, "I14", f"{where} of {'/'.join(ref)} names payload {digest}, and what is there is something else")


def _check_tail(storage: WorkflowStorage, ref: InstanceRef, length: int) -> None:
    tail = storage.tail(ref)
    _must(tail is not None and tail[0] == length - 1, "I1", f"the log has {length} records, its tail is {tail}")


def _check_index(
    storage: WorkflowStorage, ref: InstanceRef, state: WorkflowState, statuses: Sequence[tuple[str, int]]
) -> None:
    """I7, and that the header says what the record it came with says."""
    header = storage.header(ref)
    if header is None:
        message = "I7: there is no header"
        raise AssertionError(message)
    _must(header.seq <= state.seq, "I7", f"the header is of record {header.seq}, the log ends at {state.seq}")
    meant = statuses[header.seq]
    _must(
        (header.status, header.epoch) == meant,
        "rule 2",
        f"the header says {header.status}, epoch {header.epoch}; its record {header.seq} means {meant}",
    )
    _must(header.created_at == state.created_at, "rule 2", f"the header says created at {header.created_at}")
    true_due = _true_due(storage, ref, state)
    if true_due is not None:
        fine = header.due is not None and header.due <= true_due
        _must(fine, "I7", f"the instance needs a tick at {true_due}, its due entry is {header.due}")


def _true_due(storage: WorkflowStorage, ref: InstanceRef, state: WorkflowState) -> int | None:
    """When the instance needs a tick, in ms since the epoch; None if only a signal or an operator can move it."""
    if state.terminal and state.parent is not None:
        return None if _is_told(storage, ref, state) else state.updated_at
    if state.terminal or state.status in {s.STUCK, s.PAUSED}:
        return None
    if state.owned:
        return takeover_at(state)
    if state.status == s.BLOCKED:
        return 2**62  # an entry must exist; when is the business of its growing pauses
    resting = is_resting(state) if state.undoing else state.status == s.SUSPENDED
    due = timer(state) if resting else state.updated_at
    return None if due is None else max(due, state.updated_at)  # a timer may have fired during a pause


def _is_told(storage: WorkflowStorage, ref: InstanceRef, state: WorkflowState) -> bool:
    """Whether the parent has the mail of this end; nobody needs to be told if there is no parent any more."""
    workflow, id_, _ = state.parent or ("", "", "")
    parent = InstanceRef(ref.tenant, workflow, id_)
    wanted = (end_signal(ref.id), mail_id(end_id(state)))
    return storage.tail(parent) is None or any((mail.name, mail.id) == wanted for mail in storage.mail(parent))


def _check_snapshot(storage: WorkflowStorage, ref: InstanceRef, state: WorkflowState) -> None:
    if storage.snapshot(ref) is None:
        return
    loaded = encode_state(load(storage, ref).state)
    wanted = encode_state(state)
    if loaded != wanted:
        message = f"I13: snapshot and rest fold to\n  {loaded!r}\nand the log folds to\n  {wanted!r}"
        raise AssertionError(message)


def _check_rest(storage: WorkflowStorage, ref: InstanceRef, state: WorkflowState) -> None:
    _must(not state.owned, "L4", "no invocation runs and none has crashed, but the instance is still owned")
    if state.terminal or state.status in {s.STUCK, s.PAUSED}:
        return
    header = storage.header(ref)
    due = None if header is None else header.due
    waiting = [wait for path, wait in state.waits.items() if state.undoing or not is_over(state, path)]
    names = {name for wait in waiting for name in wait.signals}
    left = [m.name for m in storage.mail(ref) if m.name in names and f"{m.name}/{m.id}" not in state.consumed]
    if sum(map(is_end_signal, left)) == len(left) and len(left) < needed(state) - _told_before(state):
        left = []  # the parent of many is ticked when enough of them have ended
    _must(not left or due is not None or state.undoing, "L1", f"mail for {left} waits, and nothing will look at it")
    waits = state.status == s.SUSPENDED or (state.undoing and is_resting(state))
    _must(waits or due is not None, "L2", f"it is {state.status} and nothing will tick it")


def _told_before(state: WorkflowState) -> int:
    return sum(map(is_end_signal, state.consumed))


def _must(holds: bool, name: str, what: str) -> None:  # noqa: FBT001 -- an assertion
    if not holds:
        message = f"{name}: {what}"
        raise AssertionError(message)
