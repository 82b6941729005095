"""`flux show`: one instance on one screen, as JSON, and live."""

from __future__ import annotations

import json
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from flux_cli.commands import show
from flux_core.keys import idempotency_key
from tests.cli.orders import STATUSES, Orders

if TYPE_CHECKING:
    from typer.testing import Result

    from flux_core import InstanceRef
    from tests.cli.conftest import Flux


@pytest.fixture
def orders(flux: Flux) -> Orders:
    return Orders(flux)


def shown(orders: Orders, *options: str) -> list[str]:
    done = orders("show", "o-1", *options)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    return [row.rstrip() for row in done.stdout.splitlines()]


class TestTheScreen:
    def test_of_a_waiting_instance_says_what_it_waits_for_and_until_when(self, orders: Orders) -> None:
        orders.reach("suspended")
        orders("signal", "o-1", "Go", "--payload", '{"ok": true}')
        orders.advance(3600)
        assert shown(orders) == [
            "order o-1",
            "suspended since 2023-11-14 22:13:20 UTC (60 min ago)",
            "step gate waits for the signal go until 2023-11-15 00:13:20 UTC (in 60 min); then it fails",
            "created 2023-11-14 22:13:20 UTC (60 min ago), version 7, tenant default, 4 records",
            "",
            "steps",
            "  step   status     attempts  took  output or error",
            '  first  completed         1  0 ms  "first"',
            "  gate   suspended         1  0 ms  waits for go",
            "  last   pending",
            "",
            "input",
            '  {"kind": "suspended"}',
            "",
            "data",
            '  {"first": "suspended"}',
            "",
            "signals that no step has taken",
            "  signal  sent        payload",
            '  Go      60 min ago  {"ok": true}',
            "",
            "what you can do now",
            "  send what gate waits for; --payload gives it a value:",
            f"    flux signal --app {orders.app} o-1 go",
            "  end gate by hand; --output gives it a value:",
            f"    flux complete --app {orders.app} o-1 gate",
            "  go on without gate:",
            f"    flux skip --app {orders.app} o-1 gate",
            "  go on with everything that is due, once it is:",
            f"    flux recover --app {orders.app}",
            "  hold it until it is unpaused:",
            f"    flux pause --app {orders.app} o-1",
            "  stop it, and undo what it has done:",
            f"    flux cancel --app {orders.app} o-1",
        ]

    @pytest.mark.parametrize(
        ("status", "said"),
        [
            ("running", "an invocation works at step gate and owns it until 2023-11-14 22:15:25 UTC (in 2 min)"),
            ("paused", "asked for by ann: strike"),
            ("failed", "at step gate: NonRetryable: no driver in town"),
            ("rolled_back", "at step gate: NonRetryable: no driver in town"),
            ("rolling_back", "the next attempt to undo step first is due 2023-11-14 22:14:20 UTC (in 60 s)"),
            ("stuck", "at step gate: unknown_outcome: nobody knows whether step 'gate' took effect"),
            ("blocked", "the steps of workflow 'order' have changed since the instance started"),
            ("cancelled", "asked for by ann: no longer wanted"),
        ],
    )
    def test_says_why_it_stands_as_it_does(self, status: str, said: str, orders: Orders) -> None:
        orders.reach(status)
        rows = shown(orders)
        assert rows[1].startswith(status)
        assert any(row.startswith(said) for row in rows[2:5]), rows

    def test_of_an_attempt_that_was_cut_off_says_that_its_outcome_is_unknown(self, orders: Orders) -> None:
        orders.reach("stuck")
        assert any(row.split()[:2] == ["gate", "unknown"] for row in shown(orders))
        assert orders.json("show", "o-1")["steps"][1]["status"] == "running"

    def test_of_an_unknown_outcome_tells_the_key_that_the_other_side_knows(self, orders: Orders) -> None:
        orders.reach("stuck")
        key = idempotency_key("default", "order", "o-1", "gate", 0)
        assert f"the idempotency key of step gate is {key}" in shown(orders)
        assert orders.json("show", "o-1")["steps"][1]["idempotency_key"] == key

    def test_of_an_instance_whose_process_died_says_who_takes_it_over(self, orders: Orders) -> None:
        orders.reach("running")
        orders.advance(200)
        told = "\n".join(shown(orders))
        assert "its invocation has died: its lease ended 2023-11-14 22:15:25 UTC (75 s ago), and nobody has" in told
        assert f"go on with everything that is due, this one too:\n    flux recover --app {orders.app}\n" in told
        orders("recover")
        assert orders.status() == "completed"

    def test_of_one_whose_timer_has_passed_says_that_nobody_has_woken_it(self, orders: Orders) -> None:
        orders.reach("suspended")
        orders.advance(7300)
        assert "it is due, and nobody has woken it yet" in shown(orders)

    def test_says_of_what_is_to_come_when_it_is_nearest(self, orders: Orders) -> None:
        orders.execute("sleeping", seconds=7 * 86_400)
        orders.advance(1)
        assert any("(in 7 d)" in row for row in shown(orders))

    def test_counts_the_deaths(self, orders: Orders) -> None:
        orders.reach("running")
        for _ in range(2):
            orders.advance(200)
            orders.module.healthy = False
            with pytest.raises(orders.module.Killed):
                orders.engine.recover()
        assert "2 invocations have died since it last came on" in shown(orders)

    def test_shows_a_running_instance_that_is_to_be_paused(self, orders: Orders) -> None:
        orders.reach("running")
        orders("pause", "o-1", "--who", "bo")
        rows = shown(orders)
        assert "it will be paused once the running step has ended" in rows
        assert "asked for by bo" in rows
        assert f"    flux unpause --app {orders.app} o-1" in rows

    def test_says_why_what_would_be_likely_cannot_be_done(self, orders: Orders) -> None:
        orders.reach("stuck")
        orders.module.deploy("stuck", turned=True)
        rows = shown(orders)
        at = rows.index("what you can do now")
        assert rows[at + 1].startswith(
            "  (workflow 'order', id 'o-1': the steps of workflow 'order' have changed since the instance started"
        )
        assert rows[at + 2 :] == [
            "  stop it, and undo what it has done:",
            f"    flux cancel --app {orders.app} o-1",
        ]

    def test_lists_what_was_done_by_hand(self, orders: Orders) -> None:
        orders.reach("stuck")
        orders("complete", "o-1", "gate", "--who", "ann", "--why", "seen at the bank")
        rows = shown(orders)
        at = rows.index("done by hand")
        assert rows[at + 1].split() == ["when", "(UTC)", "what", "who", "why"]
        assert rows[at + 2].split() == [
            "2023-11-14",
            "22:13:20",
            "complete",
            "gate",
            "ann",
            "seen",
            "at",
            "the",
            "bank",
        ]

    def test_does_not_show_what_the_engine_redacts(self, flux: Flux) -> None:
        orders = Orders(flux)
        flux.write_app(
            """
            from flux_core import FluxEngine, create_workflow
            from flux_local import SQLiteStorage
            def work(ctx):
                ctx.data.token = "hunter2"
                return {"password": "hunter2", "kept": 1}
            flow = create_workflow("flow").step("work", work)
            engine = FluxEngine(SQLiteStorage("orders.db"), workflows=[flow])
            engine.execute("flow", {"password": "hunter2"}, id="o-1")
            engine = FluxEngine(SQLiteStorage("orders.db"), workflows=[flow], redact=["password", "token"])
            """
        )
        for options in ((), ("--full",), ("--json",)):
            told = orders("show", "o-1", *options).stdout
            assert told.count("[redacted]") == 3
            assert "hunter2" not in told

    def test_is_not_padded_where_nobody_looks(self, orders: Orders) -> None:
        orders.reach("failed")
        assert max(map(len, orders("show", "o-1").stdout.splitlines())) < 120

    def test_writes_control_characters_of_others_so_that_they_do_nothing(self, orders: Orders) -> None:
        orders.reach("suspended")
        orders("signal", "o-1", "other", "--payload", '"\\u001b[2J"')
        orders("cancel", "o-1", "--why", "\x1b[2Jgone")
        told = orders("show", "o-1").stdout
        assert "\x1b" not in told
        assert r"\x1b[2Jgone" in told
        assert r"\u001b[2J" in told


