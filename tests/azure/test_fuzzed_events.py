"""Ten thousand hostile events a trigger: each is answered or given back, none ends the function."""

from __future__ import annotations

import json
from collections import Counter

import azure.functions as func
import pytest

from flux_azure.handler import NotDone
from flux_core import FluxEngine, MemoryStorage, create_workflow, wait
from tests.azure.hostile import Hostile
from tests.azure.in_process import Functions

EVENTS = 10_000
ORDER = create_workflow("order").step("approval", lambda ctx: wait("approved")).step("ship", lambda ctx: "shipped")


class Lasting(MemoryStorage):
    """Quick, and taken for a store that lasts."""

    ephemeral = False


class Remembers:
    """A logger that keeps what somebody must look at."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, object]] = []

    def debug(self, message: str, **fields: object) -> None:
        """Nothing."""

    info = warn = debug

    def error(self, message: str, **fields: object) -> None:
        self.errors.append((message, fields))


@pytest.fixture
def logger() -> Remembers:
    return Remembers()


@pytest.fixture
def engine(logger: Remembers) -> FluxEngine:
    engine = FluxEngine(Lasting(), workflows=[ORDER], logger=logger)
    engine.execute("order", {"total": 1}, "order-1")
    return engine


@pytest.fixture
def functions(engine: FluxEngine, monkeypatch: pytest.MonkeyPatch) -> Functions:
    monkeypatch.setenv("FLUX_QUEUE", "flux-work")
    return Functions(engine=engine)


class TestTenThousandHostileEvents:
    def test_over_http_get_an_answer_below_500(self, functions: Functions, logger: Remembers) -> None:
        hostile, statuses = Hostile(601), Counter[int]()
        for _ in range(EVENTS):
            name, data = hostile.http()
            answer = functions.call(name, data)
            assert isinstance(answer, func.HttpResponse)
            body = json.loads(answer.get_body())
            statuses[answer.status_code] += 1
            assert 200 <= answer.status_code < 500, (name, data, body)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
                assert body["status"] == answer.status_code
        assert logger.errors == []
        assert {200, 202, 400, 403, 404, 405} <= set(statuses), statuses
        assert functions.play("http_invoke").status_code == 202

    def test_from_the_queue_are_done_with_or_given_back(self, functions: Functions, logger: Remembers) -> None:
        hostile, given_back = Hostile(602), 0
        for _ in range(EVENTS):
            data, metadata = hostile.queue()
            try:
                assert functions.call("flux_work", data, metadata) is None
            except NotDone:
                given_back += 1
        assert logger.errors == []
        assert EVENTS * 0.4 < given_back < EVENTS * 0.95, given_back
        assert functions.play("queue_execute") is None

    def test_of_the_timer_sweep_all_the_same(self, functions: Functions, logger: Remembers) -> None:
        hostile = Hostile(603)
        for _ in range(EVENTS):
            assert functions.call("flux_sweep", hostile.timer()) is None
        assert logger.errors == []
