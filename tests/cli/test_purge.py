"""`flux purge`: what ended long ago goes, everything else stays, and nobody is surprised."""

from __future__ import annotations

import json
import os
import pty
from typing import TYPE_CHECKING, Any

import pytest

from flux_cli.durations import seconds_of
from flux_cli.exits import CommandFailed
from tests.cli.conftest import module_of

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.cli.conftest import Flux

HOUR = 3600.0
DAY = 24 * HOUR

SHOP = """
from flux_core import FluxEngine, MemoryStorage, Unknown, create_workflow, sleep, wait
from flux_core.testing import VirtualClock

def gate(ctx):
    match ctx.input:
        case "wait": return wait("go")
        case "fail": raise ValueError("broken")
        case "stuck": raise Unknown("who knows")

order = create_workflow("order").commit("gate", gate, retries=0).step("last", lambda ctx: ctx.id)
old = create_workflow("old").step("one", lambda ctx: 1)
clock = VirtualClock()
storage = MemoryStorage()
engine = FluxEngine(storage, workflows=[order, old], clock=clock)
without_old = FluxEngine(storage, workflows=[order], clock=clock)
"""

EVERYTHING = {"old/1", "order/done", "order/fail", "order/gone", "order/new", "order/stuck", "order/wait"}


@pytest.fixture
def shop(flux: Flux) -> Flux:
    """One of each status, 40 days old, and one that has ended just now."""
    flux.write_app(SHOP)
    app = module_of(flux)
    for id_ in ("done", "fail", "stuck", "wait", "gone"):
        app.engine.execute("order", "wait" if id_ == "gone" else id_, id_)
    app.engine.cancel("order", "gone")
    app.engine.execute("old", None, "1")
    app.clock.advance(40 * DAY)
    app.engine.execute("order", "done", "new")
    return flux


def purge(flux: Flux, *arguments: str, app: str = "engine") -> Result:
    return flux("purge", "--app", f"{flux.module}:{app}", *arguments)


def left(flux: Flux) -> set[str]:
    return {f"{item.workflow}/{item.id}" for item in module_of(flux).engine.list().items}


class TestWhatIsDeleted:
    @pytest.mark.parametrize(
        ("options", "gone"),
        [
            (["--older-than", "30d"], {"order/done", "order/fail", "order/gone", "old/1"}),
            (["--older-than", "41d"], set()),
            (["order", "--older-than", "30d"], {"order/done", "order/fail", "order/gone"}),
            (["--older-than", "30d", "--status", "completed"], {"order/done", "old/1"}),
            (["--older-than", "30d", "--status", "failed", "--status", "cancelled"], {"order/fail", "order/gone"}),
            (["--older-than", "30d", "--status", "stuck", "--force"], {"order/stuck"}),
            (["--older-than", "30d", "--limit", "1", "--status", "failed"], {"order/fail"}),
        ],
    )
    def test_is_what_ended_so_long_ago_and_nothing_else(self, options: list[str], gone: set[str], shop: Flux) -> None:
        done = purge(shop, *options, "--yes")
        assert done.exit_code == 0
        assert left(shop) == EVERYTHING - gone
        count = f"{len(gone) or 'no'} instance{'' if len(gone) == 1 else 's'} deleted"
        assert done.stdout.splitlines()[-1] == count

    def test_is_at_most_the_limit(self, shop: Flux) -> None:
        assert "2 instances deleted" in purge(shop, "--older-than", "30d", "--limit", "2", "--yes").stdout
        assert len(left(shop)) == len(EVERYTHING) - 2

    def test_is_found_on_every_page(self, shop: Flux) -> None:
        app = module_of(shop)
        for number in range(450):
            app.engine.execute("old", None, f"many-{number}")
        app.clock.advance(2 * HOUR)
        assert "455 instances deleted" in purge(shop, "--older-than", "90m", "--yes").stdout
        assert left(shop) == {"order/stuck", "order/wait"}

    def test_is_not_what_may_still_be_running_and_that_is_told(self, shop: Flux) -> None:
        done = purge(shop, "--older-than", "0s", "--status", "completed", "--yes")
        assert done.exit_code == 0
        assert "left: order/new: delete is refused for workflow 'order', id 'new' for another 900 s" in done.stdout
        assert "2 instances deleted, 1 left" in done.stdout
        assert "order/new" in left(shop)

    def test_is_not_what_the_engine_does_not_know_and_that_is_exit_code_1(self, shop: Flux) -> None:
        done = purge(shop, "--older-than", "30d", "--yes", app="without_old")
        assert done.exit_code == 1
        assert "left: old/1: no workflow 'old' is registered with this engine" in done.stdout
        assert left(shop) == {"old/1", "order/new", "order/stuck", "order/wait"}

    def test_is_not_what_cannot_be_read_and_that_is_exit_code_1(self, shop: Flux) -> None:
        from flux_core import InstanceRef

        module_of(shop).storage._logs[InstanceRef("default", "order", "done")][1] = b"damaged"
        done = purge(shop, "--older-than", "30d", "--yes")
        assert done.exit_code == 1
        assert "left: order/done: record 1 of default/order/done cannot be read" in done.stdout
        assert left(shop) == EVERYTHING - {"order/fail", "order/gone", "old/1"}

    def test_with_dry_run_is_listed_and_stays(self, shop: Flux) -> None:
        done = purge(shop, "--older-than", "30d", "--dry-run")
        assert done.exit_code == 0
        for words in ("order", "done", "40 d ago", "cancelled", "4 instances would be deleted"):
            assert words in done.stdout
        assert left(shop) == EVERYTHING

    def test_with_json_is_a_line_an_instance_and_the_summary_last(self, shop: Flux) -> None:
        done = purge(shop, "--older-than", "0s", "--status", "completed", "--yes", "--json")
        *lines, summary = map(json.loads, done.stdout.splitlines())
        by_id = {line["id"]: line for line in lines}
        assert by_id["done"] == {
            "workflow": "order", "id": "done", "status": "completed", "ended_at": "2023-11-14T22:13:20.000Z",
            "outcome": "deleted", "why": None,
        }  # fmt: skip
        assert (by_id["new"]["outcome"], by_id["new"]["why"][:17]) == ("refused", "delete is refused")
        assert summary == {"summary": True, "by_outcome": {"deleted": 2, "refused": 1}, "exit_code": 0}

    def test_with_json_and_dry_run_is_listed(self, shop: Flux) -> None:
        done = purge(shop, "--older-than", "30d", "--dry-run", "--json", "--status", "failed")
        assert json.loads(done.stdout)["outcome"] == "would be deleted"


