"""Every verb in every status from the command line: what becomes of the instance, what is said, and the exit code."""

from __future__ import annotations

import json
import shlex
from getpass import getuser
from typing import TYPE_CHECKING, Any, Final

import pytest

from flux_core import InstanceRef
from flux_core.machine import VERBS
from flux_core.machine.verbs import NO_OP
from flux_core.machine.verbs import REFUSED as FORBIDDEN
from tests.cli.orders import STATUSES, Orders, refused

if TYPE_CHECKING:
    from tests.cli.conftest import Flux

ARGUMENTS: Final = {
    "signal": ("o-1", "go", "--payload", '"now"'),
    "retry": ("o-1", "gate"),
    "resume": ("o-1",),
    "cancel": ("o-1",),
    "pause": ("o-1",),
    "unpause": ("o-1",),
    "complete": ("o-1", "gate", "--output", '"by hand"'),
    "skip": ("o-1", "gate"),
}
ENGINE: Final = {"retry": "retry_step", "complete": "complete_step", "skip": "skip_step"}
REFUSED: Final = "refused"
FORCE: Final = "needs --force"
CHANGED: Final = "refused, since the definition has changed"
BLOCKED: Final = (
    "flux: workflow 'order', id 'o-1': the steps of workflow 'order' have changed since the instance started"
)
BAD: Final = {"failed", "rolled_back", "stuck", "blocked"}
"""The command has done its work, and the instance stands badly: exit code 1."""

# One cell says which status the instance has afterwards, or that the verb is refused.
TABLE: Final[dict[str, tuple[Any, ...]]] = {
    "signal": (
        "running", "completed", "paused", REFUSED, "failed", "rolled_back", "rolling_back", "stuck", "blocked",
        REFUSED,
    ),
    "retry": (
        REFUSED, "suspended", REFUSED, (FORCE, "completed"), "completed", "completed", REFUSED, "completed", CHANGED,
        (FORCE, "suspended"),
    ),
    "resume": (
        "running", "suspended", REFUSED, REFUSED, "completed", "completed", "rolling_back", "stuck", "blocked",
        REFUSED,
    ),
    "cancel": (
        "rolling_back", "cancelled", "cancelled", REFUSED, "failed", "rolled_back", "rolling_back", "stuck",
        "cancelled", "cancelled",
    ),
    "pause": ("running", "paused", "paused", *(REFUSED,) * 7),
    "unpause": (
        "running", "suspended", "suspended", "completed", "failed", "rolled_back", "rolling_back", "stuck", "blocked",
        "cancelled",
    ),
    "complete": (
        REFUSED, "completed", "paused", REFUSED, "completed", "completed", REFUSED, "completed", CHANGED, REFUSED,
    ),
    "skip": (
        REFUSED, "completed", "paused", REFUSED, "completed", "completed", REFUSED, "completed", CHANGED, REFUSED,
    ),
}  # fmt: skip
CELLS: Final = [(verb, status, row[i]) for verb, row in TABLE.items() for i, status in enumerate(STATUSES)]


@pytest.fixture
def orders(flux: Flux) -> Orders:
    return Orders(flux)