class TestLongThings:
    @pytest.fixture
    def long(self, flux: Flux) -> Orders:
        """An instance of a hundred steps and much data, at rest in the middle."""
        orders = Orders(flux)
        flux.write_app(
            """
            from flux_core import FluxEngine, create_workflow, wait
            from flux_local import SQLiteStorage
            flow = create_workflow("flow")
            for number in range(100):
                flow.step(f"s-{number}", lambda ctx: wait("go") if ctx.step == "s-50" else "x" * 500)
            @flow.step
            def never(ctx):
                pass
            engine = FluxEngine(SQLiteStorage("orders.db", synchronous="OFF"), workflows=[flow])
            engine.execute("flow", {f"k{n}": n for n in range(30)}, id="o-1")
            """
        )
        return orders

    def test_are_shortened_and_say_so(self, long: Orders) -> None:
        rows = shown(long)
        steps = [row.split()[0] for row in rows if row.startswith("  s-")]
        assert steps == ["s-0", *(f"s-{n}" for n in range(42, 59))]
        assert [row.split()[1] for row in rows if row.startswith("  ... ")] == ["41", "41", "20"]
        assert "x" * 400 not in "".join(rows)
        assert any(row.endswith("... 20 more lines; --full shows them") for row in rows)

    def test_are_shown_whole_with_full(self, long: Orders) -> None:
        rows = shown(long, "--full")
        assert len([row for row in rows if row.startswith("  s-")]) == 100
        assert "--full" not in "".join(rows)
        assert "x" * 500 in "".join(rows)
        assert any('"k29": 29' in row for row in rows)


