"""The doctor tries every use of what a deployment is made of, where it runs, and leaves users' instances alone."""

from __future__ import annotations

import http.server
import threading
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import FluxEngine, MemoryStorage, create_workflow, wait
from flux_core.callbacks import Callbacks
from flux_core.doctor import FAILURE, OK, OVERDUE, PROBE, UNKNOWN, USES, WARNING, Finding, clock_finding, examine
from flux_core.errors import SchedulerUnavailable
from flux_core.host import Host
from flux_core.hosting import HostSettings
from flux_core.invocation import PARTS
from flux_core.payloads import MemoryPayloads
from flux_core.system import SystemClock
from flux_core.testing import UNAVAILABLE, FaultPlan, FaultyStorage, RecordingStorage, VirtualClock

if TYPE_CHECKING:
    from flux_core.ports import InstanceRef

KEYS = {"k1": "0123456789abcdef0123456789abcdef"}

approval = create_workflow("approval").step("ask", lambda ctx: wait("go", timeout=3600))


class Queue:
    """Takes what it is given, or refuses it."""

    horizon = 900.0

    def __init__(self, fault: Exception | None = None) -> None:
        self.taken: list[tuple[InstanceRef, float]] = []
        self.fault = fault

    def wake(self, ref: InstanceRef, delay: float) -> None:
        if self.fault is not None:
            raise self.fault
        self.taken.append((ref, delay))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def standing(found: list[Finding]) -> dict[str, str]:
    """By subject."""
    return {finding.subject: finding.standing for finding in found}


def engine_with(clock: VirtualClock, storage: Any = None, **options: Any) -> FluxEngine:
    return FluxEngine(storage or MemoryStorage(), workflows=[approval], clock=clock, **options)


def whole(clock: VirtualClock, storage: Any = None) -> FluxEngine:
    """One with all that can be tried."""
    callbacks = Callbacks("https://api.example.com", KEYS)
    return engine_with(clock, storage, payloads=MemoryPayloads(), scheduler=Queue(), callbacks=callbacks)


class TestWhatIsTried:
    @pytest.mark.parametrize("part", USES)
    def test_all_of_it_is_well_where_nothing_is_wrong_the_second_time_too(self, part: str, clock: VirtualClock) -> None:
        engine = whole(clock)
        for _ in range(2):
            assert set(standing(list(examine(engine, part))).values()) == {OK}

    def test_each_part_needs_what_it_does(self, clock: VirtualClock) -> None:
        tried = {part: [one.subject for one in examine(whole(clock), part)] for part in USES}
        running = ["store, reading", "store, writing", "payloads", "queue", "callback keys"]
        assert tried == {
            "api": [*running, "store, list index"],
            "worker": running,
            "sweeper": ["store, due index", "sweeper", "queue"],
            "purge": ["store, list index", "store, deleting"],
            "operator": [*running, "store, list index", "store, due index", "sweeper"],
        }
        assert tuple(USES) == PARTS

    def test_what_is_not_set_is_not_tried(self, clock: VirtualClock) -> None:
        subjects = {one.subject for one in examine(engine_with(clock), "worker")}
        assert subjects == {"store, reading", "store, writing"}

    def test_every_method_of_the_store_is_called_by_who_runs_workflows_or_looks_after_them(
        self, clock: VirtualClock
    ) -> None:
        storage = RecordingStorage(MemoryStorage())
        for part in PARTS:
            list(examine(engine_with(clock, storage), part))
        assert {call.method for call in storage.calls} == {
            "append", "read", "tail", "header", "put_mail", "mail", "put_snapshot", "snapshot", "nudge", "settle",
            "due", "list", "purge",
        }  # fmt: skip

    def test_a_method_that_fails_is_told_with_what_the_store_says_and_the_rest_is_tried_all_the_same(
        self, clock: VirtualClock
    ) -> None:
        methods = RecordingStorage(MemoryStorage())
        list(examine(engine_with(clock, methods), "operator"))
        subjects = set()
        for number in range(1, len(methods.calls) + 1):
            storage = FaultyStorage(MemoryStorage(), FaultPlan({number: UNAVAILABLE}))
            found = list(examine(engine_with(clock, storage), "operator"))
            assert len(found) == 5
            (failed,) = (one for one in found if one.standing == FAILURE)
            assert failed.said
            subjects.add(failed.subject)
        assert subjects == {
            "store, reading", "store, writing", "store, list index", "store, due index", "sweeper",
        }  # fmt: skip

    def test_a_queue_that_refuses_is_a_failure(self, clock: VirtualClock) -> None:
        engine = engine_with(clock, scheduler=Queue(SchedulerUnavailable("the role lacks sqs:SendMessage")))
        found = list(examine(engine, "sweeper"))
        assert Finding("queue", FAILURE, "the role lacks sqs:SendMessage") in found

    def test_so_is_what_a_queue_of_ones_own_raises(self, clock: VirtualClock) -> None:
        found = list(examine(engine_with(clock, scheduler=Queue(OSError("no route"))), "sweeper"))
        assert Finding("queue", FAILURE, "OSError: no route") in found

    def test_a_key_that_cannot_sign_is_a_failure_and_is_not_shown(self, clock: VirtualClock) -> None:
        engine = engine_with(clock, callbacks=Callbacks("https://api.example.com", {"k1": "short-secret"}))
        (found,) = (one for one in examine(engine, "worker") if one.subject == "callback keys")
        assert found.standing == FAILURE
        assert "needs at least 32" in found.said
        assert "short-secret" not in found.said

    def test_payloads_that_refuse_are_a_failure(self, clock: VirtualClock) -> None:
        class Closed(MemoryPayloads):
            def put(self, ref: InstanceRef, digest: str, data: bytes) -> None:
                message = "may not be written"
                raise PermissionError(message)

        found = list(examine(engine_with(clock, payloads=Closed()), "worker"))
        assert Finding("payloads", FAILURE, "PermissionError: may not be written") in found