class TestTheTableOfVerbs:
    @pytest.mark.parametrize(("verb", "status", "cell"), CELLS, ids=[f"{v}-{s}" for v, s, _ in CELLS])
    def test_holds(self, verb: str, status: str, cell: Any, orders: Orders) -> None:
        orders.reach(status)
        before = orders.log()
        done = orders(verb, *ARGUMENTS[verb])
        if cell in (REFUSED, CHANGED) or cell[0] == FORCE:
            refused(
                done, 4, BLOCKED if cell == CHANGED else f"flux: {verb} is refused for workflow 'order', id 'o-1': "
            )
            assert ("add --force if you mean it all the same" in done.stderr) == (cell[0] == FORCE)
            assert "force=" not in done.stderr
            assert orders.log() == before
            assert orders.ran == []
        if cell in (REFUSED, CHANGED):
            return
        if cell[0] == FORCE:
            cell = cell[1]
            done = orders(verb, *ARGUMENTS[verb], "--force")
        assert orders.status() == cell
        assert done.exit_code == (1 if cell in BAD else 0), done.output
        assert done.stdout.startswith(f"order o-1 {'has' if cell in {'completed', 'failed'} else ''}"), done.stdout
        assert done.stderr == ""
        if VERBS[ENGINE.get(verb, verb)][status] == NO_OP:
            assert "Nothing was changed." in done.stdout
            assert orders.log() == before

    def test_is_that_of_the_engine(self) -> None:
        for verb, status, cell in CELLS:
            assert (VERBS[ENGINE.get(verb, verb)][status] == FORBIDDEN) == (cell == REFUSED), (verb, status)

    @pytest.mark.parametrize(("verb", "status"), [(v, s) for v, s, c in CELLS if isinstance(c, str) and c in STATUSES])
    def test_with_json_prints_one_object_that_says_how_it_stands(self, verb: str, status: str, orders: Orders) -> None:
        orders.reach(status)
        told = orders.json(verb, *ARGUMENTS[verb])
        assert (told["workflow"], told["id"], told["status"]) == ("order", "o-1", orders.status())
        assert {"since", "due", "error", "waiting_for", "next"} <= set(told)

    @pytest.mark.parametrize("verb", ARGUMENTS)
    def test_an_unknown_id_is_exit_code_2_and_says_where_to_look(self, verb: str, orders: Orders) -> None:
        arguments = [word.replace("o-1", "o-7") for word in ARGUMENTS[verb]]
        said = ("workflow 'order' has no instance 'o-7' in tenant 'default'", "flux list shows those there are")
        refused(orders(verb, *arguments), 2, *said)

    @pytest.mark.parametrize("verb", ["retry", "complete", "skip"])
    def test_an_unknown_step_is_exit_code_2_and_lists_the_steps(self, verb: str, orders: Orders) -> None:
        orders.reach("failed")
        refused(orders(verb, "o-1", "gaet"), 2, "has no step 'gaet'; its steps are first, gate, last")


