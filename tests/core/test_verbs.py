"""The table of verbs in SEMANTICS: every verb in every status, each status reached by a workflow that really ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from flux_core import (
    CallerError,
    Conflict,
    Context,
    FluxEngine,
    FluxResult,
    NotFound,
    Refused,
    RetryPolicy,
    Unknown,
    UnknownInstance,
    UnknownStep,
    UnknownWorkflow,
    WorkflowBuilder,
    compensation,
    create_workflow,
    sleep,
    wait,
)
from flux_core.testing import RecordingStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.core.conftest import Lab

INPUT: Final = {"total": 5, "by": "ann"}


class World:
    """One instance, `order/o-1`, brought into a status. `healthy` decides whether its troubled step works by now."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.healthy = False
        self.ran: list[str] = []
        self.workflow: WorkflowBuilder = create_workflow("order").step("unset", lambda ctx: None)
        self.started_with: WorkflowBuilder | None = None
        self.engine = lab.engine(default_retries=0)

    def did(self, what: str) -> Callable[[Context], object]:
        def handler(ctx: Context) -> str:
            self.ran.append(what)
            return what

        return handler

    def troubled(self, error: BaseException) -> Callable[[Context], object]:
        def handler(ctx: Context) -> str:
            self.ran.append("gate")
            if not self.healthy:
                raise error
            return "gate"

        return handler

    def declare(self, gate: Callable[[Context], object], *, undo: Any = None, commit: bool = False) -> WorkflowBuilder:
        self.workflow = create_workflow("order").step("first", self.did("first"), compensate=undo)
        add = self.workflow.commit if commit else self.workflow.step
        add("gate", gate)
        self.workflow.step("last", self.did("last"))
        return self.workflow

    def execute(self) -> FluxResult:
        return self.engine.execute(self.workflow, INPUT, "o-1")

    def status(self) -> str:
        return self.engine.get(self.workflow, "o-1").status

    # --- the ways into each status ------------------------------------------------------------------------

    def suspended(self) -> None:
        self.declare(lambda ctx: wait("go"), undo=self.did("undo first"))
        self.execute()

    def paused(self) -> None:
        self.suspended()
        self.engine.pause(self.workflow, "o-1", who="ann")

    def completed(self) -> None:
        self.declare(self.did("gate"), undo=self.did("undo first"))
        self.execute()

    def failed(self) -> None:
        self.declare(self.troubled(ValueError("broken")))
        self.execute()

    def rolled_back(self) -> None:
        self.declare(self.troubled(ValueError("broken")), undo=self.did("undo first"))
        self.execute()

    def rolling_back(self) -> None:
        def undo(ctx: Context) -> None:
            self.ran.append("undo first")
            message = "not now"
            raise OSError(message)

        later = compensation(undo, retries=5, retry=RetryPolicy(60, maximum=60, jitter=False))
        self.declare(self.troubled(ValueError("broken")), undo=later)
        self.execute()

    def stuck(self) -> None:
        self.declare(self.troubled(Unknown("who knows")), undo=self.did("undo first"), commit=True)
        self.execute()

    def blocked(self) -> None:
        self.suspended()
        self.started_with = self.workflow
        self.workflow = (
            create_workflow("order")
            .step("first", self.did("first"))
            .step("gaet", self.did("gaet"))
            .step("last", self.did("last"))
        )
        self.engine.wake(self.workflow, "o-1")

    def cancelled(self) -> None:
        self.suspended()
        self.engine.cancel(self.workflow, "o-1", "no longer wanted")

    def reach(self, status: str) -> None:
        getattr(self, status)()
        assert self.status() == status
        self.ran.clear()
        self.healthy = True


@pytest.fixture
def world(lab: Lab) -> World:
    return World(lab)


