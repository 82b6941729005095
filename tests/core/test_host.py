"""A host answers whatever arrives, in time, and what broke here is in the log and not in the answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import Callbacks, SchedulerUnavailable, create_workflow, sleep, wait
from flux_core.host import Host
from flux_core.hosting import HostSettings
from flux_core.http import Request
from flux_core.invocation import wake_message
from flux_core.testing import UNAVAILABLE, FaultPlan, FaultyStorage, RecordingStorage, VirtualClock
from tests.core.conftest import Killed, Lab

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import Context, FluxEngine, InstanceRef


STOP = VirtualClock().now() + 5000


class Queue:
    """A scheduler that keeps what it is asked for."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.horizon = 900.0
        self.fails = fails
        self.asked: list[tuple[str, float]] = []

    def wake(self, ref: InstanceRef, delay: float) -> None:
        if self.fails is not None:
            raise self.fails
        self.asked.append((ref.id, delay))


class Worker:
    """A host whose order takes ten steps of four seconds each, or waits."""

    def __init__(self, queue: Queue | None = None, **settings: Any) -> None:
        self.lab = Lab()
        self.links: list[str] = []
        slow = create_workflow("slow")
        for number in range(10):
            slow.step(f"s{number}", self.four_seconds)
        ask = create_workflow("ask").step("ask", self.ask).step("last", self.lab.note("last"))
        nap = create_workflow("nap").step("nap", lambda ctx: sleep(60)).step("last", self.lab.note("last"))
        self.workflows = [slow, ask, nap]
        self.engine = self.another(scheduler=queue)
        self.settings = HostSettings(**{"sweeper": queue is None, **settings})
        self.host = Host(self.engine, self.settings)

    def another(self, **options: Any) -> FluxEngine:
        callbacks = Callbacks("https://x.example", {"k1": "k" * 32})
        return self.lab.engine(workflows=self.workflows, callbacks=callbacks, **options)

    def four_seconds(self, ctx: Context) -> None:
        self.lab.clock.advance(4)

    def ask(self, ctx: Context) -> object:
        self.links.append(ctx.callback_url("go").removeprefix("https://x.example"))
        return wait("go", timeout=600)

    def post(self, path: str, body: bytes = b"", remaining: Callable[[], float] | None = None) -> tuple[int, Any]:
        response = self.host.http(Request("POST", path, {}, {"idempotency-key": "1"}, body), remaining)
        return response.status, json.loads(response.body)

    def done(self, workflow: str = "slow") -> int:
        """How many steps have completed."""
        return sum(step.status == "completed" for step in self.engine.get(workflow, "1").history)

    def lasting(self, seconds: float) -> Callable[[], float]:
        """What a platform tells of an invocation that may take so long from now on."""
        end = self.lab.clock.monotonic() + seconds
        return lambda: end - self.lab.clock.monotonic()

    @property
    def errors(self) -> list[dict[str, object]]:
        return [fields for level, _, fields in self.lab.log.lines if level == "error"]


class TestHowLongItTakes:
    def test_a_request_is_answered_before_a_gateway_gives_up(self) -> None:
        worker = Worker()
        status, body = worker.post("/workflows/slow/executions")
        assert (status, body["status"]) == (202, "running")
        assert worker.done() == 6  # 25 s less the margin, and the sixth step begins at 20 s
        assert worker.host.sweep().body == {"asked": 1}
        assert worker.done() == 10

    def test_the_time_for_answers_is_a_setting(self) -> None:
        worker = Worker(http_budget=10.0)
        worker.post("/workflows/slow/executions")
        assert worker.done() == 3

    def test_an_invocation_that_ends_sooner_is_answered_sooner(self) -> None:
        worker = Worker()
        worker.post("/workflows/slow/executions", remaining=worker.lasting(10))
        assert worker.done() == 3

    def test_a_platform_may_change_its_mind_while_a_request_is_served(self) -> None:
        """A process that is to stop lets the running step end, and hands over."""
        worker = Worker()
        worker.post("/workflows/slow/executions", remaining=lambda: 1000.0 if worker.lab.clock.now() < STOP else 0.0)
        assert worker.done() == 2

    def test_the_budget_counts_where_the_platform_does_not_tell(self) -> None:
        worker = Worker(budget=10.0)
        worker.post("/workflows/slow/executions")
        assert worker.done() == 3

    def test_the_platform_knows_better_than_the_budget(self) -> None:
        worker = Worker(budget=10.0)
        worker.host.direct({"action": "execute", "workflow": "slow", "id": "1"}, worker.lasting(1000))
        assert worker.done() == 10

    def test_a_direct_invocation_and_a_message_have_the_whole_of_it(self) -> None:
        for send in ("direct", "message"):
            worker = Worker(budget=30.0)
            tree = {"action": "execute", "workflow": "slow", "id": "1"}
            getattr(worker.host, send)(tree if send == "direct" else json.dumps(tree))
            assert worker.done() == 7

    def test_a_sweep_ends_in_time(self) -> None:
        worker = Worker()
        for number in range(5):
            worker.engine.execute("nap", id=f"n-{number}")
        worker.lab.clock.advance(60)
        assert worker.host.sweep(lambda: 0.0).body == {"asked": 0}
        assert worker.host.sweep().body == {"asked": 5}

    def test_a_platform_that_says_that_nothing_is_left_gets_an_answer_all_the_same(self) -> None:
        for left in (0.0, -5.0):
            worker = Worker()
            status, body = worker.post("/workflows/slow/executions", remaining=lambda left=left: left)  # type: ignore[misc]
            assert (status, body["id"], worker.done()) == (202, "1", 0)


