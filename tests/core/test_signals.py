"""Signals, waits and sleeps: nothing sent is lost, nothing is taken twice, and time is kept without compute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    CallerError,
    Conflict,
    Context,
    FluxEngine,
    InstanceRef,
    MemoryStorage,
    Refused,
    Unserialisable,
    WaitTimeout,
    WorkflowBuilder,
    create_workflow,
    sleep,
    sleep_until,
    wait,
    wait_any,
)
from flux_core.codec import decode_payload, encode_state
from flux_core.load import load
from flux_core.machine import MOST_SIGNALS

if TYPE_CHECKING:
    from flux_core import InstanceRef
    from tests.core.conftest import Lab


def waiting(lab: Lab, directive: Any = None, **options: Any) -> WorkflowBuilder:
    w = create_workflow("order").step("gate", lambda ctx: wait("go") if directive is None else directive, **options)
    return w.step("after", lambda ctx: ctx.results["gate"])


def output(result: Any, step: int = 0) -> Any:
    return result.history[step].output


class TestAWait:
    def test_suspends_without_a_timer_and_names_what_it_waits_for(self, lab: Lab) -> None:
        result = lab.engine().execute(waiting(lab), None, "o-1")
        assert (result.status, lab.statuses(result)) == ("suspended", {"gate": "suspended", "after": "pending"})
        assert result.history[0].waiting_for == ("go",)
        assert (lab.header("o-1").status, lab.header("o-1").due) == ("suspended", None)

    def test_ends_with_the_signals_payload_as_its_output(self, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().signal(w, "o-1", "go", {"by": "ann"})
        assert (result.status, output(result), output(result, 1)) == ("completed", {"by": "ann"}, {"by": "ann"})
        assert result.history[0].waiting_for == ()

    def test_does_not_call_its_handler_again(self, lab: Lab) -> None:
        def gate(ctx: Context) -> object:
            lab.calls.append("gate")
            ctx.data["asked"] = True
            return wait("go")

        w = create_workflow("order").step("gate", gate)
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().signal(w, "o-1", "go")
        assert (result.status, lab.calls, result.data) == ("completed", ["gate"], {"asked": True})

    def test_may_be_returned_by_a_commit_and_by_an_async_handler(self, lab: Lab) -> None:
        async def gate(ctx: Context) -> object:
            return wait("go")

        w = create_workflow("order").commit("gate", gate).commit("plain", lambda ctx: wait("on"))
        lab.engine(default_timeout=30).execute(w, None, "o-1")
        lab.engine().signal(w, "o-1", "go", 1)
        result = lab.engine().signal(w, "o-1", "on", 2)
        assert (result.status, output(result), output(result, 1)) == ("completed", 1, 2)

    @pytest.mark.parametrize(
        "payload",
        [
            None,
            0,
            False,
            "",
            [],
            {"a": [1, {"b": None}]},
            (1, 2),
            Decimal("1.10"),
            datetime(2030, 1, 1, tzinfo=UTC),
            b"\xff",
        ],
        ids=repr,
    )
    def test_takes_payloads_of_every_type_that_can_be_stored(self, payload: Any, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().signal(w, "o-1", "go", payload)
        assert repr((output(result), output(result, 1))) == repr((payload, payload))
        assert repr(output(lab.engine().get(w, "o-1"))) == repr(payload)


class TestASignal:
    def test_that_comes_early_is_kept(self, lab: Lab) -> None:
        w = create_workflow("order").step("nap", lambda ctx: sleep(60)).step("gate", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().signal(w, "o-1", "go", "early").status == "suspended"
        lab.clock.advance(60)
        result = lab.engine().wake(w, "o-1")
        assert (result.status, output(result, 1)) == ("completed", "early")

    def test_of_another_name_is_kept_for_its_own_wait(self, lab: Lab) -> None:
        w = waiting(lab).step("second", lambda ctx: wait("later"))
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().signal(w, "o-1", "later", 2).status == "suspended"
        result = lab.engine().signal(w, "o-1", "go", 1)
        assert (result.status, output(result), output(result, 2)) == ("completed", 1, 2)

    def test_is_taken_once_and_the_next_by_the_next_wait_in_order_of_sending(self, lab: Lab) -> None:
        w = create_workflow("order").step("nap", lambda ctx: sleep(60))
        for name in ("first", "second", "third"):
            w.step(name, lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        for payload in ("one", "two"):
            lab.clock.advance(1)
            lab.engine().signal(w, "o-1", "go", payload)
        lab.clock.advance(60)
        result = lab.engine().wake(w, "o-1")
        assert [step.output for step in result.history] == [None, "one", "two", None]
        assert result.status == "suspended"

    def test_sent_twice_with_one_dedupe_id_is_one_signal(self, lab: Lab) -> None:
        w = waiting(lab).step("second", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        lab.engine().signal(w, "o-1", "go", {"n": 1, "m": 2}, dedupe_id="msg 1/ü")
        result = lab.engine().signal(w, "o-1", "go", {"m": 2, "n": 1}, dedupe_id="msg 1/ü")
        assert (result.status, lab.statuses(result)["second"]) == ("suspended", "suspended")
        assert len(lab.storage.mail(lab.ref("o-1"))) == 1

    def test_sent_twice_without_a_dedupe_id_is_two(self, lab: Lab) -> None:
        w = waiting(lab).step("second", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        lab.engine().signal(w, "o-1", "go", 1)
        assert lab.engine().signal(w, "o-1", "go", 1).status == "completed"

    def test_with_one_dedupe_id_under_another_name_is_another_signal(self, lab: Lab) -> None:
        w = waiting(lab).step("second", lambda ctx: wait("later"))
        lab.engine().execute(w, None, "o-1")
        lab.engine().signal(w, "o-1", "go", 1, dedupe_id="x")
        assert lab.engine().signal(w, "o-1", "later", 2, dedupe_id="x").status == "completed"

    @pytest.mark.parametrize("other", [2, None, "1", [1], True, 1.0])
    def test_with_a_used_dedupe_id_and_another_payload_is_a_conflict(self, other: Any, lab: Lab) -> None:
        w = waiting(lab).step("second", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        lab.engine().signal(w, "o-1", "go", 1, dedupe_id="x")
        with pytest.raises(
            Conflict, match=r"signal 'go' to workflow 'order', id 'o-1' was sent before .* another payload"
        ):
            lab.engine().signal(w, "o-1", "go", other, dedupe_id="x")

    def test_that_was_delivered_may_be_sent_again_after_the_end(self, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        lab.engine().signal(w, "o-1", "go", 1, dedupe_id="x")
        again = lab.engine().signal(w, "o-1", "go", 1, dedupe_id="x")
        assert again.status == "completed"
        with pytest.raises(Conflict):
            lab.engine().signal(w, "o-1", "go", 2, dedupe_id="x")
        with pytest.raises(Refused, match="signal is refused for workflow 'order', id 'o-1': it has completed"):
            lab.engine().signal(w, "o-1", "go", 1, dedupe_id="y")

    def test_repeated_by_its_dedupe_id_ticks_what_the_first_sender_left(
        self, lab: Lab, killed: type[BaseException]
    ) -> None:
        def after(ctx: Context) -> str:
            lab.calls.append("after")
            if len(lab.calls) == 1:
                raise killed
            return "done"

        w = create_workflow("order").step("gate", lambda ctx: wait("go")).step("after", after)
        lab.engine().execute(w, None, "o-1")
        with pytest.raises(killed):
            lab.engine().signal(w, "o-1", "go", 1, dedupe_id="x")
        lab.past_the_lease()
        assert lab.engine().signal(w, "o-1", "go", 1, dedupe_id="x").status == "completed"

    def test_that_nobody_awaits_yet_is_not_read(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else a full mailbox costs every wait as many decodings as there is mail."""
        import flux_core.loop

        read: list[str] = []

        def decode(raw: bytes, ref: InstanceRef, mail: str) -> object:
            read.append(mail.partition("/")[0])
            return decode_payload(raw, ref, mail)

        monkeypatch.setattr(flux_core.loop, "decode_payload", decode)
        w = create_workflow("order").step("first", lambda ctx: wait("one"))
        w.step("second", lambda ctx: wait_any(["two", "three"])).step("third", lambda ctx: wait("two"))
        engine = lab.engine()
        engine.execute(w, None, "o-1")
        for name in ("two", "other", "two", "two"):
            engine.signal(w, "o-1", name, name)
        assert read == []
        assert engine.signal(w, "o-1", "one").status == "completed"
        assert read.count("other") == 0
        assert len(read) <= 6

    def test_whose_sender_died_after_the_mail_is_found_by_whoever_ticks_next(self, lab: Lab) -> None:
        from flux_core.codec import encode_payload
        from flux_core.keys import mail_id
        from flux_core.ports import Mail

        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        lab.storage.put_mail(lab.ref("o-1"), Mail("go", mail_id("x"), lab.clock.now(), encode_payload(7)))
        assert output(lab.engine().wake(w, "o-1")) == 7

    def test_to_a_failed_instance_is_kept_and_a_retry_may_consume_it(self, lab: Lab) -> None:
        healthy: list[bool] = []

        def first(ctx: Context) -> None:
            if not healthy:
                raise ValueError

        w = create_workflow("order").step("a", first, retries=0).step("gate", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().signal(w, "o-1", "go", 7).status == "failed"
        healthy.append(True)
        result = lab.engine().retry_step(w, "o-1", "a")
        assert (result.status, output(result, 1)) == ("completed", 7)

    def test_that_was_consumed_is_not_consumed_again_by_a_retry(self, lab: Lab) -> None:
        w = waiting(lab).step("last", lambda ctx: 1 / 0, retries=0)
        lab.engine().execute(w, None, "o-1")
        lab.engine().signal(w, "o-1", "go", 1)
        assert lab.engine().retry_step(w, "o-1", "gate").status == "suspended"
        assert output(lab.engine().signal(w, "o-1", "go", 2)) == 2

    @pytest.mark.parametrize("name", ["", "a b", "..", "__x__", "a/b", "a" * 129, None])
    def test_has_a_name_by_the_rules(self, name: Any, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        with pytest.raises(CallerError, match=r"the signal name .* is not allowed"):
            lab.engine().signal(w, "o-1", name)

    def test_with_a_payload_that_cannot_be_stored_is_refused_before_anything_is_written(self, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        with pytest.raises(
            (Unserialisable, CallerError), match=r"the payload\.x: a value of type object cannot be stored"
        ):
            lab.engine().signal(w, "o-1", "go", {"x": object()})
        assert lab.storage.mail(lab.ref("o-1")) == []

    def test_with_a_payload_that_cannot_be_stored_is_the_callers_error(self, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        with pytest.raises(CallerError):
            lab.engine().signal(w, "o-1", "go", object())


class TestATimeout:
    def test_of_a_wait_fails_the_step_with_wait_timeout_which_is_not_retried(self, lab: Lab) -> None:
        w = waiting(lab, wait("go", timeout=timedelta(minutes=1)))
        assert lab.engine().execute(w, None, "o-1").status == "suspended"
        assert lab.header("o-1").due == lab.clock.now() + 60_000
        lab.clock.advance(60)
        (result,) = lab.engine(workflows=[w]).recover()
        error = result.error
        assert error is not None
        assert (result.status, error.type, error.step) == ("failed", WaitTimeout.__name__, "gate")
        assert str(error) == "no signal 'go' came in time"

    @pytest.mark.parametrize("value", [None, "declined", {"ok": False}, ()])
    def test_with_on_timeout_completes_the_step_with_that_value(self, value: Any, lab: Lab) -> None:
        w = waiting(lab, wait("go", timeout=60, on_timeout=value))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(60)
        result = lab.engine().wake(w, "o-1")
        assert (result.status, output(result), output(result, 1)) == ("completed", value, value)

    def test_with_an_on_timeout_that_cannot_be_stored_fails_the_step(self, lab: Lab) -> None:
        result = lab.engine().execute(waiting(lab, wait("go", timeout=60, on_timeout=object())))
        assert (result.status, result.error.type if result.error else None) == ("failed", "Unserialisable")

    def test_does_not_pass_before_its_time(self, lab: Lab) -> None:
        w = waiting(lab, wait("go", timeout=60))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(59.999)
        assert lab.engine().wake(w, "o-1").status == "suspended"

    def test_loses_against_a_signal_that_is_there_at_decision_time(self, lab: Lab) -> None:
        w = waiting(lab, wait("go", timeout=60, on_timeout="too late"))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(100)
        assert output(lab.engine().signal(w, "o-1", "go", "in time")) == "in time"

    def test_wins_against_a_late_signal_which_waits_for_the_next_wait_of_that_name(self, lab: Lab) -> None:
        w = waiting(lab, wait("go", timeout=60, on_timeout="too late")).step("again", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(60)
        assert lab.engine().wake(w, "o-1").status == "suspended"
        result = lab.engine().signal(w, "o-1", "go", "late")
        assert (output(result), output(result, 2)) == ("too late", "late")

    def test_of_zero_looks_into_the_mailbox_and_goes_on(self, lab: Lab) -> None:
        result = lab.engine().execute(waiting(lab, wait("go", timeout=0, on_timeout="nothing yet")))
        assert (result.status, output(result)) == ("completed", "nothing yet")

    def test_undoes_what_was_done(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"), compensate=lab.note("undo a"))
        w.step("gate", lambda ctx: wait("go", timeout=60))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(60)
        assert lab.engine().wake(w, "o-1").status == "rolled_back"
        assert lab.calls == ["a", "undo a"]


class TestWaitAny:
    @pytest.mark.parametrize("name", ["yes", "no"])
    def test_ends_with_whichever_comes_first(self, name: str, lab: Lab) -> None:
        w = waiting(lab, wait_any(("yes", "no")))
        result = lab.engine().execute(w, None, "o-1")
        assert result.history[0].waiting_for == ("yes", "no")
        result = lab.engine().signal(w, "o-1", name, f"said {name}")
        assert (result.status, output(result)) == ("completed", f"said {name}")

    def test_takes_the_earliest_of_those_that_are_there_and_keeps_the_other(self, lab: Lab) -> None:
        w = (
            create_workflow("order")
            .step("nap", lambda ctx: sleep(60))
            .step("gate", lambda ctx: wait_any(["yes", "no"]))
        )
        w.step("other", lambda ctx: wait("yes"))
        lab.engine().execute(w, None, "o-1")
        lab.engine().signal(w, "o-1", "no", "first")
        lab.clock.advance(1)
        lab.engine().signal(w, "o-1", "yes", "second")
        lab.clock.advance(60)
        result = lab.engine().wake(w, "o-1")
        assert (result.status, output(result, 1), output(result, 2)) == ("completed", "first", "second")

    def test_may_time_out(self, lab: Lab) -> None:
        w = waiting(lab, wait_any(("yes", "no"), timeout=60))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(60)
        result = lab.engine().wake(w, "o-1")
        assert (result.status, str(result.error)) == ("failed", "no signal 'yes' or 'no' came in time")


class TestSleep:
    @pytest.mark.parametrize("duration", [90, 90.0, timedelta(seconds=90)])
    def test_ends_at_its_time_without_compute(self, duration: Any, lab: Lab) -> None:
        w = waiting(lab, sleep(duration))
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, lab.clock.slept, result.history[0].waiting_for) == ("suspended", [], ())
        assert lab.header("o-1").due == lab.clock.now() + 90_000
        lab.clock.advance(90)
        (result,) = lab.engine(workflows=[w]).recover()
        assert (result.status, output(result)) == ("completed", None)

    def test_until_a_time_ends_then(self, lab: Lab) -> None:
        until = datetime.fromtimestamp(lab.clock.now() / 1000, UTC) + timedelta(days=3)
        w = waiting(lab, sleep_until(until))
        lab.engine().execute(w, None, "o-1")
        assert lab.header("o-1").due == lab.clock.now() + 3 * 86_400_000

    def test_until_a_time_that_has_passed_goes_on_at_once(self, lab: Lab) -> None:
        result = lab.engine().execute(waiting(lab, sleep_until(datetime(2000, 1, 1, tzinfo=UTC))))
        assert result.status == "completed"

    def test_is_not_ended_by_a_signal(self, lab: Lab) -> None:
        w = waiting(lab, sleep(60))
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().signal(w, "o-1", "go").status == "suspended"

    def test_counts_from_the_end_of_the_step_not_from_a_later_tick(self, lab: Lab) -> None:
        w = waiting(lab, sleep(60))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(30)
        lab.engine().wake(w, "o-1")
        lab.clock.advance(30)
        assert lab.engine().wake(w, "o-1").status == "completed"


class TestTheLimitOfTenThousandSignals:
    def test_is_told_by_the_error(self, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        state = load(lab.storage, lab.ref("o-1")).state
        state.consumed = dict.fromkeys(f"go/{index:032x}" for index in range(MOST_SIGNALS))
        lab.storage.put_snapshot(lab.ref("o-1"), state.seq, encode_state(state))
        result = lab.engine().signal(w, "o-1", "go")
        assert (result.status, result.error.type if result.error else None) == ("failed", "TooManySignals")
        assert "the instance has taken 10000 signals, which is the most; start another one" in str(result.error)

    def test_does_not_bite_before(self, lab: Lab) -> None:
        w = waiting(lab)
        lab.engine().execute(w, None, "o-1")
        state = load(lab.storage, lab.ref("o-1")).state
        state.consumed = dict.fromkeys(f"go/{index:032x}" for index in range(MOST_SIGNALS - 1))
        lab.storage.put_snapshot(lab.ref("o-1"), state.seq, encode_state(state))
        assert lab.engine().signal(w, "o-1", "go").status == "completed"


class BetweenTwoLooks:
    """A store that lets something happen right after the next look at a log's tail."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.meanwhile: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        found: tuple[int, bytes] | None = self._inner.tail(ref)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return found


class TestASignalThatRacesTheEnd:
    def test_is_kept_if_a_retry_opens_the_instance_again_meanwhile(self) -> None:
        store = BetweenTwoLooks(MemoryStorage())
        w = create_workflow("order").step("first", lambda ctx: 1).step("gate", lambda ctx: wait("go"))
        engine = FluxEngine(store)
        engine.execute(w, None, "o-1")
        engine.signal(w, "o-1", "go", 1)
        store.meanwhile = lambda: FluxEngine(store).retry_step(w, "o-1", "first", force=True)
        result = engine.signal(w, "o-1", "go", 2)
        assert (result.status, output(result, 1)) == ("completed", 2)

    def test_is_refused_if_the_instance_ends_meanwhile_without_it(self) -> None:
        store = BetweenTwoLooks(MemoryStorage())
        w = create_workflow("order").step("gate", lambda ctx: wait("go"))
        engine = FluxEngine(store)
        engine.execute(w, None, "o-1")
        store.meanwhile = lambda: FluxEngine(store).signal(w, "o-1", "go", 1)
        with pytest.raises(Refused, match="it has completed"):
            engine.signal(w, "o-1", "go", 2)
