"""A workflow that is changed while instances of it run: each goes on by name, or is blocked and says what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from flux_core import Context, DefinitionError, NonRetryable, RetryPolicy, WorkflowBuilder, create_workflow, wait
from flux_core.testing import check_invariants
from tests.core.conftest import Killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.conftest import Lab

Declare = Any


def order(lab: Lab, *steps: Declare) -> WorkflowBuilder:
    """A workflow of the steps that are listed: a name, or a name with what it is."""
    w = create_workflow("order")
    for entry in steps:
        name, *what = (entry,) if isinstance(entry, str) else entry
        options: dict[str, Any] = {}
        handler: Any = lab.note(name, f"{name} done")
        add: Any = w.step
        for word in what:
            match word:
                case "commit":
                    add = w.commit
                case "undo":
                    options["compensate"] = lab.note(f"undo {name}")
                case "wait":
                    handler = _waits
                case _:
                    options.update(word)
        add(name, handler, **options)
    return w


def _waits(ctx: Context) -> object:
    return wait("go")


def alias(*names: str) -> dict[str, object]:
    return {"aliases": names}


BEFORE: Final = (("reserve", "undo"), ("charge", "commit", "undo"), ("approval", "wait"), "pack", "ship")
"""The instances have reserved and charged, and wait for the signal `go`."""


class Change(NamedTuple):
    """A changed definition, and what becomes of the instances: the steps that run then, or why they are blocked."""

    after: tuple[Declare, ...]
    runs: list[str] | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()


CHANGES: Final[dict[str, Change]] = {
    "a step is inserted that is still to come": Change(
        (*BEFORE[:3], "inspect", "pack", "ship"),
        runs=["inspect", "pack", "ship"],
    ),
    "a step is inserted before what is done": Change(
        ("greet", *BEFORE),
        runs=["pack", "ship"],
        notes=("step 'greet' is new before one that has begun: it is skipped here",),
    ),
    "a step that is still to come is removed": Change(
        (*BEFORE[:3], "ship"), runs=["ship"], notes=("step 'pack' is gone: it will not run",)
    ),
    "a step is added at the end": Change((*BEFORE, "thank"), runs=["pack", "ship", "thank"]),
    "steps that are still to come change places": Change((*BEFORE[:3], "ship", "pack"), runs=["ship", "pack"]),
    "a step that is still to come is renamed": Change(
        (*BEFORE[:3], "wrap", "ship"), runs=["wrap", "ship"], notes=("step 'pack' is gone: it will not run",)
    ),
    "a step that is still to come is split": Change(
        (*BEFORE[:3], "pick", "pack", "ship"), runs=["pick", "pack", "ship"]
    ),
    "a step that is still to come becomes a commit": Change((*BEFORE[:4], ("ship", "commit")), runs=["pack", "ship"]),
    "a step that is done becomes a commit": Change((("reserve", "commit", "undo"), *BEFORE[1:]), runs=["pack", "ship"]),
    "the waiting step is renamed without an alias": Change(
        (*BEFORE[:2], ("permission", "wait"), "pack", "ship"),
        problem="step 'approval' waits for the signal 'go', but there is no such step any more: keep it, or give the "
        "one in its place aliases=['approval']",
    ),
    "the waiting step is renamed with an alias": Change(
        (*BEFORE[:2], ("permission", "wait", alias("approval")), "pack", "ship"),
        runs=["pack", "ship"],
        notes=("step 'approval' is now called 'permission'",),
    ),
    "a commit that was made is removed": Change(
        (BEFORE[0], *BEFORE[2:]),
        problem="commit 'charge' has been made, and must not be made again, but there is no such step any more: keep "
        "it, or give the one in its place aliases=['charge']",
    ),
    "a commit that was made is renamed with an alias": Change(
        (BEFORE[0], ("pay", "commit", "undo", alias("charge")), *BEFORE[2:]),
        runs=["pack", "ship"],
        notes=("step 'charge' is now called 'pay'",),
    ),
    "a commit that was made is split in two": Change(
        (BEFORE[0], ("authorise", "commit"), ("capture", "commit", "undo", alias("charge")), *BEFORE[2:]),
        runs=["pack", "ship"],
        notes=(
            "step 'authorise' is new before one that has begun: it is skipped here",
            "step 'charge' is now called 'capture'",
        ),
    ),
    "a compensation is taken away": Change(
        (BEFORE[0], ("charge", "commit"), ("approval", "wait"), "ship"),
        runs=["ship"],
        notes=(
            "step 'charge' is done and its compensation is gone: it will not be undone if a later step fails",
            "step 'pack' is gone: it will not run",
        ),
    ),
    "a commit that was made becomes a step": Change(
        (BEFORE[0], ("charge", "undo"), *BEFORE[2:]),
        problem="commit 'charge' has been made, and must not be made again, but 'charge' is declared as a step: "
        "declare it with .commit(...)",
    ),
    "a step that can be undone is removed": Change(
        BEFORE[1:],
        problem="step 'reserve' is done, and must be undone if a later step fails, but there is no such step any more",
    ),
    "two steps that are done change places": Change(
        (BEFORE[1], BEFORE[0], *BEFORE[2:]),
        problem="'reserve' and then 'charge' are done, but the definition has them the other way round: restore their "
        "order",
    ),
    "a step that is still to come is put before what is done": Change(
        (BEFORE[0], "ship", *BEFORE[1:4]),
        problem="step 'ship' is still to come, but the definition has it before 'charge', which is done: put it behind",
    ),
    "a step that is still to come is put before the one that waits": Change(
        (*BEFORE[:2], "ship", BEFORE[2], "pack"),
        problem="step 'ship' is still to come, but the definition has it before 'approval', which waits: put it behind",
    ),
    "a step is inserted before the one that waits": Change(
        (*BEFORE[:2], "greet", *BEFORE[2:]),
        runs=["pack", "ship"],
        notes=("step 'greet' is new before one that has begun: it is skipped here",),
    ),
    "the waiting step is put before what is done": Change(
        (BEFORE[2], *BEFORE[:2], *BEFORE[3:]),
        problem="step 'approval' is still to come, but the definition has it before 'charge', which is done",
    ),
}


class TestAnInstanceThatWaits:
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_goes_on_or_is_blocked_with_the_reason(self, change: Change, lab: Lab) -> None:
        lab.engine().execute(order(lab, *BEFORE), None, "o-1")
        lab.calls.clear()
        changed = order(lab, *change.after)
        found = lab.engine().check(changed, "o-1")
        result = lab.engine().signal(changed, "o-1", "go")
        assert tuple(found.notes) == change.notes or change.problem
        if change.runs is None:
            assert not found.possible
            assert change.problem in found.problems[0]
            assert (result.status, lab.calls) == ("blocked", [])
            assert change.problem in str(result.error)
            return
        assert found.possible
        assert (result.status, lab.calls) == ("completed", change.runs)
        assert [step.status for step in result.history if step.name not in {"greet", "authorise"}] == [
            "completed"
        ] * sum(step.name not in {"greet", "authorise"} for step in result.history)
        check_invariants(lab.storage, lab.ref("o-1"), workflow=changed.build(), at_rest=True)

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_heals_with_the_earlier_definition(self, change: Change, lab: Lab) -> None:
        lab.engine().execute(order(lab, *BEFORE), None, "o-1")
        lab.engine().signal(order(lab, *change.after), "o-1", "go")
        lab.engine().wake(order(lab, *BEFORE), "o-1")
        assert lab.engine().get(order(lab, *BEFORE), "o-1").status == "completed"
        assert lab.calls.count("charge") == 1

    @pytest.mark.parametrize(
        "change", [one for name, one in CHANGES.items() if one.runs and "compensation" not in name], ids=str
    )
    def test_is_undone_by_the_changed_definition_if_a_later_step_fails(self, change: Change, lab: Lab) -> None:
        lab.engine().execute(order(lab, *BEFORE), None, "o-1")
        lab.calls.clear()
        changed = order(lab, *change.after).step("fails", lambda ctx: 1 / 0, retries=0)
        result = lab.engine().signal(changed, "o-1", "go")
        renamed = lab.engine().get(changed, "o-1").state.origins
        undone = [f"undo {next((new for new, old in renamed.items() if old == name), name)}" for name in
                  ("charge", "reserve")]  # fmt: skip
        assert (result.status, lab.calls[-2:]) == ("rolled_back", undone)

    def test_says_that_it_goes_on_and_shows_what_it_left_out(self, lab: Lab) -> None:
        engine = lab.engine(trace=lab.events)
        engine.execute(order(lab, *BEFORE), None, "o-1")
        result = engine.signal(order(lab, "greet", *BEFORE), "o-1", "go")
        assert lab.statuses(result)["greet"] == "skipped"
        assert [event["step_name"] for event in lab.events.of("step:skipped")] == ["greet"]
        (line,) = [fields for _, message, fields in lab.log.lines if message == "goes on with a changed definition"]
        assert (line["id"], line["skipped"], line["renamed"]) == ("o-1", ["greet"], {})

    def test_writes_one_record_for_it(self, lab: Lab) -> None:
        lab.engine().execute(order(lab, *BEFORE), None, "o-1")
        lab.engine().signal(order(lab, *BEFORE, "thank"), "o-1", "go")
        assert lab.types("o-1").count("adopt") == 1
        assert lab.types("o-1").index("adopt") == lab.types("o-1").index("claim") + 1

    def test_may_change_again_and_again(self, lab: Lab) -> None:
        lab.engine().execute(order(lab, "a", ("b", "wait"), "c"), None, "o-1")
        second = order(lab, "a", ("bb", "wait", alias("b")), ("d", "wait"), "c")
        assert lab.engine().signal(second, "o-1", "go").status == "suspended"
        third = order(lab, "a", ("bbb", alias("bb", "b")), ("d", "wait"), "e")
        result = lab.engine().signal(third, "o-1", "go")
        assert (result.status, lab.statuses(result)) == (
            "completed",
            dict.fromkeys(("a", "bbb", "d", "e"), "completed"),
        )
        assert result.state.origins == {"bbb": "b"}


class TestAnAttemptOfUnknownOutcome:
    """An invocation died in the commit `charge`; its lease is over."""

    @pytest.fixture
    def died(self, lab: Lab) -> list[str]:
        keys: list[str] = []

        def charge(ctx: Context) -> object:
            keys.append(ctx.idempotency_key)
            raise Killed

        w = create_workflow("order").step("reserve", lab.note("reserve")).commit("charge", charge, idempotent=True)
        with pytest.raises(Killed):
            lab.engine().execute(w, None, "o-1")
        lab.past_the_lease()
        return keys

    @pytest.mark.parametrize(
        ("after", "problem"),
        [
            (("reserve",), "step 'charge' has an attempt of unknown outcome, but there is no such step any more"),
            (("reserve", "charge"), "step 'charge' has an attempt of unknown outcome, but 'charge' is declared as a"),
        ],
    )
    def test_blocks_what_has_no_such_commit(self, after: Any, problem: str, died: list[str], lab: Lab) -> None:
        result = lab.engine().wake(order(lab, *after), "o-1")
        assert result.status == "blocked"
        assert problem in str(result.error)

    def test_has_begun_so_that_what_is_new_before_it_is_skipped(self, died: list[str], lab: Lab) -> None:
        w = create_workflow("order").step("reserve", lab.note("reserve")).step("new", lab.note("new"))
        w.commit("charge", lambda ctx: died.append(ctx.idempotency_key), idempotent=True)
        assert lab.statuses(lab.engine().wake(w, "o-1")) == {
            "reserve": "completed", "new": "skipped", "charge": "completed",
        }  # fmt: skip
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_is_settled_under_the_new_name_with_the_same_idempotency_key(self, died: list[str], lab: Lab) -> None:
        w = create_workflow("order").step("reserve", lab.note("reserve"))
        w.commit("pay", lambda ctx: died.append(ctx.idempotency_key), idempotent=True, aliases="charge")
        assert lab.engine().wake(w, "o-1").status == "completed"
        assert died[0] == died[1]


class TestARenamedStep:
    def test_keeps_its_idempotency_key_through_undoing_and_retrying(self, lab: Lab) -> None:
        keys: list[str] = []

        def note(ctx: Context) -> None:
            keys.append(ctx.idempotency_key)

        def build(name: str, **options: Any) -> WorkflowBuilder:
            w = create_workflow("order", retries=0).commit(name, note, compensate=note, **options)
            return w.step("gate", lambda ctx: wait("go")).step("last", lambda ctx: 1 / 0)

        def run(id_: str, first: WorkflowBuilder, second: WorkflowBuilder) -> list[str]:
            keys.clear()
            lab.engine().execute(first, None, id_)
            assert lab.engine().signal(second, id_, "go").status == "rolled_back"
            lab.engine().retry_step(second, id_, "last")
            return list(keys)

        renamed = run("o-1", build("charge"), build("pay", aliases=["charge"]))
        lab.storage.purge(lab.ref("o-1"), lab.storage.tail(lab.ref("o-1"))[0])  # type: ignore[index]
        assert renamed == run("o-1", build("charge"), build("charge"))
        assert len(set(renamed)) == 3

    def test_keeps_its_output(self, lab: Lab) -> None:
        lab.engine().execute(order(lab, "a", ("gate", "wait")), None, "o-1")
        w = create_workflow("order").step("aa", lab.note("aa"), aliases="a").step("gate", _waits)
        w.step("sum", lambda ctx: ctx.results["aa"])
        assert lab.engine().signal(w, "o-1", "go").history[2].output == "a done"


class TestAFailedInstance:
    """The fix of a failure is often a new step before it."""

    def failing(self, lab: Lab) -> WorkflowBuilder:
        def broken(ctx: Context) -> None:
            message = "no address"
            raise NonRetryable(message)

        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(a=1)).commit("pay", lab.note("pay"))
        return w.step("ship", broken)

    def mended(self, lab: Lab, **options: Any) -> WorkflowBuilder:
        def ship(ctx: Context) -> object:
            return dict(ctx.data)

        w = create_workflow("order").step("a", lambda ctx: ctx.data.update(a=1)).commit("pay", lab.note("pay"))
        return w.step("address", lambda ctx: ctx.data.update(address="here")).step("ship", ship, **options)

    def test_resumes_at_the_step_that_came_in_before_the_failed_one(self, lab: Lab) -> None:
        lab.engine().execute(self.failing(lab), None, "o-1")
        result = lab.engine().resume(self.mended(lab), "o-1")
        assert (result.status, result.history[3].output) == ("completed", {"a": 1, "address": "here"})
        assert lab.calls == ["pay"]

    def test_can_be_retried_at_a_step_that_was_not_there_before(self, lab: Lab) -> None:
        lab.engine().execute(self.failing(lab), None, "o-1")
        assert lab.engine().retry_step(self.mended(lab), "o-1", "address").status == "completed"
        assert lab.calls == ["pay"]

    def test_can_be_retried_at_a_renamed_step_with_the_data_as_it_was_before_it(self, lab: Lab) -> None:
        lab.engine().execute(self.failing(lab), None, "o-1")

        def first(ctx: Context) -> None:
            assert dict(ctx.data) == {}
            ctx.data.a = 2

        w = create_workflow("order").step("aa", first, aliases="a").commit("paid", lab.note("pay"), aliases="pay")
        w.step("ship", lambda ctx: ctx.data.a)
        result = lab.engine().retry_step(w, "o-1", "aa")
        assert (result.status, result.history[2].output, lab.calls) == ("completed", 2, ["pay"])
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)

    def test_may_have_a_step_completed_by_hand_that_came_in_later(self, lab: Lab) -> None:
        lab.engine().execute(self.failing(lab), None, "o-1")
        assert lab.engine().complete_step(self.mended(lab), "o-1", "address", "by phone").status == "completed"

    def test_is_refused_with_the_reason_where_the_definition_does_not_fit(self, lab: Lab) -> None:
        lab.engine().execute(self.failing(lab), None, "o-1")
        before = lab.types("o-1")
        without = create_workflow("order").step("ship", lab.note("ship"))
        with pytest.raises(Exception, match="commit 'pay' has been made, and must not be made again"):
            lab.engine().retry_step(without, "o-1", "ship")
        assert lab.types("o-1") == before


class TestAStepInADurableBackOff:
    def test_that_is_gone_is_given_up_and_the_next_one_runs(self, lab: Lab) -> None:
        def broken(ctx: Context) -> None:
            raise OSError

        later = RetryPolicy(60, maximum=60, jitter=False)
        lab.engine().execute(create_workflow("order").step("a", broken, retry=later), None, "o-1")
        lab.clock.advance(60)
        assert lab.engine().wake(order(lab, "b"), "o-1").status == "completed"
        assert lab.calls == ["b"]

    def test_that_is_renamed_goes_on_with_its_attempts(self, lab: Lab) -> None:
        attempts: list[int] = []

        def flaky(ctx: Context) -> None:
            attempts.append(ctx.attempt)
            if ctx.attempt < 3:
                raise OSError

        later = RetryPolicy(60, maximum=60, jitter=False)
        lab.engine().execute(create_workflow("order").step("a", flaky, retry=later), None, "o-1")
        w = create_workflow("order").step("b", flaky, retry=later, aliases="a")
        for _ in range(2):
            lab.clock.advance(60)
            lab.engine(workflows=[w]).recover()
        assert attempts == [1, 2, 3]

    def test_runs_after_a_new_step_before_it(self, lab: Lab) -> None:
        def flaky(ctx: Context) -> None:
            if ctx.attempt == 1:
                raise OSError

        later = RetryPolicy(60, maximum=60, jitter=False)
        lab.engine().execute(create_workflow("order").step("a", flaky, retry=later), None, "o-1")
        lab.clock.advance(60)
        w = create_workflow("order").step("new", lab.note("new")).step("a", flaky, retry=later)
        result = lab.engine().wake(w, "o-1")
        assert (result.status, lab.calls, result.history[1].attempt) == ("completed", ["new"], 2)


class TestADeathWhileItChanges:
    @pytest.mark.parametrize("survives", [1, 2])
    def test_is_survived(self, survives: int, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        """The invocation dies between claim and `adopt`, or right after it."""
        lab.engine().execute(order(lab, "a", ("gate", "wait"), "last"), None, "o-1")
        changed = order(lab, "a", ("gate2", "wait", alias("gate")), "last")
        append = lab.storage.append
        written: list[int] = []

        def dying(ref: Any, seq: int, record: bytes, header: Any = None) -> Any:
            if len(written) == survives:
                raise Killed
            written.append(seq)
            return append(ref, seq, record, header)

        monkeypatch.setattr(lab.storage, "append", dying)
        with pytest.raises(Killed):
            lab.engine().signal(changed, "o-1", "go", 7)
        monkeypatch.undo()
        lab.past_the_lease()
        (result,) = lab.engine(workflows=[changed]).recover()
        assert (result.status, result.history[1].output) == ("completed", 7)
        assert lab.types("o-1").count("adopt") == 1


class TestSnapshots:
    def test_keep_what_the_instance_became(self, lab: Lab) -> None:
        def large(ctx: Context) -> None:
            ctx.data.text = "x" * 40_000

        first = create_workflow("order").step("a", large).step("gate", _waits).step("b", _waits)
        lab.engine().execute(first, None, "o-1")
        w = create_workflow("order", patches=["p"]).step("aa", large, aliases="a").step("gate", _waits)
        w.step("bb", _waits, aliases="b")
        lab.engine().signal(w, "o-1", "go")
        kept = lab.storage.snapshot(lab.ref("o-1"))
        assert kept is not None
        check_invariants(lab.storage, lab.ref("o-1"), workflow=w.build(), at_rest=True)
        assert lab.engine().signal(w, "o-1", "go").status == "completed"


class TestAliases:
    @pytest.mark.parametrize(
        ("declare", "message"),
        [
            (lambda w, f: w.step("a", f, aliases="b").step("b", f), "the alias 'b' is also the step 'b'"),
            (lambda w, f: w.step("a", f, aliases="x").step("b", f, aliases="x"), "the alias 'x' is also the step 'a'"),
            (lambda w, f: w.step("a", f, aliases="a"), "the alias 'a' is also the step 'a'"),
            (lambda w, f: w.step("a", f, aliases=[7]), "name in aliases"),
            (lambda w, f: w.step("a", f, aliases=7), "name in aliases"),
        ],
    )
    def test_that_cannot_be_are_refused(
        self, declare: Callable[[Any, Any], WorkflowBuilder], message: str, lab: Lab
    ) -> None:
        with pytest.raises(DefinitionError, match=message):
            declare(create_workflow("order"), lab.note("x")).build()


class TestPatches:
    def declared(self, patches: list[str], seen: list[bool]) -> WorkflowBuilder:
        w = create_workflow("order", patches=patches).step("gate", _waits)
        return w.step("tax", lambda ctx: seen.append(ctx.patch("new-tax")))

    def test_hold_for_instances_that_were_started_with_them_and_for_no_other(self, lab: Lab) -> None:
        seen: list[bool] = []
        lab.engine().execute(create_workflow("order").step("gate", _waits).step("tax", lab.note("tax")), None, "old")
        patched = self.declared(["new-tax"], seen)
        lab.engine().execute(patched, None, "new")
        for id_ in ("old", "new"):
            assert lab.engine().signal(patched, id_, "go").status == "completed"
        assert seen == [False, True]

    def test_are_asked_by_name_and_an_undeclared_one_fails_the_step_and_says_what_to_write(self, lab: Lab) -> None:
        w = self.declared(["other"], [])
        lab.engine().execute(w, None, "o-1")
        result = lab.engine().signal(w, "o-1", "go")
        assert (result.status, str(result.error)) == (
            "failed",
            (
                "ctx.patch('new-tax'): workflow 'order' declares no such patch; declare it with create_workflow(..., "
                "patches=['new-tax'])"
            ),
        )
        assert result.history[1].attempt == 1

    def test_are_described(self) -> None:
        assert self.declared(["new-tax"], []).describe()["patches"] == ["new-tax"]

    def test_that_are_no_names_are_refused(self) -> None:
        with pytest.raises(DefinitionError, match="workflow 'order': the name in patches"):
            create_workflow("order", patches=["a b"])


class TestCheck:
    def test_of_an_unchanged_definition_has_nothing_to_say(self, lab: Lab) -> None:
        w = order(lab, *BEFORE)
        lab.engine().execute(w, None, "o-1")
        found = lab.engine().check(w, "o-1")
        assert (found.possible, found.problems, found.notes) == (True, [], [])

    def test_changes_nothing(self, lab: Lab) -> None:
        lab.engine().execute(order(lab, *BEFORE), None, "o-1")
        before = lab.types("o-1")
        lab.engine().check(order(lab, "x"), "o-1")
        assert lab.types("o-1") == before

    def test_also_tells_an_input_that_is_no_longer_accepted(self, lab: Lab) -> None:
        def strict(raw: Any) -> Any:
            message = "total is missing"
            raise ValueError(message)

        lab.engine().execute(order(lab, ("a", "wait")), {"n": 1}, "o-1")
        found = lab.engine().check(order(lab, ("a", "wait")).input(strict), "o-1")
        assert not found.possible
        assert "its input is no longer accepted" in found.problems[0]
        assert "total is missing" in found.problems[0]
