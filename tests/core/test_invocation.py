"""The verbs as data: every action is its verb, what is wrong is said, and every error has its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from flux_core import (
    Callbacks,
    CallerError,
    FluxError,
    InputInvalid,
    NonRetryable,
    PayloadTooLarge,
    PurgeUnfinished,
    StorageUnavailable,
    UnknownInstance,
    create_workflow,
    documents,
    errors,
    wait,
)
from flux_core.http import MethodNotAllowed
from flux_core.invocation import ACTIONS, dispatch, parse, problem, read_json, wake_message
from flux_core.testing import UNAVAILABLE, FaultPlan, FaultyStorage
from tests.core.conftest import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import Context, FluxEngine
    from flux_core.invocation import Reply

KEY: Final = "k" * 32


class World:
    """An order `o-1` that waits at `ask`, having sent a link; `o-2` failed at `pack`; nothing else."""

    def __init__(self) -> None:
        self.lab = Lab()
        self.token = ""
        self.broken = True

        def ask(ctx: Context) -> object:
            self.token = ctx.callback_url("go").rpartition("/")[2]
            return wait("go", timeout=600)

        def pack(ctx: Context) -> str:
            if self.broken and ctx.id == "o-2":
                message = "no box"
                raise NonRetryable(message)
            return "packed"

        order = create_workflow("order").step("first", lambda ctx: ctx.data.update(n=1))
        order.step("ask", ask, when=lambda ctx: ctx.id != "o-2").step("pack", pack)
        self.engine = self.lab.engine(workflows=[order], callbacks=Callbacks("https://x.example", {"k1": KEY}))
        self.engine.execute("order", {"total": 5}, "o-2")
        self.engine.execute("order", {"total": 5}, "o-1")
        self.broken = False
        self.lab.clock.advance(1)

    def do(self, **tree: Any) -> Reply:
        return dispatch(self.engine, parse(tree))


VERBS: Final[dict[str, tuple[dict[str, Any], Callable[[FluxEngine, World], object]]]] = {
    "execute": (
        {"workflow": "order", "input": {"total": 7}, "id": "o-3"},
        lambda e, w: e.execute("order", {"total": 7}, "o-3"),
    ),
    "execute again": (
        {"action": "execute", "workflow": "order", "input": {"total": 5}, "id": "o-1"},
        lambda e, w: e.execute("order", {"total": 5}, "o-1"),
    ),
    "execute, no id": ({"action": "execute", "workflow": "order"}, lambda e, w: e.execute("order")),
    "execute, async": (
        {"action": "execute", "workflow": "order", "id": "o-3", "mode": "async"},
        lambda e, w: e.execute("order", id="o-3", advance=False),
    ),
    "signal": (
        {"workflow": "order", "id": "o-1", "name": "go", "payload": [1], "dedupe_id": "m-1"},
        lambda e, w: e.signal("order", "o-1", "go", [1], "m-1"),
    ),
    "signal, async": (
        {"action": "signal", "workflow": "order", "id": "o-1", "name": "go", "mode": "async"},
        lambda e, w: e.signal("order", "o-1", "go", advance=False),
    ),
    "callback": ({"token": "TOKEN", "payload": "yes"}, lambda e, w: e.callback(w.token, "yes")),
    "retry_step": (
        {
            "workflow": "order",
            "id": "o-2",
            "step": "first",
            "data": {"m": 2},
            "force": True,
            "who": "ann",
            "why": "mended",
        },
        lambda e, w: e.retry_step("order", "o-2", "first", data={"m": 2}, force=True, who="ann", why="mended"),
    ),
    "complete_step": (
        {"workflow": "order", "id": "o-1", "step": "ask", "output": {"ok": 1}, "who": "ann", "why": "called"},
        lambda e, w: e.complete_step("order", "o-1", "ask", {"ok": 1}, who="ann", why="called"),
    ),
    "skip_step": (
        {"workflow": "order", "id": "o-1", "step": "ask", "who": "ann", "why": "called"},
        lambda e, w: e.skip_step("order", "o-1", "ask", who="ann", why="called"),
    ),
    "resume": (
        {"workflow": "order", "id": "o-2", "who": "ann", "why": "mended"},
        lambda e, w: e.resume("order", "o-2", who="ann", why="mended"),
    ),
    "resume, by number": (
        {"action": "resume", "workflow": "order", "id": "o-2", "from_step": 0},
        lambda e, w: e.resume("order", "o-2", 0),
    ),
    "resume, by name": (
        {"action": "resume", "workflow": "order", "id": "o-2", "from_step": "pack"},
        lambda e, w: e.resume("order", "o-2", "pack"),
    ),
    "cancel": (
        {"workflow": "order", "id": "o-1", "reason": "late", "who": "ann"},
        lambda e, w: e.cancel("order", "o-1", "late", who="ann"),
    ),
    "pause": (
        {"workflow": "order", "id": "o-1", "who": "ann", "why": "strike"},
        lambda e, w: e.pause("order", "o-1", who="ann", why="strike"),
    ),
    "unpause": ({"workflow": "order", "id": "o-1", "who": "ann"}, lambda e, w: e.unpause("order", "o-1", who="ann")),
    "wake": ({"workflow": "order", "id": "o-1"}, lambda e, w: e.wake("order", "o-1")),
    "wake, of a tenant": (
        {"action": "wake", "tenant": "default", "workflow": "order", "id": "o-1", "hops": 3},
        lambda e, w: e.wake("order", "o-1", tenant="default"),
    ),
    "get": ({"workflow": "order", "id": "o-2"}, lambda e, w: e.get("order", "o-2")),
}


class TestAnActionIsItsVerb:
    @pytest.mark.parametrize("name", VERBS)
    def test_in_what_it_writes_and_in_what_it_answers(self, name: str) -> None:
        tree, verb = VERBS[name]
        by_mapping, by_call = World(), World()
        tree = {"action": name, **tree}
        if "token" in tree:
            tree["token"] = by_mapping.token
        reply = by_mapping.do(**tree)
        result: Any = verb(by_call.engine, by_call)
        assert reply.error is None
        assert (reply.body["id"], reply.body["status"]) == (result.id, result.status)
        assert reply.status == (200 if result.status in {"completed", "failed", "cancelled"} else 202) or name == "get"
        one, other = by_mapping.lab.storage, by_call.lab.storage
        for id_ in ("o-1", "o-2", result.id):
            ref = by_call.lab.ref(id_)
            assert one.read(ref) == other.read(ref)
            assert one.mail(ref) == other.mail(ref)
            assert one.header(ref) == other.header(ref)

    def test_and_none_is_forgotten(self) -> None:
        assert {name.partition(",")[0].partition(" ")[0] for name in VERBS} | {
            "list",
            "purge",
            "sweep",
            "doctor",
        } == set(ACTIONS)

    def test_a_list(self) -> None:
        world = World()
        page = world.do(action="list", workflow="order", status=["suspended", "failed"], limit=1)
        found = world.engine.list("order", ["suspended", "failed"], 1)
        assert (page.status, page.body) == (200, documents.page(found))

        rest = world.do(action="list", workflow="order", status=["suspended", "failed"], cursor=page.body["cursor"])
        assert [item["id"] for item in (*page.body["items"], *rest.body["items"])] == ["o-2", "o-1"]
        assert [item["id"] for item in world.do(action="list", status="failed").body["items"]] == ["o-2"]

        assert len(world.do(action="list").body["items"]) == 2

    def test_a_sweep(self) -> None:
        world = World()
        world.lab.clock.advance(600)
        assert (world.do(action="sweep", limit=5).body, world.engine.get("order", "o-1").status) == (
            {"asked": 1},
            "failed",
        )

    def test_the_same_invocation_may_be_carried_out_again(self) -> None:
        world = World()
        for tree in ({"action": "list", "workflow": "order"}, {"action": "wake", "workflow": "order", "id": "o-1"}):
            invocation = parse({**tree, "hops": 1} if tree["action"] == "wake" else tree)
            assert dispatch(world.engine, invocation).body == dispatch(world.engine, invocation).body


class TestAnAnswer:
    def test_says_whether_execute_has_created_it(self) -> None:
        world = World()
        tree = {"action": "execute", "workflow": "order", "id": "o-9"}
        assert [world.do(**tree).body["created"] for _ in range(2)] == [True, False]

    def test_is_200_for_an_instance_that_has_ended_and_202_for_one_that_has_not(self) -> None:
        world = World()
        assert world.do(action="wake", workflow="order", id="o-1").status == 202
        assert world.do(action="resume", workflow="order", id="o-2").status == 200

    def test_a_failed_instance_is_no_error(self) -> None:
        world = World()
        world.broken = True
        reply = world.do(action="resume", workflow="order", id="o-2")
        assert (reply.status, reply.error, reply.retry) == (200, None, False)
        assert reply.body["error"] == {"type": "NonRetryable", "message": "no box", "step": "pack"}

    def test_a_look_is_200_whatever_it_sees(self) -> None:
        assert World().do(action="get", workflow="order", id="o-1").status == 200

    def test_says_what_is_waited_for(self) -> None:
        assert World().do(action="get", workflow="order", id="o-1").body["waiting_for"] == ["go"]

    def test_holds_data_and_history_on_demand(self) -> None:
        world = World()
        bare = world.do(action="get", workflow="order", id="o-2").body
        full = world.do(action="get", workflow="order", id="o-2", include=["data", "history"]).body
        assert set(full) - set(bare) == {"data", "history"}
        assert full["data"] == {"n": 1}
        assert [(step["name"], step["status"]) for step in full["history"]] == [
            ("first", "completed"),
            ("ask", "skipped"),
            ("pack", "failed"),
        ]

    def test_to_a_callback_shows_nothing_of_the_instance(self) -> None:
        """Who has a link may be anybody."""
        world = World()
        assert world.do(action="callback", token=world.token, payload=1).body == {"id": "o-1", "status": "completed"}
        with pytest.raises(CallerError, match="'callback' has no field 'include'"):
            parse({"action": "callback", "token": world.token, "include": ["data"]})

    def test_is_shown_with_its_status(self) -> None:
        assert repr(World().do(action="get", workflow="order", id="o-1")).startswith("<Reply 200 {'id': 'o-1'")


GOOD: Final[dict[str, dict[str, Any]]] = {
    "execute": {"workflow": "w", "input": 1, "id": "i", "mode": "sync", "include": ["data"]},
    "signal": {
        "workflow": "w",
        "id": "i",
        "name": "n",
        "payload": 1,
        "dedupe_id": "d",
        "mode": "async",
        "include": ["history"],
    },
    "callback": {"token": "t", "payload": 1, "mode": "async"},
    "retry_step": {
        "workflow": "w",
        "id": "i",
        "step": "s",
        "data": {},
        "force": True,
        "who": "a",
        "why": "b",
        "mode": "sync",
        "include": [],
    },
    "complete_step": {
        "workflow": "w",
        "id": "i",
        "step": "s",
        "output": 1,
        "who": "a",
        "why": "b",
        "mode": "sync",
        "include": [],
    },
    "skip_step": {"workflow": "w", "id": "i", "step": "s", "who": "a", "why": "b", "mode": "sync", "include": []},
    "resume": {"workflow": "w", "id": "i", "from_step": 0, "who": "a", "why": "b", "mode": "sync", "include": []},
    "cancel": {"workflow": "w", "id": "i", "reason": "r", "who": "a", "mode": "sync", "include": []},
    "pause": {"workflow": "w", "id": "i", "who": "a", "why": "b", "mode": "sync", "include": []},
    "unpause": {"workflow": "w", "id": "i", "who": "a", "why": "b", "mode": "sync", "include": []},
    "get": {"workflow": "w", "id": "i", "include": ["data", "history"]},
    "list": {"workflow": "w", "status": ["failed"], "limit": 1, "cursor": "c"},
    "wake": {"workflow": "w", "id": "i", "tenant": "t", "hops": 0},
    "sweep": {"limit": 1},
    "purge": {"limit": 1},
    "doctor": {"part": "worker"},
}
NEEDED: Final = {"workflow", "id", "name", "token", "step"}
FREE: Final = {"input", "payload", "output"}
WRONG: Final[dict[str, tuple[str, list[Any]]]] = {
    "mode": ("'sync' .* or 'async'", ["", "SYNC", 1, True, [], {}]),
    "include": ("a list of data, history", ["data", [1], ["Data"], [[]], {}, 0]),
    "data": ("an object", [[], "a", 1, True]),
    "force": ("true or false", [0, 1, "true", [], {}]),
    "part": (r"the part that the function plays \(api, worker, ", ["", "all", 1, True, [], {}]),
    "hops": ("a whole number from 0 on", [-1, 0.5, "1", True, []]),
    "limit": ("a whole number from 1 to 1000", [0, -1, 1001, 1.0, "5", True, [], 10**30]),
    "status": ("a status, or a list of them", [1, {}, [1], [["failed"]], True]),
    "from_step": ("the name of a step, or its number", [1.5, True, [], {}]),
}


class TestWhatIsWrong:
    def test_the_right_ones_are_taken(self) -> None:
        assert set(GOOD) == set(ACTIONS)
        for action, tree in GOOD.items():
            invocation = parse({"action": action, **tree})
            assert (invocation.action, invocation.mode) == (action, tree.get("mode", "sync"))
            assert invocation.include == tuple(tree.get("include", ()))
            assert set(invocation.arguments) == set(tree) - {"mode", "include"}

    @pytest.mark.parametrize("action", GOOD)
    def test_each_field_of_another_type_is_named_with_what_it_may_be(self, action: str) -> None:
        for name in GOOD[action].keys() - FREE:
            form, values = WRONG.get(name, ("a text", [1, 1.5, True, [], {}, ["a"], {"a": 1}]))

            for value in values:
                with pytest.raises(CallerError, match=f"^'{name}' of '{action}' has to be {form}.*; got "):
                    parse({"action": action, **GOOD[action], name: value})

    @pytest.mark.parametrize("action", GOOD)
    def test_each_field_that_is_missing_or_null_is_named(self, action: str) -> None:
        needed = GOOD[action].keys() & NEEDED - {"list": {"workflow"}, "execute": {"id"}}.get(action, set())
        for name in needed:
            tree = {key: value for key, value in GOOD[action].items() if key != name}
            with pytest.raises(CallerError, match=rf"^'{action}' needs '{name}'|^'{action}' needs .*"):
                parse({"action": action, **tree})
            with pytest.raises(CallerError, match=f"^'{name}' of '{action}' has to be a text; got None"):
                parse({"action": action, **tree, name: None})

    @pytest.mark.parametrize("action", GOOD)
    def test_a_field_that_there_is_not_is_named_with_those_there_are(self, action: str) -> None:
        with pytest.raises(CallerError, match=f"^'{action}' has no field 'colour'; it has "):
            parse({"action": action, **GOOD[action], "colour": "blue"})

    def test_null_is_what_need_not_be_said(self) -> None:
        tree = {"action": "signal", "workflow": "w", "id": "i", "name": "n", "payload": None, "dedupe_id": None}
        assert parse({**tree, "mode": None, "include": None}).arguments == {
            "workflow": "w",
            "id": "i",
            "name": "n",
            "payload": None,
        }

    @pytest.mark.parametrize("action", [None, "", "EXECUTE", "delete", "_tick", "__class__", 1, True, [], {}, "x" * 99])
    def test_an_action_that_there_is_not(self, action: Any) -> None:
        with pytest.raises(CallerError, match="the action of an invocation is one of execute, signal, ") as raised:
            parse({"action": action})
        assert len(str(raised.value)) < 400

    @pytest.mark.parametrize("tree", [None, 1, "execute", [], [{"action": "get"}], True, 1.5])
    def test_no_object_at_all(self, tree: Any) -> None:
        with pytest.raises(CallerError, match=f"is an object with an action .*, not {type(tree).__name__}"):
            parse(tree)

    def test_what_was_sent_instead_is_shown_in_brief(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for value, shown in ((deep, "a list"), ({"a": 1}, "an object"), ("é" * 9999, f"'{'é' * 80}'...")):
            with pytest.raises(CallerError, match=f"got {shown}$"):
                parse({"action": "sweep", "limit": value})

    def test_words_of_a_list_are_shown(self) -> None:
        with pytest.raises(CallerError, match=r"has to be a list of data, history; got 'data', 'secrets'$"):
            parse({"action": "get", "workflow": "order", "id": "o-1", "include": ["data", "secrets"]})

    @pytest.mark.parametrize("name", ["workflow", "id", "step", "name"])
    def test_a_giant_name_makes_no_giant_answer(self, name: str) -> None:
        tree = {"action": "retry_step" if name == "step" else "signal", "workflow": "order", "id": "o-1"}
        tree |= {"step": "ask"} if name == "step" else {"name": "go"}
        detail = World().do(**(tree | {name: "x" * 200_000})).body["detail"]
        assert len(detail) < 2100
        assert "xxx ... " in detail

    def test_a_workflow_to_list_whose_name_no_workflow_can_have(self) -> None:
        """It would become part of a storage key."""
        for name in ("../../etc", "", "\ud800", "a" * 129):
            reply = World().do(action="list", workflow=name)
            assert (reply.status, "the workflow" in reply.body["detail"]) == (400, True)


STATUSES: Final = {
    "ChildFailed": 500,
    "Conflict": 409,
    "DefinitionError": 500,
    "ExpiredToken": 410,
    "ImportUnfinished": 503,
    "InputInvalid": 422,
    "InputMutated": 500,
    "InvalidToken": 403,
    "LeaseLost": 503,
    "LoopLimit": 500,
    "MethodNotAllowed": 400,  # which `flux_core.http` makes 405: an invocation has no method
    "PayloadMissing": 500,
    "PayloadTooLarge": 413,
    "PurgeUnfinished": 404,
    "Refused": 409,
    "SchedulerUnavailable": 503,
    "SecretExposed": 500,
    "SecretUnavailable": 500,
    "SecretsNotConfigured": 500,
    "StepTimeout": 500,
    "StorageUnavailable": 503,
    "Unknown": 500,
    "UnknownSecret": 500,
    "UnknownStep": 404,
    "UnknownWorkflow": 404,
    "WaitTimeout": 500,
    "WorkflowFailed": 500,
    "WriteConflict": 500,
}
"""Of every error of the kit that is not the base of others, on purpose."""


def leaves(kind: type[FluxError]) -> list[type[FluxError]]:
    """The kit's own classes under `kind` that have none of the kit's below them."""
    below = [one for one in kind.__subclasses__() if one.__module__.startswith("flux_core")]
    return [leaf for one in below for leaf in leaves(one)] if below else [kind]


def made(kind: type[FluxError]) -> FluxError:
    if kind is PurgeUnfinished:
        return PurgeUnfinished("what happened", 1)
    return MethodNotAllowed("PUT", "GET") if kind is MethodNotAllowed else kind("what happened")


class TestAnError:
    def test_of_every_kind_has_a_status_on_purpose(self) -> None:
        found = {kind.__name__: problem(made(kind)).status for kind in leaves(FluxError)}
        assert found == STATUSES

    def test_of_a_kind_that_others_are_of_has_one_too(self) -> None:
        bases = {kind: problem(made(kind)).status for kind in vars(errors).values() if isinstance(kind, type)}
        assert {kind.__name__: status for kind, status in bases.items() if kind.__name__ not in STATUSES} == {
            "FluxError": 500,
            "CallerError": 400,
            "NotFound": 404,
            "UnknownInstance": 404,
            "StepFault": 500,
            "NonRetryable": 500,
            "Unserialisable": 500,
            "InvocationError": 503,
            "CorruptRecord": 500,
        }

    def test_is_a_problem_as_rfc_9457_has_it(self) -> None:
        assert problem(UnknownInstance("workflow 'order' has no instance 'x'")).body == {
            "type": "urn:flux:problem:UnknownInstance",
            "title": "Unknown instance",
            "status": 404,
            "detail": "workflow 'order' has no instance 'x'",
        }

    def test_that_is_none_of_the_kits_is_not_shown(self) -> None:
        reply = problem(ValueError("the password is hunter2"))
        assert reply.status == 500
        assert reply.body["title"] == "Internal error"
        assert "hunter2" not in str(reply.body)

    @pytest.mark.parametrize("kind", leaves(FluxError), ids=lambda kind: kind.__name__)
    def test_is_worth_another_try_only_if_nothing_is_wrong_with_the_request(self, kind: type[FluxError]) -> None:
        assert problem(made(kind)).retry == (STATUSES[kind.__name__] == 503)

    def test_of_the_store_is_answered_and_worth_another_try(self) -> None:
        world = World()
        engine = world.lab.engine(
            storage=FaultyStorage(world.lab.storage, FaultPlan({1: UNAVAILABLE})),
            workflows=world.engine.workflows.values(),
        )
        reply = dispatch(engine, parse({"action": "get", "workflow": "order", "id": "o-1"}))
        assert (reply.status, reply.retry, type(reply.error)) == (503, True, StorageUnavailable)

    @pytest.mark.parametrize(
        ("tree", "status", "kind"),
        [
            ({"action": "get", "workflow": "none", "id": "o-1"}, 404, "UnknownWorkflow"),
            ({"action": "get", "workflow": "order", "id": "none"}, 404, "UnknownInstance"),
            ({"action": "get", "workflow": "order", "id": "a/b"}, 400, "CallerError"),
            ({"action": "skip_step", "workflow": "order", "id": "o-1", "step": "none"}, 404, "UnknownStep"),
            ({"action": "resume", "workflow": "order", "id": "o-2", "from_step": 10**30}, 404, "UnknownStep"),
            ({"action": "resume", "workflow": "order", "id": "o-2", "from_step": -1}, 404, "UnknownStep"),
            ({"action": "execute", "workflow": "order", "id": "o-1", "input": 6}, 409, "Conflict"),
            ({"action": "execute", "workflow": "order", "id": "..", "input": 6}, 400, "CallerError"),
            ({"action": "signal", "workflow": "order", "id": "o-1", "name": "__go__"}, 400, "CallerError"),
            ({"action": "pause", "workflow": "order", "id": "o-2"}, 409, "Refused"),
            ({"action": "list", "status": "done"}, 400, "CallerError"),
            ({"action": "list", "cursor": "\ud800"}, 400, "CallerError"),
            ({"action": "callback", "token": "a.b"}, 403, "InvalidToken"),
        ],
    )
    def test_of_a_verb_is_answered(self, tree: dict[str, Any], status: int, kind: str) -> None:
        reply = World().do(**tree)
        assert (reply.status, reply.body["status"], reply.body["type"]) == (status, status, f"urn:flux:problem:{kind}")
        assert not reply.retry

    def test_that_the_kit_did_not_raise_on_purpose_is_raised(self) -> None:
        """The host knows what to do with it."""
        world = World()
        world.engine.clock = None  # type: ignore[assignment]  # so that the verb breaks
        with pytest.raises(AttributeError):
            world.do(action="wake", workflow="order", id="o-1")

    def test_a_deep_value_is_refused_where_values_are_checked(self) -> None:
        deep: list[Any] = []
        for _ in range(65):
            deep = [deep]
        world = World()
        for tree in (
            {"action": "execute", "workflow": "order", "input": deep},
            {"action": "signal", "workflow": "order", "id": "o-1", "name": "go", "payload": deep},
            {"action": "retry_step", "workflow": "order", "id": "o-2", "step": "pack", "data": {"a": deep}},
            {"action": "complete_step", "workflow": "order", "id": "o-1", "step": "ask", "output": deep},
            {"action": "callback", "token": world.token, "payload": deep},
        ):
            reply = world.do(**tree)
            assert (reply.status, type(reply.error)) == (422, InputInvalid)
            assert "deeper than 64 levels" in reply.body["detail"]


class TestACallbackThatFails:
    """Its answer goes to whoever has the link."""

    def test_says_nothing_of_what_is_registered(self) -> None:
        world = World()
        engine = world.lab.engine(callbacks=Callbacks("https://x.example", {"k1": KEY}), workflows=[])
        reply = dispatch(engine, parse({"action": "callback", "token": world.token}))
        assert (reply.status, reply.body["detail"]) == (404, "what this callback link belongs to is not there any more")

    def test_says_nothing_of_the_store(self) -> None:
        world = World()
        engine = world.lab.engine(
            storage=FaultyStorage(world.lab.storage, FaultPlan({1: UNAVAILABLE})),
            workflows=world.engine.workflows.values(),
            callbacks=Callbacks("https://x.example", {"k1": KEY}),
        )
        reply = dispatch(engine, parse({"action": "callback", "token": world.token}))
        assert (reply.status, reply.retry) == (503, True)
        assert reply.body["detail"] == "the callback could not be taken; try it again later"
        assert isinstance(reply.error, StorageUnavailable)

    def test_says_nothing_of_the_keys(self) -> None:
        world = World()
        engine = world.lab.engine(callbacks=Callbacks("https://x.example", {"k1": "short"}), workflows=[])
        reply = dispatch(engine, parse({"action": "callback", "token": world.token}))
        assert (reply.status, reply.body["detail"]) == (500, "the callback could not be taken; try it again later")

    def test_says_what_the_link_is_worth(self) -> None:
        world = World()
        world.do(action="callback", token=world.token, payload=1)
        assert world.do(action="callback", token=world.token, payload=2).status == 409
        world.lab.clock.advance(8 * 86400)
        reply = world.do(action="callback", token=world.token)
        assert (reply.status, "expired" in reply.body["detail"]) == (410, True)


class TestAWake:
    def test_of_an_instance_that_is_gone_is_done_with(self) -> None:
        reply = World().do(action="wake", workflow="order", id="gone")
        assert (reply.status, reply.body["id"], reply.body["status"], reply.retry) == (200, "gone", "gone", False)

    def test_of_a_workflow_that_is_not_known_here_is_done_with(self) -> None:
        """The due index has it, for the deployment that knows it."""
        reply = World().do(action="wake", workflow="newer", id="o-1")
        assert (reply.status, reply.body["status"]) == (200, "gone")
        assert "'newer'" in reply.body["detail"]

    def test_of_another_tenant_shows_nothing_of_its_instance(self) -> None:
        """The due index and the queue are everybody's; what stands in an instance is not."""
        world = World()
        other = world.lab.engine(workflows=world.engine.workflows.values(), tenant="other")
        reply = dispatch(other, parse({"action": "wake", "tenant": "default", "workflow": "order", "id": "o-2"}))
        assert (reply.status, reply.body) == (200, {"id": "o-2", "status": "failed"})

    def test_of_a_hostile_name_is_the_callers_fault(self) -> None:
        assert World().do(action="wake", workflow="order", id="a/b").status == 400
        assert World().do(action="wake", workflow="order", id="o-1", tenant="a/b").status == 400

    def test_message_is_the_mapping_of_a_wake(self, lab: Lab) -> None:
        text = wake_message(lab.ref("o-1"))
        assert text == '{"action":"wake","tenant":"default","workflow":"order","id":"o-1"}'
        assert parse(read_json(text, "it", 999)).arguments == {"tenant": "default", "workflow": "order", "id": "o-1"}

    def test_message_says_how_many_led_to_it(self, lab: Lab) -> None:
        assert wake_message(lab.ref("o-1"), 3).endswith(',"hops":3}')

    def test_message_of_the_longest_names_is_small(self, lab: Lab) -> None:
        assert len(wake_message(lab.ref("i" * 128, "w" * 128), 999)) < 400


