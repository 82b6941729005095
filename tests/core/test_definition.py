"""A workflow is declared by a builder, checked and frozen at first use; what is wrong with it is said in words."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from flux_core import (
    FAIL,
    NOT_DONE,
    UNKNOWN,
    CallerError,
    Context,
    DefinitionError,
    FluxEngine,
    RetryPolicy,
    UnknownStep,
    compensation,
    create_workflow,
    sleep,
    sleep_until,
    verify,
    wait,
    wait_any,
)

if TYPE_CHECKING:
    from tests.core.conftest import Lab


def nothing(ctx: Context) -> None:
    """A handler that does nothing."""


class TestTheBuilder:
    def test_keeps_the_steps_in_the_order_of_their_declaration(self) -> None:
        w = create_workflow("order").step("a", nothing).commit("b", nothing).step("c", nothing)
        assert [step["name"] for step in w.describe()["steps"]] == ["a", "b", "c"]

    def test_takes_a_step_without_a_handler_as_a_decorator_with_options(self) -> None:
        w = create_workflow("order")

        @w.step("first", retries=7)
        def some_name(ctx: Context) -> int:
            return 1

        @w.commit("second", idempotent=True)
        def other_name(ctx: Context) -> int:
            return 2

        steps = w.describe()["steps"]
        assert [(step["name"], step["kind"], step["retries"]) for step in steps] == [
            ("first", "step", 7),
            ("second", "commit", None),
        ]

    def test_takes_a_bare_decorator_which_uses_the_functions_name(self) -> None:
        w = create_workflow("order")

        @w.step
        def validate(ctx: Context) -> None: ...

        @w.commit
        def charge(ctx: Context) -> None: ...

        assert [(step["name"], step["kind"]) for step in w.describe()["steps"]] == [
            ("validate", "step"),
            ("charge", "commit"),
        ]

    def test_leaves_a_decorated_function_what_it_was(self) -> None:
        w = create_workflow("order")

        @w.step
        def bare(ctx: Any) -> int:
            return 5

        @w.step("named")
        def named(ctx: Any) -> int:
            return 6

        anything: Any = None
        assert (bare(anything), named(anything)) == (5, 6)

    def test_gives_the_same_definition_at_every_build(self) -> None:
        w = create_workflow("order").step("a", nothing)
        assert w.build() is w.build()

    def test_is_frozen_by_build(self) -> None:
        w = create_workflow("order").step("a", nothing)
        w.build()
        with pytest.raises(DefinitionError, match="'order' is frozen since its first use; declare step 'b' before"):
            w.step("b", nothing)

    def test_is_frozen_by_the_first_use_of_an_engine(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", nothing)
        lab.engine().execute(w)
        with pytest.raises(DefinitionError, match="frozen since its first use; declare commit 'b' before that"):
            w.commit("b", nothing)

    @pytest.mark.parametrize("late", ["input", "data"])
    def test_takes_no_types_once_it_is_frozen(self, late: str) -> None:
        w = create_workflow("order").step("a", nothing)
        w.build()
        with pytest.raises(DefinitionError, match=f"declare {late} before that"):
            getattr(w, late)(dict)

    def test_shows_its_steps_when_it_is_printed(self) -> None:
        assert repr(create_workflow("order").step("a", nothing).step("b", nothing)) == "<workflow 'order': a > b>"
        assert repr(create_workflow("order")) == "<workflow 'order': no steps>"


class TestDescribe:
    def test_tells_everything_about_a_step_that_is_declared(self) -> None:
        w = (
            create_workflow("order", version="2")
            .step("a", nothing, retries=2, timeout=timedelta(seconds=1.5), when=nothing)
            .commit("b", nothing, compensate=nothing)
        )
        told = w.describe()
        assert (told["name"], told["version"]) == ("order", "2")
        assert told["fingerprint"] == w.build().fingerprint
        a, b = told["steps"]
        assert a == {
            "name": "a",
            "kind": "step",
            "commit": False,
            "retries": 2,
            "timeout": 1.5,
            "has_condition": True,
            "has_compensation": False,
        }
        assert b == {
            "name": "b",
            "kind": "commit",
            "commit": True,
            "retries": None,
            "timeout": None,
            "has_condition": False,
            "has_compensation": True,
        }

    def test_of_an_engine_fills_in_its_defaults(self) -> None:
        w = create_workflow("order").step("a", nothing).step("b", nothing, retries=0, timeout=1)
        a, b = FluxEngine(default_retries=5, default_timeout=7).describe(w)["steps"]
        assert (a["retries"], a["timeout"], b["retries"], b["timeout"]) == (5, 7.0, 0, 1.0)

    def test_defaults_are_three_retries_and_thirty_seconds(self) -> None:
        (a,) = FluxEngine().describe(create_workflow("order").step("a", nothing))["steps"]
        assert (a["retries"], a["timeout"]) == (3, 30.0)

    def test_a_workflows_own_defaults_come_before_the_engines_and_after_the_steps(self) -> None:
        w = (
            create_workflow("order", retries=1, step_timeout=2)
            .step("a", nothing)
            .step("b", nothing, retries=0, timeout=9)
        )
        a, b = FluxEngine(default_retries=5, default_timeout=7).describe(w)["steps"]
        assert (a["retries"], a["timeout"], b["retries"], b["timeout"]) == (1, 2.0, 0, 9.0)


class TestTheFingerprint:
    def test_does_not_change_with_handlers_options_types_or_version(self) -> None:
        one = create_workflow("order").step("a", nothing).commit("b", nothing)
        other = (
            create_workflow("order", version="9", retries=0)
            .step("a", lambda ctx: 1, retries=1, timeout=2, when=nothing, give_up_on=(ValueError,))
            .commit("b", lambda ctx: 2, compensate=nothing, idempotent=True)
        )
        assert one.build().fingerprint == other.build().fingerprint

    @pytest.mark.parametrize(
        "changed",
        [
            lambda w: w.step("a", nothing).commit("c", nothing),
            lambda w: w.step("a", nothing).step("b", nothing),
            lambda w: w.commit("b", nothing).step("a", nothing),
            lambda w: w.step("a", nothing),
            lambda w: w.step("a", nothing).commit("b", nothing).step("c", nothing),
        ],
        ids=["another name", "another kind", "another order", "a step less", "a step more"],
    )
    def test_changes_with_names_kinds_and_order(self, changed: Any) -> None:
        one = create_workflow("order").step("a", nothing).commit("b", nothing).build()
        assert changed(create_workflow("order")).build().fingerprint != one.fingerprint


class TestAWrongDefinition:
    def test_without_steps_is_told_to_add_one(self) -> None:
        with pytest.raises(DefinitionError, match=r"'order' has no steps: add at least one with \.step"):
            create_workflow("order").build()

    def test_without_steps_is_found_at_first_use_too(self) -> None:
        with pytest.raises(DefinitionError, match="has no steps"):
            FluxEngine().execute(create_workflow("order"))

    def test_with_a_step_that_never_met_its_handler_is_told_so(self) -> None:
        """`handlers.get("charge")` may be None, and a decorator may have lost its function: no step may vanish."""
        w = create_workflow("order").step("a", nothing)
        decorator: Any = w.commit("charge", None, retries=1)  # type: ignore[call-overload]
        with pytest.raises(DefinitionError, match="'order': step 'charge' has no handler: pass one"):
            w.build()
        decorator(nothing)
        assert [step.name for step in w.build().steps] == ["a", "charge"]
        with pytest.raises(DefinitionError, match="frozen"):
            w.step("late")

    def test_with_a_duplicate_name_is_told_to_rename(self) -> None:
        with pytest.raises(DefinitionError, match=r"'order', commit 'a': a step of that name exists already.*rename"):
            create_workflow("order").step("a", nothing).commit("a", nothing)

    @pytest.mark.parametrize("retries", [-1, 1.5, True, "3", 10_000])
    def test_with_impossible_retries_is_told_the_range(self, retries: Any) -> None:
        with pytest.raises(
            DefinitionError, match=r"'order', step 'a': retries must be a whole number from 0 to \d+; got"
        ):
            create_workflow("order").step("a", nothing, retries=retries)
        with pytest.raises(DefinitionError, match="retries must be a whole number"):
            create_workflow("order", retries=retries)
        with pytest.raises(DefinitionError, match="retries must be a whole number"):
            compensation(nothing, retries=retries)

    @pytest.mark.parametrize("retries", [-1, 1.5, True, "3"])
    def test_with_impossible_default_retries_is_refused_by_the_engine(self, retries: Any) -> None:
        with pytest.raises(DefinitionError, match="default_retries must be a whole number from 0 on; got"):
            FluxEngine(default_retries=retries)

    @pytest.mark.parametrize("name", ["", ".", "..", "__x__", "a b", "a/b", "ä", "a" * 129, "a\n", "~", None, 5])
    def test_with_a_bad_workflow_name_is_told_the_characters(self, name: Any) -> None:
        with pytest.raises(DefinitionError, match=r"workflow name .* is not allowed: use 1 to 128 of A-Z a-z 0-9"):
            create_workflow(name)

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "a.b", "__x__", "a b", "a/b", "ä", "a" * 129, "a\n", "x~undo", None]
    )
    def test_with_a_bad_step_name_is_told_the_characters(self, name: Any) -> None:
        with pytest.raises(DefinitionError, match=r"'order': the step name .* is not allowed: use 1 to 128 of"):
            create_workflow("order").step(name, nothing)

    def test_with_a_lambda_as_bare_decorator_is_told_that_its_name_will_not_do(self) -> None:
        with pytest.raises(DefinitionError, match="step name '<lambda>' is not allowed"):
            create_workflow("order").step(lambda ctx: None)

    @pytest.mark.parametrize("name", ["a" * 128, "A-Z_0:9", "__a", "a__", "_"])
    def test_is_not_what_these_names_make(self, name: str) -> None:
        assert create_workflow(name).step(name, nothing).build().steps[0].name == name

    def test_is_not_what_a_dot_in_the_workflows_name_makes(self) -> None:
        assert create_workflow("shop.order").step("a", nothing).build().name == "shop.order"

    def test_with_a_timeout_of_zero_is_told_to_leave_it_out(self) -> None:
        with pytest.raises(DefinitionError, match=r"step 'a': timeout must be more than 0 seconds; leave it out"):
            create_workflow("order").step("a", nothing, timeout=0)

    @pytest.mark.parametrize("timeout", [3600.5, timedelta(hours=2), 364 * 24 * 3600])
    def test_with_a_timeout_no_platform_can_keep_is_told_to_split_or_suspend(self, timeout: Any) -> None:
        with pytest.raises(DefinitionError, match=r"no platform lets a function run for \d+ s.*split the step.*wait"):
            create_workflow("order").step("a", nothing, timeout=timeout)
        with pytest.raises(DefinitionError, match="no platform"):
            create_workflow("order", step_timeout=timeout)
        with pytest.raises(DefinitionError, match="no platform"):
            compensation(nothing, timeout=timeout)

    @pytest.mark.parametrize("timeout", [True, "30", -1, float("nan"), float("inf"), timedelta(seconds=-1), [1], 1e300])
    def test_with_a_timeout_that_is_no_duration_is_told_so(self, timeout: Any) -> None:
        with pytest.raises(DefinitionError, match="step 'a': timeout must be a duration from 0 to one year"):
            create_workflow("order").step("a", nothing, timeout=timeout)

    @pytest.mark.parametrize("timeout", [0, True, -1, float("nan"), "30"])
    def test_with_an_impossible_default_timeout_is_refused_by_the_engine(self, timeout: Any) -> None:
        with pytest.raises(DefinitionError, match=r"default_timeout=\.\.\.\): timeout must be"):
            FluxEngine(default_timeout=timeout)

    def test_with_a_default_timeout_no_platform_can_keep_is_refused_by_the_engine(self) -> None:
        with pytest.raises(DefinitionError, match="no platform"):
            FluxEngine(default_timeout=7200)

    def test_with_a_mistyped_option_is_told_the_options(self) -> None:
        with pytest.raises(
            DefinitionError, match=r"step 'a': there is no option 'retry_count'; the options are retries, "
        ):
            create_workflow("order").step("a", nothing, retry_count=3)  # type: ignore[call-overload]

    @pytest.mark.parametrize("option", [{"idempotent": True}, {"on_unknown": "retry"}])
    def test_with_a_commits_option_on_a_step_is_told_to_declare_a_commit(self, option: dict[str, Any]) -> None:
        with pytest.raises(DefinitionError, match=r"only a commit has it, so declare it with \.commit"):
            create_workflow("order").step("a", nothing, **option)

    @pytest.mark.parametrize("on_unknown", ["ask", None, nothing, 5, verify])
    def test_with_a_strange_on_unknown_is_told_the_three_forms(self, on_unknown: Any) -> None:
        with pytest.raises(DefinitionError, match=r'on_unknown must be verify\(probe\), "retry" or "quarantine"; got'):
            create_workflow("order").commit("a", nothing, on_unknown=on_unknown)
        with pytest.raises(DefinitionError, match="on_unknown must be"):
            compensation(nothing, on_unknown=on_unknown)

    def test_with_a_probe_that_is_no_function_is_told_so(self) -> None:
        with pytest.raises(
            DefinitionError, match=r"verify\(\.\.\.\): the probe must be a function that takes the context; got 'x'"
        ):
            verify("x")  # type: ignore[arg-type]

    @pytest.mark.parametrize("idempotent", ["yes", 1, None])
    def test_with_a_strange_idempotent_is_told_true_or_false(self, idempotent: Any) -> None:
        with pytest.raises(DefinitionError, match="idempotent must be True or False; got"):
            create_workflow("order").commit("a", nothing, idempotent=idempotent)

    @pytest.mark.parametrize("handler", ["charge", 5, {}])
    def test_with_a_handler_that_is_no_function_is_told_so(self, handler: Any) -> None:
        with pytest.raises(DefinitionError, match="'order', step 'a': the handler must be a function that takes"):
            create_workflow("order").step("a", handler)

    @pytest.mark.parametrize("option", ["when", "compensate"])
    def test_with_a_condition_or_compensator_that_is_no_function_is_told_so(self, option: str) -> None:
        options: dict[str, Any] = {option: "x"}
        with pytest.raises(DefinitionError, match=f"step 'a': {option} must be a function that takes the context"):
            create_workflow("order").step("a", nothing, **options)

    def test_with_a_compensation_that_is_no_function_is_told_so(self) -> None:
        with pytest.raises(DefinitionError, match=r"compensation\(\.\.\.\): the compensation must be a function"):
            compensation("x")  # type: ignore[arg-type]

    @pytest.mark.parametrize("kinds", [5, ("ValueError",), (ValueError, int), ValueError("x")])
    def test_with_a_give_up_on_that_names_no_exceptions_is_told_so(self, kinds: Any) -> None:
        with pytest.raises(DefinitionError, match="give_up_on must name exception types; got"):
            create_workflow("order").step("a", nothing, give_up_on=kinds)

    @pytest.mark.parametrize("policy", [3, "exponential", {"initial": 1}])
    def test_with_a_retry_that_is_no_policy_is_told_so(self, policy: Any) -> None:
        with pytest.raises(DefinitionError, match=r"retry must be a RetryPolicy\(\.\.\.\); got"):
            create_workflow("order").step("a", nothing, retry=policy)
        with pytest.raises(DefinitionError, match="retry must be a RetryPolicy"):
            create_workflow("order", retry=policy)
        with pytest.raises(DefinitionError, match="retry must be a RetryPolicy"):
            compensation(nothing, retry=policy)
        with pytest.raises(DefinitionError, match="retry must be a RetryPolicy"):
            FluxEngine(retry=policy)

    @pytest.mark.parametrize("options", [{"factor": 0.5}, {"factor": True}, {"initial": -1}, {"maximum": "x"}])
    def test_with_a_back_off_that_is_none_is_told_so(self, options: dict[str, Any]) -> None:
        with pytest.raises(DefinitionError, match=r"RetryPolicy\((factor|initial|maximum)=\.\.\.\) must be"):
            RetryPolicy(**options)

    @pytest.mark.parametrize("factor", [float("nan"), float("inf")])
    def test_with_a_factor_that_is_no_number_is_told_so(self, factor: float) -> None:
        with pytest.raises(DefinitionError, match=r"RetryPolicy\(factor=\.\.\.\) must be"):
            RetryPolicy(factor=factor)

    @pytest.mark.parametrize("version", ["", 1, None])
    def test_with_a_version_that_is_no_string_is_told_so(self, version: Any) -> None:
        with pytest.raises(DefinitionError, match="'order': version must be a non-empty string"):
            create_workflow("order", version=version)

    def test_with_an_input_schema_that_is_none_is_told_what_is_accepted(self) -> None:
        with pytest.raises(DefinitionError, match="pydantic model, a dataclass"):
            create_workflow("order").step("a", nothing).input(5).build()  # type: ignore[call-overload]

    def test_passed_as_something_else_altogether_is_a_definition_error(self) -> None:
        with pytest.raises(DefinitionError, match=r"a workflow is what create_workflow\(\.\.\.\) returns"):
            FluxEngine().execute(nothing)  # type: ignore[call-overload]

    def test_is_a_callers_error_so_that_a_platform_answers_4xx(self) -> None:
        assert issubclass(DefinitionError, CallerError)

    @pytest.mark.parametrize("lease", [0, -1, True, "x"])
    def test_an_engines_lease_must_be_a_duration_above_zero(self, lease: Any) -> None:
        with pytest.raises(DefinitionError, match="lease must be"):
            FluxEngine(lease=lease)

    @pytest.mark.parametrize("tenant", ["", "a/b", "..", "__x__", "a" * 129])
    def test_an_engines_tenant_must_be_a_name(self, tenant: str) -> None:
        with pytest.raises(CallerError, match=r"the tenant .* is not allowed: use 1 to 128 of"):
            FluxEngine(tenant=tenant)


class TestTwoWorkflows:
    def test_of_one_name_on_one_engine_do_not_swap_silently_when_their_steps_differ(self, lab: Lab) -> None:
        engine = lab.engine()
        one = create_workflow("order").step("a", nothing)
        other = create_workflow("order").step("b", nothing)
        engine.execute(one)
        assert engine.execute(other).history[0].name == "b"
        assert engine.workflows["order"].steps[0].name == "b"

    def test_of_one_name_are_not_both_kept_alive(self, lab: Lab) -> None:
        """A workflow that is declared anew for every request must not fill a long-lived engine."""
        engine = lab.engine()

        def request() -> weakref.ref[Any]:
            w = create_workflow("order").step("a", lambda ctx: None)
            assert engine.execute(w).status == "completed"
            return weakref.ref(w.build().steps[0].handler)

        handlers = [request() for _ in range(3)]
        gc.collect()
        assert [handler() is None for handler in handlers] == [True, True, False]

    def test_that_an_engine_has_bound_is_bound_only_once(self, lab: Lab) -> None:
        engine = lab.engine()
        w = create_workflow("order").step("a", nothing)
        engine.execute(w)
        bound = engine.workflows["order"]
        for same in ("order", bound, w):
            engine.execute(same)
            assert engine.workflows["order"] is bound

    def test_are_found_by_their_registered_names(self, lab: Lab) -> None:
        engine = lab.engine(workflows=[create_workflow("order").step("a", nothing)])
        assert engine.execute("order").status == "completed"
        assert set(engine.workflows) == {"order"}

    def test_a_definition_knows_its_steps_by_name(self) -> None:
        definition = create_workflow("order").step("a", nothing).step("b", nothing).build()
        assert definition.step("b").name == "b"
        with pytest.raises(UnknownStep, match="'order' has no step 'c'; its steps are a, b"):
            definition.step("c")


class TestADirective:
    @pytest.mark.parametrize("word", [FAIL, NOT_DONE, UNKNOWN], ids=repr)
    def test_and_a_verdict_are_known_again_after_a_copy(self, word: object) -> None:
        """A probe may answer from another process."""
        assert copy.deepcopy(word) is word
        assert pickle.loads(pickle.dumps(word)) is word  # noqa: S301 -- our own bytes
        assert copy.deepcopy(wait("go")).on_timeout is FAIL

    def test_that_is_shared_by_instances_is_left_as_it_is(self, lab: Lab) -> None:
        default = {"items": [1]}
        shared = wait("go", 1, on_timeout=default)
        w = create_workflow("order").step("a", lambda ctx: shared)
        for id_ in ("o-1", "o-2"):
            lab.engine().execute(w, None, id_)
            lab.clock.advance(2)
            output: Any = lab.engine().wake(w, id_).history[0].output
            assert output == {"items": [1]}
            output["items"].append(2)
        assert shared.on_timeout is default
        assert default == {"items": [1]}

    @pytest.mark.parametrize("name", ["", "a b", "..", "__x__", "a" * 129])
    def test_names_its_signals_by_the_rules(self, name: str) -> None:
        with pytest.raises(CallerError, match=r"the signal name .* is not allowed"):
            wait(name)

    def test_waits_for_at_least_one_signal(self) -> None:
        with pytest.raises(DefinitionError, match=r"wait_any\(\) needs at least one signal name"):
            wait_any([])

    def test_that_waits_for_any_does_not_read_a_string_as_its_letters(self) -> None:
        with pytest.raises((DefinitionError, CallerError, TypeError)):
            wait_any("approval")  # type: ignore[arg-type]

    @pytest.mark.parametrize("duration", [-1, True, "x", float("nan"), timedelta(days=400)])
    def test_has_a_duration_of_at_most_a_year(self, duration: Any) -> None:
        with pytest.raises(DefinitionError, match="must be a duration from 0 to one year"):
            wait("go", timeout=duration)
        with pytest.raises(DefinitionError, match="must be a duration from 0 to one year"):
            sleep(duration)

    def test_sleeps_until_a_time_with_a_zone_only(self) -> None:
        from datetime import datetime

        with pytest.raises(DefinitionError, match=r"sleep_until\(\) needs a datetime with a time zone"):
            sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001 -- that is the point
        with pytest.raises(DefinitionError, match="needs a datetime"):
            sleep_until(5)  # type: ignore[arg-type]