class TestWhatShowOffers:
    @pytest.mark.parametrize("status", STATUSES)
    def test_is_taken_by_the_engine_every_command_of_it(self, status: str, orders: Orders) -> None:
        orders.reach(status)
        offered = [shlex.split(way["command"]) for way in orders.json("show", "o-1")["next"]]
        assert offered
        for number, (flux, *words) in enumerate(offered, 2):
            assert flux == "flux"
            assert words[1:3] == ["--app", orders.app]
            if "--follow" in words:
                continue  # it would wait for the end
            orders.reach(status, f"o-{number}")
            done = orders.flux(*(word.replace("o-1", f"o-{number}") for word in words))
            assert done.exit_code in {0, 1}, (words, done.output)
            assert "Nothing was changed." not in done.output or status == "blocked", words

    @pytest.mark.parametrize(
        ("status", "verbs"),
        [
            ("running", ["show", "pause", "cancel"]),
            ("suspended", ["signal", "complete", "skip", "recover", "pause", "cancel"]),
            ("paused", ["unpause", "signal", "complete", "skip", "cancel"]),
            ("completed", ["retry"]),
            ("failed", ["resume", "retry", "complete", "skip"]),
            ("rolled_back", ["resume", "retry", "complete", "skip"]),
            ("rolling_back", ["recover"]),
            ("stuck", ["complete", "retry", "skip", "cancel"]),
            ("blocked", ["signal", "resume", "cancel"]),
            ("cancelled", ["retry"]),
        ],
    )
    def test_is_ordered_by_what_is_likeliest(self, status: str, verbs: list[str], orders: Orders) -> None:
        orders.reach(status)
        assert [way["command"].split()[1] for way in orders.json("show", "o-1")["next"]] == verbs

    def test_of_a_failed_compensation_is_to_settle_it(self, orders: Orders) -> None:
        orders.execute("half_undone")
        told = orders("show", "o-1").stdout
        assert "the effect of step first still stands: its compensation failed" in told
        assert f"put on record that first was undone by hand:\n    flux complete --app {orders.app} o-1 first\n" in told
        assert f"left as it is, not undone:\n    flux skip --app {orders.app} o-1 first\n" in told
        assert "flux retry" not in told
        assert orders("complete", "o-1", "first").exit_code == 1
        assert orders.status() == "rolled_back"

    def test_after_a_rollback_says_where_each_of_them_starts_over(self, orders: Orders) -> None:
        orders.reach("rolled_back")
        offered = orders.json("show", "o-1")["next"]
        assert len(offered) == 4
        for way in offered:
            assert way["does"].endswith(" (it starts over at first, because that was undone)")
        assert orders("skip", "o-1", "gate").exit_code == 0
        assert orders.ran == ["first", "last"]

    def test_is_asked_of_a_changed_definition_that_fits(self, orders: Orders) -> None:
        orders.reach("failed")
        orders.module.deploy("failed", more=True)
        offered = [way["command"].split()[1] for way in orders.json("show", "o-1")["next"]]
        assert offered == ["resume", "retry", "complete", "skip"]
        assert orders("retry", "o-1", "gate").exit_code == 0
        assert orders.ran == ["gate", "more", "last"]

    def test_leaves_the_app_out_where_the_environment_names_it(
        self, orders: Orders, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        orders.reach("failed")
        monkeypatch.setenv("FLUX_APP", orders.app)
        done = orders.flux("show", "o-1")
        assert done.exit_code == 0
        assert "    flux resume o-1\n" in done.stdout


class TestWhoAndWhy:
    @pytest.mark.parametrize(
        ("verb", "status"),
        [
            ("retry", "failed"),
            ("resume", "failed"),
            ("complete", "stuck"),
            ("skip", "stuck"),
            ("cancel", "suspended"),
            ("pause", "suspended"),
            ("unpause", "paused"),
        ],
    )
    def test_are_kept_in_the_log_and_shown(self, verb: str, status: str, orders: Orders) -> None:
        orders.reach(status)
        orders(verb, *ARGUMENTS[verb], "--who", "bo", "--why", "ticket 77")
        entry = orders.engine.audit("order", "o-1")[-1]
        assert (entry.verb, entry.who, entry.why) == (
            "retry_step" if verb == "resume" else ENGINE.get(verb, verb),
            "bo",
            "ticket 77",
        )
        assert orders.json("show", "o-1")["audit"][-1]["why"] == "ticket 77"
        assert "ticket 77" in orders("show", "o-1").stdout.partition("done by hand")[2]

    def test_who_is_the_user_of_the_system_if_not_given(self, orders: Orders) -> None:
        orders.reach("suspended")
        orders("pause", "o-1")
        assert orders.engine.audit("order", "o-1")[-1].who == getuser()


class TestSignal:
    def test_brings_its_payload(self, orders: Orders) -> None:
        orders.reach("suspended")
        assert orders("signal", "o-1", "go", "--payload", '{"by": "Ann", "sum": 7}').exit_code == 0
        assert orders.engine.get("order", "o-1").history[1].output == {"by": "Ann", "sum": 7}

    @pytest.mark.parametrize("given", ["@payload.json", "-"])
    def test_reads_it_from_a_file_or_standard_input(self, given: str, orders: Orders) -> None:
        orders.reach("suspended")
        document = '{\n  "by": "Ann"\n}\n'
        (orders.flux.folder / "payload.json").write_text(document, encoding="utf-8")
        assert orders("signal", "o-1", "go", "--payload", given, stdin=document).exit_code == 0
        assert orders.engine.get("order", "o-1").history[1].output == {"by": "Ann"}

    def test_that_nothing_waits_for_is_kept_and_says_what_is_awaited(self, orders: Orders) -> None:
        orders.reach("suspended")
        done = orders("signal", "o-1", "Go", "--payload", "1")
        assert done.exit_code == 0
        assert "The signal Go is kept until a step waits for it; it waits for go." in done.stdout
        shown = orders.json("show", "o-1")
        assert [(mail["name"], mail["payload"]) for mail in shown["mail"]] == [("Go", 1)]
        assert "signals that no step has taken" in orders("show", "o-1").stdout

    @pytest.mark.parametrize(
        ("status", "until"),
        [("paused", "the instance is unpaused"), ("blocked", "a definition that fits is deployed")],
    )
    def test_that_is_awaited_but_cannot_be_taken_yet_says_until_when_and_not_to_send_it(
        self, status: str, until: str, orders: Orders
    ) -> None:
        orders.reach(status)
        told = orders("signal", "o-1", "go").stdout
        assert f"The signal go is kept: its step takes it once {until}.\n" in told
        assert "flux signal" not in told + orders("show", "o-1").stdout

    def test_to_one_that_has_ended_says_that_nothing_has_taken_it(self, orders: Orders) -> None:
        orders.reach("failed")
        said = "No step has taken the signal go; it is kept, in case the instance is opened again.\n"
        assert said in orders("signal", "o-1", "go").stdout

    def test_again_under_its_dedupe_id_changes_nothing_and_with_another_payload_is_refused(
        self, orders: Orders
    ) -> None:
        orders.reach("failed")
        for _ in range(2):
            assert orders("signal", "o-1", "go", "--payload", "1", "--dedupe-id", "m-1").exit_code == 1
        assert len(orders.json("show", "o-1")["mail"]) == 1
        done = orders("signal", "o-1", "go", "--payload", "2", "--dedupe-id", "m-1")
        refused(done, 4, "sent before with the same --dedupe-id and another payload")

    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            (
                "approved",
                "--payload is no JSON (Expecting value, column 1); a text is written --payload '\"approved\"'",
            ),
            ('{"a": }', "--payload is no JSON (Expecting value, column 7)"),
            ("{", "--payload is no JSON (the line ends too early"),
            ("", "--payload is no JSON"),
            ("NaN", "NaN is no number of JSON"),
            ("@none.json", "--payload: 'none.json' cannot be read: No such file or directory"),
        ],
    )
    def test_with_a_payload_that_is_none_is_exit_code_2(self, payload: str, said: str, orders: Orders) -> None:
        orders.reach("suspended")
        refused(orders("signal", "o-1", "go", "--payload", payload), 2, said)
        assert orders.status() == "suspended"

    def test_tells_the_line_of_what_is_wrong_in_a_document_of_several(self, orders: Orders) -> None:
        orders.reach("suspended")
        refused(orders("signal", "o-1", "go", "--payload", "-", stdin='{\n "a": 1,\n "b" 2}'), 2, "line 3, column 6")


