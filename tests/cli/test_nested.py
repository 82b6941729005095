"""`flux` on an instance that is inside of a branch or loop: it shows the paths, and takes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import module_of

if TYPE_CHECKING:
    from tests.cli.conftest import Flux

APP = """
from flux_core import FluxEngine, MemoryStorage, NonRetryable, create_workflow, flow

mended = []

def fetch(ctx):
    if ctx.iteration == 200 and not mended:
        raise NonRetryable("no answer")
    return ctx.iteration

polling = create_workflow("polling").loop("poll", 300, flow().step("fetch", fetch)).if_(
    "check", lambda ctx: True, flow().wait("ask", "go")
)
engine = FluxEngine(MemoryStorage(), workflows=[polling])
"""


@pytest.fixture
def polling(flux: Flux) -> Flux:
    flux.write_app(APP)
    module_of(flux).engine.execute("polling", None, "p-1")
    return flux


def test_a_failed_iteration_is_shown_with_what_can_be_done(polling: Flux) -> None:
    done = polling("show", "--app", polling.app, "p-1")
    rows = [row.rstrip() for row in done.stdout.splitlines()]
    assert done.exit_code == 0, done.output
    assert any("poll[200].fetch" in row and "no answer" in row for row in rows)
    assert any("flux retry" in row and "'poll[200].fetch'" in row for row in rows)
    assert not any("poll[7].fetch" in row for row in rows)  # long stretches are counted, not shown


def test_the_verbs_take_paths(polling: Flux) -> None:
    module_of(polling).mended.append(True)
    done = polling("retry", "--app", polling.app, "p-1", "poll[200].fetch")
    assert done.exit_code == 0, done.output
    done = polling("complete", "--app", polling.app, "p-1", "check.then.ask", "--output", "5")
    assert done.exit_code == 0, done.output
    assert module_of(polling).engine.get("polling", "p-1").history[-1].output == 5


def test_the_document_has_the_paths(polling: Flux) -> None:
    document = json.loads(polling("show", "--app", polling.app, "p-1", "--json").stdout)
    assert [(step["name"], step["path"]) for step in document["steps"][:2]] == [
        ("poll", "poll"), ("fetch", "poll[0].fetch"),
    ]  # fmt: skip