class TestARequest:
    def test_tells_the_due_index_of_a_signal_first(self) -> None:
        """Nobody sends it again (rule 11)."""
        worker = Worker()
        worker.engine.execute("ask", id="1")
        ways: list[tuple[Callable[[Host], object], bool]] = [
            (lambda host: host.http(Request("POST", "/workflows/ask/executions/1/signals/x", {}, {}, b"")), True),
            (lambda host: host.direct({"action": "signal", "workflow": "ask", "id": "1", "name": "x"}), True),
            (lambda host: host.message('{"action":"signal","workflow":"ask","id":"1","name":"x"}'), False),
            (lambda host: host.message('{"action":"signal","workflow":"ask","id":"1","name":"x"}', once=True), True),
        ]
        for send, nudged in ways:
            store = RecordingStorage(worker.lab.storage)
            send(Host(worker.another(storage=store), worker.settings))
            methods = [call.method for call in store.calls]
            assert ("nudge" in methods[: methods.index("put_mail")]) == nudged

    def test_by_a_callback_runs_no_step_where_a_queue_does(self) -> None:
        queue = Queue()
        worker = Worker(queue)
        worker.engine.execute("ask", id="1")
        queue.asked.clear()
        assert worker.post(worker.links[0]) == (202, {"id": "1", "status": "suspended"})
        assert (worker.lab.calls, queue.asked) == ([], [("1", 0.0)])
        assert worker.host.message(wake_message(worker.lab.ref("1", "ask"))).body["status"] == "completed"

    def test_by_a_callback_goes_on_here_where_there_is_none(self) -> None:
        worker = Worker()
        worker.engine.execute("ask", id="1")
        assert worker.post(worker.links[0])[1] == {"id": "1", "status": "completed"}


class TestAMessage:
    def test_of_a_wake_ticks(self) -> None:
        worker = Worker()
        worker.engine.execute("nap", id="1")
        worker.lab.clock.advance(60)
        for body in (wake_message(worker.lab.ref("1", "nap")), wake_message(worker.lab.ref("1", "nap"), 9).encode()):
            reply = worker.host.message(body)
            assert (reply.status, reply.body["status"]) == (200, "completed")
        assert worker.lab.calls == ["last"]

    def test_that_came_too_early_is_done_with(self) -> None:
        worker = Worker()
        worker.engine.execute("nap", id="1")
        reply = worker.host.message(wake_message(worker.lab.ref("1", "nap")))
        assert (reply.status, reply.body["status"]) == (202, "suspended")

    def test_that_is_too_large_is_hopeless(self) -> None:
        assert Worker(most_bytes=9).host.message("[" * 10).status == 413

    def test_of_an_instance_that_is_gone_is_done_with(self) -> None:
        reply = Worker().host.message(wake_message(Lab().ref("1", "nap")))
        assert (reply.status, reply.body["status"]) == (200, "gone")

    @pytest.mark.parametrize("body", ["", "{", b"\xff", "[]", '{"action":"fly"}', '"' + "x" * 999 + '"', "[" * 999])
    def test_that_nobody_can_read_is_hopeless(self, body: str | bytes) -> None:
        worker = Worker()
        reply = worker.host.message(body)
        assert 400 <= reply.status < 500
        assert not reply.retry
        assert worker.errors == []

    def test_is_worth_another_try_if_the_store_did_not_answer(self) -> None:
        worker = Worker()
        worker.engine.execute("nap", id="1")
        storage = FaultyStorage(worker.lab.storage, FaultPlan({1: UNAVAILABLE}))
        reply = Host(worker.another(storage=storage), worker.settings).message(wake_message(worker.lab.ref("1", "nap")))
        assert (reply.status, reply.retry) == (503, True)
        assert "StorageUnavailable" in str(worker.errors[0]["error"])