class TestRetry:
    def test_sets_data_on_top_of_what_was_restored(self, orders: Orders) -> None:
        orders.reach("failed")
        assert orders("retry", "o-1", "gate", "--data", '{"total": 7}').exit_code == 0
        assert orders.engine.get("order", "o-1").data == {"first": "failed", "total": 7, "last": "failed"}

    @pytest.mark.parametrize("data", ["[]", "null", "7"])
    def test_takes_only_an_object_as_data(self, data: str, orders: Orders) -> None:
        orders.reach("failed")
        refused(orders("retry", "o-1", "gate", "--data", data), 2, "--data must be a JSON object")

    def test_of_a_step_that_cannot_be_the_next_says_which_comes_first(self, orders: Orders) -> None:
        orders.reach("failed")
        refused(orders("retry", "o-1", "last"), 4, "retry of step 'last' is refused", "retry 'gate', or complete")


class TestResume:
    def test_goes_on_from_a_step_that_is_named(self, orders: Orders) -> None:
        orders.reach("failed")
        assert orders("resume", "o-1", "--from", "first").exit_code == 0
        assert orders.ran == ["first", "gate", "last"]

    def test_of_what_still_fails_is_exit_code_1_and_says_what_next(self, orders: Orders) -> None:
        orders.reach("failed")
        orders.module.healthy = False
        done = orders("resume", "o-1")
        assert done.exit_code == 1
        assert done.stdout == (
            "order o-1 has failed: at step gate: NonRetryable: no driver in town\n"
            f"next: go on from gate, once its trouble is mended:\n    flux resume --app {orders.app} o-1\n"
        )