def verb(name: str, world: World, *, force: bool = False) -> FluxResult | None:
    """Calls a verb as a caller would who means the step `gate`."""
    engine, w = world.engine, world.workflow
    if world.started_with is not None and name in {"retry_step", "complete_step", "skip_step", "cancel"}:
        w = world.started_with  # only the definition it was started with can say what to keep and what to undo
    match name:
        case "execute":
            return engine.execute(w, dict(INPUT), "o-1")
        case "execute other":
            return engine.execute(w, {"total": 6}, "o-1")
        case "signal":
            return engine.signal(w, "o-1", "go", "now")
        case "retry_step":
            return engine.retry_step(w, "o-1", "gate", force=force)
        case "resume":
            return engine.resume(w, "o-1")
        case "cancel":
            return engine.cancel(w, "o-1", "enough")
        case "pause":
            return engine.pause(w, "o-1", who="ann", why="look at it")
        case "unpause":
            return engine.unpause(w, "o-1", who="ann", why="seen")
        case "complete_step":
            return engine.complete_step(w, "o-1", "gate", "by hand", who="ann", why="it is so")
        case "skip_step":
            return engine.skip_step(w, "o-1", "gate", who="ann", why="it is so")
        case "delete":
            engine.delete(w, "o-1", force=force)
            return None
        case "wake":
            return engine.wake(w, "o-1")
        case "get":
            return engine.get(w, "o-1")
        case _:
            raise AssertionError(name)


REFUSED: Final = "refused"
CONFLICT: Final = "Conflict"
GONE: Final = "gone"
FORCE: Final = "needs force"

STATUSES: Final = (
    "suspended",
    "paused",
    "completed",
    "failed",
    "rolled_back",
    "rolling_back",
    "stuck",
    "blocked",
    "cancelled",
)
# One cell says which status the verb answers with, or that it is refused. "needs force": refused without, then this.
TABLE: Final[dict[str, tuple[Any, ...]]] = {
    # suspended  paused  completed  failed  rolled_back  rolling_back  stuck  blocked  cancelled
    "execute": STATUSES,
    "execute other": (CONFLICT,) * 9,
    "get": STATUSES,
    "wake": STATUSES,
    "signal": ("completed", "paused", REFUSED, "failed", "rolled_back", "rolling_back", "stuck", "blocked", REFUSED),
    "retry_step": (
        "suspended", REFUSED, (FORCE, "completed"), "completed", "completed",
        REFUSED, "completed", "suspended", (FORCE, "suspended"),
    ),
    "resume": ("suspended", REFUSED, REFUSED, "completed", "completed", "rolling_back", "stuck", "blocked", REFUSED),
    "cancel": (
        "cancelled", "cancelled", REFUSED, "failed", "rolled_back", "rolling_back", "stuck", "cancelled", "cancelled",
    ),
    "pause": ("paused", "paused", REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED, REFUSED),
    "unpause": STATUSES[:1] + STATUSES[:1] + STATUSES[2:],
    "complete_step": (
        "completed", "paused", REFUSED, "completed", "completed", REFUSED, "completed", "completed", REFUSED,
    ),
    "skip_step": (
        "completed", "paused", REFUSED, "completed", "completed", REFUSED, "completed", "completed", REFUSED,
    ),
    "delete": (REFUSED, REFUSED, GONE, GONE, GONE, REFUSED, (FORCE, GONE), (FORCE, GONE), GONE),
}  # fmt: skip
CELLS: Final = [(name, status, row[i]) for name, row in TABLE.items() for i, status in enumerate(STATUSES)]
ADVICE: Final = {
    "suspended": "cancel it first",
    "paused": "unpause it first, or cancel it",
    "completed": "it has completed",
    "failed": "retry a step, or resume it",
    "rolled_back": "retry a step, or resume it",
    "rolling_back": "wait until they have ended",
    "stuck": "complete, skip or retry the step it is stuck at",
    "blocked": "deploy one that fits",
    "cancelled": "it was cancelled",
    "running": "wait until it has ended or is suspended",
}


