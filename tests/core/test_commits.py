"""Commits: the intent is durable before the effect, a success is never run again, an unknown outcome never guessed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    NOT_DONE,
    UNKNOWN,
    Context,
    Done,
    FluxResult,
    NonRetryable,
    Refused,
    RetryPolicy,
    Unknown,
    WorkflowBuilder,
    compensation,
    create_workflow,
    sleep,
    verify,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.conftest import Lab

DURABLE = RetryPolicy(60, maximum=60, jitter=False)


class Bank:
    """The other side: what it was told, and what it does with each attempt in turn."""

    def __init__(self, lab: Lab, *script: Any) -> None:
        self.lab = lab
        self.script = list(script)
        self.charged: list[str] = []

    def charge(self, ctx: Context) -> object:
        self.charged.append(ctx.idempotency_key)
        what = self.script[min(len(self.charged), len(self.script)) - 1]
        if isinstance(what, BaseException) or (isinstance(what, type) and issubclass(what, BaseException)):
            raise what
        return what(ctx) if callable(what) else what


def order(bank: Bank, **options: Any) -> WorkflowBuilder:
    w = create_workflow("order").step("before", bank.lab.note("before"))
    w.commit("charge", bank.charge, **options)
    return w.step("after", lambda ctx: ctx.results.get("charge", "no charge"))


def caused(outer: BaseException, inner: BaseException, *, context: bool = False) -> BaseException:
    setattr(outer, "__context__" if context else "__cause__", inner)
    return outer


def failing(ctx: Context) -> None:
    raise NonRetryable


def is_stuck(result: FluxResult, reason: str = "unknown_outcome") -> bool:
    error = result.error
    return result.status == "stuck" and error is not None and (error.type, error.step) == (reason, "charge")


class TestTheIntent:
    def test_of_each_attempt_is_durable_before_its_effect(self, lab: Lab) -> None:
        seen: list[list[str]] = []

        def charge(ctx: Context) -> None:
            seen.append(lab.types("o-1"))
            if ctx.attempt == 1:
                raise ValueError

        lab.engine().execute(create_workflow("order").commit("charge", charge), None, "o-1")
        assert seen == [["start", "intent"], ["start", "intent", "intent"]]
        assert lab.types("o-1") == ["start", "intent", "intent", "step", "end"]
        assert [record.body["a"] for record in lab.records("o-1") if record.type == "intent"] == [1, 2]

    def test_is_not_written_for_a_commit_that_is_skipped(self, lab: Lab) -> None:
        w = create_workflow("order").commit("charge", lab.note("charge"), when=lambda ctx: False)
        lab.engine().execute(w, None, "o-1")
        assert lab.types("o-1") == ["start", "skipped", "end"]

    def test_is_not_written_for_a_plain_step(self, lab: Lab) -> None:
        lab.engine().execute(create_workflow("order").step("a", lab.note("a")), None, "o-1")
        assert lab.types("o-1") == ["start", "step", "end"]


class TestAnOrdinaryException:
    def test_means_that_the_effect_did_not_happen_and_is_retried(self, lab: Lab) -> None:
        bank = Bank(lab, ValueError("no"), ConnectionRefusedError("no"), "paid")
        result = lab.engine(inline_backoff=10).execute(order(bank))
        assert (result.status, result.history[1].output, len(bank.charged)) == ("completed", "paid", 3)

    def test_that_lasts_fails_the_workflow(self, lab: Lab) -> None:
        bank = Bank(lab, ValueError("no"))
        result = lab.engine().execute(order(bank, retries=1))
        assert (result.status, str(result.error), len(bank.charged)) == ("failed", "no", 2)

    def test_of_a_refused_connection_is_ordinary_wherever_it_stands(self, lab: Lab) -> None:
        bank = Bank(lab, caused(ValueError("no"), ConnectionRefusedError()))
        assert lab.engine().execute(order(bank, retries=0)).status == "failed"


class ReadTimeout(TimeoutError):
    """As HTTP libraries have one."""


def ring() -> BaseException:
    one, other = ValueError(), TimeoutError()
    one.__cause__, other.__cause__ = other, one
    return one


UNKNOWN_OUTCOMES: dict[str, Callable[[], Any]] = {
    "raise Unknown": lambda: Unknown("who knows"),
    "Unknown as the cause": lambda: caused(ValueError(), Unknown()),
    "TimeoutError": lambda: TimeoutError("read timed out"),
    "a subclass of TimeoutError": ReadTimeout,
    "ConnectionResetError": ConnectionResetError,
    "BrokenPipeError": BrokenPipeError,
    "ConnectionError": ConnectionError,
    "TimeoutError as the cause": lambda: caused(ValueError(), TimeoutError()),
    "TimeoutError as the context": lambda: caused(ValueError(), TimeoutError(), context=True),
    "ConnectionResetError two causes deep": lambda: caused(ValueError(), caused(KeyError(), ConnectionResetError())),
    "TimeoutError behind a refused connection": lambda: caused(ConnectionRefusedError(), TimeoutError()),
    "NonRetryable caused by TimeoutError": lambda: caused(NonRetryable(), TimeoutError()),
    "one of a TaskGroup's errors": lambda: ExceptionGroup("", [ValueError(), caused(KeyError(), TimeoutError())]),
    "a chain that is a ring": ring,
}


class TestAnUnknownOutcome:
    @pytest.mark.parametrize("name", list(UNKNOWN_OUTCOMES))
    def test_is_never_retried_blindly_but_quarantined(self, name: str, lab: Lab) -> None:
        bank = Bank(lab, UNKNOWN_OUTCOMES[name](), "paid")
        result = lab.engine().execute(order(bank), None, "o-1")
        assert is_stuck(result)
        assert "nobody knows whether step 'charge' took effect" in str(result.error)
        assert "complete the step (it did), skip it, or retry it (it did not)" in str(result.error)
        lab.past_the_lease()
        assert lab.engine().recover() == []
        assert is_stuck(lab.engine().wake(order(bank), "o-1"))
        assert len(bank.charged) == 1

    @pytest.mark.parametrize("name", list(UNKNOWN_OUTCOMES))
    def test_of_a_plain_step_is_an_ordinary_failure(self, name: str, lab: Lab) -> None:
        bank = Bank(lab, UNKNOWN_OUTCOMES[name]())
        result = lab.engine().execute(create_workflow("order").step("charge", bank.charge, retries=0))
        assert result.status == "failed"

    def test_is_what_the_time_limit_makes(self, lab: Lab) -> None:
        async def slow(ctx: Context) -> None:
            await asyncio.sleep(20)

        assert is_stuck(lab.engine().execute(create_workflow("order").commit("charge", slow, timeout=0.02)))

    def test_is_what_a_death_makes(self, lab: Lab, killed: type[BaseException]) -> None:
        bank = Bank(lab, killed)
        w = order(bank)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        assert lab.engine().wake(w, "o-1").status == "running"
        lab.past_the_lease()
        (result,) = lab.engine(workflows=[w]).recover()
        assert is_stuck(result)
        assert len(bank.charged) == 1

    @pytest.mark.parametrize(
        "output", [object(), {"x": {1: print}}, object], ids=["an object", "a function inside", "a class"]
    )
    def test_is_what_a_result_that_cannot_be_kept_makes_since_the_effect_did_happen(
        self, output: Any, lab: Lab
    ) -> None:
        bank = Bank(lab, lambda ctx: output)
        result = lab.engine().execute(order(bank))
        assert is_stuck(result)
        assert "charge" in str(result.error)
        assert len(bank.charged) == 1

    def test_is_what_data_that_cannot_be_kept_makes(self, lab: Lab) -> None:
        bank = Bank(lab, lambda ctx: ctx.data.update(x=object()))
        assert is_stuck(lab.engine().execute(order(bank)))

    def test_is_not_what_a_failing_condition_makes(self, lab: Lab) -> None:
        bank = Bank(lab, "paid")

        def when(ctx: Context) -> bool:
            raise TimeoutError

        assert lab.engine().execute(order(bank, when=when, retries=0)).status == "failed"

    def test_is_told_in_the_history_as_a_step_that_runs(self, lab: Lab) -> None:
        result = lab.engine().execute(order(Bank(lab, Unknown())))
        assert lab.statuses(result) == {"before": "completed", "charge": "running", "after": "pending"}


class TestOnUnknownRetry:
    def test_runs_again_with_the_same_key(self, lab: Lab) -> None:
        bank = Bank(lab, Unknown(), "paid")
        result = lab.engine().execute(order(bank, on_unknown="retry"))
        assert (result.status, result.history[1].output) == ("completed", "paid")
        assert len(bank.charged) == 2
        assert len(set(bank.charged)) == 1

    def test_is_the_default_of_an_idempotent_commit(self, lab: Lab) -> None:
        bank = Bank(lab, TimeoutError(), "paid")
        assert lab.engine().execute(order(bank, idempotent=True)).status == "completed"

    def test_does_not_overrule_what_on_unknown_says(self, lab: Lab) -> None:
        bank = Bank(lab, TimeoutError(), "paid")
        assert is_stuck(lab.engine().execute(order(bank, idempotent=True, on_unknown="quarantine")))

    def test_runs_again_after_a_death_without_another_pause(self, lab: Lab, killed: type[BaseException]) -> None:
        bank = Bank(lab, killed, "paid")
        w = order(bank, on_unknown="retry", retry=DURABLE)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        assert lab.engine().wake(w, "o-1").status == "completed"
        assert len(set(bank.charged)) == 1

    def test_suspends_for_a_long_back_off_and_remembers_the_doubt(self, lab: Lab) -> None:
        bank = Bank(lab, Unknown(), NonRetryable("declined"))
        w = order(bank, on_unknown="retry", retry=DURABLE)
        assert lab.engine().execute(w, None, "o-1").status == "suspended"
        lab.clock.advance(60)
        assert is_stuck(lab.engine().wake(w, "o-1"))

    @pytest.mark.parametrize(
        "last", [NonRetryable("declined"), ValueError("no"), Unknown()], ids=["NonRetryable", "ordinary", "Unknown"]
    )
    def test_ends_stuck_never_failed_when_attempts_end_while_one_is_unresolved(self, last: Any, lab: Lab) -> None:
        bank = Bank(lab, Unknown(), last)
        assert is_stuck(lab.engine().execute(order(bank, on_unknown="retry", retries=1)))
        assert len(bank.charged) == 2

    def test_ends_stuck_when_deaths_have_used_up_the_attempts(self, lab: Lab, killed: type[BaseException]) -> None:
        bank = Bank(lab, killed)
        w = order(bank, on_unknown="retry", retries=1)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        with pytest.raises(killed):
            lab.engine().wake(w, "o-1")
        lab.past_the_lease()
        assert is_stuck(lab.engine().wake(w, "o-1"))
        assert len(bank.charged) == 2

    def test_does_not_run_again_what_produced_a_result_that_cannot_be_kept(self, lab: Lab) -> None:
        bank = Bank(lab, lambda ctx: object())
        assert is_stuck(lab.engine().execute(order(bank, on_unknown="retry")))
        assert len(bank.charged) == 1


class TestOnUnknownVerify:
    @pytest.mark.parametrize("how", ["raise", "death", "unkeepable"])
    def test_done_puts_the_probes_value_on_record_as_the_output(
        self, how: str, lab: Lab, killed: type[BaseException]
    ) -> None:
        bank = Bank(lab, {"raise": Unknown(), "death": killed(), "unkeepable": lambda ctx: object()}[how])
        keys: list[str] = []

        def probe(ctx: Context) -> Done:
            keys.append(ctx.idempotency_key)
            return Done("receipt 7")

        w = order(bank, on_unknown=verify(probe))
        if how == "death":
            with pytest.raises(killed):
                lab.engine().execute(w, None, "o-1")
            lab.past_the_lease()
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, result.history[1].output, result.history[2].output) == (
            "completed", "receipt 7", "receipt 7",
        )  # fmt: skip
        assert keys == bank.charged
        assert len(keys) == 1

    def test_done_without_a_value_has_no_output(self, lab: Lab) -> None:
        result = lab.engine().execute(order(Bank(lab, Unknown()), on_unknown=verify(lambda ctx: Done())))
        assert (result.status, result.history[1].output) == ("completed", None)

    def test_done_may_write_data_as_the_step_would_have(self, lab: Lab) -> None:
        def probe(ctx: Context) -> Done:
            ctx.data["receipt"] = 7
            return Done()

        assert lab.engine().execute(order(Bank(lab, Unknown()), on_unknown=verify(probe))).data == {"receipt": 7}

    def test_may_be_async(self, lab: Lab) -> None:
        async def probe(ctx: Context) -> Done:
            await asyncio.sleep(0)
            return Done(7)

        result = lab.engine(default_timeout=30).execute(order(Bank(lab, Unknown()), on_unknown=verify(probe)))
        assert result.history[1].output == 7

    @pytest.mark.parametrize("how", ["raise", "death"])
    def test_not_done_makes_it_an_ordinary_failure_which_is_retried(
        self, how: str, lab: Lab, killed: type[BaseException]
    ) -> None:
        bank = Bank(lab, Unknown() if how == "raise" else killed(), "paid")
        w = order(bank, on_unknown=verify(lambda ctx: NOT_DONE))
        if how == "death":
            with pytest.raises(killed):
                lab.engine().execute(w, None, "o-1")
            lab.past_the_lease()
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, result.history[1].output, len(bank.charged)) == ("completed", "paid", 2)

    def test_not_done_at_the_last_attempt_fails_the_workflow(self, lab: Lab) -> None:
        bank = Bank(lab, Unknown("lost"))
        result = lab.engine().execute(order(bank, on_unknown=verify(lambda ctx: NOT_DONE), retries=1))
        assert (result.status, str(result.error), len(bank.charged)) == ("failed", "lost", 2)

    def test_not_done_after_non_retryable_caused_by_a_timeout_is_not_retried(self, lab: Lab) -> None:
        bank = Bank(lab, caused(NonRetryable("declined"), TimeoutError()))
        result = lab.engine().execute(order(bank, on_unknown=verify(lambda ctx: NOT_DONE)))
        assert (result.status, len(bank.charged)) == ("failed", 1)

    @pytest.mark.parametrize(
        "answer", [UNKNOWN, None, True, "done", Done, 7, {}, sleep(5)], ids=lambda answer: type(answer).__name__
    )
    def test_anything_else_is_unknown_and_quarantines(self, answer: Any, lab: Lab) -> None:
        bank = Bank(lab, Unknown(), "paid")
        assert is_stuck(lab.engine().execute(order(bank, on_unknown=verify(lambda ctx: answer))))
        assert len(bank.charged) == 1

    def test_an_exception_of_the_probe_is_unknown_and_is_told(self, lab: Lab) -> None:
        def probe(ctx: Context) -> Done:
            message = "the bank is closed"
            raise OSError(message)

        result = lab.engine().execute(order(Bank(lab, Unknown("lost")), on_unknown=verify(probe)))
        assert is_stuck(result)
        assert "lost" in str(result.error)
        assert "the bank is closed" in str(result.error)
        assert [line[1] for line in lab.log.lines if line[0] == "warn"] == ["a probe raised"]

    def test_a_done_that_cannot_be_kept_is_unknown(self, lab: Lab) -> None:
        assert is_stuck(
            lab.engine().execute(order(Bank(lab, Unknown()), on_unknown=verify(lambda ctx: Done(object()))))
        )

    def test_a_probe_that_takes_too_long_is_unknown(self, lab: Lab) -> None:
        async def probe(ctx: Context) -> Done:
            await asyncio.sleep(20)
            return Done()

        assert is_stuck(lab.engine().execute(order(Bank(lab, Unknown()), on_unknown=verify(probe), timeout=0.05)))

    def test_a_probe_that_changes_the_input_is_unknown_and_changes_it_for_nobody(self, lab: Lab) -> None:
        def probe(ctx: Context) -> Done:
            ctx.input["n"] = 2
            return Done("paid")

        bank = Bank(lab, Unknown())
        result = lab.engine().execute(order(bank, on_unknown=verify(probe)), {"n": 1}, "o-1")
        assert is_stuck(result)
        assert "changed ctx.input" in str(result.error)
        assert result.state.input == {"n": 1}

    def test_a_probe_of_a_compensation_has_the_time_of_the_compensation(self, lab: Lab) -> None:
        left: list[float | None] = []

        def probe(ctx: Context) -> Done:
            left.append(ctx.remaining())
            return Done()

        def unsure(ctx: Context) -> None:
            raise Unknown

        undo = compensation(unsure, on_unknown=verify(probe), timeout=7)
        w = create_workflow("order").commit("a", lab.note("a"), timeout=50, compensate=undo)
        w.commit("b", unsure, on_unknown=verify(probe), timeout=5).step("c", failing)
        assert (lab.engine().execute(w).status, left) == ("rolled_back", [5, 7])

    def test_what_an_undecided_probe_wrote_vanishes(self, lab: Lab) -> None:
        def probe(ctx: Context) -> object:
            ctx.data["written"] = "by the probe"
            return NOT_DONE

        result = lab.engine().execute(order(Bank(lab, Unknown(), "paid"), on_unknown=verify(probe)))
        assert (result.status, result.data) == ("completed", {})

    def test_is_not_asked_about_an_ordinary_failure(self, lab: Lab) -> None:
        bank = Bank(lab, ValueError(), "paid")
        w = order(bank, on_unknown=verify(lambda ctx: lab.calls.append("probe")))
        assert lab.engine().execute(w).status == "completed"
        assert "probe" not in lab.calls

    def test_a_death_during_the_probe_asks_again(self, lab: Lab, killed: type[BaseException]) -> None:
        answers = iter([killed, Done(7)])

        def probe(ctx: Context) -> object:
            answer = next(answers)
            if answer is killed:
                raise killed
            return answer

        w = order(Bank(lab, Unknown()), on_unknown=verify(probe))
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        assert lab.engine().wake(w, "o-1").history[1].output == 7


class TestTheWaysOutOfStuck:
    def stuck(self, lab: Lab, *script: Any, **options: Any) -> tuple[WorkflowBuilder, Bank]:
        bank = Bank(lab, Unknown(), *script)
        w = order(bank, **options)
        assert is_stuck(lab.engine().execute(w, None, "o-1"))
        return w, bank

    def test_complete_step_puts_the_success_on_record_and_goes_on(self, lab: Lab) -> None:
        w, bank = self.stuck(lab)
        result = lab.engine().complete_step(w, "o-1", "charge", {"receipt": 7}, who="ann", why="asked the bank")
        assert (result.status, result.error) == ("completed", None)
        assert [step.output for step in result.history] == [None, {"receipt": 7}, {"receipt": 7}]
        assert len(bank.charged) == 1
        (resolve,) = (record for record in lab.records("o-1") if record.type == "resolve")
        assert (resolve.body["by"], resolve.body["why"]) == ("ann", "asked the bank")

    def test_skip_step_leaves_it_out_and_goes_on(self, lab: Lab) -> None:
        w, bank = self.stuck(lab)
        result = lab.engine().skip_step(w, "o-1", "charge", who="ann", why="paid in cash")
        assert (result.status, result.history[2].output, len(bank.charged)) == ("completed", "no charge", 1)
        assert lab.statuses(result) == {"before": "completed", "charge": "skipped", "after": "completed"}

    def test_retry_step_runs_it_again_with_the_same_key(self, lab: Lab) -> None:
        w, bank = self.stuck(lab, "paid")
        result = lab.engine().retry_step(w, "o-1", "charge")
        assert (result.status, result.history[1].output) == ("completed", "paid")
        assert len(bank.charged) == 2
        assert len(set(bank.charged)) == 1

    def test_retry_of_another_step_is_refused_until_it_is_decided(self, lab: Lab) -> None:
        w, bank = self.stuck(lab, "paid")
        with pytest.raises(
            Refused, match="step 'charge' has an attempt of unknown outcome; complete or skip that step first"
        ):
            lab.engine().retry_step(w, "o-1", "before")
        assert len(bank.charged) == 1

    def test_cancel_is_kept_until_the_outcome_is_decided_and_a_completed_one_is_undone(self, lab: Lab) -> None:
        w, _ = self.stuck(lab, compensate=lab.note("refund"))
        assert is_stuck(lab.engine().cancel(w, "o-1", "no longer wanted"))
        assert "refund" not in lab.calls
        result = lab.engine().complete_step(w, "o-1", "charge")
        assert (result.status, str(result.error)) == ("cancelled", "no longer wanted")
        assert lab.calls == ["before", "refund"]
        assert lab.statuses(result) == {"before": "completed", "charge": "compensated", "after": "pending"}

    def test_cancel_is_kept_and_a_skipped_one_is_not_undone(self, lab: Lab) -> None:
        w, _ = self.stuck(lab, compensate=lab.note("refund"))
        lab.engine().cancel(w, "o-1")
        result = lab.engine().skip_step(w, "o-1", "charge")
        assert (result.status, lab.calls) == ("cancelled", ["before"])

    @pytest.mark.parametrize(("answer", "undone"), [(Done(), ["before", "refund"]), (NOT_DONE, ["before"])])
    def test_cancel_asks_the_probe_again(self, answer: Any, undone: list[str], lab: Lab) -> None:
        answers = iter([UNKNOWN, answer])
        w, _ = self.stuck(lab, compensate=lab.note("refund"), on_unknown=verify(lambda ctx: next(answers)))
        assert lab.engine().cancel(w, "o-1").status == "cancelled"
        assert lab.calls == undone

    def test_a_signal_is_kept_meanwhile(self, lab: Lab) -> None:
        bank = Bank(lab, Unknown())
        w = create_workflow("order").commit("charge", bank.charge).step("w", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        assert is_stuck(lab.engine().signal(w, "o-1", "go", 7))
        result = lab.engine().complete_step(w, "o-1", "charge")
        assert (result.status, result.history[1].output) == ("completed", 7)


class TestARecordedSuccess:
    def test_is_never_run_again_by_a_resume_or_a_retry_of_an_earlier_step(self, lab: Lab) -> None:
        bank = Bank(lab, "paid")
        w = order(bank).step("last", lambda ctx: 1 / 0, retries=0)
        lab.engine().execute(w, None, "o-1")
        lab.engine().resume(w, "o-1")
        result = lab.engine().retry_step(w, "o-1", "before")
        assert len(bank.charged) == 1
        assert lab.calls == ["before", "before"]
        assert result.history[1].output == result.history[2].output == "paid"

    def test_is_not_run_again_by_a_crash_after_it(self, lab: Lab, killed: type[BaseException]) -> None:
        bank = Bank(lab, "paid")
        w = create_workflow("order").commit("charge", bank.charge)
        w.step("after", lambda ctx: lab.die(ctx) if not lab.calls else None)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        lab.calls.append("recovered")
        assert lab.engine().wake(w, "o-1").status == "completed"
        assert len(bank.charged) == 1

    def test_is_run_again_by_retry_step_with_force_only(self, lab: Lab) -> None:
        bank = Bank(lab, "first", "second")
        w = order(bank).step("last", lambda ctx: 1 / 0, retries=0)
        lab.engine().execute(w, None, "o-1")
        kept = lab.engine().retry_step(w, "o-1", "charge")
        forced = lab.engine().retry_step(w, "o-1", "charge", force=True)
        assert (kept.history[1].output, forced.history[1].output, len(bank.charged)) == ("first", "second", 2)


class TestPoison:
    def test_five_deaths_without_progress_make_an_instance_stuck_and_say_what_to_do(
        self, lab: Lab, killed: type[BaseException]
    ) -> None:
        w = create_workflow("order").step("a", lab.note("a")).step("charge", lab.die)
        with pytest.raises(killed):
            lab.engine().execute(w, None, "o-1")
        for _ in range(4):
            lab.past_the_lease()
            with pytest.raises(killed):
                lab.engine().wake(w, "o-1")
        lab.past_the_lease()
        result = lab.engine().wake(w, "o-1")
        assert is_stuck(result, "poison")
        assert "5 invocations died without progress, the last at step 'charge'" in str(result.error)
        assert "then retry, complete or skip that step, or cancel" in str(result.error)
        assert lab.engine().recover() == []

    def test_pauses_between_deaths_grow(self, lab: Lab, killed: type[BaseException]) -> None:
        w = create_workflow("order").step("charge", lab.die)
        engine = lab.engine(workflows=[w], lease=20)  # a lease of 20 s has a reserve of 5 s
        with pytest.raises(killed):
            engine.execute(w, None, "o-1")
        for pause in (0, 1, 2, 4):
            lab.clock.advance(25 + pause - 0.001)
            engine.recover()
            deaths = engine.get(w, "o-1").state.deaths
            lab.clock.advance(0.001)
            with pytest.raises(killed):
                engine.recover()
            assert engine.get(w, "o-1").state.deaths == deaths + 1

    def test_progress_starts_the_count_again(self, lab: Lab, killed: type[BaseException]) -> None:
        def dies_twice(ctx: Context) -> None:
            lab.calls.append(str(ctx.step))
            if lab.calls.count(str(ctx.step)) <= 3:
                raise killed

        w = create_workflow("order").step("a", dies_twice).step("b", dies_twice).step("c", dies_twice)
        for _ in range(9):
            with pytest.raises(killed):
                lab.engine().execute(w, None, "o-1")
            lab.past_the_lease()
        assert lab.engine().execute(w, None, "o-1").status == "completed"

    @pytest.mark.parametrize(
        ("verb", "status"), [("retry_step", "completed"), ("complete_step", "completed"), ("skip_step", "completed")]
    )
    def test_has_ways_out(self, verb: str, status: str, lab: Lab, killed: type[BaseException]) -> None:
        healthy: list[bool] = []

        def handler(ctx: Context) -> None:
            if not healthy:
                raise killed

        w = create_workflow("order").step("charge", handler).step("b", lab.note("b"))
        for _ in range(5):
            with pytest.raises(killed):
                lab.engine().execute(w, None, "o-1")
            lab.past_the_lease()
        assert is_stuck(lab.engine().execute(w, None, "o-1"), "poison")
        healthy.append(True)
        assert getattr(lab.engine(), verb)(w, "o-1", "charge").status == status
        assert lab.calls == ["b"]

    def test_can_be_cancelled_and_undone(self, lab: Lab, killed: type[BaseException]) -> None:
        w = create_workflow("order").step("a", lab.note("a"), compensate=lab.note("undo a")).step("charge", lab.die)
        for _ in range(5):
            with pytest.raises(killed):
                lab.engine().execute(w, None, "o-1")
            lab.past_the_lease()
        lab.engine().execute(w, None, "o-1")
        assert lab.engine().cancel(w, "o-1").status == "cancelled"
        assert lab.calls == ["a", "undo a"]


class TestAQuarantine:
    def test_keeps_what_made_the_outcome_unknown_while_other_steps_are_settled(self, lab: Lab) -> None:
        def charge(ctx: Context) -> None:
            raise Unknown("the bank did not answer")

        w = create_workflow("order").commit("charge", charge, compensate=lab.note("refund")).step("ship", lab.note("x"))
        first = lab.engine().execute(w, None, "o-1")
        assert "(Unknown: the bank did not answer)" in str(first.error)
        assert str(lab.engine().skip_step(w, "o-1", "ship").error) == str(first.error)
        assert str(lab.engine().cancel(w, "o-1").error) == str(first.error)