class TestComplete:
    def test_puts_the_output_on_record(self, orders: Orders) -> None:
        orders.reach("stuck")
        assert orders("complete", "o-1", "gate", "--output", '{"charge": "ch_7"}').exit_code == 0
        assert orders.engine.get("order", "o-1").history[1].output == {"charge": "ch_7"}

    @pytest.mark.parametrize(("verb", "how"), [("complete", "completed"), ("skip", "skipped")])
    def test_of_a_step_whose_turn_has_not_come_says_that_it_is_on_record(
        self, verb: str, how: str, orders: Orders
    ) -> None:
        orders.reach("stuck")
        told = orders(verb, "o-1", "last").stdout
        assert f"Step last is on record as {how}, and will not run when its turn comes.\n" in told
        assert "on record" not in orders(verb, "o-1", "gate").stdout


class TestAHandlerThat:
    def test_exits_ends_the_command_with_a_sentence_not_with_its_own_code(self, orders: Orders) -> None:
        orders.execute("suspended", leave=7)
        done = orders("complete", "o-1", "gate")
        said = ("a handler called sys.exit(7)", f"flux show --app {orders.app} o-1 tells how it stands")
        refused(done, 1, *said)


class TestRecover:
    @pytest.fixture
    def sleepers(self, orders: Orders) -> Orders:
        """Two whose time has come, and one whose has not."""
        for number, seconds in enumerate((60, 120, 3600), 1):
            orders.execute("sleeping", f"o-{number}", seconds=seconds)
        orders.advance(180)
        return orders

    def test_goes_on_with_what_is_due_and_tells_how_it_stands(self, sleepers: Orders) -> None:
        done = sleepers("recover")
        assert done.exit_code == 0
        assert [row.split() for row in done.stdout.splitlines()] == [
            ["workflow", "id", "due", "was", "is"],
            ["order", "o-1", "2", "min", "ago", "suspended", "completed"],
            ["order", "o-2", "60", "s", "ago", "suspended", "completed"],
        ]
        assert sleepers("recover").stdout == "nothing is due\n"

    def test_is_exit_code_1_if_one_stands_badly_and_says_why(self, sleepers: Orders) -> None:
        sleepers.module.deploy("sleeping", turned=True)
        done = sleepers("recover")
        assert done.exit_code == 1
        assert "order o-1: the steps of workflow 'order' have changed" in done.stdout

    def test_takes_up_as_many_as_its_limit_and_says_that_there_may_be_more(self, sleepers: Orders) -> None:
        done = sleepers("recover", "--limit", "1")
        assert (sleepers.status("o-1"), sleepers.status("o-2")) == ("completed", "suspended")
        assert done.stderr == "there may be more that is due: run it again\n"

    def test_with_json_prints_one_line_an_instance(self, sleepers: Orders) -> None:
        told = [json.loads(line) for line in sleepers("recover", "--json").stdout.splitlines()]
        assert [(one["id"], one["due"], one["was"], one["status"]) for one in told] == [
            ("o-1", "2023-11-14T22:14:20.000Z", "suspended", "completed"),
            ("o-2", "2023-11-14T22:15:20.000Z", "suspended", "completed"),
        ]

    def test_leaves_workflows_alone_that_the_app_does_not_have_and_says_so(self, sleepers: Orders) -> None:
        sleepers.flux.write_app(
            """
            from flux_core import FluxEngine, create_workflow
            from flux_local import SQLiteStorage
            other = create_workflow("other").step("s", lambda ctx: None)
            engine = FluxEngine(SQLiteStorage("orders.db"), workflows=[other])
            """
        )
        sleepers.forget()
        done = sleepers("recover")
        assert done.exit_code == 0
        assert done.stdout.count("left alone") == 3
        assert "order o-1: the app has no such workflow" in done.stdout