class TestTheTableOfVerbs:
    @pytest.mark.parametrize(("name", "status", "cell"), CELLS, ids=[f"{v}-{s}" for v, s, _ in CELLS])
    def test_holds(self, name: str, status: str, cell: Any, world: World) -> None:
        world.reach(status)
        if name == "delete":
            world.lab.clock.advance(3600)
        before = world.lab.storage.read(world.lab.ref("o-1"))
        if cell == CONFLICT:
            with pytest.raises(Conflict, match="'order', id 'o-1' exists already with other input; use another id"):
                verb(name, world)
        elif cell == REFUSED or cell[0] == FORCE:
            with pytest.raises(Refused) as caught:
                verb(name, world)
            said = str(caught.value)
            assert f"{'signal' if name == 'signal' else name} is refused for workflow 'order', id 'o-1'" in said
            assert ADVICE[status] in said
            assert ("force=True" in said) == (cell[0] == FORCE)
        if cell in (CONFLICT, REFUSED) or cell[0] == FORCE:
            assert world.lab.storage.read(world.lab.ref("o-1")) == before
            assert world.ran == []
        if cell in (CONFLICT, REFUSED):
            return
        expected = cell[1] if cell[0] == FORCE else cell
        result = verb(name, world, force=cell[0] == FORCE)
        if expected == GONE:
            with pytest.raises(UnknownInstance):
                world.engine.get(world.workflow, "o-1")
            assert world.lab.storage.read(world.lab.ref("o-1")) == []
            return
        assert result is not None
        assert result.status == expected
        assert world.status() == expected

    @pytest.mark.parametrize("status", STATUSES)
    def test_execute_get_and_wake_run_nothing_that_is_not_due(self, status: str, world: World) -> None:
        world.reach(status)
        for name in ("execute", "get", "wake"):
            verb(name, world)
        assert world.ran == []

    @pytest.mark.parametrize("name", [n for n in TABLE if n != "execute other"])
    def test_an_unknown_id_is_a_typed_error_that_names_it_except_for_execute(self, name: str, world: World) -> None:
        world.declare(world.did("gate"))
        if name == "execute":
            result = world.execute()
            assert (result.status, result.created) == ("completed", True)
            return
        with pytest.raises(UnknownInstance, match="workflow 'order' has no instance 'o-1' in tenant 'default'"):
            verb(name, world)
        assert world.lab.storage.read(world.lab.ref("o-1")) == []
        assert world.lab.storage.mail(world.lab.ref("o-1")) == []

    @pytest.mark.parametrize("name", list(TABLE))
    def test_an_unknown_workflow_is_a_typed_error_that_lists_the_known(self, name: str, world: World) -> None:
        world.completed()
        world.workflow = "ordr"  # type: ignore[assignment]
        with pytest.raises(
            UnknownWorkflow, match=r"no workflow 'ordr' is registered with this engine \(registered: order\)"
        ):
            verb(name, world)

    @pytest.mark.parametrize("name", ["retry_step", "complete_step", "skip_step"])
    @pytest.mark.parametrize("status", ["failed", "suspended", "completed"])
    def test_an_unknown_step_is_a_typed_error_that_lists_the_steps(self, name: str, status: str, world: World) -> None:
        world.reach(status)
        with pytest.raises(UnknownStep, match="workflow 'order' has no step 'gaet'; its steps are first, gate, last"):
            getattr(world.engine, name)(world.workflow, "o-1", "gaet")

    @pytest.mark.parametrize("step", ["gaet", 3, -1])
    def test_resume_from_an_unknown_step_is_a_typed_error(self, step: Any, world: World) -> None:
        world.reach("failed")
        with pytest.raises(UnknownStep):
            world.engine.resume(world.workflow, "o-1", from_step=step)

    @pytest.mark.parametrize("name", ["execute", "get", "wake", "signal", "cancel", "delete", "retry_step", "resume"])
    @pytest.mark.parametrize("id_", ["a/b", "..", "", "__x__", "ä", "a" * 129])
    def test_an_id_that_is_no_name_is_a_callers_error(self, name: str, id_: str, world: World) -> None:
        world.declare(world.did("gate"))
        arguments = {"execute": (INPUT, id_), "signal": (id_, "go"), "retry_step": (id_, "gate")}.get(name, (id_,))
        with pytest.raises(CallerError, match=r"the id .* is not allowed: use 1 to 128 of"):
            getattr(world.engine, name)(world.workflow, *arguments)

    def test_what_is_unknown_is_not_found(self) -> None:
        assert all(issubclass(kind, NotFound) for kind in (UnknownInstance, UnknownStep, UnknownWorkflow))


