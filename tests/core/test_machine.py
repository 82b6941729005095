"""The machine: `decide` changes nothing and repeats itself; `evolve` makes the same of a record and of its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flux_core.control
import flux_core.loop
from flux_core import MemoryStorage, create_workflow, wait
from flux_core import records as r
from flux_core.codec import decode_state, encode_record, encode_state
from flux_core.load import load
from flux_core.machine import VERBS, decide, evolve, fold
from flux_core.ports import InstanceRef
from flux_core.state import STATUSES, TERMINAL, WorkflowState
from tests.core.stories import STORIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core.actions import Decision
    from tests.core.conftest import Lab

BOUNDARIES = frozenset({r.CLAIM, r.SUSP, r.YIELD, r.END, r.STUCK, r.BLOCKED, r.RETRY, r.RESOLVE})


class Watch:
    """Stands before `decide` and keeps what went by."""

    def __init__(self) -> None:
        self.events: set[type] = set()
        self.actions: set[type] = set()

    def decide(self, workflow: Any, state: WorkflowState, event: Any, now: int) -> Decision:
        before = encode_state(state)
        decision = decide(workflow, state, event, now)
        assert encode_state(state) == before, f"{type(event).__name__} changed the state"
        again = decide(workflow, state, event, now)
        assert encode_state(state) == before, f"{type(event).__name__} changed the state"
        assert type(again.action) is type(decision.action)
        assert [encode_record(record) for record in again.records] == [encode_record(one) for one in decision.records]
        for record in decision.records:
            if record.type not in {r.CANCELREQ, r.PAUSE, r.UNPAUSE}:  # only where nobody owns the instance
                assert (record.header is not None) == (record.type in BOUNDARIES), record
        self.events.add(type(event))
        self.actions.add(type(decision.action))
        return decision


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(flux_core.loop, "decide", watch.decide)
    monkeypatch.setattr(flux_core.control, "decide", watch.decide)
    return watch


class TestDecide:
    @pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
    def test_changes_no_state_repeats_itself_and_moves_the_header_at_boundaries_only(
        self, story: Callable[[Lab], None], lab: Lab, watch: Watch
    ) -> None:
        story(lab)
        assert watch.events

    def test_is_asked_about_every_event_and_answers_with_every_action_in_these_stories(self, watch: Watch) -> None:
        from flux_core import actions, events
        from tests.core.conftest import Lab

        for story in STORIES.values():
            story(Lab())
        assert set(get_args(events.Event)) - watch.events == set()
        assert set(get_args(actions.Action)) - watch.actions == set()


class TestEvolve:
    @pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
    def test_changes_no_record(self, story: Callable[[Lab], None], lab: Lab) -> None:
        """A log that was folded once can be folded again, and up to any record."""
        story(lab)
        log = lab.records("o-1")
        before = [encode_record(record) for record in log]
        fold(lab.ref("o-1"), log)
        assert [encode_record(record) for record in log] == before

    @pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
    def test_over_a_log_is_the_state_that_the_engine_had_in_memory(
        self, story: Callable[[Lab], None], lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from flux_core.episode import Episode

        episodes: list[Episode] = []
        original = Episode.append

        def append(self: Episode, record: r.Record) -> bool:
            done = original(self, record)
            episodes.append(self)
            assert encode_state(load(lab.storage, self.ref).state) == encode_state(self.state)
            return done

        monkeypatch.setattr(Episode, "append", append)
        story(lab)
        assert episodes

    @pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
    def test_continues_from_a_snapshot_at_any_place_as_from_the_start(
        self, story: Callable[[Lab], None], lab: Lab
    ) -> None:
        story(lab)
        ref = lab.ref("o-1")
        whole = encode_state(fold(ref, lab.records("o-1")))
        for place in range(len(lab.records("o-1"))):
            log = lab.records("o-1")
            head = fold(ref, log[: place + 1])
            state = decode_state(encode_state(head), ref, place)
            assert encode_state(state) == encode_state(head)
            for record in log[place + 1 :]:
                evolve(state, record)
            assert encode_state(state) == whole

    @pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
    def test_owns_after_a_claim_only_and_never_after_a_releasing_record(
        self, story: Callable[[Lab], None], lab: Lab
    ) -> None:
        story(lab)
        state = WorkflowState(*lab.ref("o-1"))
        for record in lab.records("o-1"):
            owned = state.owned
            evolve(state, record)
            if record.type in {r.START, r.CLAIM}:
                assert state.owned
            elif record.type in r.RELEASING:
                assert (owned, state.owned) == (True, False) or record.type == r.BLOCKED
            elif record.type not in r.CONTROL and record.type != r.ADOPT:
                assert owned, f"{record} was written by nobody's owner"

    @pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
    def test_keeps_the_header_equal_to_the_state_whenever_nobody_owns_it(
        self, story: Callable[[Lab], None], lab: Lab
    ) -> None:
        story(lab)
        state = load(lab.storage, lab.ref("o-1")).state
        assert not state.owned
        assert lab.header("o-1").status == state.status
        assert state.status in STATUSES
        if state.status in TERMINAL:
            assert lab.header("o-1").due is None


def values() -> st.SearchStrategy[Any]:
    scalars: st.SearchStrategy[Any] = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    )
    others: tuple[st.SearchStrategy[Any], ...] = (st.decimals(allow_nan=False), st.datetimes(), st.dates(), st.uuids())
    scalars = st.one_of(scalars, *others)
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text(max_size=3) | st.sampled_from(["$d", "$t", "$$"]), inner, max_size=3)
            | st.dictionaries(st.integers(), inner, max_size=2)
        ),
        max_leaves=8,
    )


class TestAnyValue:
    @settings(max_examples=150)
    @given(input_=values(), outputs=st.lists(values(), min_size=3, max_size=3), payload=values(), kept=values())
    def test_makes_the_same_state_in_memory_as_read_from_the_log(
        self, input_: Any, outputs: list[Any], payload: Any, kept: Any
    ) -> None:
        from tests.core.conftest import Lab

        lab = Lab()
        lab.storage = MemoryStorage()

        def handler(ctx: Any) -> Any:
            ctx.data[f"k{ctx.current_step}"] = kept
            return outputs[ctx.current_step]

        w = create_workflow("order").step("a", handler).commit("b", handler).step("c", handler)
        w.step("gate", lambda ctx: wait("go", timeout=5, on_timeout=kept))
        ref = InstanceRef("default", "order", "o-1")
        results = [lab.engine().execute(w, input_, "o-1"), lab.engine().signal(w, "o-1", "go", payload)]
        results.append(lab.engine().retry_step(w, "o-1", "a", force=True))
        lab.clock.advance(5)
        results.append(lab.engine().wake(w, "o-1"))
        assert [result.status for result in results] == ["suspended", "completed", "suspended", "completed"]
        last = load(lab.storage, ref).state
        assert encode_state(results[-1].state) == encode_state(last)
        assert repr([step.output for step in results[-1].history]) == repr([last.steps[n].output for n in last.names])
        assert repr(results[-1].data) == repr(last.data)


class TestTheTableOfVerbs:
    def test_has_a_cell_for_every_verb_in_every_status(self) -> None:
        assert all(set(row) == set(STATUSES) for row in VERBS.values())