class TestASweep:
    def test_asks_the_queue_for_what_will_be_due_soon(self) -> None:
        queue = Queue()
        worker = Worker(queue, sweep_ahead=30.0)
        worker.engine.execute("nap", id="1")
        queue.asked.clear()
        assert worker.host.sweep().body == {"asked": 0}
        worker.lab.clock.advance(40)
        assert worker.host.sweep().body == {"asked": 1}
        assert queue.asked == [("1", 20.0)]

    def test_takes_as_many_as_the_settings_say(self) -> None:
        worker = Worker(sweep_limit=2)
        for number in range(3):
            worker.engine.execute("nap", id=f"n-{number}")
        worker.lab.clock.advance(60)
        assert [worker.host.sweep().body["asked"] for _ in range(3)] == [2, 1, 0]

    def test_may_come_as_an_invocation_that_says_how_many(self) -> None:
        worker = Worker(sweep_limit=2)
        for number in range(3):
            worker.engine.execute("nap", id=f"n-{number}")
        worker.lab.clock.advance(60)
        assert worker.host.direct({"action": "sweep", "limit": 1}).body == {"asked": 1}
        assert worker.post("/invoke", b'{"action":"sweep"}') == (200, {"asked": 2})

    def test_is_worth_another_try_if_the_queue_did_not_answer(self) -> None:
        queue = Queue()
        worker = Worker(queue)
        worker.engine.execute("nap", id="1")
        queue.fails = SchedulerUnavailable("the queue did not answer")
        reply = worker.host.sweep()
        assert (reply.status, reply.retry) == (503, True)


class TestWhatBreaksHere:
    def broken(self, worker: Worker) -> Host:
        """A host whose store has a fault that nobody foresaw."""

        class Broken(RecordingStorage):
            def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
                message = "the password of the database is hunter2"
                raise ZeroDivisionError(message)

            def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
                return self.tail(ref)

        return Host(worker.another(storage=Broken(worker.lab.storage)), worker.settings)

    def test_is_a_problem_that_shows_nothing_inside(self) -> None:
        worker = Worker()
        host = self.broken(worker)
        response = host.http(Request("POST", "/workflows/ask/executions/1/signals/go", {}, {}, b""))
        assert (response.status, response.headers["content-type"]) == (500, "application/problem+json")
        assert json.loads(response.body) == {
            "type": "urn:flux:problem:InternalError",
            "title": "Internal error",
            "status": 500,
            "detail": "an unexpected error; the function's log has it",
        }

    def test_is_a_line_of_the_log_with_where_it_was(self) -> None:
        worker = Worker()
        self.broken(worker).http(Request("POST", "/workflows/ask/executions/1/signals/go", {}, {}, b""))
        (fields,) = worker.errors
        assert "hunter2" in str(fields["error"])
        assert "Traceback" in str(fields["trace"])
        assert "in signal" in str(fields["trace"])

    def test_is_a_reply_that_is_not_worth_another_try(self) -> None:
        worker = Worker()
        host = self.broken(worker)
        wake = wake_message(worker.lab.ref("1", "ask"))
        for reply in (host.direct(json.loads(wake)), host.message(wake)):
            assert (reply.status, reply.retry, type(reply.error)) == (500, False, ZeroDivisionError)
            assert "hunter2" not in str(reply.body)
        assert len(worker.errors) == 2

    def test_in_writing_an_answer_is_answered_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        worker = Worker()
        worker.engine.execute("ask", id="1")
        monkeypatch.setattr("flux_core.documents.plain", lambda value: {1j})
        request = Request("GET", "/workflows/ask/executions/1", {"include": "history"}, {}, b"")
        assert worker.host.http(request).status == 500
        assert "Traceback" in str(worker.errors[0]["trace"])

    def test_in_telling_how_much_time_is_left_is_answered_too(self) -> None:
        worker = Worker()

        def remaining() -> float:
            raise OSError

        assert worker.post("/workflows/ask/executions", remaining=remaining)[0] == 500
        assert worker.host.direct({"action": "get"}, remaining).status == 400  # nobody asked

    def test_that_ends_the_process_ends_it(self) -> None:
        worker = Worker()
        worker.workflows.append(create_workflow("dies").step("die", worker.lab.die))
        host = Host(worker.another(), worker.settings)
        with pytest.raises(Killed):
            host.http(Request("POST", "/workflows/dies/executions", {}, {}, b""))

    def test_of_the_store_says_when_to_come_again(self) -> None:
        worker = Worker()
        storage = FaultyStorage(worker.lab.storage, FaultPlan({1: UNAVAILABLE}))
        host = Host(worker.another(storage=storage), worker.settings)
        response = host.http(Request("GET", "/workflows/ask/executions/1", {}, {}, b""))
        assert (response.status, response.headers["retry-after"]) == (503, "1")

    def test_of_the_callers_is_no_line_of_the_log(self) -> None:
        worker = Worker()
        worker.post("/nowhere")
        worker.host.direct({"action": "fly"})
        worker.host.direct([])
        assert worker.lab.log.lines == []


class TestADirectInvocation:
    def test_never_raises_for_what_is_wrong_with_it(self) -> None:
        worker = Worker()
        trees: list[object] = [
            None,
            [],
            1,
            {},
            {"action": "execute"},
            {"action": "get", "workflow": "ask", "id": "none"},
        ]
        for tree in trees:
            reply = worker.host.direct(tree)
            assert 400 <= reply.status < 500
            assert not reply.retry

    def test_needs_no_budget(self) -> None:
        worker = Worker()
        worker.host.direct({"action": "execute", "workflow": "slow", "id": "1"})
        assert worker.done() == 10
