"""`flux export` and `flux import`: instances as JSON lines, out of one store and into another."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import module_of

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.cli.conftest import Flux

SHOP = """
from flux_core import FluxEngine, create_workflow, sleep, wait
from flux_local import SQLiteStorage

done = []

def gate(ctx):
    match ctx.input["does"]:
        case "wait": return wait("go")
        case "sleep": return sleep(0.01)
        case "fail": raise ValueError("broken")

order = create_workflow("order").step("gate", gate, retries=0).step("last", lambda ctx: done.append(ctx.id) or ctx.id)
refund = create_workflow("refund").step("pay", lambda ctx: "paid")
flows = [order, refund]
engine = FluxEngine(SQLiteStorage("here.db", synchronous="OFF"), workflows=flows)
there = FluxEngine(SQLiteStorage("there.db", synchronous="OFF"), workflows=flows)
acme = FluxEngine(SQLiteStorage("acme.db", synchronous="OFF"), workflows=flows, tenant="acme")
orders = FluxEngine(SQLiteStorage("orders.db", synchronous="OFF"), workflows=[order])
"""


@pytest.fixture
def shop(flux: Flux) -> Flux:
    """With an order that waits, one that sleeps, one that has failed, and a refund."""
    flux.write_app(SHOP)
    engine = module_of(flux).engine
    for does in ("wait", "sleep", "fail"):
        engine.execute("order", {"does": does, "text": "ä€😀\ud800"}, f"o-{does}")
    engine.execute("refund", {"n": 1}, "r-1")
    return flux


def app(flux: Flux, attribute: str) -> str:
    return f"{flux.module}:{attribute}"


def export(flux: Flux, *arguments: str) -> Result:
    return flux("export", "--app", flux.app, *arguments)


def import_(flux: Flux, *arguments: str, to: str = "there", stdin: str | None = None) -> Result:
    return flux("import", "--app", app(flux, to), *arguments, stdin=stdin)


def names(text: str) -> list[str]:
    return sorted(f"{line['workflow']}/{line['id']}" for line in map(json.loads, text.splitlines()))


def rows(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


ALL = ["order/o-fail", "order/o-sleep", "order/o-wait", "refund/r-1"]


class TestExport:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ([], ALL),
            (["order"], ALL[:3]),
            (["order", "o-wait", "o-fail"], ["order/o-fail", "order/o-wait"]),
            (["o-wait", "o-fail"], ["order/o-fail", "order/o-wait"]),
            (["r-1"], ["refund/r-1"]),
            (["--status", "suspended"], ["order/o-sleep", "order/o-wait"]),
            (["order", "--status", "failed", "--status", "completed"], ["order/o-fail"]),
            (["--status", "stuck"], []),
        ],
    )
    def test_writes_a_line_for_each_instance_that_is_meant(
        self, words: list[str], expected: list[str], shop: Flux
    ) -> None:
        done = export(shop, *words)
        assert (done.exit_code, names(done.stdout)) == (0, expected)

    def test_asks_for_the_workflow_if_several_have_the_id(self, shop: Flux) -> None:
        module_of(shop).engine.execute("order", {"does": "wait"}, "r-1")
        done = export(shop, "r-1")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "the workflows order, refund each have r-1; say which: flux export [WORKFLOW] [ID]..." in done.stderr

    def test_says_that_it_is_in_clear_and_how_many_have_not_ended(self, shop: Flux) -> None:
        said = export(shop).stderr
        assert "the export holds inputs, data and outputs in clear" in said
        assert "exported 4 instances: 2 suspended, 1 completed, 1 failed" in said
        assert "2 of them have not ended: once imported elsewhere, let only one of the two stores go on with" in said

    def test_changes_nothing(self, shop: Flux) -> None:
        first = export(shop).stdout
        assert export(shop).stdout == first

    def test_to_a_file_is_readable_by_its_owner_alone_and_complete_or_not_there(self, shop: Flux) -> None:
        done = export(shop, "-o", "out.jsonl")
        assert (done.exit_code, done.stdout) == (0, "")
        assert stat.S_IMODE(Path("out.jsonl").stat().st_mode) == 0o600
        assert names(Path("out.jsonl").read_text(encoding="utf-8")) == ALL
        assert "to out.jsonl" in done.stderr

    def test_that_fails_on_the_way_leaves_the_old_file_and_nothing_else(self, shop: Flux) -> None:
        Path("out.jsonl").write_text("old")
        engine = module_of(shop).engine

        class Fails:
            def __getattr__(self, name: str) -> Any:
                return getattr(storage, name)

            def mail(self, ref: Any) -> Any:
                from flux_core import StorageUnavailable

                if ref.id == "o-wait":
                    raise StorageUnavailable("the disk is gone")
                return storage.mail(ref)

        storage, engine.storage = engine.storage, Fails()
        done = export(shop, "-o", "out.jsonl")
        engine.storage = storage
        assert done.exit_code == 3
        assert "the disk is gone" in done.stderr
        assert Path("out.jsonl").read_text() == "old"
        assert sorted(path.name for path in Path().glob("*out*")) == ["out.jsonl"]

    def test_to_a_folder_that_is_not_there_is_one_sentence(self, shop: Flux) -> None:
        done = export(shop, "-o", "no/out.jsonl")
        assert done.exit_code == 3
        assert "'no/out.jsonl' cannot be written: No such file or directory; nothing of it was." in done.stderr

    def test_with_json_sums_up_what_went_to_a_file(self, shop: Flux) -> None:
        (summary,) = rows(export(shop, "order", "-o", "out.jsonl", "--json"))
        assert summary == {
            "file": "out.jsonl", "instances": 3, "by_status": {"suspended": 2, "failed": 1}, "left_out": 0,
        }  # fmt: skip

    def test_leaves_out_what_cannot_be_read_and_says_so(self, shop: Flux) -> None:
        import sqlite3

        with sqlite3.connect("here.db") as raw:
            raw.execute("UPDATE log SET record = x'78' WHERE inst = 'default/order/o-fail' AND seq = 1")
        done = export(shop)
        assert (done.exit_code, names(done.stdout)) == (1, ["order/o-sleep", "order/o-wait", "refund/r-1"])
        assert "left out: record 1 of default/order/o-fail cannot be read" in done.stderr

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["order", "o-wait", "o-none"], "workflow 'order' has no instance 'o-none'"),
            (["ordr"], "there is no instance of a workflow 'ordr'; the engine of"),
            (["o-wait", "o-none"], "has order, refund, and none has the ids o-wait, o-none. Nothing was exported"),
            (["o-wait", "--status", "failed"], "ids and --status exclude each other"),
            (["--status", "asleep"], "there is no status 'asleep'"),
            (["order", "o-wait", "--status", "failed"], "ids and --status exclude each other"),
            (["order", "a/b"], "the id 'a/b' is not allowed"),
        ],
    )
    def test_of_what_does_not_exist_writes_nothing(self, words: list[str], said: str, shop: Flux) -> None:
        done = export(shop, *words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert said in done.stderr


class TestImport:
    @pytest.fixture
    def file(self, shop: Flux) -> str:
        export(shop, "-o", "all.jsonl")
        return "all.jsonl"

    def test_brings_the_instances_over_and_they_go_on_there(self, shop: Flux, file: str) -> None:
        done = import_(shop, file)
        assert (done.exit_code, done.stdout) == (0, "4 instances imported\n")
        there = module_of(shop).there
        assert names(flux_export(shop, "there")) == ALL
        assert there.signal("order", "o-wait", "go").status == "completed"
        assert [one.status for one in there.recover()] == ["completed"]
        assert there.get("order", "o-sleep").state.input["text"] == "ä€😀\ud800"
        assert module_of(shop).engine.get("order", "o-wait").status == "suspended"

    def test_again_imports_nothing_twice(self, shop: Flux, file: str) -> None:
        import_(shop, file)
        module_of(shop).there.signal("order", "o-wait", "go")
        done = import_(shop, file)
        assert done.exit_code == 0
        assert done.stdout.splitlines() == [
            "3 instances there already, unchanged",
            "1 instance there already, gone on since; left as they are",
        ]

    def test_takes_standard_input(self, shop: Flux) -> None:
        lines = export(shop, "order", "o-wait").stdout
        assert import_(shop, "-", stdin=lines).stdout == "1 instance imported\n"

    def test_with_dry_run_says_what_would_happen(self, shop: Flux, file: str) -> None:
        done = import_(shop, file, "--dry-run")
        assert (done.exit_code, done.stdout) == (0, "4 instances would be imported\n")
        assert flux_export(shop, "there") == ""

    def test_leaves_another_instance_of_that_name_alone(self, shop: Flux, file: str) -> None:
        module_of(shop).there.execute("refund", {"n": 2}, "r-1")
        for options in ((file, "--dry-run"), (file,)):
            done = import_(shop, *options)
            assert done.exit_code == 1
            assert "conflict: workflow 'refund', id 'r-1' of tenant 'default' exists already and is not" in done.stdout
        assert module_of(shop).there.get("refund", "r-1").state.input == {"n": 2}
        assert module_of(shop).there.get("order", "o-wait").status == "suspended"

    def test_with_json_is_a_line_an_instance_and_the_summary_last(self, shop: Flux, file: str) -> None:
        *lines, summary = rows(import_(shop, file, "--json"))
        assert lines[0] == {
            "line": 1, "workflow": "refund", "id": "r-1", "status": "completed", "outcome": "imported",
            "dry_run": False, "problem": None,
        }  # fmt: skip
        assert summary == {
            "summary": True, "lines": 4, "by_outcome": {"imported": 4}, "dry_run": False, "exit_code": 0,
        }  # fmt: skip

    def test_of_damaged_lines_names_line_and_key_and_imports_the_others(self, shop: Flux, file: str) -> None:
        by_id = {json.loads(line)["id"]: line for line in Path(file).read_text(encoding="utf-8").splitlines()}
        cut = by_id["r-1"][: len(by_id["r-1"]) // 2]
        edited = by_id["o-fail"].replace('"id":"o-fail"', '"id":"o-other"')
        newer = by_id["o-sleep"].replace('"v":1', '"v":9', 1)
        shop.write_lines(cut, edited, newer, '{"name": "Ada"}', by_id["o-wait"], name="bad.jsonl")
        done = import_(shop, "bad.jsonl")
        assert done.exit_code == 1
        for said in (
            "line 1 damaged: it is no JSON (the line ends too early",
            "line 2 damaged: the export is damaged at 'sum': it is not that of the rest",
            "line 3 damaged: it has the form 9, this kit reads 1; import it with a newer Flux",
            "line 4 refused: it is no exported instance",
            "1 instance imported",
            "3 instances damaged; not imported",
        ):
            assert said in done.stdout
        assert names(flux_export(shop, "there")) == ["order/o-wait"]

    def test_into_another_tenant_is_refused(self, shop: Flux, file: str) -> None:
        done = import_(shop, file, to="acme")
        assert done.exit_code == 1
        assert "line 1 refused: it belongs to tenant 'default', and the engine works for 'acme'" in done.stdout
        assert flux_export(shop, "acme") == ""

    def test_of_a_workflow_that_the_engine_does_not_know_says_so(self, shop: Flux, file: str) -> None:
        done = import_(shop, file, to="orders")
        assert done.exit_code == 0
        assert "this engine does not know refund: it cannot go on with their instances" in done.stderr

    def test_of_an_empty_file_says_so(self, shop: Flux) -> None:
        assert import_(shop, shop.write_lines()).stdout == "the file holds no instance\n"

    def test_that_the_store_breaks_off_is_completed_by_the_same_command(self, shop: Flux) -> None:
        from flux_core.testing import LOST_RESPONSE, FaultPlan, FaultyStorage

        export(shop, "order", "o-fail", "o-wait", "o-sleep", "-o", "three.jsonl")
        there = module_of(shop).there
        plan = FaultPlan()
        storage, there.storage = there.storage, FaultyStorage(there.storage, plan)
        import_(shop, "three.jsonl", "--dry-run")
        first = len(plan.calls)
        plan.faults[first + 14] = LOST_RESPONSE  # in the middle of the second
        done = import_(shop, "three.jsonl")
        there.storage = storage
        assert done.exit_code == 3
        assert "It was line 2; then run the same command again" in done.stderr
        again = import_(shop, "three.jsonl")
        assert again.exit_code == 0
        assert sorted(again.stdout.splitlines()) == [
            "1 instance an interrupted import completed",
            "1 instance imported",
            "1 instance there already, unchanged",
        ]


def flux_export(flux: Flux, attribute: str) -> str:
    return flux("export", "--app", app(flux, attribute)).stdout


def test_a_memory_engine_says_that_what_is_imported_is_gone_at_the_end(flux: Flux) -> None:
    done = flux("import", "--app", flux.app, flux.write_lines())
    assert "keeps its instances in memory; they are gone when this command ends" in done.stderr


def test_a_reader_that_goes_away_is_no_traceback(flux: Flux) -> None:
    flux.write_app(SHOP)
    engine = module_of(flux).engine
    for number in range(300):
        engine.execute("refund", {"text": "x" * 1000}, f"r-{number}")
    process = flux.start("export", "--app", flux.app)
    assert process.stdout is not None
    assert process.stderr is not None
    os.read(process.stdout.fileno(), 100)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert "Traceback" not in err
