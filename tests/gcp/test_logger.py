"""Log lines as Cloud Logging reads them."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flux_gcp.events import Trace
from flux_gcp.logger import GoogleLogger, traced

if TYPE_CHECKING:
    from flux_core.ports import Logger

HERE = Trace("105445aa7843bc8bf206b12000100000", "0000000000000001", sampled=True)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


class TestLines:
    def test_each_is_one_json_object_with_severity_and_fields(self, capsys: pytest.CaptureFixture[str]) -> None:
        logger: Logger = GoogleLogger(level="debug")
        logger.debug("a", x=1)
        logger.info("b", workflow="order", id="1")
        logger.warn("c")
        logger.error("d", error="ValueError('\n')")
        assert lines(capsys) == [
            {"severity": "DEBUG", "message": "a", "x": 1},
            {"severity": "INFO", "message": "b", "workflow": "order", "id": "1"},
            {"severity": "WARNING", "message": "c"},
            {"severity": "ERROR", "message": "d", "error": "ValueError('\n')"},
        ]

    def test_those_below_the_level_are_not_written(self, capsys: pytest.CaptureFixture[str]) -> None:
        GoogleLogger(level="warn").info("quiet")
        assert lines(capsys) == []

    def test_a_level_there_is_not_is_refused(self) -> None:
        with pytest.raises(ValueError, match="level must be one of debug, info, warn, error; got 'loud'"):
            GoogleLogger(level="loud")

    def test_a_field_cannot_pass_for_one_of_googles(self, capsys: pytest.CaptureFixture[str]) -> None:
        GoogleLogger().info("m", severity="ALERT", **{"logging.googleapis.com/trace": "x"})
        assert lines(capsys) == [
            {"severity": "INFO", "message": "m", "severity_": "ALERT", "logging.googleapis.com/trace_": "x"}
        ]

    def test_what_json_does_not_know_is_written_as_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        GoogleLogger().info("m", error=ValueError("no"), tags={1})
        assert lines(capsys) == [{"severity": "INFO", "message": "m", "error": "no", "tags": "{1}"}]

    def test_a_traceback_stands_where_error_reporting_looks(self, capsys: pytest.CaptureFixture[str]) -> None:
        GoogleLogger().error("m", trace="Traceback (most recent call last): ...")
        assert lines(capsys)[0]["stack_trace"] == "Traceback (most recent call last): ..."

    def test_one_that_is_too_long_is_shortened_and_stays_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        with traced(HERE):
            GoogleLogger().info("m", big="x" * 300_000)
        (line,) = lines(capsys)
        assert (line["severity"], line["message"], len(line["shortened"])) == ("INFO", "m", 10_000)
        assert "logging.googleapis.com/trace" in line


class TestTraces:
    def test_lines_of_a_request_carry_its_trace(self, capsys: pytest.CaptureFixture[str]) -> None:
        with traced(HERE):
            GoogleLogger("my-project").info("within")
        GoogleLogger("my-project").info("after")
        within, after = lines(capsys)
        assert within == {
            "severity": "INFO",
            "message": "within",
            "logging.googleapis.com/trace": f"projects/my-project/traces/{HERE.id}",
            "logging.googleapis.com/spanId": HERE.span,
            "logging.googleapis.com/trace_sampled": True,
        }
        assert after == {"severity": "INFO", "message": "after"}

    def test_a_trace_without_a_span_has_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        with traced(HERE._replace(span="")):
            GoogleLogger().info("m")
        assert "logging.googleapis.com/spanId" not in lines(capsys)[0]

    def test_requests_side_by_side_keep_theirs(self, capsys: pytest.CaptureFixture[str]) -> None:
        both = threading.Barrier(8)

        def request(number: int) -> None:
            with traced(HERE._replace(id=f"{number:032x}")):
                both.wait(30)
                GoogleLogger().info(f"{number:032x}")

        threads = [threading.Thread(target=request, args=(number,)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = lines(capsys)
        assert len(found) == 8
        assert all(line["logging.googleapis.com/trace"] == line["message"] for line in found)
