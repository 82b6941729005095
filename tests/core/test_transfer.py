"""An instance leaves its store as JSON and comes into another one byte by byte, or not at all."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    CallerError,
    Conflict,
    CorruptRecord,
    FluxEngine,
    ImportUnfinished,
    InstanceRef,
    MemoryStorage,
    StorageUnavailable,
    UnknownInstance,
    create_workflow,
    sleep,
    wait,
)
from flux_core.codec import encode_state
from flux_core.load import BEFORE_ALL, import_mark, load
from flux_core.ports import Mail
from flux_core.testing import (
    CRASH_AFTER,
    CRASH_BEFORE,
    LOST_RESPONSE,
    UNAVAILABLE,
    FaultPlan,
    FaultyStorage,
    InvocationDied,
    RecordingStorage,
    check_invariants,
)
from flux_core.transfer import (
    COMPLETED,
    IMPORTED,
    NEWER,
    SAME,
    compare,
    export_instance,
    import_instance,
    read_exported,
)
from flux_local import SQLiteStorage
from tests.core.stories import STORIES
from tests.core.test_verbs import STATUSES, World, verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from flux_core import WorkflowStorage
    from tests.core.conftest import Lab

REF = InstanceRef("default", "order", "o-1")
FAR = 10**15


@pytest.fixture
def world(lab: Lab) -> World:
    return World(lab)


@pytest.fixture(params=["memory", "sqlite"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkflowStorage]:
    """An empty store to import into."""
    store = MemoryStorage() if request.param == "memory" else SQLiteStorage(tmp_path / "t.db", synchronous="OFF")
    yield store
    store.close()


def exported(store: WorkflowStorage, ref: InstanceRef = REF) -> Any:
    """As it comes out of a file."""
    return json.loads(json.dumps(export_instance(store, ref)))


def moved(source: WorkflowStorage, target: WorkflowStorage, ref: InstanceRef = REF) -> str:
    return import_instance(target, read_exported(exported(source, ref)))


def whole(store: WorkflowStorage, ref: InstanceRef = REF) -> dict[str, object]:
    """Everything but the snapshot, and what the engine makes of it."""
    return {
        "log": store.read(ref),
        "mail": store.mail(ref),
        "header": store.header(ref),
        "state": encode_state(load(store, ref).state),
    }


def told(store: WorkflowStorage, ref: InstanceRef = REF) -> list[tuple[Any, ...]]:
    """The log without the nonces, which are random."""
    return [(record["t"], {**record, "n": None}) for record in map(json.loads, store.read(ref))]


def goes_on(world: World, status: str) -> None:
    """What would bring the instance out of `status`."""
    match status:
        case "suspended":
            world.engine.signal(world.workflow, "o-1", "go", "now", dedupe_id="d")
        case "paused":
            world.engine.unpause(world.workflow, "o-1")
            goes_on(world, "suspended")
        case "failed" | "rolled_back" | "stuck":
            verb("retry_step", world)
        case "completed" | "cancelled":
            verb("retry_step", world, force=True)
        case "blocked":
            assert world.started_with is not None
            world.lab.clock.advance(3600)
            world.engine.wake(world.started_with, "o-1")
        case _:
            world.lab.clock.advance(3600)
            world.engine.recover()


class TestARoundTrip:
    @pytest.mark.parametrize("status", STATUSES)
    def test_brings_the_instance_over_byte_by_byte_in_every_status(
        self, status: str, world: World, target: WorkflowStorage
    ) -> None:
        world.reach(status)
        assert moved(world.lab.storage, target) == IMPORTED
        assert whole(target) == whole(world.lab.storage)
        assert target.due(FAR, 9) == world.lab.storage.due(FAR, 9)
        listed = target.list("default").items
        assert [(entry.ref, entry.header.status) for entry in listed] == [(REF, status)]
        check_invariants(target, REF)

    @pytest.mark.parametrize("status", STATUSES)
    def test_and_it_goes_on_there_as_it_would_have_gone_on_here(
        self, status: str, world: World, target: WorkflowStorage
    ) -> None:
        world.reach(status)
        moved(world.lab.storage, target)
        start = world.lab.clock.monotonic()
        goes_on(world, status)
        ran, world.ran = world.ran, []
        here, status_here = told(world.lab.storage), world.status()
        world.lab.clock._passed = start  # the other store's instance meets the same hour
        world.engine = world.lab.engine(storage=target, default_retries=0, workflows=[world.workflow])
        goes_on(world, status)
        assert (told(target), world.status(), world.ran) == (here, status_here, ran)
        check_invariants(target, REF)

    @pytest.mark.parametrize("story", STORIES.values(), ids=list(STORIES))
    def test_brings_every_kind_of_record(self, story: Callable[[Lab], None], lab: Lab, target: WorkflowStorage) -> None:
        story(lab)
        assert moved(lab.storage, target) == IMPORTED
        assert whole(target) == whole(lab.storage)

    def test_of_a_dead_invocation_s_instance_is_taken_over_there(self, lab: Lab, killed: Any) -> None:
        target = MemoryStorage()
        flow = create_workflow("order").step("a", lab.note("a")).step("b", lab.die)
        with pytest.raises(killed):
            lab.engine().execute(flow, id="o-1")
        moved(lab.storage, target)
        mended = create_workflow("order").step("a", lab.note("a")).step("b", lab.note("b"))
        engine = lab.engine(storage=target, workflows=[mended])
        assert engine.recover() == []  # as long as the dead one's lease
        lab.past_the_lease()
        assert [result.status for result in engine.recover()] == ["completed"]
        assert lab.calls == ["a", "b"]

    def test_keeps_a_timer_s_hour(self, lab: Lab, target: WorkflowStorage) -> None:
        flow = create_workflow("order").step("nap", lambda ctx: sleep(60)).step("b", lab.note("b"))
        lab.engine().execute(flow, id="o-1")
        moved(lab.storage, target)
        engine = lab.engine(storage=target, workflows=[flow])
        lab.clock.advance(59)
        assert engine.recover() == []
        lab.clock.advance(1)
        assert [result.status for result in engine.recover()] == ["completed"]

    def test_keeps_mail_that_was_not_asked_for_yet(self, lab: Lab, target: WorkflowStorage) -> None:
        flow = create_workflow("order").step("a", lambda ctx: wait("one")).step("b", lambda ctx: wait("two"))
        lab.engine().execute(flow, id="o-1")
        lab.engine().signal(flow, "o-1", "two", {"n": 2}, dedupe_id="d")
        moved(lab.storage, target)
        result = lab.engine(storage=target).signal(flow, "o-1", "one")
        assert (result.status, result.history[1].output) == ("completed", {"n": 2})
        again = lab.engine(storage=target).signal(flow, "o-1", "two", {"n": 2}, dedupe_id="d")
        assert again.status == "completed"  # it is known to be the same one

    def test_wakes_for_mail_that_came_while_the_signaller_died(self, lab: Lab, target: WorkflowStorage) -> None:
        flow = create_workflow("order").step("a", lambda ctx: wait("go"))
        lab.engine().execute(flow, id="o-1")
        lab.storage.put_mail(REF, Mail("go", "m", lab.clock.now(), b'{"v":1,"o":7}'))
        moved(lab.storage, target)
        assert [result.status for result in lab.engine(storage=target, workflows=[flow]).recover()] == ["completed"]

    def test_brings_big_data(self, lab: Lab, target: WorkflowStorage) -> None:
        flow = create_workflow("order")
        for number in range(30):
            flow.step(f"s{number}", lab.note("s", "ä€😀" * 10_000))
        flow.step("ask", lambda ctx: wait("go"))
        lab.engine().execute(flow, {"big": ["x" * 1000] * 200}, "o-1")
        assert lab.storage.snapshot(REF) is not None
        moved(lab.storage, target)
        assert whole(target) == whole(lab.storage)
        assert lab.engine(storage=target).signal(flow, "o-1", "go").status == "completed"

    @pytest.mark.parametrize("text", ["\ud800", "\ud83d" + "\ude00", "\x00\x1f\u2028\u2029\x85", "😀"], ids=ascii)
    def test_brings_every_text(self, text: str, lab: Lab, target: WorkflowStorage) -> None:
        """Lone surrogates, and a pair of them that JSON would join to one character."""
        flow = create_workflow("order").step("a", lab.note("a", text)).step("ask", lambda ctx: wait("go"))
        lab.engine().execute(flow, {text: text}, "o-1")
        lab.engine().signal(flow, "o-1", "later", text)
        moved(lab.storage, target)
        assert whole(target) == whole(lab.storage)
        json.dumps(exported(target), ensure_ascii=False).encode()  # a file of it is UTF-8

    def test_of_an_import_gives_the_same_export(self, world: World, target: WorkflowStorage) -> None:
        world.reach("rolling_back")
        moved(world.lab.storage, target)
        assert exported(target) == exported(world.lab.storage)

    def test_does_not_depend_on_the_layout_of_the_json(self, world: World, target: WorkflowStorage) -> None:
        world.reach("suspended")
        tree = json.loads(json.dumps(exported(world.lab.storage), indent=4, sort_keys=True))
        assert import_instance(target, read_exported(tree)) == IMPORTED


class TestAnExport:
    def test_of_what_is_not_there_says_so(self, lab: Lab) -> None:
        with pytest.raises(UnknownInstance, match="'order' has no instance 'o-1' in tenant 'default'"):
            export_instance(lab.storage, REF)

    def test_of_what_cannot_be_read_names_the_record(self, world: World) -> None:
        world.reach("suspended")
        world.lab.storage._logs[REF][1] = b"\xff\xfe"
        with pytest.raises(CorruptRecord, match="record 1 of default/order/o-1 cannot be read"):
            export_instance(world.lab.storage, REF)

    def test_of_a_running_instance_is_as_of_one_moment(self, lab: Lab, target: WorkflowStorage) -> None:
        """Its header is that of its log, however the instance goes on between the reads."""
        flow = create_workflow("order").step("a", lambda ctx: sleep(60)).step("b", lambda ctx: wait("go"))
        lab.engine().execute(flow, id="o-1")

        class GoesOn(RecordingStorage):
            def header(self, ref: InstanceRef) -> Any:
                if not self.calls or self.calls[-1].method != "header":
                    lab.clock.advance(60)
                    lab.engine(workflows=[flow]).recover()
                return super().header(ref)

        found = read_exported(export_instance(GoesOn(lab.storage), REF))
        assert found.state.waits["b"].signals == ("go",)
        assert (found.header.status, found.header.seq) == ("suspended", len(found.log) - 1)


class TestAnImport:
    def test_over_the_same_instance_changes_nothing_and_says_so(self, world: World, target: WorkflowStorage) -> None:
        world.reach("rolling_back")
        moved(world.lab.storage, target)
        recording = RecordingStorage(target)
        assert moved(world.lab.storage, recording) == SAME
        assert [call for call in recording.calls if call.writes] == []

    def test_over_one_that_has_gone_on_since_changes_nothing_and_says_so(
        self, world: World, target: WorkflowStorage
    ) -> None:
        world.reach("suspended")
        moved(world.lab.storage, target)
        lab = world.lab
        lab.engine(storage=target).signal(world.workflow, "o-1", "unasked")
        assert moved(lab.storage, target) == NEWER
        lab.engine(storage=target).signal(world.workflow, "o-1", "go")
        before = whole(target)
        assert moved(lab.storage, target) == NEWER
        assert whole(target) == before

    def test_over_another_instance_of_that_name_is_a_conflict(self, world: World, target: WorkflowStorage) -> None:
        world.reach("suspended")
        world.lab.engine(storage=target).execute(world.workflow, {"another": "input"}, "o-1")
        before = whole(target)
        with pytest.raises(Conflict, match=r"'order', id 'o-1' .* exists already .* record 0 is another one; delete"):
            moved(world.lab.storage, target)
        assert whole(target) == before
        assert target.snapshot(REF) is None

    def test_over_an_earlier_state_of_it_is_a_conflict(self, world: World, target: WorkflowStorage) -> None:
        """Both would go on from there, each in its own way."""
        world.reach("suspended")
        moved(world.lab.storage, target)
        verb("signal", world)
        with pytest.raises(Conflict, match="it has 4 records there and 8 in the export"):
            moved(world.lab.storage, target)

    def test_over_one_without_a_signal_that_was_exported_is_a_conflict(
        self, world: World, target: WorkflowStorage
    ) -> None:
        world.reach("suspended")
        moved(world.lab.storage, target)
        world.engine.signal(world.workflow, "o-1", "more")
        with pytest.raises(Conflict, match="the signal 'more'"):
            moved(world.lab.storage, target)

    def test_looked_at_beforehand_writes_nothing(self, world: World, target: WorkflowStorage) -> None:
        world.reach("suspended")
        recording = RecordingStorage(target)
        assert compare(recording, read_exported(exported(world.lab.storage))) == IMPORTED
        assert [call for call in recording.calls if call.writes] == []

    def test_leaves_the_other_instances_alone(self, world: World) -> None:
        world.reach("suspended")
        lab = world.lab
        target = MemoryStorage()
        lab.engine(storage=target).execute(world.workflow, {"n": 2}, "o-2")
        before = whole(target, REF._replace(id="o-2"))
        moved(lab.storage, target)
        assert whole(target, REF._replace(id="o-2")) == before


def instance(lab: Lab) -> Any:
    """Asleep, with mail that waits, more records than its header's, and a snapshot to come."""
    flow = create_workflow("order").step("a", lab.note("a")).step("nap", lambda ctx: sleep(60))
    flow.step("b", lambda ctx: wait("go")).step("c", lab.note("c"))
    lab.engine().execute(flow, {"n": 1}, "o-1")
    lab.engine().signal(flow, "o-1", "go", "early")
    return flow


