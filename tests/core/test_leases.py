"""Who may run an instance, and until when (PROTOCOL rules 1, 10 and 14).

With real time nothing here asserts how long something took: handlers wait for what they want to see in the store,
and bounds only keep a broken build from hanging. Everything about pauses runs on a virtual clock.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    FluxEngine,
    InstanceRef,
    MemoryStorage,
    RetryPolicy,
    WorkflowBuilder,
    create_workflow,
    sleep,
    wait,
)
from flux_core.codec import decode_record
from flux_core.testing import InvocationDied, RecordingStorage, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from flux_core import Header, WorkflowStorage
    from flux_core.context import Context
    from flux_core.records import Record

REF = InstanceRef("default", "w", "1")
HANGS = 60.0
"""Seconds after which a test gives up."""
LEASE = 1.2
"""Seconds: short, yet long enough for a busy machine to renew it in time."""


def log_of(store: WorkflowStorage) -> list[Record]:
    return [decode_record(raw, REF, seq) for seq, raw in enumerate(store.read(REF))]


def types_of(store: WorkflowStorage) -> list[str]:
    return [record.type for record in log_of(store)]


def until(condition: Callable[[], bool]) -> None:
    for _ in _ticks():
        if condition():
            return
    pytest.fail("it did not happen in time")


def _ticks() -> Iterator[None]:
    end = time.monotonic() + HANGS
    while time.monotonic() < end:
        yield
        time.sleep(0.02)


class TestTheWatchdog:
    """A daemon thread that renews while one step outlasts half of the lease."""

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_keeps_the_instance_while_a_long_step_runs(self, kind: str) -> None:
        store = MemoryStorage()

        def outlived() -> bool:
            """More than a whole lease has passed since the instance started."""
            log = log_of(store)
            return time.time() * 1000 > log[0].at + log[0].body["l"] and "renew" in types_of(store)

        def plain(ctx: Context) -> str:
            until(outlived)
            return "done"

        async def awaited(ctx: Context) -> str:
            while not outlived():  # noqa: ASYNC110 -- what it waits for is in the store
                await asyncio.sleep(0.02)
            return "done"

        handler: Callable[[Context], str | Coroutine[Any, Any, str]] = plain if kind == "sync" else awaited
        workflow = create_workflow("w").step("long", handler, timeout=HANGS).step("short", lambda ctx: 1)
        running = threading.Event()
        rivals: list[str] = []

        def rival() -> None:
            """Another invocation, which tries to take the instance all the time."""
            engine = FluxEngine(store, workflows=[workflow], lease=LEASE)
            while running.is_set():
                engine.recover()
                rivals.append(engine.wake(workflow, "1").status)
                time.sleep(0.02)

        owner = FluxEngine(store, workflows=[workflow], lease=LEASE)
        other = threading.Thread(target=_after(lambda: bool(store.read(REF)), rival))
        running.set()
        other.start()
        result = owner.execute(workflow, {}, "1")
        running.clear()
        other.join()
        assert result.status == "completed"
        log = log_of(store)
        assert {record.epoch for record in log} == {1}, "somebody else has claimed the instance"
        assert {record.by for record in log} == {log[0].by}
        assert [record.type for record in log if record.type != "renew"] == ["start", "step", "step", "end"]
        assert rivals

    def test_writes_nothing_for_steps_that_are_short(self) -> None:
        store = MemoryStorage()
        workflow = create_workflow("w")
        for number in range(20):
            workflow.step(f"s{number}", lambda ctx: time.sleep(0.001), timeout=HANGS)
        FluxEngine(store, lease=600).execute(workflow, {}, "1")
        assert types_of(store) == ["start", *["step"] * 20, "end"]

    def test_stops_when_its_invocation_is_gone(self) -> None:
        """The lease of a dead invocation ends, and another one takes the instance over."""
        store = MemoryStorage()

        def dies(ctx: Context) -> str:
            if len(calls) == 0:
                calls.append(1)
                until(lambda: "renew" in types_of(store))
                raise InvocationDied
            return "done"

        calls: list[int] = []
        workflow = create_workflow("w").step("a", dies, timeout=HANGS)
        with pytest.raises(InvocationDied):
            FluxEngine(store, lease=0.4).execute(workflow, {}, "1")
        left = len(store.read(REF))
        heir = FluxEngine(store, workflows=[workflow], lease=0.4)
        until(lambda: bool(heir.recover()) and heir.get(workflow, "1").status == "completed")
        assert types_of(store)[left:] == ["claim", "step", "end"]

    def test_absorbs_a_cancel_that_came_while_the_step_runs(self) -> None:
        store = MemoryStorage()
        undone: list[str] = []

        def long(ctx: Context) -> str:
            FluxEngine(store, workflows=[workflow], lease=LEASE).cancel(workflow, "1", "enough")
            until(lambda: "renew" in types_of(store))
            return "done"

        workflow = (
            create_workflow("w")
            .step("long", long, timeout=HANGS, compensate=lambda ctx: undone.append("long"))
            .commit("never", lambda ctx: undone.append("never ran"))
        )
        result = FluxEngine(store, workflows=[workflow], lease=LEASE).execute(workflow, {}, "1")
        assert (result.status, undone) == ("cancelled", ["long"])
        seen = [kind for kind in types_of(store) if kind != "renew"]
        assert seen == ["start", "cancelreq", "step", "intent", "comp", "end"]

    def test_is_one_thread_an_engine_however_many_instances_run(self) -> None:
        store = MemoryStorage()
        together = threading.Barrier(4)
        workflow = create_workflow("w").step("a", lambda ctx: together.wait(HANGS) and None, timeout=HANGS)
        engine = FluxEngine(store, workflows=[workflow], lease=LEASE)
        before = {thread.ident for thread in threading.enumerate() if thread.name == "flux-lease"}
        batch = engine.execute_batch(workflow, [{}] * 4, concurrency=4)
        after = {thread.ident for thread in threading.enumerate() if thread.name == "flux-lease"}
        assert batch.succeeded == 4
        assert len(after - before) == 1

    def test_keeps_the_instance_while_a_long_back_off_is_slept(self) -> None:
        store = MemoryStorage()

        def once(ctx: Context) -> None:
            if ctx.attempt == 1:
                raise OSError

        workflow = create_workflow("w", retry=RetryPolicy(2 * LEASE, jitter=False)).step("a", once)
        engine = FluxEngine(store, lease=LEASE, inline_backoff=60)
        assert engine.execute(workflow, {}, "1").status == "completed"
        log = log_of(store)
        assert {record.type for record in log[1:-2]} == {"renew"}
        assert all(after.at - before.at < log[0].body["l"] for before, after in pairwise(log))

    def test_outlives_whatever_a_store_raises(self) -> None:
        """The owner waits for the thread: had it ended, the step would never return."""
        tried = threading.Event()

        class Refusing(MemoryStorage):
            def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
                if b'"t":"renew"' in record:
                    tried.set()
                    raise OSError
                return super().append(ref, seq, record, header)

        workflow = create_workflow("w").step("a", lambda ctx: tried.wait(HANGS))
        engine = FluxEngine(Refusing(), lease=1, default_timeout=None)
        runs = [threading.Thread(target=engine.execute, args=(workflow, {}), daemon=True) for _ in range(2)]
        for run in runs:
            run.start()
            run.join(HANGS)
            tried.clear()
        assert [run.is_alive() for run in runs] == [False, False]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_is_there_in_a_forked_child_too(self) -> None:
        """Servers fork after the engine has run: the child's steps are renewed by a thread of its own."""
        workflow = create_workflow("w").step("a", lambda ctx: until(lambda: "renew" in types_of(engine.storage)))
        engine = FluxEngine(lease=0.4, default_timeout=None)
        engine.execute(workflow, {}, "1")
        engine.storage.purge(REF, len(engine.storage.read(REF)) - 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: this process has threads
            child = os.fork()
        if child == 0:
            threading.Timer(5, os._exit, [1]).start()
            os._exit(0 if engine.execute(workflow, {}, "1").status == "completed" else 1)
        assert os.waitpid(child, 0)[1] == 0


def _after(condition: Callable[[], bool], act: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        until(condition)
        act()

    return run


class TestTakingOver:
    def test_is_refused_until_the_lease_has_ended_and_allowed_from_then_on(self) -> None:
        store, clock = MemoryStorage(), VirtualClock()
        workflow, deaths = _dies_first(1)
        with pytest.raises(InvocationDied):
            FluxEngine(store, workflows=[workflow], clock=clock, lease=100).execute(workflow, {}, "1")
        lease_ms = log_of(store)[0].body["l"]
        heir = FluxEngine(store, workflows=[workflow], clock=clock, lease=100)
        clock.advance((lease_ms - 1) / 1000)
        assert heir.wake(workflow, "1").status == "running"
        assert heir.recover() == []
        assert types_of(store) == ["start"]
        clock.advance(0.001)
        assert heir.recover()[0].status == "completed"
        assert types_of(store) == ["start", "claim", "step", "end"]
        assert len(deaths) == 1

    def test_every_record_of_the_owner_extends_his_lease(self) -> None:
        store, clock = MemoryStorage(), VirtualClock()

        def work(ctx: Context) -> None:
            clock.advance(90)

        def dies(ctx: Context) -> None:
            if not died:
                died.append(1)
                raise InvocationDied

        died: list[int] = []
        workflow = create_workflow("w").step("a", work).step("b", work).step("dies", dies)
        with pytest.raises(InvocationDied):
            FluxEngine(store, workflows=[workflow], clock=clock, lease=100).execute(workflow, {}, "1")
        heir = FluxEngine(store, workflows=[workflow], clock=clock, lease=100)
        last = log_of(store)[-1].at
        clock.advance(100)
        heir.recover()  # the index entry is of the start, long past: it is moved, nothing is claimed
        assert "claim" not in types_of(store)
        header = store.header(REF)
        assert header is not None
        assert header.due is not None
        assert header.due <= last + log_of(store)[0].body["l"]
        clock.advance(10)
        assert heir.recover()[0].status == "completed"

    def test_never_outlasts_the_deadline_that_the_platform_sets(self) -> None:
        """A platform that ends the invocation after 30 s leaves an instance that can be had after 35 s."""
        store, clock = MemoryStorage(), VirtualClock()
        workflow, _ = _dies_first(1)
        with pytest.raises(InvocationDied):
            FluxEngine(store, workflows=[workflow], clock=clock).execute(workflow, {}, "1", deadline=30)
        heir = FluxEngine(store, workflows=[workflow], clock=clock)
        clock.advance(34.9)
        assert heir.recover() == []
        clock.advance(0.1)
        assert heir.recover()[0].status == "completed"

    def test_a_zombie_that_wakes_afterwards_changes_nothing(self) -> None:
        clock = VirtualClock()
        inner = MemoryStorage()
        effects: list[int] = []

        def slow(ctx: Context) -> str:
            effects.append(len(effects))
            if len(effects) > 1:
                return "of the heir"
            clock.advance(1000)
            (result,) = FluxEngine(inner, workflows=[workflow], clock=clock).recover()
            assert result.status == "completed"
            log_then.extend(inner.read(REF))
            zombie_calls.clear()
            ctx.data.changed = True
            return "of the zombie"

        log_then: list[bytes] = []
        workflow = create_workflow("w").step("slow", slow).step("after", lambda ctx: ctx.results["slow"])
        store = RecordingStorage(inner)
        zombie_calls = store.calls
        result = FluxEngine(store, workflows=[workflow], clock=clock).execute(workflow, {}, "1")
        assert (result.status, result.data, result.history[1].output) == ("completed", {}, "of the heir")
        assert inner.read(REF) == log_then
        tries = [call for call in zombie_calls if call.writes]
        assert [str(call) for call in tries] == ["append(1)"], "a zombie tries one append, which is refused"
        assert len(effects) == 2

    def test_a_zombie_in_a_commit_causes_no_second_effect(self) -> None:
        clock = VirtualClock()
        inner = MemoryStorage()
        effects: list[str] = []

        def charge(ctx: Context) -> str:
            clock.advance(1000)
            (result,) = FluxEngine(inner, workflows=[workflow], clock=clock).recover()
            assert result.status == "stuck"
            effects.append(ctx.idempotency_key)
            return "paid"

        workflow = create_workflow("w").commit("charge", charge).commit("next", lambda ctx: effects.append("next"))
        result = FluxEngine(inner, workflows=[workflow], clock=clock).execute(workflow, {}, "1")
        assert result.status == "stuck"
        assert types_of(inner) == ["start", "intent", "claim", "stuck"]
        assert len(effects) == 1

    def test_a_zombie_whose_instance_waits_meanwhile_learns_that_it_waits(self) -> None:
        clock = VirtualClock()
        inner = MemoryStorage()

        def slow(ctx: Context) -> None:
            if not seen:
                seen.append(1)
                clock.advance(1000)
                FluxEngine(inner, workflows=[workflow], clock=clock).recover()

        seen: list[int] = []
        workflow = create_workflow("w").step("slow", slow).step("ask", lambda ctx: wait("go"))
        result = FluxEngine(inner, workflows=[workflow], clock=clock).execute(workflow, {}, "1")
        assert result.status == "suspended"
        assert types_of(inner) == ["start", "claim", "step", "step", "susp"]


def _dies_first(times: int) -> tuple[WorkflowBuilder, list[int]]:
    """A workflow whose second step kills its invocation the first `times` times."""
    deaths: list[int] = []

    def dies(ctx: Context) -> str:
        if len(deaths) < times:
            deaths.append(1)
            raise InvocationDied
        return "survived"

    return create_workflow("w").step("dies", dies), deaths


class TestPoison:
    """Five deaths without progress make an instance stuck, with growing pauses between (rule 10)."""

    def test_five_deaths_without_progress_are_the_end_of_trying(self) -> None:
        store, clock = MemoryStorage(), VirtualClock()
        workflow, deaths = _dies_first(100)
        engine = FluxEngine(store, workflows=[workflow], clock=clock, lease=100)
        _until_stuck(engine, workflow, clock)
        assert len(deaths) == 5
        assert types_of(store) == ["start", *["claim"] * 5, "stuck"]
        result = engine.get(workflow, "1")
        assert result.state.stuck is not None
        assert result.state.stuck[:2] == ["poison", "dies"]
        assert "5 invocations died" in str(result.error)
        header = store.header(REF)
        assert header is not None
        assert (header.status, header.due) == ("stuck", None)

    def test_the_pauses_between_them_grow(self) -> None:
        store, clock = MemoryStorage(), VirtualClock()
        workflow, _ = _dies_first(100)
        engine = FluxEngine(store, workflows=[workflow], clock=clock, lease=100)
        _until_stuck(engine, workflow, clock)
        log = log_of(store)
        lease = log[0].body["l"]
        claims = [record.at for record in log if record.type in {"start", "claim"}]
        pauses = [after - before - lease for before, after in pairwise(claims)]
        assert pauses == [0, 1000, 2000, 4000, 8000]

    def test_an_operator_brings_it_back_and_the_count_starts_over(self) -> None:
        store, clock = MemoryStorage(), VirtualClock()
        workflow, deaths = _dies_first(5)
        engine = FluxEngine(store, workflows=[workflow], clock=clock, lease=100)
        _until_stuck(engine, workflow, clock)
        result = engine.retry_step(workflow, "1", "dies")
        assert (result.status, result.history[0].output) == ("completed", "survived")
        assert len(deaths) == 5

    @pytest.mark.parametrize("verb", ["complete_step", "skip_step", "cancel"])
    def test_or_goes_round_the_step(self, verb: str) -> None:
        store, clock = MemoryStorage(), VirtualClock()
        workflow, _ = _dies_first(100)
        engine = FluxEngine(store, workflows=[workflow], clock=clock, lease=100)
        _until_stuck(engine, workflow, clock)
        arguments = () if verb == "cancel" else ("dies",)
        result = getattr(engine, verb)(workflow, "1", *arguments)
        assert result.status == ("cancelled" if verb == "cancel" else "completed")

    def test_progress_between_deaths_starts_the_count_over(self) -> None:
        store, clock = MemoryStorage(), VirtualClock()
        seen: set[str] = set()

        def dies_twice(ctx: Context) -> None:
            for time_ in ("first", "second"):
                if f"{ctx.step} {time_}" not in seen:
                    seen.add(f"{ctx.step} {time_}")
                    raise InvocationDied

        workflow = create_workflow("w")
        for number in range(6):
            workflow.step(f"s{number}", dies_twice)
        engine = FluxEngine(store, workflows=[workflow], clock=clock, lease=100)
        with pytest.raises(InvocationDied):
            engine.execute(workflow, {}, "1")
        for _ in range(40):
            clock.advance(1000)
            _die_or(engine.recover)
        assert engine.get(workflow, "1").status == "completed"

    def test_suspending_and_handing_over_are_no_deaths(self) -> None:
        store, clock = MemoryStorage(), VirtualClock()

        def work(ctx: Context) -> None:
            clock.advance(14)

        workflow = create_workflow("w")
        for number in range(8):
            workflow.step(f"work{number}", work).step(f"nap{number}", lambda ctx: sleep(60))
        engine = FluxEngine(store, workflows=[workflow], clock=clock)
        engine.execute(workflow, {}, "1", deadline=15)
        for _ in range(40):
            clock.advance(60)
            engine.recover(deadline=15)
        result = engine.get(workflow, "1")
        assert (result.status, result.state.deaths) == ("completed", 0)
        assert {"yield", "susp"} <= set(types_of(store))

    def test_a_plain_step_that_no_invocation_is_long_enough_for_is_one(self) -> None:
        """Cut by the deadline five times: not an attempt that failed, and not for ever (rule 10)."""
        store = MemoryStorage()
        cuts: list[int] = []

        def endless(ctx: Context) -> None:
            cuts.append(ctx.attempt)
            time.sleep(HANGS)

        workflow = create_workflow("w").step("endless", endless)
        engine = FluxEngine(store, workflows=[workflow], lease=LEASE)
        engine.execute(workflow, {}, "1", deadline=0.2)
        for _ in _ticks():
            if engine.wake(workflow, "1", deadline=0.2).status == "stuck":
                break
        result = engine.get(workflow, "1")
        assert result.status == "stuck"
        assert result.state.stuck is not None
        assert result.state.stuck[0] == "poison"
        assert cuts == [1] * 5


def _die_or(act: Callable[[], object]) -> None:
    try:
        act()
    except InvocationDied:
        return


def _until_stuck(engine: FluxEngine, workflow: WorkflowBuilder, clock: VirtualClock) -> None:
    """Let it die as often as it likes; sweep exactly when it is due."""
    with pytest.raises(InvocationDied):
        engine.execute(workflow, {}, "1")
    for _ in range(20):
        header = engine.storage.header(REF)
        assert header is not None
        if header.due is None:
            break
        clock.advance(max(0, header.due - clock.now()) / 1000)
        _die_or(engine.recover)
    assert engine.get(workflow, "1").status == "stuck"