class TestIsRefused:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--older-than", "30d"], "nobody can be asked here; add --yes, or --dry-run to look"),
            (["--older-than", "month", "--yes"], "'month' is no length of time; write 30d, 12h, 90m or 45s"),
            (["--older-than", "30", "--yes"], "'30' is no length of time"),
            (["--older-than", "30d", "--status", "stuck", "--yes"], "add --force if it may be given up"),
            (["--older-than", "30d", "--force", "--yes"], "--force is for stuck instances; say so with --status stuck"),
            (["--older-than", "30d", "--status", "suspended", "--yes"], "suspended instances have not; cancel them"),
            (["--older-than", "30d", "--status", "asleep", "--yes"], "there is no status 'asleep'"),
            (["ordr", "--older-than", "30d", "--yes"], "has no workflow 'ordr'; it has old, order"),
            (["--yes"], "older-than"),
        ],
    )
    def test_what_is_not_meant_clearly(self, options: list[str], said: str, shop: Flux) -> None:
        done = purge(shop, *options)
        assert (done.exit_code, done.stdout) == (2, "")
        assert said in " ".join(done.stderr.split())
        assert left(shop) == EVERYTHING


INTERRUPTED = """
from flux_core import FluxEngine, MemoryStorage, StorageUnavailable, create_workflow
from flux_core.payloads import MemoryPayloads
from flux_core.testing import VirtualClock

class Down(MemoryPayloads):
    def purge(self, ref):
        raise StorageUnavailable("the payload service is down")

w = create_workflow("w").step("s", lambda ctx: 1)
clock = VirtualClock()
storage, payloads = MemoryStorage(), Down()
engine = FluxEngine(storage, payloads=payloads, workflows=[w], clock=clock)
another = FluxEngine(storage, payloads=MemoryPayloads(), workflows=[w], clock=clock)
"""


def test_a_deletion_that_was_interrupted_is_told_and_completed_later(flux: Flux) -> None:
    flux.write_app(INTERRUPTED)
    app: Any = module_of(flux)
    app.engine.execute("w", None, "1")
    app.clock.advance(DAY)
    down = purge(flux, "--older-than", "1h", "--yes")
    assert down.exit_code == 3
    assert "the payload service is down" in down.stderr
    early = purge(flux, "--older-than", "1h", "--yes", app="another")
    assert "left: w/1: workflow 'w', id '1' is being deleted; if that was interrupted, delete it again" in early.stdout
    shown = flux("show", "w", "1", "--app", f"{flux.module}:another")
    assert shown.exit_code == 4
    assert "is being deleted" in shown.stderr
    assert "flux list" not in shown.stderr
    app.clock.advance(900)
    late = purge(flux, "--older-than", "1h", "--yes", app="another")
    assert late.stdout == "1 instance deleted\n"


ON_DISK = """
from flux_core import FluxEngine, create_workflow
from flux_local import SQLiteStorage
w = create_workflow("w").step("s", lambda ctx: 1)
engine = FluxEngine(SQLiteStorage("store.db", synchronous="OFF"), workflows=[w], longest_invocation=0)
"""


@pytest.mark.parametrize(("answer", "there"), [(b"y\n", 0), (b"\n", 2)])
def test_on_a_terminal_it_shows_what_is_meant_and_asks(answer: bytes, there: int, flux: Flux) -> None:
    flux.write_app(ON_DISK)
    engine: Any = module_of(flux).engine
    for id_ in "ab":
        engine.execute("w", None, id_)
    ours, theirs = pty.openpty()
    try:
        process = flux.start("purge", "--app", flux.app, "--older-than", "0s", stdin=theirs, stderr=theirs)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(ours, 10_000)
        os.write(ours, answer)
        out, _ = process.communicate(timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 0
    assert b"Delete these 2 instances for good?" in shown
    assert b"completed" in shown
    assert len(engine.list().items) == there
    assert out == ("2 instances deleted\n" if not there else "")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 30 * DAY), ("12h", 12 * HOUR), ("90m", 5400), ("45s", 45), ("1.5 D", 1.5 * DAY), ("2w", 14 * DAY)],
)
def test_a_length_of_time_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert seconds_of("--older-than", text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "1y", "1d2h", "1e9d", "9999999w", "٣d"])
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(CommandFailed, match="is no length of time"):
        seconds_of("--older-than", text)
