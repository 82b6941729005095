"""The story of a run: what happened in words, what it waits for now, and what would move it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flux_core import NonRetryable, RetryPolicy, Unknown, create_workflow, flow, sleep, wait
from flux_core.testing import FluxTest, InvocationDied
from tests.kit.orders import INPUT, order_workflow

if TYPE_CHECKING:
    from flux_core import Context, WorkflowBuilder
    from flux_core.testing import Run

STEADY = RetryPolicy(initial=1, jitter=False)
_LEFT_STANDING = (
    "The compensation of step 'charge' failed: run.complete_step('charge') says it was undone by hand, "
    "run.skip_step('charge') leaves it standing."
)


def lines(run: Run) -> list[str]:
    """The story without its head."""
    return [line.strip() for line in run.story().splitlines()[1:]]


def one_step(**options: Any) -> WorkflowBuilder:
    return create_workflow("flow", retry=STEADY).step("a", lambda ctx: None, **options)


def one_commit(**options: Any) -> WorkflowBuilder:
    return create_workflow("flow", retry=STEADY).commit("a", lambda ctx: None, **options)


def test_a_whole_story() -> None:
    order = order_workflow(retry=STEADY, idempotent=True)
    flux = FluxTest(order)
    flux.stub("charge", sequence=[TimeoutError("gateway"), ValueError("no"), {"id": "ch_1"}])
    run = flux.execute(order, INPUT, id="o-1")
    run.signal("aproval", {"by": "Bo"})
    flux.advance(days=2)
    assert flux.story(run) == run.story()
    assert run.story().splitlines() == [
        "order/o-1, started 2023-11-14 22:13:20 UTC",
        "  +00:00:00        starts with input {'amount': 5}",
        "  +00:00:00        charge, attempt 1 failed with TimeoutError: gateway (it may have taken effect)",
        "  +00:00:01        charge, attempt 2 failed with ValueError: no",
        "  +00:00:03        charge, attempt 3 completed: {'id': 'ch_1'}",
        "  +00:00:03        approval waits for signal 'approval' for 3 d",
        "  +00:00:03        signal 'aproval' arrives: {'by': 'Bo'}",
        "  +2d 00:00:03     now: suspended",
        "",
        "  Step 'approval' waits for signal 'approval' for another 1 d (until 2023-11-17 22:13:23 UTC).",
        '  To go on: run.signal("approval", payload), or flux.advance(days=1) to let the wait fail.',
        "  Nobody has taken signal 'aproval' {'by': 'Bo'}; is 'approval' meant?",
    ]
    run.signal("approval", {"by": "Ada"})
    flux.stub("ship", raises=NonRetryable("no driver"))
    flux.advance(hours=1)
    assert lines(run)[6:] == [
        "+2d 00:00:03     approval completed by signal 'approval': {'by': 'Ada'}",
        "+2d 00:00:03     nap sleeps for 1 h",
        "+2d 01:00:03     nap has slept",
        "+2d 01:00:03     ship fails for good: NonRetryable: no driver",
        "+2d 01:00:03     charge undone; data.refunded = True",
        "+2d 01:00:03     ends rolled_back (step 'ship')",
        "+2d 01:00:03     now: rolled_back",
        "",
        "To try again: run.resume(), or run.retry_step(step) from an earlier step.",
        "Nobody has taken signal 'aproval' {'by': 'Bo'}.",
    ]


class TestWhatHappened:
    def test_a_long_back_off(self) -> None:
        flow = one_step(retry=RetryPolicy(initial=60, maximum=60, jitter=False))
        flux = FluxTest(flow)
        flux.stub("a", sequence=[OSError("busy"), None])
        run = flux.execute(flow)
        assert lines(run)[1:] == [
            "+00:00:00        a, attempt 1 failed with OSError: busy; next attempt in 1 min",
            "+00:00:00        now: suspended",
            "",
            "Step 'a' is tried again in 1 min. To go on: flux.advance(minutes=1).",
        ]

    def test_data_that_changes_and_outputs_that_are_long(self) -> None:
        def work(ctx: Context) -> str:
            ctx.data.update(a=1, b="x" * 300)
            return "y" * 300

        def drop(ctx: Context) -> None:
            del ctx.data["b"]

        flow = create_workflow("flow").step("a", work).step("b", drop)
        told = lines(FluxTest(flow).execute(flow))
        assert told[1].startswith(
            f"+00:00:00        a completed: '{'y' * 79}... (302 characters); data.a = 1, data.b = 'xxx"
        )
        assert told[2] == "+00:00:00        b completed; data.b removed"

    def test_a_skipped_step_and_a_wait_that_ends_with_its_default(self) -> None:
        flow = one_step(when=lambda ctx: False).step("b", lambda ctx: wait("go", timeout=60, on_timeout="late"))
        flux = FluxTest(flow)
        run = flux.execute(flow)
        assert "or flux.advance(minutes=1) to let the wait end with its on_timeout." in lines(run)[-1]
        flux.advance(minutes=1)
        assert lines(run)[1:4] == [
            "+00:00:00        a skipped: its condition does not hold",
            "+00:00:00        b waits for signal 'go' for 1 min",
            "+00:01:00        b completed by its timeout: 'late'",
        ]

    def test_a_compensation_that_fails_and_is_settled_by_hand(self) -> None:
        order = order_workflow()
        flux = FluxTest(order)
        flux.stub("charge", part="compensate", raises=NonRetryable("too late"))
        run = flux.execute(order, INPUT)
        run.cancel("ordered twice", who="ada")
        assert lines(run)[3:] == [
            "+00:00:00        cancel by ada: ordered twice",
            "+00:00:00        charge could not be undone: NonRetryable: too late",
            "+00:00:00        ends cancelled",
            "+00:00:00        now: cancelled",
            "",
            _LEFT_STANDING,
        ]
        run.complete_step("charge", who="ada", why="sent it back")
        assert lines(run)[6] == "+00:00:00        charge: its undoing completed by hand by ada: sent it back"

    def test_a_compensation_that_is_tried_again(self) -> None:
        order = order_workflow()
        flux = FluxTest(order, inline_backoff=0, retry=STEADY)
        flux.stub("charge", part="compensate", sequence=[OSError("busy"), None])
        run = flux.execute(order, INPUT)
        run.cancel()
        assert lines(run)[4:] == [
            "+00:00:00        charge: undoing it, attempt 1 failed with OSError: busy; next attempt in 1 s",
            "+00:00:00        now: rolling_back",
            "",
            "The compensation of step 'charge' is tried again in 1 s. To go on: flux.advance(seconds=1).",
        ]

    def test_a_compensation_whose_first_attempt_failed_in_the_same_invocation(self) -> None:
        order = order_workflow()
        flux = FluxTest(order, retry=STEADY)
        flux.stub("charge", part="compensate", sequence=[OSError("busy"), None])
        run = flux.execute(order, INPUT)
        run.cancel()
        assert lines(run)[4:6] == [
            "+00:00:00        charge: undoing it, attempt 1 failed with OSError: busy",
            "+00:00:01        charge undone",
        ]

    def test_a_retry_and_what_it_keeps(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: 1).commit("b", lambda ctx: 2).step("c", lambda ctx: None)
        flux = FluxTest(flow)
        flux.stub("c", sequence=[NonRetryable("no"), 3])
        run = flux.execute(flow)
        run.retry_step("a", who="ada", why="mended")
        assert lines(run)[5:9] == [
            "+00:00:00        retry of step 'a' by ada: mended; kept: b",
            "+00:00:00        a completed: 1",
            "+00:00:00        b completed, kept by the retry: 2",
            "+00:00:00        c completed: 3",
        ]

    def test_a_pause(self) -> None:
        order = order_workflow()
        run = FluxTest(order).execute(order, INPUT)
        run.pause(who="ada", why="stocktaking")
        assert lines(run)[3:] == [
            "+00:00:00        pause by ada: stocktaking",
            "+00:00:00        now: paused",
            "",
            "It is paused. To go on: run.unpause().",
        ]
        run.unpause(who="bo")
        assert lines(run)[4] == "+00:00:00        end of the pause by bo"

    def test_a_workflow_that_takes_too_long(self) -> None:
        flow = create_workflow("flow", timeout=60).step("a", lambda ctx: wait("go"))
        flux = FluxTest(flow)
        run = flux.execute(flow)
        assert lines(run)[-1] == "The whole workflow may take another 1 min."
        flux.advance(minutes=1)
        assert lines(run)[2] == (
            "+00:01:00        the workflow fails: WorkflowTimeout: the workflow did not end within 60 s (its timeout)"
        )

    def test_a_hand_over(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: None).commit("b", lambda ctx: None)
        flux = FluxTest(flow)
        flux.stub("a", returns=1, takes=20)
        run = flux.execute(flow, deadline=25)
        assert lines(run)[2:] == [
            "+00:00:20        the invocation ends and hands over",
            "+00:00:20        now: running",
            "",
            "It has been handed over and is due now. To go on: flux.run_until_idle().",
        ]

    def test_a_step_that_the_deadline_cuts(self) -> None:
        flow = one_step()
        flux = FluxTest(flow)
        flux.stub("a", returns=1, takes=20)
        run = flux.execute(flow, deadline=10)
        assert "the invocation ends and hands over: step a was cut" in "\n".join(lines(run))

    def test_a_death(self) -> None:
        flow = one_commit(idempotent=True)
        flux = FluxTest(flow)
        flux.stub("a", sequence=[InvocationDied("power cut"), "done"])
        with pytest.raises(InvocationDied):
            flux.execute(flow, id="1")
        run = flux.instance(flow, "1")
        assert lines(run)[1:] == [
            "+00:00:00        a, attempt 1 died with InvocationDied: power cut",
            "+00:00:00        now: running",
            "",
            "An invocation owns it until its lease ends, in 2 min 5 s. If it has died, another goes on then.",
            "To go on: flux.advance(minutes=2, seconds=5).",
        ]
        flux.advance(minutes=2, seconds=5)
        assert lines(run)[2:4] == [
            "+00:02:05        another invocation takes over: the one before it had died, or was too slow",
            "+00:02:05        a, attempt 2 completed: 'done'",
        ]

    def test_what_somebody_should_look_at_in_the_log(self) -> None:
        def broken(name: str, ctx: Context, result: object) -> None:
            raise RuntimeError("the hook is broken")

        flow = one_step()
        told = lines(FluxTest(flow, on={"step_complete": broken}).execute(flow))
        assert told[3] == (
            "+00:00:00        log: a hook step_complete raised; the workflow goes on, error "
            "RuntimeError('the hook is broken')"
        )


class TestForksAndChildren:
    def test_branches_items_and_a_child_in_one_story(self) -> None:
        kid = create_workflow("kid").wait("approve", "ok").step("end", lambda ctx: ctx.data.update(x=1))
        order = create_workflow("order").parallel(
            "fan",
            flow("pay").step("charge", lambda ctx: ctx.data.update(k=1)),
            flow("ship").map("each", [7], flow().step("label", lambda ctx: ctx.item)).child("sub", kid),
            flow("more").step("count", lambda ctx: ctx.data.update(k=2)),
            merge={"k": sum},
        )
        flux = FluxTest(order, kid)
        run = flux.execute(order, {}, id="o-1")
        child = next(step.child for step in run.history if step.child) or ""
        assert run.waiting_for == ()
        assert lines(run)[-5:] == [
            f"+00:00:00        fan.ship.sub starts {child} with input None and waits for its end",
            "+00:00:00        now: suspended",
            "",
            f"Step 'fan.ship.sub' waits until its child {child} ends.",
            'To go on: move the child, flux.instance("{}", "{}").'.format(*child.split("/")),
        ]
        flux.instance(*child.split("/")).signal("ok")
        assert lines(run) == [
            "+00:00:00        starts with input {}",
            "+00:00:00        fan: 3 branches",
            "+00:00:00        fan.pay.charge completed; data.k = 1",
            "+00:00:00        fan.ship.each: 1 item",
            "+00:00:00        fan.more.count completed; data.k = 2",
            "+00:00:00        fan.ship.each[0].label completed: 7",
            f"+00:00:00        fan.ship.sub starts {child} with input None and waits for its end",
            "+00:00:00        fan.ship.sub completed by its child: {'x': 1}",
            "+00:00:00        fan: what was written at the same time comes together; data.k = 3",
            "+00:00:00        ends completed",
            "+00:00:00        now: completed",
        ]

    def test_a_child_that_fails(self) -> None:
        kid = create_workflow("kid").step("a", lambda ctx: None)
        order = create_workflow("order").child("sub", kid)
        flux = FluxTest(order, kid)
        flux.stub("a", raises=NonRetryable("no van"), workflow=kid)
        run = flux.execute(order, {}, id="o-1")
        child = next(step.child for step in run.history if step.child) or ""
        workflow, _, id_ = child.partition("/")
        assert lines(run)[1:3] == [
            f"+00:00:00        sub starts {child} with input None and waits for its end",
            f"+00:00:00        sub fails for good: ChildFailed: child {workflow!r}, id {id_!r} is failed: no van",
        ]

    def test_of_many_that_wait_some_are_told(self) -> None:
        order = create_workflow("order").map("each", list(range(50)), flow().wait("go", "go"), max_concurrency=None)
        run = FluxTest(order).execute(order, {}, id="o-1")
        assert run.waiting_for == ("go",)
        assert lines(run)[-3:] == [
            "Step 'each[7].go' waits for signal 'go' without a timeout.",
            'To go on: run.signal("go", payload).',
            "42 more steps wait.",
        ]


class TestWhatItWaitsFor:
    def test_one_of_several_signals_without_end(self) -> None:
        from flux_core import wait_any

        flow = create_workflow("flow").step("a", lambda ctx: wait_any(["yes", "no"]))
        assert lines(FluxTest(flow).execute(flow))[-2:] == [
            "Step 'a' waits for signal 'yes' or 'no' without a timeout.",
            'To go on: run.signal("yes", payload).',
        ]

    def test_a_sleep(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: sleep(90061.5))
        assert lines(FluxTest(flow).execute(flow))[-1] == (
            "Step 'a' sleeps for another 1 d 1 h. To go on: flux.advance(days=1, hours=1, minutes=1, seconds=1.5)."
        )

    def test_an_operator(self) -> None:
        flow = one_commit()
        flux = FluxTest(flow)
        flux.stub("a", raises=Unknown("silence"))
        told = lines(flux.execute(flow))
        assert told[1:3] == [
            "+00:00:00        a, attempt 1 failed with Unknown: silence (it may have taken effect)",
            "+00:00:00        is stuck at step 'a': unknown_outcome",
        ]
        assert told[-2].startswith(
            "It is stuck at step 'a' (unknown_outcome): nobody knows whether step 'a' took effect"
        )
        assert told[-1] == (
            "To go on: run.complete_step('a'), run.skip_step('a'), run.retry_step('a') or run.cancel()."
        )

    def test_another_definition(self) -> None:
        flow = create_workflow("flow").commit("pay", lambda ctx: None).step("ask", lambda ctx: wait("go"))
        flux = FluxTest(flow)
        run = flux.execute(flow, id="1")
        flux.execute(create_workflow("flow").step("other", lambda ctx: None), id="2")
        run.wake()
        run.assert_status("blocked")
        told = lines(run)
        assert told[3].startswith("+00:00:00        is blocked: ")
        assert told[-1].startswith("It is blocked: ")

    def test_a_definition_that_renames_and_inserts_steps(self) -> None:
        flow = create_workflow("flow").step("a", lambda ctx: None).step("ask", lambda ctx: wait("go"))
        flux = FluxTest(flow)
        run = flux.execute(flow, id="1")
        key = run.idempotency_key("ask")
        newer = create_workflow("flow", version="2").step("new", lambda ctx: None).step("a", lambda ctx: None)
        newer.step("approval", lambda ctx: wait("go"), aliases=["ask"]).step("last", lambda ctx: None)
        flux.execute(newer, id="2")
        run.signal("go")
        assert run.idempotency_key("approval") == key
        assert lines(run)[3:6] == [
            "+00:00:00        goes on with the definition of version '2'; ask is now approval; new is passed over",
            "+00:00:00        approval completed by signal 'go': None",
            "+00:00:00        last completed",
        ]

    def test_nothing(self) -> None:
        flow = one_step()
        assert lines(FluxTest(flow).execute(flow))[-2:] == [
            "+00:00:00        ends completed",
            "+00:00:00        now: completed",
        ]


def test_a_very_long_story_leaves_out_its_middle() -> None:
    flow = create_workflow("flow")
    for number in range(200):
        flow.step(f"s{number}", lambda ctx: None)
    told = lines(FluxTest(flow).execute(flow))
    assert len(told) == 82
    assert told[19:22] == [
        "+00:00:00        s18 completed",
        "... 122 lines are left out here",
        "+00:00:00        s141 completed",
    ]


def test_a_tenant_of_its_own_is_named() -> None:
    flow = one_step()
    assert FluxTest(flow, tenant="acme").execute(flow, id="1").story().startswith(
        "flow/1, started 2023-11-14 22:13:20 UTC, tenant acme\n"
    )  # fmt: skip


def test_what_must_not_be_shown_is_not() -> None:
    def pay(ctx: Context) -> dict[str, str]:
        ctx.data.update(login={"password": "hunter-22"})
        if ctx.attempt == 1:
            raise OSError(f"401 for {ctx.secret('bank')}")
        return {"token": "hunter-23"}

    def default(ctx: Context) -> object:
        return wait("go", timeout=1, on_timeout={"api_key": "hunter-24"})

    flow = create_workflow("flow").step("pay", pay).step("ask", default).step("more", lambda ctx: wait("more"))
    flux = FluxTest(flow, secrets={"bank": "hunter-25"})
    run = flux.execute(flow, {"cvv": "hunter-26"})
    run.signal("early", {"secret": "hunter-27"})
    flux.advance(seconds=1)
    assert "hunter" not in run.story()
    assert run.story().count("[redacted]") == 7
    assert "hunter" not in str(run.attempts("pay")[0].error)
    assert run.output("pay", dict[str, str]) == {"token": "hunter-23"}
