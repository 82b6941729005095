"""What semantics.md says of `when`: it is asked before each attempt, and a commit does not start unless it held."""

from __future__ import annotations

from flux_core import Context, FluxEngine, RetryPolicy, create_workflow

SOON = RetryPolicy(initial=0.001)


def test_a_commit_whose_condition_raised_is_asked_again_and_skipped_when_it_does_not_hold() -> None:
    effects: list[str] = []

    def when(ctx: Context) -> bool:
        if ctx.attempt == 1:
            raise RuntimeError("the flag service is down")
        return False

    flow = create_workflow("asked-again").commit("charge", lambda ctx: effects.append(ctx.id), when=when, retry=SOON)
    for engine in (FluxEngine(), FluxEngine(inline_backoff=0)):
        result = engine.execute(flow)
        while result.status == "suspended":
            result = engine.wake(flow, result.id)
        assert [step.status for step in result.history] == ["skipped"]
    assert effects == []


def test_a_commit_whose_condition_always_raises_fails_without_an_effect() -> None:
    effects: list[str] = []

    def when(ctx: Context) -> bool:
        raise RuntimeError("the flag service is gone")

    flow = create_workflow("never").commit("charge", lambda ctx: effects.append(ctx.id), when=when, retry=SOON)
    assert FluxEngine().execute(flow).status == "failed"
    assert effects == []
