"""The purge function's verb: what ended long ago is deleted, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import FluxEngine, MemoryStorage, NonRetryable, create_workflow, wait
from flux_core.callbacks import parsed_keys
from flux_core.errors import CallerError, DefinitionError
from flux_core.host import Host
from flux_core.hosting import HostSettings
from flux_core.retention import Purged, purge
from flux_core.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = 86_400.0

order = create_workflow("order").step("ship", lambda ctx: "shipped")
approval = create_workflow("approval").step("ask", lambda ctx: wait("go"))


def fall(ctx: object) -> None:
    message = "for good"
    raise NonRetryable(message)


broken = create_workflow("broken").step("fall", fall)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def engine(clock: VirtualClock) -> FluxEngine:
    return FluxEngine(MemoryStorage(), workflows=[order, approval, broken], clock=clock)


def ids(engine: FluxEngine) -> set[str]:
    return {item.id for item in engine.list().items}


class TestPurge:
    def test_what_ended_before_that_time_is_deleted(self, engine: FluxEngine, clock: VirtualClock) -> None:
        engine.execute(order, id="old")
        engine.execute(broken, id="old-failed")
        clock.advance(2 * DAY)
        engine.execute(order, id="new")
        clock.advance(2 * DAY)
        assert purge(engine, 3 * DAY) == Purged(2, 0, finished=True)
        assert ids(engine) == {"new"}

    def test_what_has_not_ended_stays_however_old_it_is(self, engine: FluxEngine, clock: VirtualClock) -> None:
        engine.execute(approval, id="waits")
        clock.advance(400 * DAY)
        assert purge(engine, DAY) == Purged(0, 0, finished=True)
        assert ids(engine) == {"waits"}

    def test_what_began_long_ago_and_ended_lately_stays(self, engine: FluxEngine, clock: VirtualClock) -> None:
        engine.execute(approval, id="late")
        clock.advance(10 * DAY)
        engine.signal(approval, "late", "go")
        clock.advance(2 * DAY)
        assert purge(engine, 3 * DAY).deleted == 0
        clock.advance(2 * DAY)
        assert purge(engine, 3 * DAY).deleted == 1

    def test_it_deletes_no_more_than_the_limit_and_says_so(self, engine: FluxEngine, clock: VirtualClock) -> None:
        for number in range(250):
            engine.execute(order, id=f"o-{number}")
        clock.advance(2 * DAY)
        assert purge(engine, DAY, 120) == Purged(120, 0, finished=False)
        assert purge(engine, DAY) == Purged(130, 0, finished=True)
        assert ids(engine) == set()

    def test_it_stops_before_the_deadline(self, engine: FluxEngine, clock: VirtualClock) -> None:
        engine.execute(order, id="a")
        clock.advance(2 * DAY)
        assert purge(engine, DAY, deadline=lambda: 0.0) == Purged(0, 0, finished=False)
        assert purge(engine, DAY, deadline=60) == Purged(1, 0, finished=True)

    def test_an_instance_of_a_workflow_it_does_not_know_is_left_and_told(
        self, engine: FluxEngine, clock: VirtualClock
    ) -> None:
        engine.execute(order, id="a")
        engine.execute(broken, id="b")
        clock.advance(2 * DAY)
        told: list[Any] = []

        class Told:
            def warn(self, message: str, **fields: object) -> None:
                told.append((message, fields["workflow"], fields["id"]))

            debug = info = error = warn

        other = FluxEngine(engine.storage, workflows=[broken], clock=clock, logger=Told())
        assert purge(other, DAY) == Purged(1, 1, finished=True)
        assert told == [("not deleted", "order", "a")]

    def test_a_store_with_cursors_of_its_own_is_listed_from_its_beginning(
        self, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = FluxEngine(MemoryStorage(), workflows=[order], clock=clock)
        engine.execute(order, id="a")
        clock.advance(2 * DAY)
        listed: Callable[..., Any] = engine.storage.list

        def picky(*arguments: Any) -> Any:
            if arguments[-1] is not None:
                message = "not a cursor of this store"
                raise CallerError(message)
            return listed(*arguments)

        monkeypatch.setattr(engine.storage, "list", picky)
        assert purge(engine, DAY).deleted == 1


class TestPurgeAsAnInvocation:
    def test_a_function_that_is_told_what_is_old_deletes_it(self, engine: FluxEngine, clock: VirtualClock) -> None:
        engine.execute(order, id="a")
        clock.advance(2 * DAY)
        host = Host(engine, HostSettings.from_mapping({"FLUX_PURGE_AFTER": "86400"}))
        reply = host.direct({"action": "purge"})
        assert (reply.status, reply.body) == (200, {"deleted": 1, "left": 0, "finished": True})

    def test_every_other_function_refuses(self, engine: FluxEngine, clock: VirtualClock) -> None:
        engine.execute(order, id="a")
        clock.advance(2 * DAY)
        reply = Host(engine, HostSettings()).direct({"action": "purge"})
        assert reply.status == 409
        assert "FLUX_PURGE_AFTER" in reply.body["detail"]
        assert ids(engine) == {"a"}

    def test_who_asks_cannot_say_what_is_old(self, engine: FluxEngine) -> None:
        reply = Host(engine, HostSettings(purge_after=DAY)).direct({"action": "purge", "older_than": 1})
        assert reply.status == 400


class TestCallbackKeysAsAnObject:
    def test_the_first_one_signs(self) -> None:
        assert list(parsed_keys(' {"k2": "b", "k1": "a"}').items()) == [("k2", "b"), ("k1", "a")]

    @pytest.mark.parametrize("text", ['{"k1": 5}', "{", '{"": "a"}', '{"k1": {"k2": "a"}}'])
    def test_any_other_form_is_refused(self, text: str) -> None:
        with pytest.raises(DefinitionError, match="written"):
            parsed_keys(text)
