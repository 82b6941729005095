"""The rules of PROTOCOL, watched from outside: told of every record, write, call and effect, it says what was broken.

Beside `fold` it keeps books of its own (what is done, what stands, which key and which data come next), so that a
mistake in `evolve` is no mistake in the check. It must not influence a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux_core import records as r
from flux_core import state as s
from flux_core.codec import decode_record
from flux_core.keys import idempotency_key
from flux_core.machine import evolve, takeover_at, timer
from flux_core.state import WorkflowState
from tests.simulation.scheduler import digest_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from flux_core.ports import Header, InstanceRef
    from flux_core.records import Record
    from tests.simulation.world import Step

_OWNERS = frozenset({r.RENEW, r.STEP, r.SKIPPED, r.INTENT, r.COMP, r.RETRY_WAIT, r.RECV, r.TIMEOUT, r.SUSP, r.YIELD,
                     r.END, r.STUCK})  # fmt: skip
_AFTER_END = frozenset({r.RETRY, r.RESOLVE})
_AFTER_STUCK = frozenset({r.RETRY, r.RESOLVE, r.CANCELREQ})
_WHILE_PAUSED = frozenset({r.UNPAUSE, r.RESOLVE, r.CANCELREQ})


class Ledger:
    """One instance's books."""

    def __init__(self, ref: InstanceRef, steps: tuple[Step, ...]) -> None:
        self.ref = ref
        self.steps: Mapping[str, Step] = {step.name: step for step in steps}
        self.names = [step.name for step in steps]
        self.broken: list[str] = []
        self.state = WorkflowState(*ref)
        self.log: list[Record] = []
        self.log_hash = 0
        self.owner = ""
        """The nonce of the invocation that made the latest claim."""
        self.mail: set[str] = set()
        self.done: dict[str, str] = {}
        """Path -> completed or skipped, in this generation."""
        self.standing: dict[str, None] = {}
        """Successes whose effects stand and would have to be undone, in order of completion."""
        self.kept: dict[str, None] = {}
        """Those of them that a retry keeps and that were not passed again yet."""
        self.key: dict[str, int] = {}
        """k of the idempotency key."""
        self.wrote: dict[str, object] = {}
        """What the latest success of a path put into `ctx.data[path]`."""
        self.commits: dict[tuple[str, int, int, int], int] = {}
        """Effects of a commit by path, k, generation (who retries by hand has looked) and attempt."""
        self.effects: dict[tuple[str, int, int], int] = {}
        self.provider: dict[str, object] = {}
        """What the other side has on its books, by idempotency key."""
        self.late: dict[tuple[int, int], int] = {}
        """How many effects an invocation began after it was superseded, by task and epoch."""
        self.excuses = 0
        """Deaths, lost leases, silent stores, unknown outcomes: what may lead to a quarantine."""
        self.pause = 0
        """By how many ms the latest claim's deaths put off the next: an entry may be late by that after progress."""
        self.books = 0
        """A hash of all effects, whatever their order."""

    def fail(self, rule: str, what: str) -> None:
        """`rule` was broken."""
        self.broken.append(f"{rule}: {what}")

    # --- records ----------------------------------------------------------------------------------------

    def appended(self, seq: int, raw: bytes, header: Header | None) -> None:
        """The store has taken a record."""
        state = self.state
        if seq != len(self.log):
            self.fail("I1", f"slot {seq} was written, but the log has {len(self.log)} records")
            return
        record = decode_record(raw, self.ref, seq)
        self._allowed(record, seq)
        self._book(record)
        self.log.append(record)
        self.log_hash = hash((self.log_hash, record.type, record.epoch, record.by, record.counter, _timeless(record)))
        try:
            evolve(state, record)
        except (KeyError, AssertionError, IndexError) as error:
            self.fail("fold", f"record {seq} {record!r} cannot be folded: {error!r}")
            return
        if record.type in {r.START, r.CLAIM}:
            self.owner = record.by
            self.pause = takeover_at(state) - state.lease_until
        if header is not None and (header.status, header.seq) != (state.status, seq):
            self.fail("header", f"it says {header.status}/{header.seq}, the log {state.status}/{seq} ({record.type})")

    def _allowed(self, record: Record, seq: int) -> None:
        state, kind = self.state, record.type
        if (kind == r.START) != (seq == 0):
            self.fail("I1", f"{kind} at {seq}")
        if state.terminal and kind not in _AFTER_END:
            self.fail("I5", f"{kind} after end ({state.status})")
        if state.status == s.STUCK and kind not in _AFTER_STUCK and not (kind == r.CLAIM and state.undoing):
            self.fail("I5", f"{kind} after stuck")
        if state.status == s.PAUSED and kind not in _WHILE_PAUSED:
            self.fail("pause", f"{kind} while paused")
        if kind in {r.START, r.CLAIM}:
            if record.epoch != state.epoch + 1:
                self.fail("I6", f"{kind} of epoch {record.epoch} after epoch {state.epoch}")
            if state.owned and kind == r.CLAIM and record.at < takeover_at(state):
                self.fail("lease", f"claimed at {record.at}, before {takeover_at(state)}")
        elif record.epoch != state.epoch:
            self.fail("I6", f"{kind} of epoch {record.epoch} in epoch {state.epoch}")
        if kind in _OWNERS:
            if not state.owned:
                self.fail("I6", f"{kind} by an invocation that does not own the instance ({state.status})")
            elif record.by != self.owner:
                self.fail("I6", f"{kind} by another than the latest claimer")

    def _book(self, record: Record) -> None:
        body, kind = record.body, record.type
        path = body.get("p", "")
        match kind:
            case r.STEP | r.SKIPPED:
                self._step(record, path, body)
            case r.INTENT:
                if "undo" not in body and self.state.undoing and "u" not in body and path not in self.state.intents:
                    self.fail("rule 6", f"the intent of commit {path!r} is written after a cancel or failure")
            case r.COMP:
                self._comp(path, body)
            case r.TIMEOUT if "p" not in body:
                if self.state.expires is None or record.at < self.state.expires or self.state.undoing:
                    self.fail("timeout", f"the workflow's time is over at {self.state.expires}, not at {record.at}")
            case r.RECV | r.TIMEOUT:
                if path not in self.state.waits:
                    self.fail("I10", f"{kind} for {path!r}, which does not wait")
                if kind == r.RECV:
                    if body["m"] in self.mail:
                        self.fail("I4", f"mail {body['m']} is received twice")
                    self.mail.add(body["m"])
                if "e" not in body:
                    self.done[path] = s.COMPLETED
                    self._stand(path)
            case r.RETRY:
                self._reset(body)
            case r.RESOLVE:
                self._resolved(path, body)
            case r.END:
                self._end(body["s"])
            case r.STUCK:
                if not self.excuses:
                    self.fail("L5", f"stuck ({body['why']}) though nothing died, timed out or was unknown")

    def _step(self, record: Record, path: str, body: dict[str, Any]) -> None:
        if "e" in body:
            return
        if path in self.done:
            self.fail("I2", f"{record.type} of {path!r}, which is {self.done[path]} already in this generation")
        for before in self.names[: self.names.index(path)]:
            if before not in self.done:
                self.fail("I12", f"{path!r} is recorded before {before!r} is done")
        if record.type == r.SKIPPED:
            self.done[path] = s.SKIPPED
            return
        if path in body.get("set", ()):
            self.wrote[path] = body["set"][path]
        self.kept.pop(path, None)
        if "w" not in body:
            self.done[path] = s.COMPLETED
            self._stand(path)

    def _stand(self, path: str) -> None:
        self.standing.pop(path, None)
        self.standing[path] = None

    def _comp(self, path: str, body: dict[str, Any]) -> None:
        if path not in self.standing:
            self.fail("I9", f"{path!r} is undone, but nothing of it stands")
            return
        for later in reversed(self.standing):
            if later == path or path in self.kept:
                break
            if self.steps[later].undo is not None and later not in self.kept:
                self.fail("I9", f"{path!r} is undone before {later!r}, which completed after it")
        self.standing.pop(path)
        self.kept.pop(path, None)
        if "e" not in body:
            self._undone(path)

    def _undone(self, path: str) -> None:
        self.done.pop(path, None)
        self.key[path] = self.key.get(path, 0) + 1

    def _reset(self, body: dict[str, Any]) -> None:
        if self.state.owned:
            self.fail("retry", "the instance is re-opened while an invocation owns it")
        for path in body["reset"]:
            done = self.done.pop(path, s.COMPLETED if path in self.kept else None)
            kept = path in body["kept"] or (path == body["p"] and "force" in body)
            if done == s.COMPLETED and self.steps[path].kind == "commit" and not kept:
                self.fail("rule 17", f"commit {path!r} has succeeded, but the retry does not keep it")
            if path in body["kept"]:
                if path in self.standing:
                    self.kept[path] = None
                continue
            self.kept.pop(path, None)
            self.standing.pop(path, None)
            if done == s.COMPLETED:
                self.key[path] = self.key.get(path, 0) + 1

    def _resolved(self, path: str, body: dict[str, Any]) -> None:
        if "reset" in body:
            self._reset(body)
            self.wrote.pop(path, None)
            if body["h"] == s.COMPLETED:
                self._stand(path)
                self.kept[path] = None
            return
        if "undo" in body:
            self.standing.pop(path, None)
            if body["h"] == s.COMPLETED:
                self._undone(path)
            return
        if path in self.kept:
            self.fail("rule 17", f"{path!r} is resolved by hand, but a retry keeps its success")
        self.done[path] = body["h"]
        self.wrote.pop(path, None)
        if body["h"] == s.COMPLETED:
            self._stand(path)

    def _end(self, status: str) -> None:
        if status == s.COMPLETED:
            missing = [name for name in self.names if name not in self.done]
            if missing:
                self.fail("I12", f"completed without {missing}")
            return
        left = [path for path in self.standing if self.steps[path].undo is not None]
        if left:
            self.fail("I9", f"ended {status}, but {left} were not undone")
        if status == s.CANCELLED and self.state.cancel is None:
            self.fail("I5", "cancelled without a request")

    def now_known(self) -> Hashable:
        """All that the log says, as far as it matters to what follows."""
        state = self.state
        waits = tuple(wait.due for wait in state.waits.values())
        return self.log_hash, state.lease_until, state.expires, waits, tuple(state.retry_at.values())

    # --- handlers -----------------------------------------------------------------------------------------

    def begins(self, task: int, epoch: int, path: str, attempt: int, key: str, *, undo: bool, probe: bool) -> None:
        """A handler was called: by which invocation, as the owner in which epoch."""
        state = self.state
        superseded = epoch != state.epoch
        if superseded and not probe:
            late = self.late[task, epoch] = self.late.get((task, epoch), 0) + 1
            self._enter("late", task, epoch)
            if late > 1:
                self.fail("I11", f"a superseded invocation (epoch {epoch} of {state.epoch}) starts effect {late}")
        k = self.key.get(path, 0)
        tenant, workflow, id_ = self.ref
        if not superseded and key != idempotency_key(tenant, workflow, id_, path + "~undo" if undo else path, k):
            self.fail("key", f"attempt {attempt} of {path!r} has not the idempotency key of k={k}")
        if superseded or probe:
            return
        if undo:
            if path not in self.standing:
                self.fail("I9", f"{path!r} is being undone, but nothing of it stands")
        elif path in self.done:
            self.fail("I2", f"{path!r} starts, but it is {self.done[path]} already")
        if self.steps[path].kind == "commit" or undo:
            held = state.intents.get(path + "~undo" if undo else path)
            if held is None or held.attempt != attempt:
                self.fail("rule 9", f"attempt {attempt} of {path!r} starts without its intent")

    def expected_data(self, path: str) -> dict[str, object]:
        """What `ctx.data` holds when `path` starts: what the steps before it wrote, no more and no less."""
        before = self.names[: self.names.index(path)]
        return {name: self.wrote[name] for name in before if self.done.get(name) == s.COMPLETED and name in self.wrote}

    def effect(self, path: str, attempt: int, key: str, value: object, *, undo: bool) -> None:
        """An effect took place at the other side."""
        self.provider[key] = value
        self._enter("effect", path, attempt, key)
        if undo or self.steps[path].kind != "commit":
            return
        k = self.key.get(path, 0)
        generation = self.state.generation
        place = path, k, generation, attempt
        once = self.commits[place] = self.commits.get(place, 0) + 1
        if once > 1:
            self.fail("I3", f"attempt {attempt} of commit {path!r} took effect {once} times")
        total = self.effects[path, k, generation] = self.effects.get((path, k, generation), 0) + 1
        if total > 1 and self.steps[path].policy == "quarantine":
            self.fail("I3", f"commit {path!r}, which quarantines, took effect {total} times")

    def _enter(self, *what: object) -> None:
        self.books += digest_of(repr(what))

    # --- the index ----------------------------------------------------------------------------------------

    def indexed(self, header: Header | None, now: int) -> None:
        """I7: what has to be done by somebody is in the index, in time."""
        true = self.true_due(now)
        if true is None or (header is not None and header.due is not None and header.due <= max(true, now)):
            return
        held = None if header is None else header.due
        self.fail("I7", f"{self.state.status}, owned={self.state.owned}: due at {true}, but the index says {held}")

    def true_due(self, now: int) -> int | None:
        """When the instance needs a tick; None if only a signal or an operator can move it."""
        state = self.state
        if state.seq < 0 or state.terminal or state.status in {s.STUCK, s.PAUSED}:
            return None
        if state.owned:
            return max(takeover_at(state), state.lease_until + self.pause)
        if state.status == s.SUSPENDED or (state.undoing and state.retry_at):
            return timer(state)
        return now


def _timeless(record: Record) -> str:
    """A record's body without its times: of those only the latest matter, and the state has them."""
    body = {key: value for key, value in record.body.items() if key not in {"ms", "due"}}
    if "w" in body:
        body["w"] = body["w"][0], body["w"][1] is None, body["w"][2]
    return repr(body)