class TestOfSeveralWorkflows:
    SOURCE = """
    from flux_core import FluxEngine, MemoryStorage, create_workflow, wait
    store = MemoryStorage()
    flows = [create_workflow(name).step("ask", lambda ctx: wait("go")) for name in ("buy", "sell")]
    engine = FluxEngine(store, workflows=flows)
    engine.execute("buy", id="both")
    engine.execute("sell", id="both")
    engine.execute("sell", id="one")
    """

    @pytest.fixture
    def shops(self, flux: Flux) -> Orders:
        shops = Orders(flux)
        flux.write_app(self.SOURCE)
        return shops

    def test_the_one_that_has_the_id_is_meant(self, shops: Orders) -> None:
        assert shops.json("signal", "one", "go")["workflow"] == "sell"

    def test_one_has_to_be_named_if_both_have_it(self, shops: Orders) -> None:
        done = shops("pause", "both")
        assert done.exit_code == 2
        assert (
            "the workflows buy, sell each have an instance 'both'; say which: flux pause [WORKFLOW] ID" in done.stderr
        )
        assert shops.json("pause", "buy", "both")["workflow"] == "buy"

    def test_none_has_it(self, shops: Orders) -> None:
        done = shops("pause", "neither")
        assert done.exit_code == 2
        assert "none of the workflows buy, sell has an instance 'neither'; flux list shows" in done.stderr

    def test_what_can_be_pasted_names_the_workflow(self, shops: Orders) -> None:
        assert shops.json("show", "one")["next"][0]["command"] == f"flux signal --app {shops.app} sell one go"
        assert shops.engine.storage.header(InstanceRef("default", "sell", "one")) is not None


class TestTheWordsOfACommand:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("show",), "ID is missing; write flux show [WORKFLOW] ID"),
            (("signal",), "ID and NAME are missing; write flux signal [WORKFLOW] ID NAME"),
            (("retry", "o-1"), "got o-1; write flux retry [WORKFLOW] ID STEP"),
            (("cancel", "order", "o-1", "now"), "got order o-1 now; write flux cancel [WORKFLOW] ID"),
            (("retry", "order", "o-1"), "'order' is a workflow, and no instance has that id; write flux retry"),
            (("show", "orders", "o-1"), "has no workflow 'orders'; it has order; write flux show [WORKFLOW] ID"),
            (("signal", "o-1", "go", "yes"), "no workflow 'o-1'; it has order; write flux signal [WORKFLOW] ID NAME"),
            (("show", "a/b"), "the id 'a/b' is not allowed"),
        ],
    )
    def test_that_are_too_few_too_many_or_none_of_ours_are_exit_code_2(
        self, words: tuple[str, ...], said: str, orders: Orders
    ) -> None:
        refused(orders(*words), 2, said)

    def test_come_before_its_options_and_not_after_them(self, orders: Orders) -> None:
        refused(orders.flux("--app", "a:b", "show", "o-1"), 2, "--app comes after the command: flux show --app a:b")
        refused(orders.flux("--json", "list"), 2, "--json comes after the command: flux list --json")

    def test_may_begin_with_a_dash(self, orders: Orders) -> None:
        orders.reach("failed", "-7")
        done = orders("show", "--", "-7")
        assert done.exit_code == 0
        assert f"    flux resume --app {orders.app} -- -7\n" in done.stdout

    def test_without_an_app_name_the_option_and_the_variable(self, flux: Flux) -> None:
        refused(flux("show", "o-1"), 2, "say which app: --app module:attribute", "or set FLUX_APP")

    def test_on_a_store_that_is_no_database_is_exit_code_3(self, orders: Orders) -> None:
        (orders.flux.folder / "orders.db").write_text(
            "a shopping list, and a long one, so that it is no empty file" * 20
        )
        for words in (("list",), ("show", "o-1"), ("resume", "o-1"), ("recover",)):
            refused(orders(*words), 3, "the app's store", "is not a SQLite database")