class TestAnInterruptedImport:
    @pytest.mark.parametrize("fault", [CRASH_BEFORE, CRASH_AFTER, LOST_RESPONSE, UNAVAILABLE])
    def test_can_be_repeated_from_any_call_and_nothing_runs_before(self, lab: Lab, fault: str) -> None:
        flow = instance(lab)
        found = read_exported(exported(lab.storage))
        lab.clock.advance(61)
        calls = FaultPlan()
        import_instance(FaultyStorage(MemoryStorage(), calls), found)
        assert [call.method for call in calls.calls if call.writes] == [
            "put_snapshot", *["append"] * len(found.log), "put_mail", "nudge", "put_snapshot"
        ]  # fmt: skip
        for call in calls.calls:
            target = MemoryStorage()
            with pytest.raises((InvocationDied, StorageUnavailable)):
                import_instance(FaultyStorage(target, FaultPlan({call.number: fault})), found)
            engine = lab.engine(storage=target, workflows=[flow])
            lab.calls.clear()
            lifted = call is calls.calls[-1] and fault in {CRASH_AFTER, LOST_RESPONSE}
            if target.read(REF) and not lifted:
                for attempt in (
                    lambda engine=engine: engine.wake(flow, "o-1"),
                    lambda engine=engine: engine.execute(flow, {"n": 1}, "o-1"),
                    lambda engine=engine: engine.cancel(flow, "o-1"),
                    lambda engine=engine: engine.delete(flow, "o-1", force=True),
                    lambda target=target: export_instance(target, REF),
                ):
                    with pytest.raises(ImportUnfinished, match=r"'order', id 'o-1' is being imported, or its import"):
                        attempt()
                assert engine.recover() == []
                assert lab.calls == []
            else:
                assert lifted or engine.recover() == []
            wanted = SAME if lifted else COMPLETED if target.read(REF) else IMPORTED
            assert import_instance(target, found) == wanted
            assert [result.status for result in engine.recover()] == ["completed"]
            assert lab.calls == ["c"]
            check_invariants(target, REF)

    def test_is_in_nobody_s_due_index_before_all_of_it_is_there(self, lab: Lab) -> None:
        instance(lab)
        found = read_exported(exported(lab.storage))
        due: dict[str, list[Any]] = {}

        class Watching(MemoryStorage):
            def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
                due["before the last mail"] = self.due(FAR, 9)
                return super().put_mail(ref, mail)

        store = Watching()
        import_instance(store, found)
        assert due == {"before the last mail": []}
        assert [entry.ref for entry in store.due(FAR, 9)] == [REF]

    def test_by_two_at_once_gives_one_instance(self, lab: Lab) -> None:
        flow = instance(lab)
        found = read_exported(exported(lab.storage))

        class AnotherComesIn(MemoryStorage):
            def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
                there = super().put_mail(ref, mail)
                if there is None:  # the first of the two
                    assert import_instance(self, found) == COMPLETED
                    lab.clock.advance(61)
                    assert [one.status for one in lab.engine(storage=self, workflows=[flow]).recover()] == ["completed"]
                return there

        store = AnotherComesIn()
        import_instance(store, found)
        assert lab.calls == ["a", "c"]
        assert lab.engine(storage=store).get(flow, "o-1").status == "completed"
        assert store.due(FAR, 9) == []
        check_invariants(store, REF)

    def test_that_left_its_mark_before_any_record_does_not_stop_a_new_instance_of_that_name(self, lab: Lab) -> None:
        flow = instance(lab)
        target = MemoryStorage()
        found = read_exported(exported(lab.storage))
        target.put_snapshot(REF, BEFORE_ALL, import_mark(found.log[0]))
        engine = lab.engine(storage=target, workflows=[flow])
        engine.execute(flow, {"n": 2}, "o-1")
        assert engine.get(flow, "o-1").status == "suspended"
        with pytest.raises(Conflict, match="record 0 is another one"):
            import_instance(target, found)

    def test_of_another_instance_of_that_name_is_completed_first(self, lab: Lab) -> None:
        instance(lab)
        target = MemoryStorage()
        target.put_snapshot(REF, BEFORE_ALL, import_mark(b"the first record of another one"))
        with pytest.raises(Conflict, match="the import of another one was interrupted; complete that, then delete it"):
            moved(lab.storage, target)
        assert target.read(REF) == []

    def test_meets_an_instance_that_was_started_meanwhile(self, lab: Lab) -> None:
        flow = instance(lab)

        class StartedMeanwhile(MemoryStorage):
            def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
                super().put_snapshot(ref, seq, state)
                if seq == BEFORE_ALL:
                    lab.engine(storage=self).execute(flow, {"n": 2}, "o-1")

        store = StartedMeanwhile()
        with pytest.raises(Conflict, match="record 0 is another one"):
            moved(lab.storage, store)
        assert lab.engine(storage=store).get(flow, "o-1").status == "suspended"


