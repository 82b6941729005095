"""`flux list`: a table for people, lines for machines, a page at a time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from flux_cli.commands import listing
from tests.cli.orders import Orders, refused

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.cli.conftest import Flux


@pytest.fixture
def orders(flux: Flux) -> Orders:
    """Five orders, a minute apart."""
    orders = Orders(flux)
    for number, kind in enumerate(("completed", "failed", "suspended", "stuck", "sleeping"), 1):
        orders.execute(kind, f"o-{number}")
        orders.advance(60)
    return orders


def ids(done: Result) -> list[str]:
    return [row.split()[1] for row in done.stdout.splitlines()[1:]]


def rows(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_shows_the_newest_first_with_age_and_when_they_are_due(orders: Orders) -> None:
    done = orders("list")
    assert done.exit_code == 0
    assert done.stderr == ""
    assert [re.split(r"\s\s+", row.rstrip()) for row in done.stdout.splitlines()] == [
        ["workflow", "id", "status", "age", "updated", "due"],
        ["order", "o-5", "suspended", "60 s", "60 s ago", "in 59 min"],
        ["order", "o-4", "stuck", "2 min", "2 min ago"],
        ["order", "o-3", "suspended", "3 min", "3 min ago", "in 117 min"],
        ["order", "o-2", "failed", "4 min", "4 min ago"],
        ["order", "o-1", "completed", "5 min", "5 min ago"],
    ]


def test_narrows_by_workflow_and_by_several_statuses(orders: Orders) -> None:
    assert ids(orders("list", "order", "--status", "failed", "--status", "stuck")) == ["o-4", "o-2"]


def test_that_is_empty_says_what_there_is_none_of(orders: Orders) -> None:
    done = orders("list", "order", "--status", "paused", "--status", "blocked")
    assert (done.exit_code, done.stdout) == (0, "there is no instance of order that is paused or blocked\n")


def test_says_when_there_is_more_and_the_command_it_names_goes_on(orders: Orders) -> None:
    options = ("--status", "suspended", "--status", "failed", "--limit", "2")
    first = orders("list", "order", *options)
    assert ids(first) == ["o-5", "o-3"]
    told, again = first.stderr.splitlines()
    assert told == "there are more: --all lists them all, and the next ones come with"
    _, _, *words = again.split()
    second = orders.flux("list", *words)
    assert ids(second) == ["o-2"]
    assert second.stderr == ""


def test_all_of_them_come_with_all(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_LARGE_PAGE", 2)
    done = orders("list", "--all")
    assert ids(done) == ["o-5", "o-4", "o-3", "o-2", "o-1"]
    assert done.stderr == ""


def test_json_is_one_line_an_instance_and_the_rest_is_told_on_standard_error(orders: Orders) -> None:
    done = orders("list", "--json", "--limit", "1")
    assert rows(done) == [
        {
            "workflow": "order",
            "id": "o-5",
            "status": "suspended",
            "created_at": "2023-11-14T22:17:20.000Z",
            "updated_at": "2023-11-14T22:17:20.000Z",
            "due": "2023-11-14T23:17:20.000Z",
        }
    ]
    assert "--limit 1 --json --cursor " in done.stderr


def test_lists_what_is_left_of_a_workflow_that_the_app_no_longer_has(orders: Orders) -> None:
    orders.flux.write_app(
        """
        from flux_core import FluxEngine, create_workflow
        from flux_local import SQLiteStorage
        other = create_workflow("other").step("s", lambda ctx: None)
        engine = FluxEngine(SQLiteStorage("orders.db"), workflows=[other])
        """
    )
    orders.forget()
    assert len(ids(orders("list", "order"))) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("odrer",), "there is no instance of a workflow 'odrer'; the engine of "),
        (("--status", "done"), "there is no status 'done'; the statuses are pending, running"),
        (("--cursor", "x"), "is not a cursor of this store"),
        (("--all", "--limit", "3"), "--all and --limit exclude each other; give one of them"),
    ],
)
def test_what_is_wrong_is_exit_code_2_and_one_sentence(options: tuple[str, ...], said: str, orders: Orders) -> None:
    refused(orders("list", *options), 2, said)


def test_an_engine_in_memory_is_pointed_out(flux: Flux) -> None:
    assert "keeps its instances in memory" in flux("list", "--app", flux.app).stderr


def test_a_line_for_a_machine_is_not_cut_at_80_columns(orders: Orders) -> None:
    long = "o-" + "x" * 100
    orders.execute("completed", long)
    assert any(long in row and "completed" in row for row in orders("list").stdout.splitlines())
