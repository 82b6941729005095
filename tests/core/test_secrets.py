"""A `Secret` names what is held elsewhere: the store keeps the name, and the value goes nowhere but to the handler."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pydantic
import pytest

from flux_core import (
    Context,
    DefinitionError,
    Done,
    FluxEngine,
    InputInvalid,
    JsonFileTraceSink,
    NonRetryable,
    RetryPolicy,
    Secret,
    SecretExposed,
    SecretsNotConfigured,
    SecretUnavailable,
    Unknown,
    UnknownSecret,
    Unserialisable,
    compensation,
    create_workflow,
    verify,
    wait,
)
from flux_core.codec import decode_payload, encode_payload
from flux_core.data import DataTracker
from flux_core.values import canonical, copied, decode, encode
from flux_local import SQLiteStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.core.conftest import Lab

VALUE = 'sk_live "9x/f+T\\7q\n'
"""As awkward as values are: with a quote, a backslash, a line feed, and what a URL has to quote."""
KEY = Secret("stripe-key")


class Held:
    """A resolver that says what it was asked, and whose values can be changed."""

    def __init__(self, **values: str) -> None:
        self.values = {"stripe-key": VALUE, **values}
        self.asked: list[str] = []

    def __call__(self, name: str) -> str:
        self.asked.append(name)
        return self.values[name]


def forms(value: str = VALUE) -> list[bytes]:
    """How the value would look in a file."""
    return [form.encode() for form in (value.strip(), repr(value)[1:-1], json.dumps(value)[1:-1], value[:14])]


class TestTheReference:
    def test_shows_its_name_and_nothing_else(self) -> None:
        assert repr(KEY) == str(KEY) == f"{KEY}" == "Secret('stripe-key')"
        assert KEY.name == "stripe-key"

    def test_equals_another_of_the_same_name_and_can_be_a_key(self) -> None:
        assert Secret("stripe-key") == KEY != Secret("other")
        assert {KEY: 1}[Secret("stripe-key")] == 1
        assert KEY != "stripe-key"

    def test_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError, match="does not change"):
            KEY.name = "other"
        with pytest.raises(AttributeError, match="does not change"):
            del KEY.name

    def test_survives_copy_and_pickle(self) -> None:
        assert copy.copy(KEY) == copy.deepcopy(KEY) == copied(KEY) == KEY
        assert pickle.loads(pickle.dumps(KEY)) == KEY  # noqa: S301 -- our own bytes
        assert copied({"keys": [KEY]}) == {"keys": [KEY]}

    @pytest.mark.parametrize("name", ["", "a\nb", "x" * 513, 5, None, b"key"])
    def test_needs_a_name(self, name: Any) -> None:
        with pytest.raises(DefinitionError, match="never the value"):
            Secret(name)

    def test_takes_the_names_that_secret_managers_use(self) -> None:
        name = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db-Ab12Cd"
        assert Secret(name).name == name


class TestInTheStore:
    def test_it_is_a_name_under_a_tag(self) -> None:
        assert encode({"key": KEY}, "the output").text == '{"key":{"$secret":"stripe-key"}}'
        assert canonical([KEY]) == '[{"$secret":"stripe-key"}]'

    @pytest.mark.parametrize("value", [KEY, [KEY], {"a": (KEY, {KEY})}, {KEY: 1}])
    def test_comes_back_wherever_a_value_may_be(self, value: object) -> None:
        kept = encode(value, "the output")
        assert kept.value == decode(kept.text) == value

    def test_of_a_signal(self, lab: Lab) -> None:
        assert decode_payload(encode_payload({"key": KEY}), lab.ref("o-1"), "go/1") == {"key": KEY}

    def test_in_data_that_did_not_change_is_not_written_again(self) -> None:
        tracker = DataTracker({"key": Secret("stripe-key"), "deep": [Secret("stripe-key")]})
        assert tracker.delta({"key": KEY, "deep": [KEY]}, "a") is None
        changed = tracker.delta({"key": KEY, "deep": [Secret("other")]}, "a")
        assert changed is not None
        assert changed.text == '{"deep":[{"$secret":"other"}]}'

    def test_a_dictionary_from_outside_that_looks_like_one_is_none(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: type(ctx.input["key"]).__name__)
        assert lab.engine().execute(w, {"key": {"$secret": "stripe-key"}}).history[0].output == "dict"

    def test_goes_through_input_data_output_and_signal(self, lab: Lab) -> None:
        def a(ctx: Context) -> object:
            ctx.data.key = ctx.input["key"]
            return {"key": ctx.input["key"]}

        def c(ctx: Context) -> object:
            named = [ctx.data.key, ctx.results["a"]["key"], ctx.results["b"]]
            assert named == [KEY, KEY, Secret("other")]
            return [ctx.secret(name) == f"value of {name.name}" for name in named]

        w = create_workflow("order").step("a", a).step("b", lambda ctx: wait("go")).step("c", c)
        lab.engine().execute(w, {"key": KEY}, "o-1")
        run = lab.engine(secrets=lambda name: f"value of {name}").signal(w, "o-1", "go", Secret("other"))
        assert run.history[2].output == [True, True, True]

    def test_the_same_reference_is_the_same_input(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lab.note("a"))
        lab.engine().execute(w, {"key": KEY}, "o-1")
        assert lab.engine().execute(w, {"key": Secret("stripe-key")}, "o-1").created is False


@dataclass
class Order:
    key: Secret


class Model(pydantic.BaseModel):
    key: Secret


class Struct(msgspec.Struct):
    key: Secret


class TestInInputModels:
    @pytest.mark.parametrize("schema", [Order, Model, Struct])
    def test_a_field_takes_references(self, schema: Any, lab: Lab) -> None:
        w = create_workflow("order").input(schema).step("a", lambda ctx: ctx.input.key)
        assert lab.engine().execute(w, {"key": KEY}).history[0].output == KEY

    @pytest.mark.parametrize("schema", [Order, Model, Struct])
    @pytest.mark.parametrize("sent", ["stripe-key", {"$secret": "stripe-key"}])
    def test_a_field_takes_no_text_of_a_caller_who_may_not_choose_among_secrets(
        self, schema: Any, sent: object, lab: Lab
    ) -> None:
        w = create_workflow("order").input(schema).step("a", lambda ctx: ctx.input.key)
        with pytest.raises(InputInvalid, match="key"):
            lab.engine().execute(w, {"key": sent})

    @pytest.mark.parametrize("schema", [Order, Struct])
    def test_a_built_instance_may_hold_one(self, schema: Any, lab: Lab) -> None:
        w = create_workflow("order").input(schema).step("a", lambda ctx: ctx.input.key)
        assert lab.engine().execute(w, schema(key=KEY)).history[0].output == KEY

    def test_a_built_pydantic_model_is_refused_and_the_message_says_what_to_pass(self, lab: Lab) -> None:
        w = create_workflow("order").input(Model).step("a", lambda ctx: ctx.input.key)
        with pytest.raises(InputInvalid, match="pass a dict that the model accepts"):
            lab.engine().execute(w, Model(key=KEY))


class TestAskingForTheValue:
    @pytest.mark.parametrize("asked", [KEY, "stripe-key"])
    def test_by_reference_or_name(self, asked: Secret | str, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: lab.calls.append(ctx.secret(asked)))
        assert lab.engine(secrets=Held()).execute(w).status == "completed"
        assert lab.calls == [VALUE]

    def test_the_resolver_may_be_a_mapping(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: lab.calls.append(ctx.secret(KEY)))
        lab.engine(secrets={"stripe-key": VALUE}).execute(w)
        assert lab.calls == [VALUE]

    def test_or_the_environment(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        import os

        monkeypatch.setenv("STRIPE_KEY", VALUE.strip())
        w = create_workflow("order").step("a", lambda ctx: lab.calls.append(ctx.secret("STRIPE_KEY")))
        lab.engine(secrets=os.environ).execute(w)
        lab.engine(secrets=os.environ.__getitem__).execute(w)
        assert lab.calls == [VALUE.strip()] * 2

    @pytest.mark.parametrize("resolver", [5, "stripe-key", ["stripe-key"], object()])
    def test_anything_else_is_no_resolver(self, resolver: Any) -> None:
        with pytest.raises(DefinitionError, match=r"os\.environ\.__getitem__, or a mapping"):
            FluxEngine(secrets=resolver)

    def test_each_call_asks_anew_since_values_are_changed(self, lab: Lab) -> None:
        held = Held()

        def a(ctx: Context) -> None:
            lab.calls.append(ctx.secret(KEY))
            held.values["stripe-key"] = "rotated-value"
            lab.calls.append(ctx.secret(KEY))

        lab.engine(secrets=held).execute(create_workflow("order").step("a", a))
        assert lab.calls == [VALUE, "rotated-value"]
        assert held.asked == ["stripe-key", "stripe-key"]

    def test_conditions_compensators_and_probes_may_ask_too(self, lab: Lab) -> None:
        def asks(answer: object) -> Callable[[Context], object]:
            def ask(ctx: Context) -> object:
                lab.calls.append(ctx.secret(KEY))
                return answer

            return ask

        def lost(ctx: Context) -> None:
            raise Unknown

        def boom(ctx: Context) -> None:
            raise NonRetryable

        w = (
            create_workflow("order")
            .commit("a", lost, when=asks(True), on_unknown=verify(asks(Done(1))), compensate=asks(None))
            .step("b", boom)
        )
        assert lab.engine(secrets=Held()).execute(w).status == "rolled_back"
        assert lab.calls == [VALUE] * 3

    def test_hooks_may_ask_too(self, lab: Lab) -> None:
        def told(ctx: Context, error: object) -> None:
            lab.calls.append(ctx.secret(KEY))

        w = create_workflow("order").step("a", lambda ctx: wait("go"))
        engine = lab.engine(secrets=Held(), on={"workflow_error": told})
        engine.execute(create_workflow("fails").step("a", lambda ctx: 1 / 0, retries=0))
        engine.execute(w, None, "o-1")
        assert lab.calls == [VALUE]

    def test_async_handlers_ask_in_the_same_way(self, lab: Lab) -> None:
        async def a(ctx: Context) -> bool:
            both = await asyncio.gather(*(asyncio.to_thread(ctx.secret, KEY) for _ in range(2)))
            return both == [VALUE, VALUE]

        assert lab.engine(secrets=Held()).execute(create_workflow("order").step("a", a)).history[0].output is True

    def test_an_attempt_that_was_cut_gets_no_value_any_more(self, lab: Lab) -> None:
        kept: list[Context] = []

        def a(ctx: Context) -> None:
            kept.append(ctx)
            time.sleep(5)

        held = Held()
        lab.engine(secrets=held).execute(create_workflow("order").step("a", a, timeout=0.05, retries=0))
        with pytest.raises(Exception, match="has been cut by its time limit"):
            kept[0].secret(KEY)
        assert held.asked == []

    def test_an_attempt_that_was_cut_while_it_asked_gets_no_value_either(self, lab: Lab) -> None:
        kept: list[Context] = []

        def slow(name: str) -> str:
            kept[0].kill()
            return VALUE

        def a(ctx: Context) -> None:
            kept.append(ctx)
            ctx.secret(KEY)

        run = lab.engine(secrets=slow).execute(create_workflow("order").step("a", a, retries=0))
        assert run.error is not None
        assert run.error.type == "StepTimeout"


def once(lab: Lab, **options: Any) -> Any:
    """Run one step that asks for the key and says how the asking went."""

    def a(ctx: Context) -> None:
        lab.calls.append(f"attempt {ctx.attempt}")
        ctx.secret(KEY)

    w = create_workflow("order").commit("a", a, retry=RetryPolicy(1, jitter=False))
    return lab.engine(default_retries=1, **options).execute(w)


class TestNoValue:
    def test_without_a_resolver(self, lab: Lab) -> None:
        run = once(lab)
        assert (run.status, run.error.type) == ("failed", SecretsNotConfigured.__name__)
        assert str(run.error) == (
            "step 'a' asked for Secret('stripe-key'), and the engine has no resolver; give it one, for example "
            "FluxEngine(secrets=os.environ.__getitem__), then resume"
        )
        assert lab.calls == ["attempt 1"]

    @pytest.mark.parametrize("resolver", [{}, {}.__getitem__, {}.get])
    def test_of_an_unknown_name(self, resolver: Any, lab: Lab) -> None:
        run = once(lab, secrets=resolver)
        assert (run.status, run.error.type) == ("failed", UnknownSecret.__name__)
        assert "which the resolver does not know; add it there, then resume" in str(run.error)
        assert lab.calls == ["attempt 1"]

    @pytest.mark.parametrize("error", [KeyError("SecretString"), ConnectionResetError(), TimeoutError(), ValueError()])
    def test_from_a_resolver_that_raises_is_tried_again_and_leaves_no_effect_in_doubt(
        self, error: Exception, lab: Lab
    ) -> None:
        def broken(name: str) -> str:
            if len(lab.calls) == 1:
                raise error
            return VALUE

        assert once(lab, secrets=broken).status == "completed"
        assert lab.calls == ["attempt 1", "attempt 2"]

    def test_the_text_of_what_a_resolver_raises_is_not_shown(self, lab: Lab) -> None:
        def broken(name: str) -> str:
            raise ValueError(f"cannot parse {VALUE!r}") from OSError(VALUE)

        seen: list[BaseException] = []

        def a(ctx: Context) -> None:
            try:
                ctx.secret(KEY)
            except SecretUnavailable as error:
                seen.append(error)
                raise

        run = lab.engine(secrets=broken).execute(create_workflow("order").step("a", a, retries=0))
        assert (run.status, run.error and run.error.type) == ("failed", SecretUnavailable.__name__)
        assert "the resolver raised ValueError (its text may hold the value and is not shown" in str(run.error)
        assert seen[0].__cause__ is None
        assert seen[0].__context__ is None

    def test_from_a_resolver_that_gives_up_on_purpose_is_not_tried_again(self, lab: Lab) -> None:
        def denied(name: str) -> str:
            message = "access denied"
            raise NonRetryable(message)

        assert str(once(lab, secrets=denied).error) == "access denied"
        assert lab.calls == ["attempt 1"]

    @pytest.mark.parametrize("given", [b"bytes", 5, pydantic.SecretStr(VALUE)])
    def test_that_is_no_text(self, given: Any, lab: Lab) -> None:
        run = once(lab, secrets=lambda name: given)
        assert (run.status, run.error.type) == ("failed", SecretsNotConfigured.__name__)
        assert f"gave no str but one of type {type(given).__name__}" in str(run.error)
        assert lab.calls == ["attempt 1"]

    def test_from_an_async_resolver(self, lab: Lab) -> None:
        async def resolver(name: str) -> str:
            return VALUE

        run = once(lab, secrets=resolver)
        assert "from a function that is not async" in str(run.error)

    def test_under_what_is_no_name(self, lab: Lab) -> None:
        name: Any = 5
        run = lab.engine(secrets=Held()).execute(create_workflow("order").step("a", lambda ctx: ctx.secret(name)))
        assert (run.status, run.error and run.error.type) == ("failed", "DefinitionError")


def in_data(ctx: Context, value: object) -> None:
    ctx.data.order = {"lines": [1, value]}


def in_a_key(ctx: Context, value: object) -> None:
    ctx.data.by_key = {value: 1}


class TestAValueThatWouldBeStored:
    """The attempt fails, and its message says where the value is without saying it."""

    @pytest.mark.parametrize(
        ("wants", "where"),
        [
            (lambda ctx, value: value, "the output"),
            (lambda ctx, value: {"auth": [{"header": f"Bearer {value}"}]}, "the output.auth[0].header"),
            (lambda ctx, value: {"a-b": (value,)}, 'the output["a-b"][0]'),
            (lambda ctx, value: Struct(value), "the output.key"),
            (in_data, "ctx.data.order.lines[1]"),
            (in_a_key, r"ctx.data.by_key"),
            (lambda ctx, value: wait("go", timeout=1, on_timeout=[value]), "wait(on_timeout=...)[0]"),
        ],
    )
    @pytest.mark.parametrize("commit", [False, True])
    def test_fails_the_step_at_once(self, wants: Any, where: str, commit: bool, lab: Lab) -> None:
        def a(ctx: Context) -> object:
            lab.calls.append("a")
            return wants(ctx, ctx.secret(KEY))

        w = create_workflow("order", types=[Struct])
        run = lab.engine(secrets=Held()).execute(w.commit("a", a) if commit else w.step("a", a), None, "o-1")
        assert lab.calls == ["a"]
        assert run.error is not None
        assert (run.status, run.error.type) == (("stuck", "unknown_outcome") if commit else ("failed", "SecretExposed"))
        assert f"step 'a': the value of Secret('stripe-key') would be written to the store, in {where}" in str(
            run.error
        )
        assert "keep Secret('stripe-key') there instead" in str(run.error)
        log = b"".join(lab.storage.read(lab.ref("o-1")))
        assert not any(form in log for form in forms())
        assert run.data == {}

    def test_as_the_name_of_a_signal(self, lab: Lab) -> None:
        w = create_workflow("order").step("a", lambda ctx: wait(f"approve-{ctx.secret('token')}"))
        run = lab.engine(secrets={"token": "4711-xyz-0815"}).execute(w)
        assert "in the names in wait(...)[0]; keep Secret('token')" in str(run.error)

    def test_is_treated_like_what_cannot_be_stored(self) -> None:
        assert issubclass(SecretExposed, Unserialisable)

    def test_of_a_compensation(self, lab: Lab) -> None:
        def undo(ctx: Context) -> None:
            ctx.data.key = ctx.secret(KEY)

        w = (
            create_workflow("order")
            .commit("a", lab.note("a"), compensate=compensation(undo, on_unknown="quarantine"))
            .step("b", lambda ctx: 1 / 0, retries=0)
        )
        run = lab.engine(secrets=Held()).execute(w)
        assert run.status == "stuck"
        assert "in ctx.data.key" in str(run.error)
        assert run.data == {}

    def test_of_a_probe(self, lab: Lab) -> None:
        def lost(ctx: Context) -> None:
            raise Unknown

        probe = verify(lambda ctx: Done({"key": ctx.secret(KEY)}))
        run = lab.engine(secrets=Held()).execute(create_workflow("order").commit("a", lost, on_unknown=probe))
        assert run.status == "stuck"
        assert "the probe raised SecretExposed" in str(run.error)

    def test_a_reference_is_no_value_even_if_they_are_the_same_text(self, lab: Lab) -> None:
        def a(ctx: Context) -> object:
            ctx.secret(KEY)
            return {"key": KEY}

        run = lab.engine(secrets=lambda name: name).execute(create_workflow("order").step("a", a))
        assert run.status == "completed"

    @pytest.mark.parametrize(("value", "output"), [("12345", "in 12345"), ("123456", 1234567)])
    def test_short_values_and_numbers_are_not_looked_for(self, value: str, output: object, lab: Lab) -> None:
        def a(ctx: Context) -> object:
            ctx.secret("pin")
            return output

        run = lab.engine(secrets={"pin": value}).execute(create_workflow("order").step("a", a))
        assert run.status == "completed"

    def test_another_attempt_may_succeed_after_the_handler_was_mended(self, lab: Lab) -> None:
        mended: list[bool] = []

        def a(ctx: Context) -> object:
            value = ctx.secret(KEY)
            return KEY if mended else value

        w = create_workflow("order").step("a", a)
        engine = lab.engine(secrets=Held())
        assert engine.execute(w, None, "o-1").status == "failed"
        mended.append(True)
        assert engine.resume(w, "o-1").history[0].output == KEY


class TestWhatAnAttemptSays:
    @pytest.mark.parametrize(
        "text",
        [
            VALUE,
            repr(VALUE),
            json.dumps(VALUE),
            "https://api/?key=sk_live+%229x%2Ff%2BT%5C7q%0A",
            "https://api/sk_live%20%229x%2Ff%2BT%5C7q%0A",
            f"cut off: {VALUE[:-1]}",
        ],
    )
    def test_in_its_error_is_redacted(self, text: str, lab: Lab) -> None:
        def a(ctx: Context) -> None:
            ctx.secret(KEY)
            raise NonRetryable(f"before {text} after")

        run = lab.engine(secrets=Held()).execute(create_workflow("order").step("a", a))
        assert str(run.error).startswith("before ")
        assert str(run.error).endswith(" after")
        assert "[redacted]" in str(run.error)
        assert not any(part in str(run.error) for part in ("sk_live", "9x", "7q"))

    def test_is_redacted_before_it_is_cut_to_length(self, lab: Lab) -> None:
        def a(ctx: Context) -> None:
            raise NonRetryable("x" * 3990 + ctx.secret(KEY))

        run = lab.engine(secrets=Held()).execute(create_workflow("order").step("a", a))
        assert str(run.error) == "x" * 3990 + "[redacted]"

    def test_in_the_error_of_a_condition(self, lab: Lab) -> None:
        def when(ctx: Context) -> bool:
            raise NonRetryable(ctx.secret(KEY))

        for commit in (False, True):
            w = create_workflow(f"order-{commit}")
            w = w.commit("a", lab.note("a"), when=when) if commit else w.step("a", lab.note("a"), when=when)
            assert str(lab.engine(secrets=Held()).execute(w).error) == "[redacted]"

    def test_in_the_handler_after_its_condition_asked(self, lab: Lab) -> None:
        told: list[str] = []

        def a(ctx: Context) -> None:
            raise NonRetryable(told[0])

        def when(ctx: Context) -> bool:
            told.append(ctx.secret(KEY))
            return True

        run = lab.engine(secrets=Held()).execute(create_workflow("order").step("a", a, when=when))
        assert str(run.error) == "[redacted]"

    def test_in_what_a_probe_returns_or_raises(self, lab: Lab) -> None:
        def lost(ctx: Context) -> None:
            raise Unknown

        def raises(ctx: Context) -> None:
            raise RuntimeError(ctx.secret(KEY))

        for name, probe in {"returns": lambda ctx: ctx.secret(KEY), "raises": raises}.items():
            w = create_workflow(name).commit("a", lost, on_unknown=verify(probe))
            run = lab.engine(secrets=Held()).execute(w)
            assert "[redacted]" in str(run.error)
            assert "sk_live" not in str(run.error) + str(lab.log.lines)

    def test_in_the_error_of_a_hook(self, lab: Lab) -> None:
        def hook(step: str, ctx: Context) -> None:
            raise RuntimeError(ctx.secret(KEY))

        w = create_workflow("order").step("a", lab.note("a"))
        assert lab.engine(secrets=Held(), on={"step_start": hook}).execute(w).status == "completed"
        assert "sk_live" not in str(lab.log.lines)
        assert "[redacted]" in str(lab.log.lines)

    def test_in_its_log_lines(self, lab: Lab) -> None:
        def a(ctx: Context) -> None:
            log = ctx.log
            value = ctx.secret(KEY)
            log.info(f"got {value}", given=value, deep=[{value: (value, 1)}], error=OSError(value), raw=value.encode())

        lab.engine(secrets=Held()).execute(create_workflow("order").step("a", a))
        ((_, message, fields),) = [line for line in lab.log.lines if line[1].startswith("got")]
        assert message == "got [redacted]"
        assert (fields["given"], fields["deep"]) == ("[redacted]", [{"[redacted]": ("[redacted]", 1)}])
        assert fields["error"] == "[redacted]"
        assert "sk_live" not in str(fields["raw"])


class TestTheValueIsNowhere:
    """Not in the store's file, the trace, the log, the records or the errors; after whatever may happen to a run."""

    def test_after_runs_that_succeed_fail_retry_crash_and_resume(
        self, lab: Lab, tmp_path: Path, killed: type[BaseException]
    ) -> None:
        storage = SQLiteStorage(str(tmp_path / "flux.db"))
        sink = JsonFileTraceSink(str(tmp_path / "trace.jsonl"))

        def engine() -> FluxEngine:
            return lab.engine(storage=storage, trace=sink, secrets=Held(), redact=())

        deaths: list[str] = []

        def asks(ctx: Context) -> object:
            value = ctx.secret(ctx.input["key"])
            ctx.data.key = ctx.input["key"]
            ctx.log.info("asked", value=value)
            way = ctx.input["way"]
            if way == "crashes" and not deaths:
                deaths.append(ctx.id)
                raise killed(value)
            if way == "fails" or (way == "retries" and ctx.attempt == 1):
                raise OSError(f"401 for {value!r}")
            return {"key": ctx.input["key"], "exposed": value if way == "exposes" else None}

        w = (
            create_workflow("order")
            .commit("charge", asks, idempotent=True, retry=RetryPolicy(0.5), compensate=lab.note("undo"))
            .step("wait", lambda ctx: wait("go"))
            .step("ask", asks, retry=RetryPolicy(60, maximum=60))
        )
        ways = ("succeeds", "fails", "retries", "exposes", "crashes")
        for way in ways:
            first = engine()
            given = {"key": KEY, "way": way}
            if way == "crashes":
                with pytest.raises(killed):
                    first.execute(w, given, way)
                lab.past_the_lease()
                assert engine().wake(w, way).status == "suspended"
            else:
                first.execute(w, given, way)
        last = engine()
        for way in ways:
            if last.get(w, way).status == "suspended":
                last.signal(w, way, "go", {"key": KEY})
        for _ in range(5):
            lab.clock.advance(100)
            last.recover()
        assert {way: last.get(w, way).status for way in ways} == {
            "succeeds": "completed", "fails": "failed", "retries": "completed", "exposes": "stuck",
            "crashes": "completed",
        }  # fmt: skip
        shown = [last.get(w, way) for way in ways]
        assert "sk_live" not in str(
            [(run.data, run.error, [(s.output, s.error) for s in run.history]) for run in shown]
        )
        assert "sk_live" not in str(lab.log.lines)
        storage.close()
        sink.close()
        assert {path.name for path in tmp_path.iterdir()} == {"flux.db", "trace.jsonl"}
        for path in tmp_path.iterdir():
            content = path.read_bytes()
            assert b"stripe-key" in content, "the reference is not there either, so this shows nothing"
            assert not any(form in content for form in forms()), path.name