class TestWhileTheInstanceRuns:
    """The verbs are called by a handler, through a second engine, while the first one runs the step."""

    def during(self, world: World, name: str) -> tuple[Any, FluxResult]:
        """What the verb did while the step `gate` ran, and how the run ended."""
        seen: list[Any] = []
        other = World(world.lab)

        def gate(ctx: Context) -> str:
            other.workflow = world.workflow
            try:
                seen.append(verb(name, other, force=True))
            except CallerError as error:
                seen.append(error)
            return "gate"

        world.declare(gate, undo=world.did("undo first"))
        result = world.execute()
        return seen[0], result

    @pytest.mark.parametrize("name", ["execute", "get", "wake", "resume", "signal", "unpause"])
    def test_these_return_it_as_it_is(self, name: str, world: World) -> None:
        seen, result = self.during(world, name)
        assert (seen.status, seen.created, result.status) == ("running", False, "completed")
        assert world.ran == ["first", "last"]

    def test_pause_takes_effect_after_the_running_step(self, world: World) -> None:
        seen, result = self.during(world, "pause")
        assert (seen.status, result.status) == ("running", "paused")
        assert world.lab.statuses(result) == {"first": "completed", "gate": "completed", "last": "pending"}

    @pytest.mark.parametrize("name", ["retry_step", "complete_step", "skip_step", "delete"])
    def test_these_are_refused_and_say_to_wait(self, name: str, world: World) -> None:
        seen, result = self.during(world, name)
        assert isinstance(seen, Refused)
        assert f"{name} is refused for workflow 'order', id 'o-1': it is running; wait until" in str(seen)
        assert result.status == "completed"

    def test_execute_with_other_input_is_a_conflict(self, world: World) -> None:
        seen, result = self.during(world, "execute other")
        assert isinstance(seen, Conflict)
        assert result.status == "completed"

    def test_cancel_takes_effect_at_the_next_checkpoint_and_the_saga_is_undone(self, world: World) -> None:
        seen, result = self.during(world, "cancel")
        assert seen.status == "rolling_back"
        assert result.status == "cancelled"
        assert world.ran == ["first", "undo first"]
        assert world.lab.statuses(result) == {"first": "compensated", "gate": "completed", "last": "pending"}

    def test_a_signal_is_kept_for_a_later_wait(self, world: World) -> None:
        other = world.lab.engine()

        def gate(ctx: Context) -> None:
            other.signal(world.workflow, "o-1", "go", 7)

        world.workflow = create_workflow("order").step("gate", gate).step("wait", lambda ctx: wait("go"))
        result = world.execute()
        assert (result.status, result.history[1].output) == ("completed", 7)

    def test_while_its_compensations_run_the_same_verbs_are_refused(self, world: World) -> None:
        seen: list[BaseException] = []
        other = World(world.lab)

        def undo(ctx: Context) -> None:
            other.workflow = world.workflow
            for name in ("retry_step", "complete_step", "skip_step", "delete"):
                with pytest.raises(
                    Refused, match="its compensations are running; wait until they have ended"
                ) as caught:
                    verb(name, other, force=True)
                seen.append(caught.value)
            for name in ("execute", "get", "wake", "resume", "signal", "cancel"):
                result = verb(name, other)
                assert result is not None
                assert result.status == "rolling_back"

        world.declare(world.troubled(ValueError("broken")), undo=undo)
        assert world.execute().status == "rolled_back"
        assert len(seen) == 4