class TestText:
    @pytest.mark.parametrize("text", ["", " ", "\n\t"])
    def test_that_is_empty_is_none(self, text: str) -> None:
        assert read_json(text, "the body", 99) is None
        assert read_json(text.encode(), "the body", 99) is None

    @pytest.mark.parametrize(
        ("body", "why"),
        [
            (b"{", "is not JSON"),
            (b"{}{}", "something follows the JSON value"),
            (b"NaN", "NaN is not JSON"),
            (b'{"a": Infinity}', "Infinity is not JSON"),
            (b"[-Infinity]", "-Infinity is not JSON"),
            (b"nul", "is not JSON"),
            (b"'a'", "is not JSON"),
            (b'"a\nb"', "is not JSON"),
            (b"\xff", r"is not UTF-8 \(byte 0\)"),
            (b'"\xed\xa0\x80"', r"is not UTF-8 \(byte 1\)"),
            (b'{"a":1}'.decode().encode("utf-16"), "is not UTF-8"),
            (b"[" * 100_000, "is not JSON"),
            (b"9" * 5000, "is not JSON"),
        ],
    )
    def test_that_is_no_json_says_why(self, body: bytes, why: str) -> None:
        with pytest.raises(CallerError, match=f"^the body .*{why}"):
            read_json(body, "the body", 10**6)

    def test_of_too_many_bytes_is_refused_unread(self) -> None:
        for body in (b"[" * 11, "[" * 11, '"ééééé"'):
            with pytest.raises(PayloadTooLarge, match=r"the message has 1[12] bytes; at most 10 .*FLUX_MOST_BYTES"):
                read_json(body, "the message", 10)

    def test_of_as_many_bytes_as_allowed_is_read(self) -> None:
        assert read_json(b'"12345678"', "the message", 10) == "12345678"

    def test_a_key_that_is_there_twice_counts_where_it_is_last(self) -> None:
        assert read_json('{"action":"get","action":"sweep"}', "it", 99) == {"action": "sweep"}

    def test_half_a_surrogate_pair_is_a_character_like_any_other(self) -> None:
        world = World()
        payload = read_json('"\\ud800"', "it", 99)
        reply = world.do(action="signal", workflow="order", id="o-1", name="go", payload=payload)

        assert reply.status == 200
        assert world.engine.get("order", "o-1").output("ask") == "\ud800"
