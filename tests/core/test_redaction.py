"""Redaction: what observers and people are shown hides what is under certain keys; what programs get does not."""

from __future__ import annotations

import enum
import json
import logging
from collections import OrderedDict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec
import pydantic
import pytest

from flux_core import (
    DEFAULT_REDACTED,
    Context,
    DefinitionError,
    FluxConsoleLogger,
    FluxEngine,
    JsonFileTraceSink,
    Secret,
    create_workflow,
    wait,
)
from flux_core.redaction import REDACTED, Redaction

if TYPE_CHECKING:
    from pathlib import Path

    from tests.core.conftest import Lab

LOGIN = {"user": "ada", "password": "hunter2"}
SHOWN = {"user": "ada", "password": REDACTED}


@dataclass
class Login:
    user: str
    password: str


class Pair(NamedTuple):
    user: str
    password: str


class Struct(msgspec.Struct):
    user: str
    password: str


class Model(pydantic.BaseModel, extra="allow"):
    user: str
    password: str


class Colour(enum.Enum):
    RED = "red"


class TestTheKeys:
    @pytest.mark.parametrize(
        "key", ["password", "PASSWORD", "pass-word", "Pass_Word", "apiKey", "API-KEY", "Set-Cookie"]
    )
    def test_match_in_any_case_and_whatever_joins_their_words(self, key: str) -> None:
        assert Redaction().value({key: "hunter2"}) == {key: REDACTED}

    @pytest.mark.parametrize(
        "key", ["passwords", "old_password", "next_token", "pass word", "", 5, ("password",), None]
    )
    def test_match_as_a_whole(self, key: object) -> None:
        value = {key: "hunter2"}
        assert Redaction().value(value) is value

    def test_that_are_given_replace_the_default(self) -> None:
        assert Redaction(["iban"]).value({"IBAN": "DE02", **LOGIN}) == {"IBAN": REDACTED, **LOGIN}

    def test_of_the_default_can_be_extended(self) -> None:
        assert Redaction([*DEFAULT_REDACTED, "iban"]).value({"IBAN": "DE02", **LOGIN}) == {"IBAN": REDACTED, **SHOWN}

    def test_may_be_none_at_all(self) -> None:
        redaction = Redaction(())
        assert redaction.value(LOGIN) is LOGIN
        assert redaction.fields({"deep": LOGIN}) == {"deep": LOGIN}

    @pytest.mark.parametrize("names", ["password", b"password", [""], ["-"], [5], [None]])
    def test_are_a_list_of_names(self, names: Any) -> None:
        with pytest.raises(DefinitionError, match="redact must be a list of key names"):
            FluxEngine(redact=names)

    def test_may_be_as_many_as_there_are_ids(self) -> None:
        redaction = Redaction()
        for n in range(10_000):
            assert redaction.value({f"id-{n}": 1, "token": n}) == {f"id-{n}": 1, "token": REDACTED}


