"""`flux run`: every line one instance, every end its exit code."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.cli.conftest import Flux

GREETED = "greeted"


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def greeted(flux: Flux) -> list[str]:
    found: list[str] = getattr(sys.modules[flux.module], GREETED)
    return found


# --- ends and exit codes ---------------------------------------------------------------------------------


def test_all_completed_is_exit_code_0_and_a_table_by_status(flux: Flux) -> None:
    done = flux.run(flux.write_lines({"name": "Ada"}, {"name": "Bo"}))
    assert done.exit_code == 0
    assert "completed" in done.stdout
    assert "median s" in done.stdout
    assert "2 lines in" in done.stdout
    assert sorted(greeted(flux)) == ["Ada", "Bo"]


def test_waiting_for_a_signal_is_exit_code_0_and_names_the_signal(flux: Flux) -> None:
    done = flux.run(flux.write_lines({"name": "waiting"}))
    assert done.exit_code == 0
    assert re.search(
        rf"wait for the signal reply; the first: flux signal --app {flux.app} [0-9a-f]{{32}} reply$",
        done.stdout,
        re.MULTILINE,
    )


@pytest.mark.parametrize(("name", "status"), [("nobody", "failed"), ("rude", "rolled_back")])
def test_a_failure_is_exit_code_1_and_told_with_line_id_and_step(flux: Flux, name: str, status: str) -> None:
    done = flux.run("--id-field", "name", flux.write_lines({"name": "Ada"}, {"name": name}))
    step = "greet" if name == "nobody" else "part"
    assert done.exit_code == 1
    assert f"line 2 {status} {name} at {step}: Wrong: " in done.stdout


def test_more_than_ten_problems_are_counted_not_listed(flux: Flux) -> None:
    done = flux.run(flux.write_lines(*[{"name": "nobody"}] * 12))
    assert done.exit_code == 1
    assert "and 2 more; --json lists them all" in done.stdout


def test_a_handler_that_exits_is_its_line_s_error_and_the_others_run(flux: Flux) -> None:
    flux.write_app(
        """
        import sys
        from flux_core import FluxEngine, MemoryStorage, create_workflow

        def work(ctx):
            if "leave" in ctx.input:
                sys.exit(ctx.input["leave"])

        engine = FluxEngine(MemoryStorage(), workflows=[create_workflow("w").step("work", work)])
        """
    )
    lines = flux.write_lines({"n": "a"}, {"n": "b", "leave": 7}, {"n": "c"}, {"n": "d", "leave": None})
    done = flux.run("--id-field", "n", lines)
    assert done.exit_code == 1
    assert "line 2 error b: the handler called sys.exit(7); raise an exception instead" in done.stdout
    assert "line 4 error d: the handler called sys.exit(); raise an exception instead" in done.stdout
    assert "4 lines in" in done.stdout


# --- bad lines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not json", "no JSON (Expecting value, column 1)"),
        ('{"name": NaN}', "NaN is no number of JSON"),
        ('["name"', "no JSON (the line ends too early: Expecting ',' delimiter, column 8)"),
        ('{"name": "Ad', "no JSON (the line ends too early: Unterminated string starting at, column 10)"),
        ('{"name": }', "no JSON (Expecting value, column 10)"),
        ("{", "one document over several lines"),
        ('{"nom": "Ada"}', "a greeting needs a name"),
    ],
)
def test_a_line_that_cannot_be_run_is_named_and_the_others_run(flux: Flux, line: str, said: str) -> None:
    done = flux.run(flux.write_lines({"name": "Ada"}, line, {"name": "Bo"}))
    assert done.exit_code == 1
    assert "line 2 rejected: " in done.stdout
    assert said in done.stdout
    assert sorted(greeted(flux)) == ["Ada", "Bo"]


def test_a_line_that_is_no_utf8_is_named(flux: Flux) -> None:
    (flux.folder / "in.jsonl").write_bytes(b'{"name": "Ada"}\n{"name": "\xff"}\n')
    done = flux.run("in.jsonl")
    assert done.exit_code == 1
    assert "line 2 rejected: no UTF-8 (byte 11)" in done.stdout


def test_blank_lines_and_a_byte_order_mark_are_no_lines(flux: Flux) -> None:
    (flux.folder / "in.jsonl").write_bytes(b'\xef\xbb\xbf{"name": "Ada"}\n\n   \n{"name": "Bo"}')
    done = flux.run("--json", "in.jsonl")
    assert done.exit_code == 0
    assert sorted(row["line"] for row in rows(done)[:-1]) == [1, 4]


def test_a_byte_order_mark_inside_joined_files_is_no_part_of_its_line(flux: Flux) -> None:
    (flux.folder / "in.jsonl").write_bytes(b'{"name": "Ada"}\r\n\xef\xbb\xbf{"name": "Bo"}\r\n\xef\xbb\xbf\r\n')
    done = flux.run("--json", "in.jsonl")
    assert done.exit_code == 0
    assert sorted(row["line"] for row in rows(done)[:-1]) == [1, 2]


def test_the_byte_that_is_no_utf8_is_counted_from_the_beginning_of_the_line(flux: Flux) -> None:
    (flux.folder / "in.jsonl").write_bytes(b'\xef\xbb\xbf{"name": "\xff"}\n')
    assert "line 1 rejected: no UTF-8 (byte 14)" in flux.run("in.jsonl").stdout


def test_one_line_is_told_in_the_singular(flux: Flux) -> None:
    assert "1 line in" in flux.run(flux.write_lines({"name": "Ada"})).stdout


def test_an_empty_file_is_nothing_to_do(flux: Flux) -> None:
    done = flux.run(flux.write_lines())
    assert done.exit_code == 0
    assert "0 lines in" in done.stdout


# --- ids --------------------------------------------------------------------------------------------------


def test_the_same_file_twice_with_ids_does_nothing_twice(flux: Flux) -> None:
    file = flux.write_lines({"name": "Ada"}, {"name": "nobody"}, {"name": "waiting"})
    first = flux.run("--json", "--id-field", "name", file)
    again = flux.run("--json", "--id-field", "name", file)
    assert sorted(greeted(flux)) == ["Ada", "nobody", "waiting"]
    assert {row["id"]: row["status"] for row in rows(first)[:-1]} == {
        row["id"]: row["status"] for row in rows(again)[:-1]
    }
    assert [row["created"] for row in rows(first)[:-1]] == [True] * 3
    assert [row["created"] for row in rows(again)[:-1]] == [False] * 3


def test_without_an_id_field_every_line_is_a_new_instance(flux: Flux) -> None:
    file = flux.write_lines({"name": "Ada"})
    flux.run(file)
    flux.run(file)
    assert greeted(flux) == ["Ada", "Ada"]


@pytest.mark.parametrize("line", [{"name": "Bo"}, {"name": "Bo", "n": None}, {"name": "Bo", "n": True}, ["Bo"]])
def test_a_line_without_the_id_field_is_named(flux: Flux, line: object) -> None:
    done = flux.run("--id-field", "n", flux.write_lines({"name": "Ada", "n": 7}, line))
    assert done.exit_code == 1
    assert "line 2 rejected: it has no field 'n'" in done.stdout
    assert greeted(flux) == ["Ada"]


def test_an_id_that_is_taken_with_other_input_is_named(flux: Flux) -> None:
    lines = flux.write_lines({"name": "Ada", "n": 7}, {"name": "Bo", "n": 7})
    done = flux.run("--concurrency", "1", "--id-field", "n", lines)
    assert done.exit_code == 1
    assert "line 2 rejected 7: " in done.stdout
    assert "exists already with other input" in done.stdout


SLOW_PAIR = """
import time
from flux_core import FluxEngine, MemoryStorage, create_workflow

