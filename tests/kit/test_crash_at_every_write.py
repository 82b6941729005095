"""`crash_at_every_write`: everything that can go wrong at each storage call, and what it says when an end differs."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    NOT_DONE,
    DefinitionError,
    Done,
    NonRetryable,
    Refused,
    Unknown,
    create_workflow,
    verify,
    wait,
)
from flux_core.testing import FluxTest, crash_at_every_write
from flux_core.testing.disturbance import KINDS, Schedule
from flux_core.testing.faults import WRITES
from tests.kit.orders import INPUT, order_workflow

if TYPE_CHECKING:
    from flux_core import Context, WorkflowBuilder
    from flux_core.testing import Run

APPROVED = ("approval", {"by": "Ada"})


class Provider:
    """Another side that does nothing twice for one idempotency key, and remembers what it did."""

    def __init__(self) -> None:
        self.charges: dict[str, int] = {}
        self.calls: Counter[str] = Counter()

    def charge(self, ctx: Context) -> dict[str, int]:
        self.calls[ctx.step or ""] += 1
        self.charges.setdefault(ctx.idempotency_key, ctx.input["amount"])
        return {"amount": ctx.input["amount"]}

    def check(self, ctx: Context) -> object:
        key = ctx.idempotency_key
        return Done({"amount": self.charges[key]}) if key in self.charges else NOT_DONE

    def workflow(self, **options: Any) -> WorkflowBuilder:
        flow = create_workflow("pay").commit("charge", self.charge, **options)
        return flow.step("approval", lambda ctx: wait("approval", timeout=60)).step("ship", lambda ctx: "shipped")


@pytest.fixture
def provider() -> Provider:
    return Provider()


class TestAWorkflowThatHoldsItsPromises:
    @pytest.mark.parametrize("options", ["idempotent", "verified"])
    def test_ends_alike_whatever_happens(self, provider: Provider, options: str) -> None:
        given: dict[str, Any] = {"idempotent": True}
        if options == "verified":
            given = {"on_unknown": verify(provider.check)}
        report = crash_at_every_write(provider.workflow(**given), INPUT, signals=[APPROVED], effects=provider.charges)
        assert report.end.status == "completed"
        assert report.end.steps[2] == ("ship", "completed", "shipped")
        assert len(report.end.effects) == 1
        assert report.stuck == {}
        assert report.runs > 3 * len(report.calls)
        assert str(report) == (
            f"pay: {len(report.calls)} storage calls, {report.runs} disturbed runs, none ended otherwise"
        )
        assert repr(report) == f"<CrashReport {report}>"
        assert report.story.startswith("pay/crash-test, started")

    def test_is_tried_at_every_call_in_every_way(self, provider: Provider) -> None:
        report = crash_at_every_write(provider.workflow(idempotent=True), INPUT, signals=[APPROVED])
        assert report.calls[:3] == [
            "append: the start", "append: the intent of step 'charge'", "append: the outcome of step 'charge'",
        ]  # fmt: skip
        assert report.calls[-1] == "append: the end"
        writes = sum(call.partition(":")[0] in WRITES for call in report.calls)
        appends = sum(call.startswith("append") for call in report.calls)
        assert report.runs == 2 * len(report.calls) + 2 * writes + appends

    def test_may_end_in_a_roll_back(self) -> None:
        order = order_workflow(idempotent=True)
        report = crash_at_every_write(order, INPUT)
        assert report.end.status == "rolled_back"
        assert report.end.error == ("WaitTimeout", "approval")

    def test_is_really_disturbed(self, provider: Provider) -> None:
        """A commit whose invocation died after its effect has run twice: the provider was asked again."""
        flow = provider.workflow(idempotent=True)
        for schedule, calls in {
            "crash before 2": 1,
            "crash before 3": 2,
            "zombie after 2": 2,
            "duplicate before 1": 1,
        }.items():
            provider.calls.clear()
            report = crash_at_every_write(
                flow, INPUT, signals=["approval"], prepare=lambda flux: provider.calls.clear(), schedule=schedule
            )
            assert (report.runs, provider.calls["charge"]) == (1, calls)

    def test_may_be_driven_by_a_function(self, provider: Provider) -> None:
        def drive(flux: FluxTest, run: Run) -> None:
            flux.stub("ship", raises=NonRetryable("no driver"))
            run.signal("approval", {"by": "Ada"})
            flux.unstub("ship")
            run.retry_step("ship", who="ada", why="a driver came")

        report = crash_at_every_write(
            provider.workflow(idempotent=True), INPUT, drive=drive, effects=provider.charges, default_retries=0
        )
        assert report.end.status == "completed"

    @pytest.mark.parametrize("verb", ["cancel", "pause", "skip"])
    def test_may_be_sent_any_verb_which_is_not_sent_twice_if_it_was_taken(self, provider: Provider, verb: str) -> None:
        def drive(flux: FluxTest, run: Run) -> None:
            if verb == "cancel":
                run.cancel("no longer wanted")
            elif verb == "pause":
                run.pause()
                flux.advance(seconds=30)
                run.unpause()
            else:
                run.skip_step("approval", why="not today")

        report = crash_at_every_write(provider.workflow(idempotent=True), INPUT, drive=drive, effects=provider.charges)
        assert report.end.status == {"cancel": "cancelled", "pause": "suspended", "skip": "completed"}[verb]

    def test_may_have_stubs(self) -> None:
        order = order_workflow(idempotent=True)

        def prepare(flux: FluxTest) -> None:
            flux.stub("charge", returns={"id": "ch_1"})
            flux.stub("ship", returns="by sea")

        report = crash_at_every_write(order, INPUT, signals=[APPROVED], prepare=prepare)
        assert report.end.steps[0] == ("charge", "completed", {"id": "ch_1"})

    def test_options_are_the_engine_s(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: 1 / 0)
        one = crash_at_every_write(flow, default_retries=0)
        more = crash_at_every_write(flow, default_retries=3, inline_backoff=0)
        assert len(more.calls) > len(one.calls)

    def test_a_signal_may_be_needed_twice(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: wait("go")).step("b", lambda ctx: wait("go"))
        report = crash_at_every_write(flow, signals=[("go", 1), ("go", 2)])
        assert [output for _, _, output in report.end.steps] == [1, 2]


class TestAnUnknownOutcome:
    def test_that_needs_an_operator_is_counted_and_not_compared(self, provider: Provider) -> None:
        report = crash_at_every_write(provider.workflow(), INPUT, signals=[APPROVED], effects=provider.charges)
        assert report.stuck == {
            "crash after 2": "charge",
            "zombie after 2": "charge",
            "crash before 3": "charge",
            "zombie before 3": "charge",
        }
        assert str(report).endswith("none ended otherwise; 4 of them need an operator (unknown outcome of 'charge')")

    def test_is_resolved_by_the_operator_and_then_compared(self, provider: Provider) -> None:
        asked = []

        def resolve(run: Run, step: str) -> None:
            charged = provider.charges.get(run.idempotency_key(step))
            asked.append(charged is not None)
            if charged is None:
                run.retry_step(step)
            else:
                run.complete_step(step, {"amount": charged}, who="operator", why="seen at the provider")

        report = crash_at_every_write(
            provider.workflow(), INPUT, signals=[APPROVED], effects=provider.charges, resolve=resolve
        )
        assert report.stuck == {}
        assert sorted(asked) == [False, True, True, True]

    def test_of_the_undisturbed_run_is_its_end_unless_somebody_resolves_it(self) -> None:
        def charge(ctx: Context) -> None:
            raise Unknown("silence")

        flow = create_workflow("flow").commit("charge", charge)
        assert crash_at_every_write(flow).end.status == "stuck"
        resolved = crash_at_every_write(flow, resolve=lambda run, step: run.complete_step(step, "by hand"))
        assert resolved.end.steps == [("charge", "completed", "by hand")]

    def test_that_the_operator_leaves_as_it_is_is_a_mistake_of_the_test(self, provider: Provider) -> None:
        with pytest.raises(AssertionError, match=r"resolve= was called 20 times, and step 'charge' is stuck"):
            crash_at_every_write(provider.workflow(), INPUT, resolve=lambda run, step: None, schedule="crash before 3")


class TestADifference:
    def test_in_effects_is_told_with_the_schedule_and_the_story(self, provider: Provider) -> None:
        """A provider without idempotency keys: a death after the effect charges twice."""
        flow = provider.workflow(idempotent=True)
        with pytest.raises(AssertionError) as told:
            crash_at_every_write(flow, INPUT, signals=[APPROVED], effects=provider.calls)
        said = str(told.value).splitlines()
        assert said[0] == "crash_at_every_write(pay): a disturbed run differs (run 10)."
        assert said[1].startswith("  schedule: the lease ends after the call, another invocation takes over, ")
        assert said[1].endswith("; call 2 is append: the intent of step 'charge'")
        assert said[2:5] == [
            "  effects: Counter({'charge': 2}); undisturbed: Counter({'charge': 1})",
            '  to repeat just this run: crash_at_every_write(..., schedule="zombie after 2")',
            "",
        ]
        assert said[5].startswith("pay/crash-test, started")
        assert any(line.endswith("charge, attempt 2 completed: {'amount': 5}") for line in said)
        assert any("attempt 1 ended, but its invocation could not record that any more" in line for line in said)

    def test_is_found_again_by_its_schedule_alone(self, provider: Provider) -> None:
        flow = provider.workflow(idempotent=True)
        with pytest.raises(AssertionError, match=r"differs \(run 1\)"):
            crash_at_every_write(flow, INPUT, effects=provider.calls, schedule="crash before 3")
        assert crash_at_every_write(flow, INPUT, effects=provider.calls, schedule="crash before 2").runs == 1

    def test_in_status_data_outputs_and_errors_is_told(self) -> None:
        memory: list[str] = []

        def forgetful(ctx: Context) -> str:
            """It trusts a variable of the process, which a second attempt finds changed."""
            memory.append(ctx.id)
            ctx.data.times = len(memory)
            if len(memory) > 1:
                raise NonRetryable("twice")
            return "once"

        flow = create_workflow("flow").step("a", forgetful)
        with pytest.raises(AssertionError) as told:
            crash_at_every_write(flow, prepare=lambda flux: memory.clear(), schedule="crash before 2")
        assert str(told.value).splitlines()[2:6] == [
            "  status: 'failed'; undisturbed: 'completed'",
            "  data: {}; undisturbed: {'times': 1}",
            "  step 'a': failed, output None; undisturbed: completed, output 'once'",
            "  error: ('NonRetryable', 'a'); undisturbed: None",
        ]

    def test_in_what_is_raised_is_told(self, provider: Provider) -> None:
        def drive(flux: FluxTest, run: Run) -> None:
            if run.attempts("charge")[-1].number > 1:
                raise Refused("the driver has seen a second attempt")

        with pytest.raises(AssertionError, match="it raised Refused: the driver has seen a second attempt") as told:
            crash_at_every_write(provider.workflow(idempotent=True), INPUT, drive=drive, schedule="crash before 3")
        assert isinstance(told.value.__cause__, Refused)

    def test_between_undisturbed_runs_makes_comparing_impossible(self) -> None:
        numbers = count(1)
        flow = create_workflow("flow").step("a", lambda ctx: next(numbers))
        with pytest.raises(AssertionError) as told:
            crash_at_every_write(flow)
        said = str(told.value).splitlines()
        assert said[0].startswith("crash_at_every_write(flow) cannot compare anything: two undisturbed runs do not end")
        assert said[1:] == ["  step 'a': completed, output 2; the first run: completed, output 1"]

    def test_an_effect_may_be_told_by_a_function(self, provider: Provider) -> None:
        flow = provider.workflow(idempotent=True)
        with pytest.raises(AssertionError, match="effects: 2; undisturbed: 1"):
            crash_at_every_write(flow, INPUT, effects=provider.calls.total, prepare=lambda flux: provider.calls.clear())


class TestSchedules:
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_read_as_they_are_written(self, kind: str) -> None:
        assert Schedule.parse(str(Schedule(kind, 12))) == Schedule(kind, 12)

    @pytest.mark.parametrize("text", ["", "crash before", "crash before 0", "crash before -1", "crash 5", "5"])
    def test_that_are_none_are_refused(self, text: str) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: None)
        with pytest.raises(ValueError, match='such as "crash before 5"; the kinds are crash before, crash after, '):
            crash_at_every_write(flow, schedule=text)

    def test_of_a_call_that_is_never_made_say_so(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: None)
        with pytest.raises(
            AssertionError, match=r"call 99 is which is never made undisturbed\n  it made 3 storage calls"
        ):
            crash_at_every_write(flow, schedule="crash before 99")


def test_a_store_cannot_be_given() -> None:
    with pytest.raises(DefinitionError, match="runs on memory"):
        crash_at_every_write(order_workflow(), INPUT, storage=None)