class TestWhatItLeaves:
    def test_nothing_of_a_users_is_touched(self, clock: VirtualClock) -> None:
        storage = MemoryStorage()
        engine = whole(clock, storage)
        run = engine.execute(approval, id="a")
        before = storage.read(ref := PROBE._replace(tenant="default", workflow="approval", id=run.id))
        header = storage.header(ref)
        for part in USES:
            list(examine(engine, part))
        assert storage.read(ref) == before
        assert storage.header(ref) == header
        assert [item.id for item in engine.list().items] == ["a"]

    def test_it_is_one_record_one_signal_and_one_snapshot_however_often(self, clock: VirtualClock) -> None:
        storage = MemoryStorage()
        for _ in range(3):
            list(examine(whole(clock, storage), "operator"))
            clock.advance(60)
        assert (len(storage.read(PROBE)), len(storage.mail(PROBE))) == (1, 1)
        assert storage.due(clock.now() + 10**9, 10) == []

    def test_and_the_purge_function_removes_it(self, clock: VirtualClock) -> None:
        storage = MemoryStorage()
        list(examine(whole(clock, storage), "operator"))
        list(examine(whole(clock, storage), "purge"))
        assert storage.tail(PROBE) is None

    def test_the_message_for_the_queue_is_one_that_the_worker_is_done_with(self, clock: VirtualClock) -> None:
        queue = Queue()
        list(examine(engine_with(clock, scheduler=queue), "sweeper"))
        ((ref, delay),) = queue.taken
        assert delay == 0
        worker = Host(engine_with(clock), HostSettings())
        assert worker.direct({"action": "wake", **ref._asdict()}).status == 200


class TestTheSweeper:
    def test_what_was_due_long_ago_says_that_nobody_sweeps(self, clock: VirtualClock) -> None:
        engine = engine_with(clock)
        engine.execute(approval, id="a")
        clock.advance(3600 + OVERDUE + 120)
        (found,) = (one for one in examine(engine, "sweeper") if one.subject == "sweeper")
        assert found.standing == WARNING
        assert "approval/a (7 min)" in found.said
        assert "flux recover" in found.said

    def test_what_has_only_just_become_due_does_not(self, clock: VirtualClock) -> None:
        engine = engine_with(clock)
        engine.execute(approval, id="a")
        clock.advance(3600 + OVERDUE - 60)
        assert set(standing(list(examine(engine, "sweeper"))).values()) == {OK}


class TestTheAction:
    def test_it_answers_with_what_it_found(self, clock: VirtualClock) -> None:
        reply = Host(whole(clock), HostSettings()).direct({"action": "doctor", "part": "sweeper"})
        assert reply.status == 200
        assert reply.body["part"] == "sweeper"
        assert reply.body["healthy"] is True
        assert [Finding.from_tree(tree).subject for tree in reply.body["findings"]] == [
            "store, due index", "sweeper", "queue",
        ]  # fmt: skip

    def test_it_is_not_healthy_when_something_has_failed(self, clock: VirtualClock) -> None:
        engine = engine_with(clock, scheduler=Queue(SchedulerUnavailable("no")))
        reply = Host(engine, HostSettings()).direct({"action": "doctor"})
        assert (reply.status, reply.body["part"], reply.body["healthy"]) == (200, "api", False)

    def test_a_function_compares_its_clock_with_that_of_its_cloud(self, clock: VirtualClock) -> None:
        with timekeeper(0) as address:
            host = Host(FluxEngine(MemoryStorage()), HostSettings(), timekeeper=address)
            first = host.direct({"action": "doctor"}).body["findings"][0]
        assert first == {"subject": "clock", "standing": OK, "said": f"agrees with {address}"}


class timekeeper:  # noqa: N801 -- reads as a word
    """A server whose clock is `ahead` by so many seconds; None: it does not tell the time."""

    def __init__(self, ahead: float | None) -> None:
        class Answers(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response_only(403)
                if ahead is not None:
                    self.send_header("Date", formatdate(SystemClock().now() / 1000 + ahead, usegmt=True))
                self.end_headers()

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class TestClocks:
    @pytest.mark.parametrize(
        ("ahead", "expected"), [(0, OK), (2, OK), (-2, OK), (7, WARNING), (-7, WARNING), (60, FAILURE), (-60, FAILURE)]
    )
    def test_so_much_off(self, ahead: int, expected: str) -> None:
        with timekeeper(ahead) as address:
            found = clock_finding(address, SystemClock().now)
        assert (found.subject, found.standing) == ("clock", expected)
        if expected != OK:
            assert "NTP" in found.said

    def test_one_that_does_not_tell_the_time_is_no_fault_of_the_deployment(self) -> None:
        with timekeeper(None) as address:
            found = clock_finding(address, SystemClock().now)
        assert found.standing == UNKNOWN

    @pytest.fixture
    def nobody(self) -> str:
        server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        port = server.server_port
        server.server_close()
        return f"http://127.0.0.1:{port}"

    def test_nor_is_one_that_does_not_answer(self, nobody: str) -> None:
        assert clock_finding(nobody, SystemClock().now).standing == UNKNOWN
