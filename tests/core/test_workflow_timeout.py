"""`create_workflow(timeout=...)`: the whole instance has a time limit, kept in the log and so by any invocation."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import Context, DefinitionError, RetryPolicy, WorkflowBuilder, create_workflow, sleep, wait
from flux_core.testing import check_invariants
from tests.core.conftest import Killed

if TYPE_CHECKING:
    from tests.core.conftest import Lab

DAY = 86_400


def limited(lab: Lab, gate: Any, timeout: Any = timedelta(days=1), **options: Any) -> WorkflowBuilder:
    w = create_workflow("order", timeout=timeout).step("a", lab.note("a"), **options)
    return w.step("gate", gate).step("last", lab.note("last"))


class TestAnInstanceThatWaits:
    @pytest.mark.parametrize(
        "gate", [lambda ctx: wait("go"), lambda ctx: wait("go", timeout=10 * DAY), lambda ctx: sleep(10 * DAY)]
    )
    def test_is_woken_when_its_time_is_over_and_undone(self, gate: Any, lab: Lab) -> None:
        w = limited(lab, gate, compensate=lab.note("undo a"))
        begun = lab.clock.now()
        lab.engine().execute(w, None, "o-1")
        assert lab.header("o-1").due == begun + DAY * 1000
        lab.clock.advance(DAY)
        (result,) = lab.engine(workflows=[w]).recover()
        assert (result.status, lab.calls) == ("rolled_back", ["a", "undo a"])
        assert result.error is not None
        assert (result.error.type, result.error.message) == (
            "WorkflowTimeout",
            "the workflow did not end within 86400 s (its timeout)",
        )
        assert lab.statuses(result) == {"a": "compensated", "gate": "failed", "last": "pending"}
        assert result.history[1].waiting_for == ()
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_without_compensators_has_failed(self, lab: Lab) -> None:
        w = limited(lab, lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(DAY)
        assert lab.engine().wake(w, "o-1").status == "failed"

    def test_takes_a_signal_that_comes_in_time(self, lab: Lab) -> None:
        w = limited(lab, lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(DAY - 1)
        assert lab.engine().signal(w, "o-1", "go").status == "completed"

    def test_keeps_the_limit_that_it_was_started_with(self, lab: Lab) -> None:
        lab.engine().execute(limited(lab, lambda ctx: wait("go")), None, "o-1")
        lab.clock.advance(DAY)
        longer = limited(lab, lambda ctx: wait("go"), timeout=5 * DAY)
        assert lab.engine().wake(longer, "o-1").status == "failed"

    def test_ends_a_durable_back_off_too(self, lab: Lab) -> None:
        def broken(ctx: Context) -> None:
            raise OSError

        w = create_workflow("order", timeout=60, retry=RetryPolicy(3600, maximum=3600, jitter=False))
        w.step("gate", broken)
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(60)
        (result,) = lab.engine(workflows=[w]).recover()
        assert (result.status, str(result.error)) == ("failed", "the workflow did not end within 60 s (its timeout)")


class TestARunningInstance:
    def test_notices_at_the_next_checkpoint_and_a_step_is_not_cut(self, lab: Lab) -> None:
        w = limited(lab, lambda ctx: lab.clock.advance(2 * DAY), compensate=lab.note("undo a"))
        result = lab.engine().execute(w, None, "o-1")
        assert (result.status, lab.calls) == ("rolled_back", ["a", "undo a"])
        assert lab.statuses(result)["gate"] == "completed"

    def test_completes_if_nothing_is_left_to_do(self, lab: Lab) -> None:
        w = create_workflow("order", timeout=1).step("only", lambda ctx: lab.clock.advance(2))
        assert lab.engine().execute(w, None, "o-1").status == "completed"

    def test_settles_the_unknown_outcome_of_a_death_first(self, lab: Lab) -> None:
        w = create_workflow("order", timeout=60).commit("charge", lab.die)
        with pytest.raises(Killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        assert [result.status for result in lab.engine(workflows=[w]).recover()] == ["stuck"]
        assert lab.engine().complete_step(w, "o-1", "charge").status == "completed"


class TestARetry:
    def test_has_the_whole_time_again(self, lab: Lab) -> None:
        w = limited(lab, lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        lab.clock.advance(DAY)
        lab.engine().wake(w, "o-1")
        again = lab.clock.now()
        assert lab.engine().resume(w, "o-1").status == "suspended"
        assert lab.header("o-1").due == again + DAY * 1000
        lab.clock.advance(DAY - 1)
        assert lab.engine().signal(w, "o-1", "go").status == "completed"


class TestTheLimit:
    @pytest.mark.parametrize("timeout", [0, -1, "1", float("nan")])
    def test_that_is_none_is_refused(self, timeout: Any) -> None:
        with pytest.raises(DefinitionError, match="workflow 'order': timeout"):
            create_workflow("order", timeout=timeout)

    def test_is_described(self) -> None:
        w = create_workflow("order", timeout=timedelta(days=3)).step("a", lambda ctx: None)
        assert w.describe()["timeout"] == 3 * DAY
