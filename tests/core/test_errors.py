"""What goes wrong is said in words, and whatever is in the store is left as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    CallerError,
    Conflict,
    Context,
    CorruptRecord,
    DefinitionError,
    FluxEngine,
    FluxError,
    InputInvalid,
    InvocationError,
    MemoryStorage,
    NonRetryable,
    Refused,
    StepFault,
    StorageUnavailable,
    Unknown,
    create_workflow,
    wait,
)

if TYPE_CHECKING:
    from flux_core import Header, InstanceRef
    from tests.core.conftest import Lab


def suspended(lab: Lab) -> Any:
    w = create_workflow("order").step("a", lambda ctx: ctx.data.update(x=1)).step("gate", lambda ctx: wait("go"))
    lab.engine().execute(w, None, "o-1")
    return w


class TestAValueThatCannotBeStored:
    def test_in_an_output_fails_the_step_that_produced_it_naming_the_path(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a")).step("b", lambda ctx: {"rows": [1, {"bad": object()}]})
        result = lab.engine().execute(w)
        error = result.error
        assert error is not None
        assert (result.status, error.type, error.step) == ("failed", "Unserialisable", "b")
        assert "'b'" in str(error)
        assert "rows[1].bad" in str(error)

    def test_in_the_data_names_step_key_and_path_and_leaves_the_data_as_it_was(self, lab: Lab) -> None:
        def write(ctx: Context) -> None:
            lab.calls.append("b")
            ctx.data["fine"] = 1
            ctx.data["rows"] = [{"bad": print}]

        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(x=1)).step("b", write)
        result = lab.engine().execute(w)
        assert result.status == "failed"
        assert 'step "b": ctx.data["rows"][0].bad' in str(result.error)
        assert (result.data, lab.calls) == ({"x": 1}, ["b"]), "it is not retried, since it would not get better"

    def test_that_contains_itself_is_a_clear_error(self, lab: Lab) -> None:
        ring: list[Any] = []
        ring.append(ring)
        result = lab.engine().execute(create_workflow("order").step("a", lambda ctx: ring))
        assert (result.status, "contains itself" in str(result.error)) == ("failed", True)

    def test_in_data_under_a_key_that_is_no_string_is_a_clear_error(self, lab: Lab) -> None:
        result = lab.engine().execute(create_workflow("order").step("a", lambda ctx: ctx.data.update({1: 2})))
        assert 'step "a": ctx.data has a key of type int' in str(result.error)

    def test_in_the_output_given_by_hand_is_the_callers_error(self, lab: Lab) -> None:
        w = suspended(lab)
        before = lab.storage.read(lab.ref("o-1"))
        with pytest.raises(CallerError, match="cannot be stored"):
            lab.engine().complete_step(w, "o-1", "gate", object())
        assert lab.storage.read(lab.ref("o-1")) == before


STEP = b'{"v":1,"t":"step","ep":1,"n":["0",1],"at":5,"p":"a","a":1,"ms":0,'
DAMAGE: dict[str, bytes] = {
    "no JSON": b"\x00garbage",
    "cut in the middle": b'{"v":1,"t":"step","ep":1,"n":["00",',
    "no object": b"[1,2]",
    "no version": b'{"t":"step"}',
    "a newer schema": b'{"v":2,"t":"leap","new":true}',
    "an unknown type": b'{"v":1,"t":"leap","ep":1,"n":["0",1],"at":5}',
    "a missing field": b'{"v":1,"t":"step","ep":1,"at":5}',
    "a missing body": b'{"v":1,"t":"step","ep":1,"n":["0",1],"at":5}',
    "a type that is not registered": STEP + b'"o":{"$type":["gone:Type",{}]}}',
    "an unknown tag": STEP + b'"o":{"$nonsense":1}}',
    "a body of the wrong form": STEP + b'"set":7}',
}
VERBS = {
    "get": lambda e, w: e.get(w, "o-1"),
    "execute": lambda e, w: e.execute(w, None, "o-1"),
    "wake": lambda e, w: e.wake(w, "o-1"),
    "signal": lambda e, w: e.signal(w, "o-1", "go"),
    "resume": lambda e, w: e.resume(w, "o-1"),
    "retry_step": lambda e, w: e.retry_step(w, "o-1", "gate"),
    "cancel": lambda e, w: e.cancel(w, "o-1"),
    "complete_step": lambda e, w: e.complete_step(w, "o-1", "gate"),
    "delete": lambda e, w: e.delete(w, "o-1", force=True),
}


class TestARecordThatCannotBeRead:
    @pytest.mark.parametrize("verb", list(VERBS))
    @pytest.mark.parametrize("damage", list(DAMAGE))
    def test_is_refused_with_its_key_and_nothing_is_overwritten(self, damage: str, verb: str, lab: Lab) -> None:
        w = suspended(lab)
        log = lab.storage._logs[lab.ref("o-1")]
        log[1] = DAMAGE[damage]
        before, header = list(log), lab.storage.header(lab.ref("o-1"))
        lab.clock.advance(1000)
        with pytest.raises(CorruptRecord, match=r"record 1 of default/order/o-1"):
            VERBS[verb](lab.engine(), w)
        assert lab.storage.read(lab.ref("o-1")) == before
        assert lab.storage.header(lab.ref("o-1")) == header

    def test_of_a_newer_schema_names_its_version_and_says_to_upgrade(self, lab: Lab) -> None:
        w = suspended(lab)
        lab.storage._logs[lab.ref("o-1")][1] = DAMAGE["a newer schema"]
        with pytest.raises(
            CorruptRecord, match=r"has schema version 2, this kit reads 1; upgrade .* Nothing was changed"
        ):
            lab.engine().get(w, "o-1")

    def test_that_is_the_first_is_named_too(self, lab: Lab) -> None:
        w = suspended(lab)
        log = lab.storage._logs[lab.ref("o-1")]
        log[0] = log[1]
        with pytest.raises(CorruptRecord, match=r"record 0 of default/order/o-1 .* of type 'step', not 'start'"):
            lab.engine().get(w, "o-1")

    def test_that_is_the_newest_is_refused_by_a_signal_before_it_puts_mail(self, lab: Lab) -> None:
        w = suspended(lab)
        lab.storage._logs[lab.ref("o-1")][-1] = DAMAGE["a newer schema"]
        with pytest.raises(CorruptRecord):
            lab.engine().signal(w, "o-1", "go")
        assert lab.storage.mail(lab.ref("o-1")) == []

    def test_does_not_keep_the_sweeper_from_the_others(self, lab: Lab) -> None:
        from flux_core import sleep

        w = create_workflow("order").step("nap", lambda ctx: sleep(5))
        for id_ in ("o-1", "o-2"):
            lab.engine().execute(w, None, id_)
        lab.storage._logs[lab.ref("o-1")][1] = b"garbage"
        lab.clock.advance(10)
        assert [result.id for result in lab.engine(workflows=[w]).recover()] == ["o-2"]
        (line,) = [line for line in lab.log.lines if line[0] == "error"]
        assert line[1:2] == ("due, but cannot be ticked",)
        assert line[2]["id"] == "o-1"

    @pytest.mark.parametrize("damage", [b"garbage", b'{"v":2}', b'{"v":1}', b'{"v":1,"o":{"$nonsense":1}}'])
    def test_in_the_mailbox_is_named_and_nothing_is_overwritten(self, damage: bytes, lab: Lab) -> None:
        from flux_core.ports import Mail

        w = suspended(lab)
        lab.storage.put_mail(lab.ref("o-1"), Mail("go", "m1", 5, damage))
        before = lab.storage.read(lab.ref("o-1"))
        with pytest.raises(CorruptRecord, match=r"mail go/m1 of default/order/o-1"):
            lab.engine().wake(w, "o-1")
        assert lab.storage.read(lab.ref("o-1")) == before

    @pytest.mark.parametrize("damage", [b"garbage", b'{"v":2}', b'{"v":1}', b"{}"])
    def test_as_a_snapshot_is_named_and_nothing_is_overwritten(self, damage: bytes, lab: Lab) -> None:
        w = suspended(lab)
        lab.storage.put_snapshot(lab.ref("o-1"), 1, damage)
        before = lab.storage.read(lab.ref("o-1"))
        with pytest.raises(CorruptRecord, match=r"snapshot 1 of default/order/o-1"):
            lab.engine().signal(w, "o-1", "go")
        assert lab.storage.read(lab.ref("o-1")) == before


class Failing(MemoryStorage):
    """A store that stops to answer at its n-th append, before or after having written."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 10**9
        self.written_first = False

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        self.left -= 1
        if self.left < 0:
            if self.written_first:
                super().append(ref, seq, record, header)
            message = "the disk is full"
            raise StorageUnavailable(message)
        return super().append(ref, seq, record, header)