class TestExecute:
    def test_creates_the_instance_once_and_returns_it_ever_after(self, world: World) -> None:
        world.declare(world.did("gate"))
        one, two = world.execute(), world.execute()
        assert (one.created, two.created) == (True, False)
        assert world.ran == ["first", "gate", "last"]
        assert (two.id, two.status, two.data) == (one.id, one.status, one.data)

    def test_without_an_id_makes_a_new_instance_each_time(self, world: World) -> None:
        world.declare(world.did("gate"))
        one, two = world.engine.execute(world.workflow, INPUT), world.engine.execute(world.workflow, INPUT)
        assert one.id != two.id
        assert one.created
        assert two.created

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}),
            ([1, "x", None], [1, "x", None]),
            (None, None),
        ],
    )
    def test_agrees_by_the_canonical_input_in_which_the_order_of_keys_means_nothing(
        self, first: Any, second: Any, world: World
    ) -> None:
        world.declare(world.did("gate"))
        world.engine.execute(world.workflow, first, "o-1")
        assert not world.engine.execute(world.workflow, second, "o-1").created

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ({"a": 1}, {"a": "1"}),
            ({"a": 1}, {"a": 1.0}),
            ({"a": 1}, {"a": True}),
            ({"a": [1, 2]}, {"a": [2, 1]}),
            ({"a": 1}, {"a": 1, "b": None}),
            ({"a": (1, 2)}, {"a": [1, 2]}),
            (None, {}),
        ],
    )
    def test_conflicts_when_the_input_differs(self, first: Any, second: Any, world: World) -> None:
        world.declare(world.did("gate"))
        world.engine.execute(world.workflow, first, "o-1")
        with pytest.raises(Conflict):
            world.engine.execute(world.workflow, second, "o-1")

    def test_of_the_same_id_in_another_workflow_or_tenant_is_another_instance(self, world: World) -> None:
        world.declare(world.did("gate"))
        world.execute()
        other = create_workflow("refund").step("a", world.did("a"))
        assert world.engine.execute(other, {"x": 1}, "o-1").created
        assert world.lab.engine(tenant="acme").execute(world.workflow, {"x": 1}, "o-1").created

    def test_ticks_an_instance_that_is_due(self, world: World) -> None:
        world.declare(lambda ctx: sleep(60))
        assert world.execute().status == "suspended"
        world.lab.clock.advance(59.9)
        assert world.execute().status == "suspended"
        world.lab.clock.advance(0.1)
        result = world.execute()
        assert (result.status, result.created) == ("completed", False)

    def test_ticks_an_instance_whose_invocation_died(self, world: World, killed: type[BaseException]) -> None:
        world.declare(world.lab.die)
        with pytest.raises(killed):
            world.execute()
        assert world.execute().status == "running"
        world.lab.past_the_lease()
        with pytest.raises(killed):
            world.execute()


class TestDelete:
    def test_is_refused_while_an_invocation_from_before_the_end_may_still_run_and_tells_the_time(
        self, world: World
    ) -> None:
        world.reach("completed")
        world.lab.clock.advance(600)
        with pytest.raises(Refused, match="delete is refused for workflow 'order', id 'o-1' for another 300 s"):
            verb("delete", world)
        world.lab.clock.advance(300)
        verb("delete", world)

    def test_leaves_nothing_in_the_listing_the_due_index_or_the_mailbox(self, world: World) -> None:
        world.reach("failed")
        verb("signal", world)
        world.lab.clock.advance(900)
        verb("delete", world)
        assert world.engine.list().items == []
        assert world.lab.storage.due(world.lab.clock.now() + 10**9, 10) == []
        assert world.lab.storage.mail(world.lab.ref("o-1")) == []

    def test_lets_the_id_be_used_again(self, world: World) -> None:
        world.reach("completed")
        world.lab.clock.advance(900)
        verb("delete", world)
        assert world.engine.execute(world.workflow, {"other": 1}, "o-1").created