class TestJson:
    @pytest.mark.parametrize("status", STATUSES)
    def test_holds_everything_on_one_line(self, status: str, orders: Orders) -> None:
        orders.reach(status)
        told = orders.json("show", "o-1")
        assert told["status"] == status
        assert [step["name"] for step in told["steps"]][:2] == ["first", "gate"]
        assert told["input"] == {"kind": status}
        for field in (
            "since", "due", "error", "waiting_for", "next", "tenant", "version", "created_at", "updated_at", "ended_at",
            "expires_at", "owned_until", "deaths", "records", "waits", "data", "audit", "mail",
        ):  # fmt: skip
            assert field in told

    def test_says_what_is_waited_for(self, orders: Orders) -> None:
        orders.reach("suspended")
        told = orders.json("show", "o-1")
        assert told["waits"] == [{"step": "gate", "signals": ["go"], "until": "2023-11-15T00:13:20.000Z"}]
        assert told["waiting_for"] == ["go"]

    def test_writes_values_that_json_has_no_form_for_as_the_store_does(self, flux: Flux) -> None:
        orders = Orders(flux)
        flux.write_app(
            r"""
            from decimal import Decimal
            from flux_core import FluxEngine, create_workflow
            from flux_local import SQLiteStorage
            def pay(ctx):
                ctx.data.bad = float("inf")
                ctx.data.half = "\ud800"
                return Decimal("1.10")
            engine = FluxEngine(SQLiteStorage("orders.db"), workflows=[create_workflow("pay").step("pay", pay)])
            engine.execute("pay", id="o-1")
            """
        )
        told = orders.json("show", "o-1")
        assert told["steps"][0]["output"] == {"$decimal": "1.10"}
        assert told["data"] == {"bad": {"$float": "inf"}, "half": "\ud800"}
        assert r"\ud800" in orders("show", "o-1").stdout


class TestFollow:
    def test_ends_at_once_for_what_rests_with_the_exit_code_of_its_status(self, orders: Orders) -> None:
        for status, code in (("suspended", 0), ("completed", 0), ("failed", 1), ("stuck", 1), ("cancelled", 0)):
            orders.reach(status, status)
            done = orders("show", status, "--follow")
            assert done.exit_code == code, status
            assert "order " + status in done.stdout

    def test_tells_every_record_as_it_comes_until_the_end(
        self, orders: Orders, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(show, "_PAUSE", 0.01)
        orders.reach("running")
        orders.advance(200)
        done = self.followed(orders)
        assert done.exit_code == 0
        told = [row for row in done.stdout.partition("\n\n")[0].splitlines() if row[:3] == "22:"]
        assert [row.split(maxsplit=1)[1] for row in told] == [
            "first completed (0 ms)",
            "taken up by an invocation",
            "gate completed (0 ms)",
            "last completed (0 ms)",
            "completed",
        ]
        assert "order o-1\ncompleted since " in done.stdout

    def test_with_json_prints_a_line_at_every_change(self, orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(show, "_PAUSE", 0.01)
        orders.reach("running")
        orders.advance(200)
        lines = [json.loads(line) for line in self.followed(orders, "--json").stdout.splitlines()]
        assert [lines[0]["status"], lines[-1]["status"]] == ["running", "completed"]

    def followed(self, orders: Orders, *options: str) -> Result:
        """`flux show --follow`, while somebody else goes on with the instance once it has been looked at."""
        store: Any = orders.engine.storage
        read = store.read

        def looked(ref: InstanceRef, start: int = 0) -> list[bytes]:
            found: list[bytes] = read(ref, start)
            if other.ident is None:
                other.start()
            return found

        other = Thread(target=orders.engine.recover)
        store.read = looked
        try:
            return orders("show", "o-1", "--follow", *options)
        finally:
            other.join()