class TestValues:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (LOGIN, SHOWN),
            ([1, [LOGIN]], [1, [SHOWN]]),
            ((1, LOGIN), (1, SHOWN)),
            ({"a": {"b": [LOGIN]}}, {"a": {"b": [SHOWN]}}),
            (Login(**LOGIN), SHOWN),
            (Pair(**LOGIN), SHOWN),
            (Struct(**LOGIN), SHOWN),
            (Model(**LOGIN), SHOWN),
            (Model.model_validate({**LOGIN, "token": "abc"}), {**SHOWN, "token": REDACTED}),
            ({Pair(**LOGIN)}, [SHOWN]),
            (frozenset({Pair(**LOGIN)}), [SHOWN]),
            ({"logins": [Login(**LOGIN)]}, {"logins": [SHOWN]}),
            (OrderedDict(LOGIN), SHOWN),
            (MappingProxyType(LOGIN), SHOWN),
            ({"token": {"kind": "bearer", "text": "abc"}}, {"token": REDACTED}),
            ({"token": 5, "cvv": b"123"}, {"token": REDACTED, "cvv": REDACTED}),
        ],
    )
    def test_of_every_kind_are_shown_without_what_is_hidden(self, value: object, shown: object) -> None:
        before = repr(value)
        assert Redaction().value(value) == shown
        assert repr(value) == before

    @pytest.mark.parametrize(
        "value",
        [
            None, True, 1, 1.5, "password", b"password", Colour.RED, [1, [2]], (1, (2,)), {1, 2}, frozenset({1}),
            {"a": [{"b": 1}]}, {"token": None}, Secret("a"), {"password": Secret("a")}, OSError("password"), object(),
        ],
    )  # fmt: skip
    def test_that_hide_nothing_come_back_as_they_are(self, value: object) -> None:
        assert Redaction().value(value) is value

    def test_a_field_without_a_value_is_left_out(self) -> None:
        login = Login(**LOGIN)
        del login.user
        assert Redaction().value(login) == {"password": REDACTED}

    def test_what_holds_itself_ends(self) -> None:
        loop: dict[str, object] = dict(LOGIN)
        loop["again"] = [loop]
        assert Redaction().value(loop) == {**SHOWN, "again": ["..."]}
        login: Any = Login(**LOGIN)
        login.user = login
        assert Redaction().value(login) == {"user": "...", "password": REDACTED}

    def test_what_is_shared_is_looked_at_once(self) -> None:
        value: list[object] = [LOGIN]
        for _ in range(60):
            value = [value, value]
        shown: Any = Redaction().value(value)
        for _ in range(60):
            shown = shown[1]
        assert shown == [SHOWN]

    def test_what_cannot_be_looked_into_is_hidden(self) -> None:
        class Broken(dict[str, object]):
            def items(self) -> NoReturn:
                raise OSError

        deep: list[object] = []
        for _ in range(100_000):
            deep = [deep]
        redaction = Redaction()
        assert redaction.value(Broken()) == REDACTED
        assert redaction.value(deep) == REDACTED
        assert redaction.fields({"a": 1, "b": Broken(), "c": LOGIN, "token": 5}) == {
            "a": 1, "b": REDACTED, "c": SHOWN, "token": REDACTED,
        }  # fmt: skip


def order(lab: Lab) -> Any:
    def login(ctx: Context) -> object:
        ctx.data.session = {"access-token": "abc123", "user": ctx.input["user"]}
        ctx.log.info("logged in", login=ctx.input, Authorization="Basic hunter2")
        return ctx.input["password"]

    return create_workflow("order").step("login", login).step("wait", lambda ctx: wait("go"))