class TestAStoreThatFails:
    @pytest.mark.parametrize("written_first", [False, True])
    @pytest.mark.parametrize("appends", range(9))
    def test_ends_the_invocation_and_loses_nothing_that_was_acknowledged(
        self, appends: int, written_first: bool, lab: Lab
    ) -> None:
        storage = Failing()
        storage.written_first = written_first
        lab.storage = storage

        def step(ctx: Context) -> str:
            lab.calls.append(str(ctx.step))
            ctx.data[ctx.step] = lab.calls.count(str(ctx.step))
            return str(ctx.step)

        w = create_workflow("order").step("a", step).commit("b", step, idempotent=True).step("c", step)
        w.step("d", step)
        storage.left = appends
        if appends < 7:
            with pytest.raises(StorageUnavailable, match="the disk is full"):
                lab.engine().execute(w, None, "o-1")
        else:
            lab.engine().execute(w, None, "o-1")
        acknowledged = storage.read(lab.ref("o-1"))[:appends]
        storage.left = 10**9
        lab.past_the_lease()
        result = lab.engine().execute(w, None, "o-1")
        assert storage.read(lab.ref("o-1"))[:appends] == acknowledged
        assert (result.status, [step.output for step in result.history]) == ("completed", list("abcd"))
        recorded = lab.types("o-1")
        assert (recorded[0], recorded[-1], recorded.count("step")) == ("start", "end", 4)

    def test_once_only_is_asked_again_with_the_same_nonce(self, lab: Lab) -> None:
        class Flaky(MemoryStorage):
            calls = 0

            def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
                found = super().append(ref, seq, record, header)
                Flaky.calls += 1
                if Flaky.calls % 2:
                    message = "the response was lost"
                    raise StorageUnavailable(message)
                return found

        lab.storage = Flaky()
        w = create_workflow("order").step("a", lab.note("a")).commit("b", lab.note("b"))
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, lab.calls) == ("completed", ["a", "b"])
        assert lab.types("o-1") == ["start", "step", "intent", "step", "end"]

    def test_ends_a_batch_item_not_the_batch(self, lab: Lab) -> None:
        storage = Failing()
        storage.left = 3
        lab.storage = storage
        batch = lab.engine().execute_batch(create_workflow("order").step("a", lab.note("a")), [1, 2], concurrency=1)
        assert [item.success for item in batch.results] == [True, False]
        assert isinstance(batch.results[1].error, StorageUnavailable)


class TestErrors:
    def test_are_sorted_by_what_the_platform_must_do(self) -> None:
        assert all(issubclass(kind, CallerError) for kind in (Conflict, DefinitionError, InputInvalid, Refused))
        assert all(issubclass(kind, StepFault) for kind in (NonRetryable, Unknown))
        assert issubclass(StorageUnavailable, InvocationError)
        groups = (CallerError, StepFault, InvocationError, CorruptRecord)
        assert all(issubclass(kind, FluxError) for kind in groups)
        assert not any(issubclass(one, other) for one in groups for other in groups if one is not other)

    def test_of_a_workflow_name_that_nobody_registered_say_that_there_are_none(self) -> None:
        with pytest.raises(
            CallerError, match=r"no workflow 'order' is registered with this engine \(registered: none\)"
        ):
            FluxEngine().execute("order")
