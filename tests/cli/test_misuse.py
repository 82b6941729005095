"""What is wrong is said in one sentence on standard error, with what to do, an exit code and no traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.cli.conftest import Flux


def refused(done: Result, exit_code: int, *said: str) -> None:
    assert done.exit_code == exit_code, done.output
    assert done.stdout == ""
    message = " ".join(done.stderr.split())
    assert done.stderr.count("\n") == 1, done.stderr
    assert message.startswith("flux: ")
    assert "Traceback" not in message
    for part in said:
        assert part in message


# --- 2: the command line ----------------------------------------------------------------------------------


def test_a_file_that_does_not_exist(flux: Flux) -> None:
    refused(flux.run("none.jsonl"), 2, "there is no file 'none.jsonl' in ", "give a file of JSON lines")


def test_a_folder_instead_of_a_file(flux: Flux) -> None:
    refused(flux.run("."), 2, "'.' cannot be read", "give a file of JSON lines")


def test_no_input_at_all(flux: Flux) -> None:
    refused(flux.run(), 2, "give a file of JSON lines (- for standard input)", "--input")


def test_too_many_files(flux: Flux) -> None:
    refused(flux.run("a", "b", "c"), 2, "at most a workflow and one input file")


def test_a_document_and_a_file(flux: Flux) -> None:
    for words in (("greeting", "in.jsonl"), ("in.jsonl",), ("greeting", "-"), ("-",)):
        done = flux.run(*words, "--input", "{}")
        refused(done, 2, f"--input and an input file ({words[-1]!r}) exclude each other; give one of them")


def test_a_document_that_is_no_json(flux: Flux) -> None:
    refused(flux.run("--input", "{nope"), 2, "--input is no JSON (")


def test_a_workflow_that_the_engine_does_not_have(flux: Flux) -> None:
    refused(flux.run("goodbye", flux.write_lines()), 2, "has no workflow 'goodbye'; it has greeting")


def test_no_workflow_named_where_the_engine_has_several(flux: Flux) -> None:
    flux.write_app(
        """
        from flux_core import FluxEngine, create_workflow
        engine = FluxEngine(workflows=[create_workflow(n).step("s", lambda ctx: None) for n in ("b", "a")])
        """
    )
    refused(flux.run(flux.write_lines()), 2, "say which workflow, before the input file: a, b")


@pytest.mark.parametrize("spec", ["app", "app:", ":engine"])
def test_an_app_without_module_or_attribute(flux: Flux, spec: str) -> None:
    refused(flux("run", "--app", spec, flux.write_lines()), 2, "--app must be module:attribute")


@pytest.mark.parametrize(
    "arguments", [("run", "in.jsonl"), ("run", "--app", "a:b", "--concurrency", "0", "x"), ("walk",)]
)
def test_what_the_parser_refuses_is_exit_code_2(flux: Flux, arguments: tuple[str, ...]) -> None:
    done = flux(*arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr


# --- 3: the app -------------------------------------------------------------------------------------------


def test_a_module_that_does_not_exist(flux: Flux) -> None:
    done = flux("run", "--app", "nowhere.app:engine", flux.write_lines())
    refused(done, 3, "there is no module 'nowhere'", "run flux in the folder that holds it, or set PYTHONPATH")


def test_a_module_that_needs_one_that_is_not_installed(flux: Flux) -> None:
    flux.write_app("import nowhere_to_be_found")
    refused(flux.run(flux.write_lines()), 3, "it needs 'nowhere_to_be_found', which is not installed; install it")


def test_a_module_that_raises(flux: Flux) -> None:
    flux.write_app("engine = 1 / 0")
    refused(flux.run(flux.write_lines()), 3, "it raised ZeroDivisionError: division by zero (", ".py, line 1)")


def test_a_module_that_is_no_python(flux: Flux) -> None:
    flux.write_app("engine = (")
    refused(flux.run(flux.write_lines()), 3, "it raised SyntaxError: ", ".py, line 1)")


def test_a_module_that_exits(flux: Flux) -> None:
    flux.write_app("raise SystemExit('bye')")
    refused(flux.run(flux.write_lines()), 3, "it raised SystemExit: bye (")


def test_an_attribute_that_does_not_exist_names_the_engine_that_does(flux: Flux) -> None:
    done = flux("run", "--app", f"{flux.module}:motor", flux.write_lines())
    refused(done, 3, "has no attribute 'motor'; it has the engine engine")


def test_an_attribute_that_is_no_engine(flux: Flux) -> None:
    done = flux("run", "--app", f"{flux.module}:greeted", flux.write_lines())
    refused(done, 3, "is no engine but list ([])", "name a FluxEngine")


def test_a_function_that_returns_the_engine_is_called(flux: Flux) -> None:
    assert flux("run", "--app", f"{flux.module}:make", flux.write_lines({"name": "Ada"})).exit_code == 0


def test_a_function_that_raises(flux: Flux) -> None:
    flux.write_app("def make():\n    raise KeyError('SHOP_DB')")
    done = flux("run", "--app", f"{flux.module}:make", flux.write_lines())
    refused(done, 3, "raised KeyError: 'SHOP_DB' (", "line 2)")


def test_an_engine_without_workflows(flux: Flux) -> None:
    flux.write_app("from flux_core import FluxEngine\nengine = FluxEngine()")
    refused(flux.run(flux.write_lines()), 3, "knows no workflow; pass it FluxEngine(workflows=[...])")


# --- 3: the store -----------------------------------------------------------------------------------------

ON_SQLITE = """
from flux_core import FluxEngine, create_workflow
from flux_local import SQLiteStorage
engine = FluxEngine(SQLiteStorage("store.db"), workflows=[create_workflow("w").step("s", lambda ctx: None)])
"""


def test_a_store_that_is_no_database_is_told_before_any_line(flux: Flux) -> None:
    flux.write_app(ON_SQLITE)
    (flux.folder / "store.db").write_text("a shopping list, and quite a long one, so that it is no empty file" * 20)
    refused(flux.run(flux.write_lines({}, {})), 3, "the app's store cannot be used", "is not a SQLite database")


def test_a_store_that_fails_on_the_way_ends_the_run_and_says_how_to_go_on(flux: Flux) -> None:
    flux.write_app(
        """
        from flux_core import FluxEngine, MemoryStorage, StorageUnavailable, create_workflow

        class Full(MemoryStorage):
            def append(self, ref, seq, record, header=None):
                if ref.id == "3":
                    raise StorageUnavailable("the disk is full; make room.")
                return super().append(ref, seq, record, header)

        engine = FluxEngine(Full(), workflows=[create_workflow("w").step("s", lambda ctx: None)])
        """
    )
    lines = [{"n": n} for n in range(1, 6)]
    done = flux.run("--concurrency", "1", "--id-field", "n", flux.write_lines(*lines))
    assert done.exit_code == 3
    assert "flux: the disk is full; make room. 2 lines are done; then run the same command again" in done.stderr
    assert "Traceback" not in done.output


def test_an_instance_that_cannot_be_read_is_its_line_s_error_and_the_others_run(flux: Flux) -> None:
    flux.write_app(
        """
        from flux_core import CorruptRecord, FluxEngine, MemoryStorage, create_workflow

        class Damaged(MemoryStorage):
            def append(self, ref, seq, record, header=None):
                if ref.id == "1":
                    raise CorruptRecord("record 0 of w/1 is damaged")
                return super().append(ref, seq, record, header)

        engine = FluxEngine(Damaged(), workflows=[create_workflow("w").step("s", lambda ctx: None)])
        """
    )
    done = flux.run("--id-field", "n", flux.write_lines({"n": 1}, {"n": 2}))
    assert done.exit_code == 1
    assert "line 1 error 1: CorruptRecord: record 0 of w/1 is damaged" in done.stdout
    assert "completed" in done.stdout


def test_an_app_given_as_a_file_is_told_as_a_module(flux: Flux) -> None:
    done = flux("list", "--app", "shop.py:engine")
    assert done.exit_code == 2
    assert "--app names a module, not a file: write shop:..." in done.stderr