calls = []

def work(ctx):
    calls.append(ctx.id)
    time.sleep(0.5)  # long enough that the other lines are taken meanwhile
    return "done"

engine = FluxEngine(MemoryStorage(), workflows=[create_workflow("pair").step("work", work)])
"""


def test_a_line_whose_id_is_in_flight_in_this_run_waits_for_it_and_has_its_result(flux: Flux) -> None:
    flux.write_app(SLOW_PAIR)
    lines = flux.write_lines(*[{"n": 7}] * 3)
    done = flux.run("--json", "--id-field", "n", "--patience", "0", lines)
    assert done.exit_code == 0, done.output
    assert [(row["id"], row["status"]) for row in rows(done)[:-1]] == [("7", "completed")] * 3
    assert [row["created"] for row in rows(done)[:-1]] == [True, False, False]
    assert sys.modules[flux.module].calls == ["7"]


def test_other_input_under_an_id_that_is_in_flight_in_this_run_is_rejected(flux: Flux) -> None:
    flux.write_app(SLOW_PAIR)
    done = flux.run("--id-field", "n", flux.write_lines({"n": 7}, {"n": 7, "m": 1}))
    assert done.exit_code == 1
    assert "line 2 rejected 7: " in done.stdout
    assert "exists already with other input" in done.stdout


def test_an_id_that_no_store_takes_is_named(flux: Flux) -> None:
    done = flux.run("--id-field", "n", flux.write_lines({"name": "Ada", "n": "a/b"}))
    assert done.exit_code == 1
    assert "the id 'a/b' is not allowed" in done.stdout


# --- where inputs come from -------------------------------------------------------------------------------


def test_a_dash_reads_standard_input(flux: Flux) -> None:
    done = flux.run("-", stdin='{"name": "Ada"}\n{"name": "Bo"}\n')
    assert done.exit_code == 0
    assert sorted(greeted(flux)) == ["Ada", "Bo"]


def test_one_document_may_be_given_on_the_command_line(flux: Flux) -> None:
    done = flux.run("--input", '{"name": "Ada"}')
    assert done.exit_code == 0
    assert greeted(flux) == ["Ada"]


def test_the_workflow_may_be_named_before_the_file(flux: Flux) -> None:
    assert flux.run("greeting", flux.write_lines({"name": "Ada"})).exit_code == 0
    assert flux.run("greeting", "--input", '{"name": "Bo"}').exit_code == 0
    assert greeted(flux) == ["Ada", "Bo"]


# --- instances that go on by themselves -------------------------------------------------------------------


def test_it_stays_for_instances_that_go_on_by_themselves(flux: Flux) -> None:
    done = flux.run("--json", flux.write_lines({"name": "sleepy"}, {"name": "later"}))
    assert done.exit_code == 0
    assert [row["status"] for row in rows(done)[:-1]] == ["completed", "completed"]
    assert {row["retries"] for row in rows(done)[:-1]} == {0, 1}
    assert all(row["created"] for row in rows(done)[:-1])


def test_without_patience_it_leaves_them_and_says_how_to_go_on(flux: Flux) -> None:
    file = flux.write_lines({"name": "sleepy"})
    done = flux.run("--patience", "0", "--id-field", "name", file)
    assert done.exit_code == 0
    assert "go on at their time (the first is due in 1 s; --patience 10 waits for it)" in done.stdout
    assert "run the same command again then, with the same ids" in done.stdout
    again = flux.run("--json", "--id-field", "name", file)
    assert rows(again)[0]["status"] == "completed"


def test_without_ids_it_does_not_recommend_the_same_command_to_go_on(flux: Flux) -> None:
    done = flux.run("--patience", "0", flux.write_lines({"name": "sleepy"}))
    assert f"then flux recover --app {flux.app} goes on with them; the same command would start new ones" in done.stdout
    assert "same ids" not in done.stdout


# --- for machines -----------------------------------------------------------------------------------------


def test_json_is_one_line_an_instance_and_the_summary_last(flux: Flux) -> None:
    done = flux.run("--json", "--id-field", "name", flux.write_lines({"name": "Ada"}, {"name": "nobody"}, "nope"))
    *instances, summary = rows(done)
    by_line = {row["line"]: row for row in instances}
    assert by_line[1] | {"seconds": 0} == {
        "line": 1, "id": "Ada", "workflow": "greeting", "status": "completed", "created": True, "seconds": 0,
        "retries": 0, "waiting_for": [], "error": None,
    }  # fmt: skip
    assert by_line[2]["error"] == {"type": "Wrong", "message": "nobody is there", "step": "greet"}
    assert (by_line[3]["id"], by_line[3]["status"], by_line[3]["error"]["type"]) == (None, "rejected", "NotJson")
    assert summary | {"seconds": 0} == {
        "summary": True, "lines": 3, "by_status": {"completed": 1, "failed": 1, "rejected": 1}, "seconds": 0,
        "exit_code": 1,
    }  # fmt: skip
    assert done.exit_code == 1


def test_json_says_what_a_suspended_instance_waits_for(flux: Flux) -> None:
    done = flux.run("--json", flux.write_lines({"name": "waiting"}))
    assert rows(done)[0]["waiting_for"] == ["reply"]


def test_an_engine_in_memory_is_pointed_out_on_standard_error(flux: Flux) -> None:
    done = flux.run("--json", flux.write_lines({"name": "Ada"}))
    assert "keeps its instances in memory" in done.stderr
    assert "memory" not in done.stdout