def changed(tree: Any, path: list[Any], value: object) -> Any:
    other = deepcopy(tree)
    at = other
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return other


class TestAFileThatIsNotWhatWasExported:
    @pytest.fixture
    def tree(self, lab: Lab) -> Any:
        instance(lab)
        return exported(lab.storage)

    @pytest.mark.parametrize("value", [None, 7, [], {}, {"name": "Ada"}, {"format": "flux-trace"}], ids=repr)
    def test_and_is_something_else_is_the_caller_s_error(self, value: object) -> None:
        with pytest.raises(CallerError, match='no exported instance: those are JSON objects with "format": "flux-in'):
            read_exported(value)

    def test_and_is_of_a_newer_form_says_so(self, tree: Any) -> None:
        with pytest.raises(CorruptRecord, match="it has the form 2, this kit reads 1; import it with a newer Flux"):
            read_exported({**tree, "v": 2})

    @pytest.mark.parametrize(
        ("path", "value", "key"),
        [
            (["tenant"], "other", "sum"),
            (["workflow"], "other", "sum"),
            (["id"], "o-2", "sum"),
            (["id"], "a/b", "id"),
            (["id"], ..., "id"),
            (["header"], ..., "header"),
            (["header", "due"], 5, "sum"),
            (["header", "due"], "soon", "header.due"),
            (["header", "seq"], True, "header.seq"),
            (["header", "status"], "completed", "sum"),
            (["header", "epoch"], ..., "header.epoch"),
            (["log"], {}, "log"),
            (["log", 1], ..., "sum"),
            (["log", 1], 5, "log[1]"),
            (["log", 1], "\ud800", "log[1]"),
            (["log", 1], {"base64": "?"}, "log[1]"),
            (["log", 3], ..., "sum"),
            (["mail"], None, "mail"),
            (["mail", 0], "go", "mail[0]"),
            (["mail", 0], ..., "sum"),
            (["mail", 0, "at"], "now", "mail[0].at"),
            (["mail", 0, "body"], ..., "mail[0].body"),
            (["mail", 0, "name"], "no", "sum"),
            (["sum"], ..., "sum"),
            (["sum"], "0" * 32, "sum"),
        ],
    )
    def test_and_was_damaged_is_refused_naming_the_key(
        self, path: list[Any], value: object, key: str, tree: Any
    ) -> None:
        with pytest.raises(CorruptRecord) as caught:
            read_exported(changed(tree, path, value))
        assert str(caught.value).startswith(f"the export is damaged at '{key}': ")
        assert str(caught.value).endswith("export the instance again. Nothing was imported.")

    def test_and_was_made_up_with_a_sum_of_its_own_must_still_be_a_log(self, lab: Lab) -> None:
        from flux_core.transfer import Exported

        instance(lab)
        found = read_exported(exported(lab.storage))
        with pytest.raises(CorruptRecord, match="record 0 of default/order/o-1 cannot be read: it is of type 'step'"):
            Exported(REF, found.header, found.log[1:], [])
        with pytest.raises(CorruptRecord, match=r"the header of .* it is that of record 3, which is not in the log"):
            Exported(REF, found.header, found.log[:2], [])
        with pytest.raises(CorruptRecord, match=r"the header of .* it has epoch 7, and its record 1"):
            Exported(REF, found.header._replace(epoch=7), found.log, [])
        with pytest.raises(CorruptRecord, match="the header"):
            Exported(REF, found.header, [], [])


def test_an_unfinished_import_is_told_like_a_store_that_does_not_answer() -> None:
    from flux_core import InvocationError

    assert issubclass(ImportUnfinished, InvocationError)


def test_an_instance_of_another_tenant_stays_one(lab: Lab) -> None:
    """Its idempotency keys are made from the tenant, so it must not change hands on the way."""
    flow = create_workflow("order").step("a", lambda ctx: wait("go"))
    lab.engine(tenant="acme").execute(flow, id="o-1")
    target = MemoryStorage()
    moved(lab.storage, target, REF._replace(tenant="acme"))
    with pytest.raises(UnknownInstance):
        FluxEngine(target).get(flow, "o-1")
    assert FluxEngine(target, tenant="acme").get(flow, "o-1").status == "suspended"
