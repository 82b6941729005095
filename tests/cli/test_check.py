"""`flux check`: before a deployment, which instances the new definition can continue, and what to write for others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import module_of

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.cli.conftest import Flux

SHOP = """
from flux_core import FluxEngine, MemoryStorage, create_workflow, wait

def ask(ctx):
    if ctx.input == "fail":
        raise ValueError("broken")
    return wait("go") if ctx.input == "wait" else None

def steps(name, charge, **options):
    flow = create_workflow(name).commit(charge, lambda ctx: "paid", **options)
    return flow.step("ask", ask, retries=0).step("ship", lambda ctx: 1)

storage = MemoryStorage()
engine = FluxEngine(storage, workflows=[steps("order", "charge"), create_workflow("old").step("ask", ask)])

same = FluxEngine(storage, workflows=[steps("order", "charge"), create_workflow("old").step("ask", ask)])
grown = FluxEngine(
    storage, workflows=[steps("order", "charge").step("thank", lambda ctx: 1), create_workflow("old").step("ask", ask)]
)
renamed = FluxEngine(storage, workflows=[steps("order", "pay"), create_workflow("old").step("ask", ask)])
alias = FluxEngine(
    storage, workflows=[steps("order", "pay", aliases=["charge"]), create_workflow("old").step("ask", ask)]
)
without = FluxEngine(storage, workflows=[steps("order", "charge")])
elsewhere = FluxEngine(MemoryStorage(), workflows=[steps("order", "pay")])
number = 7

def make_storage():
    return storage
