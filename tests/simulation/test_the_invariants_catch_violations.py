"""A checker that never complains proves nothing: each invariant is broken once, by hand, and has to be named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_core import FluxEngine, InstanceRef, MemoryStorage, NonRetryable, create_workflow, wait
from flux_core.codec import decode_record, encode_record, encode_state
from flux_core.machine import fold
from flux_core.testing import Journal, SeededEntropy, VirtualClock, check_invariants, story
from flux_core.testing.journal import UNDONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.context import Context
    from flux_core.records import Record

REF = InstanceRef("default", "w", "1")


class Life:
    """An instance that waited, got its signal, failed and was undone; then what a test makes of it."""

    def __init__(self, *, ends: bool = True) -> None:
        self.store = MemoryStorage()
        self.journal = Journal(self.store)

        def act(ctx: Context) -> None:
            self.journal.note(ctx)

        def undo(ctx: Context) -> None:
            self.journal.note(ctx, UNDONE)

        def fail(ctx: Context) -> None:
            raise NonRetryable("no")

        self.workflow = (
            create_workflow("w")
            .step("a", act, compensate=undo)
            .step("ask", lambda ctx: wait("go"))
            .commit("charge", act, compensate=undo)
            .step("fail", fail)
            .build()
        )
        engine = FluxEngine(self.store, workflows=[self.workflow], clock=VirtualClock(), entropy=SeededEntropy())
        engine.execute(self.workflow, {}, "1")
        if ends:
            engine.signal(self.workflow, "1", "go", 1, "m1")
        self.log = [decode_record(raw, REF, seq) for seq, raw in enumerate(self.store.read(REF))]

    def check(self, *, at_rest: bool = True) -> None:
        self.store._logs[REF] = [encode_record(record) for record in self.log]
        check_invariants(self.store, REF, self.journal, workflow=self.workflow, at_rest=at_rest)

    def find(self, type_: str, number: int = 0) -> int:
        return [seq for seq, record in enumerate(self.log) if record.type == type_][number]

    def header(self, **changes: object) -> None:
        self.store._headers[REF] = self.store._headers[REF]._replace(**changes)  # type: ignore[arg-type]

    def copy(self, seq: int) -> Record:
        return decode_record(encode_record(self.log[seq]), REF, seq)


def test_the_instance_as_it_is_breaks_none() -> None:
    life = Life()
    life.check()
    assert [record.type for record in life.log] == [
        "start", "step", "step", "susp", "claim", "recv", "intent", "step", "step",
        "intent", "comp", "intent", "comp", "end",
    ]  # fmt: skip
    Life(ends=False).check()


def _second_start(life: Life) -> None:
    life.log.insert(1, life.copy(0))


def _claim_after_the_end(life: Life) -> None:
    claim = life.copy(life.find("claim"))
    claim.epoch = 3
    life.log.append(claim)


def _same_epoch(life: Life) -> None:
    life.log[life.find("claim")].epoch = 1


def _old_epoch(life: Life) -> None:
    life.log[life.find("recv")].epoch = 1


def _unowned(life: Life) -> None:
    life.log.insert(life.find("claim"), life.copy(1))


def _twice(life: Life) -> None:
    life.log.insert(life.find("step", 0) + 1, life.copy(life.find("step", 0)))


def _out_of_order(life: Life) -> None:
    life.log[1], life.log[2] = life.log[2], life.log[1]


def _ends_early(life: Life) -> None:
    end = life.copy(life.find("end"))
    end.body["s"] = "completed"
    life.log = [*life.log[: life.find("recv")], end]


def _no_mail(life: Life) -> None:
    life.store._mail[REF].clear()


def _no_wait(life: Life) -> None:
    life.log[life.find("recv")].body["p"] = "charge"
    life.log[life.find("step", 1)].body.pop("w")


def _not_undone(life: Life) -> None:
    del life.log[life.find("intent", 2) : life.find("end")]


def _undone_in_order(life: Life) -> None:
    del life.journal[2:]
    log, first, second = life.log, life.find("intent", 1), life.find("intent", 2)
    log[first : first + 2], log[second : second + 2] = log[second : second + 2], log[first : first + 2]


def _undone_unasked(life: Life) -> None:
    life.log.insert(life.find("end"), life.copy(life.find("comp")))


def _left_open(life: Life) -> None:
    del life.log[life.find("comp", 1)]


def _intent_twice(life: Life) -> None:
    life.log.insert(life.find("intent"), life.copy(life.find("intent")))


def _effect_twice(life: Life) -> None:
    life.journal.insert(2, life.journal[1])


def _effect_without_intent(life: Life) -> None:
    life.journal[1] = life.journal[1]._replace(attempt=2)


def _effect_after_success(life: Life) -> None:
    life.journal.insert(1, life.journal[0]._replace(tail=2))


def _other_key(life: Life) -> None:
    life.journal[0] = life.journal[0]._replace(key="0" * 32)


def _zombie(life: Life) -> None:
    life.journal += [life.journal[0]._replace(tail=5)] * 2


def _other_header(life: Life) -> None:
    life.header(status="failed")


def _newer_header(life: Life) -> None:
    life.header(seq=99)


def _other_snapshot(life: Life) -> None:
    state = fold(REF, life.log)
    state.data["x"] = 1
    life.store._snapshots[REF] = (state.seq, encode_state(state))


BROKEN: dict[str, list[Callable[[Life], None]]] = {
    "I1": [_second_start],
    "I3": [_intent_twice, _effect_twice, _effect_without_intent],
    "I2": [_effect_after_success],
    "I4": [_no_mail],
    "I5": [_claim_after_the_end],
    "I6": [_same_epoch, _old_epoch, _unowned],
    "I7": [_newer_header],
    "I9": [_not_undone, _undone_in_order, _undone_unasked],
    "I10": [_no_wait],
    "I11": [_zombie],
    "I12": [_twice, _out_of_order, _ends_early],
    "I13": [_other_snapshot],
    "rule 2": [_other_header],
    "rule 9": [_left_open],
    "idempotency key": [_other_key],
}


@pytest.mark.parametrize(
    ("name", "breaks"), [(name, breaks) for name, ways in BROKEN.items() for breaks in ways]
)  # fmt: skip
def test_what_breaks_an_invariant_is_named_with_the_story(name: str, breaks: Callable[[Life], None]) -> None:
    life = Life()
    breaks(life)
    with pytest.raises(AssertionError) as caught:
        life.check()
    first, *rest = str(caught.value).splitlines()
    assert first.startswith(f"{name}: "), first
    assert any(line.startswith("w/1 (tenant default)") for line in rest)


def test_a_log_that_is_not_there_or_has_changed_is_named() -> None:
    with pytest.raises(AssertionError, match="I8: there is no start record"):
        check_invariants(MemoryStorage(), REF)
    life = Life()
    seen = life.store.read(REF)
    check_invariants(life.store, REF, before=seen[:4])
    with pytest.raises(AssertionError, match="I1: the log of 14 records does not continue"):
        check_invariants(life.store, REF, before=[*seen[:3], b"other"])


@pytest.mark.parametrize("due", [None, 1_700_000_125_001])
def test_an_owned_instance_without_a_due_entry_in_time_is_named(due: int | None) -> None:
    life = Life(ends=False)
    life.log = life.log[:2]
    life.header(status="running", seq=0, due=due)
    with pytest.raises(AssertionError, match="I7: the instance needs a tick at"):
        life.check(at_rest=False)
    life.header(due=1_700_000_125_000)
    life.check(at_rest=False)


def test_what_is_left_when_nothing_runs_is_named() -> None:
    owned = Life(ends=False)
    owned.log = owned.log[:2]
    owned.header(status="running", seq=0, due=1_700_000_125_000)
    with pytest.raises(AssertionError, match="L4: no invocation runs"):
        owned.check()
    unanswered = Life(ends=False)
    full = Life()
    unanswered.store._mail[REF] = full.store._mail[REF]
    with pytest.raises(AssertionError, match=r"L1: mail for \['go'\] waits"):
        unanswered.check()


def test_a_story_tells_records_effects_mail_and_header_in_order() -> None:
    life = Life()
    told = story(life.store, REF, life.journal).splitlines()
    assert told[0] == "w/1 (tenant default)"
    kinds = [line.split()[4] if line.split()[0].isdigit() else line.split()[0] for line in told[1:]]
    assert kinds == [
        "start", "**", "step", "step", "susp", "claim", "recv", "intent", "**", "step", "step",
        "intent", "**", "comp", "intent", "**", "comp", "end", "mail", "header",
    ]  # fmt: skip