class TestRecover:
    def test_ticks_what_is_due_and_nothing_else(self, lab: Lab) -> None:
        w = create_workflow("order").step("nap", lambda ctx: sleep(ctx.input))
        engine = lab.engine()
        for seconds in (10, 20, 30):
            engine.execute(w, seconds, f"o-{seconds}")
        assert engine.recover() == []
        lab.clock.advance(20)
        assert sorted(result.id for result in engine.recover()) == ["o-10", "o-20"]
        assert engine.recover() == []

    def test_takes_at_most_its_limit_the_earliest_first(self, lab: Lab) -> None:
        w = create_workflow("order").step("nap", lambda ctx: sleep(ctx.input))
        engine = lab.engine()
        for seconds in (30, 10, 20):
            engine.execute(w, seconds, f"o-{seconds}")
        lab.clock.advance(100)
        assert [result.id for result in engine.recover(limit=2)] == ["o-10", "o-20"]
        assert [result.id for result in engine.recover(limit=2)] == ["o-30"]

    @pytest.mark.parametrize("limit", [0, -1, 1.5, True, None])
    def test_refuses_a_limit_that_is_none(self, limit: Any, lab: Lab) -> None:
        with pytest.raises(CallerError, match=f"limit of at least 1, not {limit!r}"):
            lab.engine().recover(limit=limit)

    def test_passes_over_many_that_it_does_not_know_in_few_looks(self, lab: Lab) -> None:
        nap = create_workflow("unknown").step("nap", lambda ctx: sleep(5))
        for number in range(200):
            lab.engine().execute(nap, None, f"u-{number}")
        lab.clock.advance(10)
        storage = RecordingStorage(lab.storage)
        assert lab.engine(storage=storage).recover(limit=1) == []
        assert len(storage.calls) < 10

    def test_passes_over_workflows_it_does_not_know_and_says_so(self, lab: Lab) -> None:
        known = create_workflow("known").step("nap", lambda ctx: sleep(10))
        lab.engine().execute(create_workflow("unknown").step("nap", lambda ctx: sleep(5)), None, "u-1")
        lab.engine().execute(known, None, "k-1")
        lab.clock.advance(10)
        assert [result.id for result in lab.engine(workflows=[known]).recover(limit=1)] == ["k-1"]
        fields: dict[str, object] = {"workflow": "unknown", "id": "u-1"}
        told = ("warn", "due, but its workflow is not registered", fields)
        assert lab.log.lines.count(told) == 1


class TestList:
    def test_shows_instances_newest_first_by_workflow_and_status(self, lab: Lab) -> None:
        engine = lab.engine(default_retries=0)
        good = create_workflow("good").step("a", lab.note("a"))
        bad = create_workflow("bad").step("a", lambda ctx: 1 / 0)
        for index in range(3):
            engine.execute(good, None, f"g-{index}")
            lab.clock.advance(1)
        engine.execute(bad, None, "b-0")
        assert [item.id for item in engine.list().items] == ["b-0", "g-2", "g-1", "g-0"]
        assert [item.id for item in engine.list("good").items] == ["g-2", "g-1", "g-0"]
        assert [item.id for item in engine.list(status="failed").items] == ["b-0"]
        assert [item.id for item in engine.list(status=["failed", "completed"], limit=2).items] == ["b-0", "g-2"]

    def test_pages_by_a_cursor(self, lab: Lab) -> None:
        engine, w = lab.engine(), create_workflow("order").step("a", lab.note("a"))
        for index in range(5):
            engine.execute(w, None, f"o-{index}")
            lab.clock.advance(1)
        page = engine.list(limit=3)
        rest = engine.list(limit=3, cursor=page.cursor)
        assert [item.id for item in (*page.items, *rest.items)] == ["o-4", "o-3", "o-2", "o-1", "o-0"]
        assert rest.cursor is None

    def test_of_a_status_that_does_not_exist_lists_those_that_do(self, lab: Lab) -> None:
        with pytest.raises(CallerError, match="there is no status 'done'; the statuses are pending, running"):
            lab.engine().list(status="done")

    def test_shows_only_its_own_tenant(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"))
        lab.engine(tenant="acme").execute(w, None, "o-1")
        assert lab.engine().list().items == []
        assert [item.id for item in lab.engine(tenant="acme").list().items] == ["o-1"]


class TestCancel:
    def test_reads_from_the_snapshot_on_like_everybody_else(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: "x" * 40_000).step("gate", lambda ctx: wait("go"))
        lab.engine().execute(w, None, "o-1")
        assert lab.storage.snapshot(lab.ref("o-1")) is not None
        storage = RecordingStorage(lab.storage)
        assert lab.engine(storage=storage).cancel(w, "o-1").status == "cancelled"
        assert [call for call in storage.calls if str(call) == "read(0)"] == []


class TestTwoAtOnce:
    def test_two_engines_that_execute_one_id_run_its_steps_once(self, world: World) -> None:
        inner: list[FluxResult] = []
        other: FluxEngine = world.lab.engine()

        def gate(ctx: Context) -> None:
            inner.append(other.execute(world.workflow, INPUT, "o-1"))

        world.declare(gate)
        result = world.execute()
        assert (result.created, inner[0].created, inner[0].status) == (True, False, "running")
        assert world.ran == ["first", "last"]
