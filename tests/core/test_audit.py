"""Who did what by hand, why and when: the log keeps it, `engine.audit` tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flux_core import NonRetryable, UnknownInstance, create_workflow, wait

if TYPE_CHECKING:
    from flux_core import Context
    from tests.core.conftest import Lab


def broken(ctx: Context) -> None:
    message = "broken"
    raise NonRetryable(message)


class TestTheAudit:
    def test_tells_every_intervention_in_order(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: wait("go")).step("b", broken).step("c", broken)
        engine, begun = lab.engine(), lab.clock.now()
        engine.execute(w, None, "o-1")
        engine.pause(w, "o-1", who="ann", why="look at it")
        lab.clock.advance(60)
        engine.unpause(w, "o-1", who="ann", why="seen")
        engine.complete_step(w, "o-1", "a", who="bob", why="by phone")
        engine.retry_step(w, "o-1", "b", who="ann", why="once more")
        engine.resume(w, "o-1", who="ann", why="and again")
        engine.skip_step(w, "o-1", "b", who="bob", why="not needed")
        engine.skip_step(w, "o-1", "c", who="bob")
        assert [(entry.verb, entry.step, entry.who, entry.why) for entry in engine.audit(w, "o-1")] == [
            ("pause", None, "ann", "look at it"),
            ("unpause", None, "ann", "seen"),
            ("complete_step", "a", "bob", "by phone"),
            ("retry_step", "b", "ann", "once more"),
            ("retry_step", "b", "ann", "and again"),
            ("skip_step", "b", "bob", "not needed"),
            ("skip_step", "c", "bob", None),
        ]
        assert [entry.at - begun for entry in engine.audit(w, "o-1")] == [0, *[60_000] * 6]

    def test_tells_a_cancel(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        lab.engine().cancel(w, "o-1", "no longer wanted", who="ann")
        (entry,) = lab.engine().audit(w, "o-1")
        assert repr(entry) == "<cancel at 2023-11-14 22:13:20 by ann: no longer wanted>"

    def test_is_empty_for_an_instance_that_nobody_touched(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"))
        lab.engine().execute(w, None, "o-1")
        assert list(lab.engine().audit(w, "o-1")) == []

    def test_of_an_unknown_id_is_a_typed_error(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"))
        with pytest.raises(UnknownInstance):
            lab.engine().audit(w, "o-1")
