"""Log lines: one JSON object each, with the invocation and the trace they belong to, on every thread of it."""

from __future__ import annotations

import json
import logging
import threading
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, cast

import pytest

from flux_azure import AzureLogger
from flux_azure.logger import enter
from tests.azure.in_process import Invocation

if TYPE_CHECKING:
    import azure.functions as func


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    return [(one.levelname, json.loads(one.getMessage())) for one in caplog.records if one.name == "flux"]


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "flux")


def within(work: Any) -> None:
    """Run it as a worker's thread does, after the function has been entered."""

    def run() -> None:
        enter(cast("func.Context", Invocation()))
        work()

    copy_context().run(run)


class TestALine:
    def test_is_one_object_with_its_fields(self, caplog: pytest.LogCaptureFixture) -> None:
        Context().run(lambda: AzureLogger().warn("late", workflow="order", id="o-1", seconds=1.5, who={"a"}))
        fields = {"message": "late", "workflow": "order", "id": "o-1", "seconds": 1.5, "who": "{'a'}"}
        assert said(caplog) == [("WARNING", fields)]

    def test_has_its_level(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = AzureLogger("debug")
        for write in (logger.debug, logger.info, logger.warn, logger.error):
            write("line")
        assert [level for level, _ in said(caplog)] == ["DEBUG", "INFO", "WARNING", "ERROR"]

    def test_below_the_level_is_left_out(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = AzureLogger("warn")
        logger.info("line")
        logger.debug("line")
        assert said(caplog) == []

    def test_belongs_to_its_invocation_and_trace(self, caplog: pytest.LogCaptureFixture) -> None:
        within(lambda: AzureLogger().info("line"))
        ((_, line),) = said(caplog)
        assert line["invocation"] == Invocation.invocation_id
        assert line["trace"] == "0af7651916cd43dd8448eb211c80319c"

    def test_of_a_thread_of_the_invocation_does_so_too(self, caplog: pytest.LogCaptureFixture) -> None:
        def threaded() -> None:
            context = copy_context()
            thread = threading.Thread(target=lambda: context.run(AzureLogger().info, "line"))
            thread.start()
            thread.join()

        within(threaded)
        ((_, line),) = said(caplog)
        assert line["invocation"] == Invocation.invocation_id

    @pytest.mark.parametrize("parent", [None, "", "nonsense", "00-a-b"])
    def test_has_no_trace_where_the_platform_tells_none(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, parent: str | None
    ) -> None:
        monkeypatch.setattr(Invocation.trace_context, "trace_parent", parent, raising=False)
        within(lambda: AzureLogger().info("line"))
        ((_, line),) = said(caplog)
        assert "trace" not in line