"""


@pytest.fixture
def shop(flux: Flux) -> Flux:
    """Four orders and an old one wait, one order is done, one has failed."""
    flux.write_app(SHOP)
    engine = module_of(flux).engine
    for id_ in ("o-1", "o-2", "o-3", "o-4"):
        engine.execute("order", "wait", id_)
    engine.execute("old", "wait", "x-1")
    engine.execute("order", "done", "o-done")
    engine.execute("order", "fail", "o-fail")
    return flux


def check(flux: Flux, app: str, *arguments: str, stdin: str | None = None) -> Result:
    return flux("check", "--app", f"{flux.module}:{app}", *arguments, stdin=stdin)


def rows(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


ALIASES = "keep it, or give the one in its place aliases=['charge']"


class TestOfItsOwnStore:
    def test_is_exit_code_0_if_all_can_go_on(self, shop: Flux) -> None:
        for app in ("same", "grown"):
            done = check(shop, app)
            assert done.exit_code == 0
            assert "5 instances can go on" in done.stdout

    def test_is_exit_code_1_if_some_cannot_and_says_why_and_what_to_write(self, shop: Flux) -> None:
        done = check(shop, "renamed")
        assert done.exit_code == 1
        assert ALIASES in done.stdout
        assert "4 of 5 instances cannot go on" in done.stdout

    def test_does_not_tell_of_what_cannot_go_on_how_it_would(self, shop: Flux) -> None:
        by_id = {row["id"]: row for row in rows(check(shop, "renamed", "--json"))[:-1]}
        assert by_id["o-1"]["notes"] == []
        told = check(shop, "renamed").stdout
        assert "done and gone" not in told
        assert "skipped here" not in told

    def test_what_it_advises_helps_and_the_notes_say_what_will_be(self, shop: Flux) -> None:
        done = check(shop, "alias")
        assert done.exit_code == 0
        assert "step 'charge' is now called 'pay'" in done.stdout

    def test_groups_what_has_the_same_verdict_with_counts_and_examples(self, shop: Flux) -> None:
        lines = check(shop, "renamed").stdout.splitlines()
        (bad,) = [line for line in lines if "cannot" in line and "order" in line]
        assert bad.split()[:3] == ["order", "4", "cannot"]
        assert sum(f"o-{number}" in bad for number in range(1, 5)) == 3
        assert bad.endswith(", ...")
        (good,) = [line for line in lines if "can go on" in line]
        assert good.split() == ["old", "1", "can", "go", "on", "x-1"]
        assert lines.index(bad) < lines.index(good)

    def test_of_a_workflow_that_is_gone_cannot(self, shop: Flux) -> None:
        done = check(shop, "without")
        assert done.exit_code == 1
        assert "the app has no workflow 'old' any more (it has order): keep it until no instance is left" in done.stdout

    def test_with_all_takes_those_that_could_be_retried(self, shop: Flux) -> None:
        ids = [row["id"] for row in rows(check(shop, "renamed", "--all", "--json"))[:-1]]
        assert sorted(ids) == ["o-1", "o-2", "o-3", "o-4", "o-fail", "x-1"]

    def test_with_json_is_a_line_an_instance_and_the_summary_last(self, shop: Flux) -> None:
        *lines, summary = rows(check(shop, "renamed", "--json"))
        by_id = {line["id"]: line for line in lines}
        assert by_id["x-1"] == {
            "workflow": "old", "id": "x-1", "status": "suspended", "possible": True, "problems": [], "notes": [],
        }  # fmt: skip
        assert not by_id["o-1"]["possible"]
        assert ALIASES in by_id["o-1"]["problems"][0]
        assert summary == {"summary": True, "instances": 5, "can": 1, "cannot": 4, "exit_code": 1}

    def test_without_any_instance_says_so(self, shop: Flux) -> None:
        done = check(shop, "elsewhere")
        assert (done.exit_code, done.stdout) == (0, "there is no instance that has not ended\n")

    def test_changes_nothing(self, shop: Flux) -> None:
        storage = module_of(shop).storage
        before = dict(storage._headers), {ref: list(log) for ref, log in storage._logs.items()}
        check(shop, "renamed")
        assert (storage._headers, storage._logs) == before


class TestOfOthers:
    @pytest.mark.parametrize("attribute", ["engine", "storage", "make_storage"])
    def test_is_asked_of_another_engine_or_store(self, attribute: str, shop: Flux) -> None:
        done = check(shop, "elsewhere", "--against", f"{shop.module}:{attribute}")
        assert done.exit_code == 1
        assert "5 of 5 instances cannot go on" in done.stdout

    def test_is_asked_of_a_file_that_was_exported(self, shop: Flux) -> None:
        shop("export", "--app", shop.app, "-o", "live.jsonl")
        done = check(shop, "elsewhere", "--against", "live.jsonl")
        assert done.exit_code == 1
        assert "5 of 5 instances cannot go on" in done.stdout
        assert check(shop, "same", "--against", "live.jsonl").exit_code == 0

    def test_is_asked_of_standard_input(self, shop: Flux) -> None:
        lines = shop("export", "--app", shop.app, "order", "o-1").stdout
        assert check(shop, "same", "--against", "-", stdin=lines).stdout.endswith("1 instance can go on\n")

    def test_a_line_that_cannot_be_read_is_one_that_cannot(self, shop: Flux) -> None:
        shop.write_lines({"name": "Ada"}, "nope", name="bad.jsonl")
        done = check(shop, "same", "--against", "bad.jsonl")
        assert done.exit_code == 1
        assert "it is no exported instance" in done.stdout
        assert "it is no JSON" in done.stdout
        assert "line 2" in done.stdout

    @pytest.mark.parametrize(
        ("against", "code", "said"),
        [
            ("none.jsonl", 2, "there is no file 'none.jsonl'"),
            ("nowhere:engine", 3, "there is no module 'nowhere'"),
            ("{module}:number", 3, "is neither an engine nor a store but int (7); name one of them, or a file"),
            ("{module}:nothing", 3, "has no attribute 'nothing'"),
        ],
    )
    def test_what_is_neither_is_one_sentence(self, against: str, code: int, said: str, shop: Flux) -> None:
        done = check(shop, "same", "--against", against.format(module=shop.module))
        assert (done.exit_code, done.stdout) == (code, "")
        assert said in done.stderr
        assert done.stderr.strip().count("\nflux: ") == 0