class TestWhereItHolds:
    def test_trace_events(self, lab: Lab) -> None:
        w = order(lab)
        engine = lab.engine(trace=lab.events)
        engine.execute(w, LOGIN, "o-1")
        engine.signal(w, "o-1", "go", {"by": "ada", "token": "abc123"})
        assert lab.events.of("workflow:start")[0]["input"] == SHOWN
        assert lab.events.of("signal:received")[0]["input"] == {"by": "ada", "token": REDACTED}
        assert lab.events.of("workflow:complete")[0]["data"] == {"session": {"access-token": REDACTED, "user": "ada"}}
        assert lab.events.of("step:start")[0]["status"] == "running"

    def test_trace_files(self, lab: Lab, tmp_path: Path) -> None:
        w = create_workflow("order").input(Login).step("a", lambda ctx: None)
        sink = JsonFileTraceSink(str(tmp_path / "trace.jsonl"))
        lab.engine(trace=sink).execute(w, LOGIN)
        sink.close()
        lines = (tmp_path / "trace.jsonl").read_text().splitlines()
        assert json.loads(lines[0])["input"] == SHOWN
        assert "hunter2" not in "".join(lines)

    def test_a_secret_is_shown_as_its_reference(self, lab: Lab, tmp_path: Path) -> None:
        w = create_workflow("order").step("a", lambda ctx: None)
        sink = JsonFileTraceSink(str(tmp_path / "trace.jsonl"))
        lab.engine(trace=[sink, lab.events]).execute(w, {"password": Secret("db")})
        sink.close()
        assert lab.events.of("workflow:start")[0]["input"] == {"password": Secret("db")}
        (line, *_) = (tmp_path / "trace.jsonl").read_text().splitlines()
        assert json.loads(line)["input"] == {"password": "Secret('db')"}

    def test_log_fields_of_handlers(self, lab: Lab) -> None:
        lab.engine().execute(order(lab), LOGIN)
        ((_, _, fields),) = [line for line in lab.log.lines if line[1] == "logged in"]
        assert (fields["login"], fields["Authorization"]) == (SHOWN, REDACTED)

    def test_log_lines_of_the_engine(self, lab: Lab) -> None:
        engine = lab.engine(redact=["session"])
        engine.logger.warn("a line of the engine", id="o-1", session="abc")
        assert lab.log.lines == [("warn", "a line of the engine", {"id": "o-1", "session": REDACTED})]

    def test_loggers_of_the_standard_library(self, lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "shop"):
            lab.engine(logger=logging.getLogger("shop")).execute(order(lab), LOGIN)
        assert "logged in" in caplog.text
        assert "hunter2" not in caplog.text

    def test_the_console(self, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
        lab.engine(logger=FluxConsoleLogger("debug")).execute(order(lab), LOGIN)
        shown = capsys.readouterr().err
        assert f"Authorization={REDACTED}" in shown
        assert "hunter2" not in shown

    def test_what_a_program_asks_to_have_redacted(self, lab: Lab) -> None:
        engine = lab.engine(redact=[*DEFAULT_REDACTED, "user"])
        run = engine.execute(order(lab), LOGIN)
        assert engine.redacted(run.data) == {"session": {"access-token": REDACTED, "user": REDACTED}}
        assert engine.redaction.value(LOGIN) == {"user": REDACTED, "password": REDACTED}

    def test_with_keys_that_name_whole_fields_of_events(self, lab: Lab) -> None:
        lab.engine(trace=lab.events, redact=["input", "data"]).execute(create_workflow("order").step("a", str), LOGIN)
        assert lab.events.of("workflow:start")[0]["input"] == REDACTED
        assert lab.events.of("workflow:complete")[0]["data"] == REDACTED


class TestWhereItDoesNot:
    def test_the_store_handlers_hooks_and_results_have_everything(self, lab: Lab) -> None:
        told: list[object] = []

        def complete(name: str, ctx: Context, output: object) -> None:
            told.append((ctx.input, output))

        engine = lab.engine(trace=lab.events, on={"step_complete": complete})
        run = engine.execute(order(lab), LOGIN, "o-1")
        assert told == [(LOGIN, "hunter2")]
        assert run.history[0].output == "hunter2"
        assert engine.get("order", "o-1").data == {"session": {"access-token": "abc123", "user": "ada"}}
        assert lab.records("o-1")[0].body["in"] == LOGIN

    def test_texts_are_shown_as_they_are(self, lab: Lab) -> None:
        value = {"note": "password=hunter2"}
        assert lab.engine().redacted(value) is value

    def test_nothing_is_looked_at_if_nobody_listens(self, lab: Lab) -> None:
        class Loud(dict[str, object]):
            looked = 0

            def items(self) -> Any:
                Loud.looked += 1
                return super().items()

        def a(ctx: Context) -> None:
            ctx.log.info("look", fields=Loud(LOGIN))

        FluxEngine(clock=lab.clock, default_timeout=None).execute(create_workflow("order").step("a", a))
        assert Loud.looked == 0
        lab.engine().execute(create_workflow("order").step("a", a))
        assert Loud.looked == 1
        quiet = logging.getLogger("quiet")
        quiet.setLevel(logging.ERROR)
        lab.engine(logger=quiet).execute(create_workflow("order").step("a", a))
        assert Loud.looked == 1
