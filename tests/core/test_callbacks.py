"""Callback links: who has one may send one signal, once, until it expires, and nothing else (PROTOCOL, Security)."""

from __future__ import annotations

import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256
from hmac import digest
from json import dumps, loads
from typing import TYPE_CHECKING, Any, Final

import pytest

from flux_core import (
    Callbacks,
    Conflict,
    DefinitionError,
    ExpiredToken,
    InvalidToken,
    NonRetryable,
    Refused,
    UnknownInstance,
    UnknownWorkflow,
    create_workflow,
    flow,
    wait,
)
from flux_core.callbacks import Ticket, parsed_keys
from flux_core.testing import RecordingStorage
from tests.core.conftest import Killed

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_core import Context, FluxEngine
    from tests.core.conftest import Lab

URL: Final = "https://api.example.com/v1"
KEY: Final = "k" * 32
OTHER: Final = "o" * 32
TICKET: Final = Ticket("default", "order", "o-1", "approval", "ask", 0, 0, 2_000)


class Links:
    """An order that sends a link and waits for what comes by it, and the links it sent."""

    def __init__(self, lab: Lab, **options: Any) -> None:
        self.lab = lab
        self.sent: list[str] = []
        self.workflow = create_workflow("order").step("ask", self.ask).step("last", lab.note("last"))
        self.engine = self.another(**options)

    def another(self, **options: Any) -> FluxEngine:
        """An engine in another process."""
        return self.lab.engine(**{"callbacks": Callbacks(URL, {"k1": KEY}), "workflows": [self.workflow], **options})

    def send(self, ctx: Context, signal: str = "approval", **options: Any) -> None:
        self.sent.append(ctx.callback_url(signal, **options).rpartition("/")[2])

    def ask(self, ctx: Context) -> object:
        self.send(ctx)
        return wait("approval", timeout=3600)

    def begin(self) -> str:
        """An order that waits; the token it sent."""
        self.engine.execute(self.workflow, id="o-1")
        return self.sent[-1]


@pytest.fixture
def links(lab: Lab) -> Links:
    return Links(lab)


def said(token: str) -> list[Any]:
    """What a token says, as anybody can read it."""
    text = token.partition(".")[0]
    fields: list[Any] = loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return fields


def forged(fields: object, key: str = KEY) -> str:
    """A token that says so, signed with `key`."""
    text = urlsafe_b64encode(dumps(fields).encode()).decode().rstrip("=")
    return f"{text}.{urlsafe_b64encode(digest(key.encode(), text.encode(), 'sha256')).decode().rstrip('=')}"


class TestALink:
    def test_is_the_url_of_the_routes_with_a_token_that_no_url_has_to_escape(self, lab: Lab) -> None:
        urls: list[str] = []
        order = create_workflow("order").step("ask", lambda ctx: urls.append(ctx.callback_url("approval")))
        lab.engine(callbacks=Callbacks(f"{URL}/", {"k1": KEY})).execute(order, id="o-1")
        assert urls[0].startswith(f"{URL}/callbacks/")
        assert set(urls[0].rpartition("/")[2]) <= set(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
        )

    def test_answers_the_wait(self, links: Links) -> None:
        result = links.engine.callback(links.begin(), {"ok": True})
        assert (result.status, result.output("ask")) == ("completed", {"ok": True})

    def test_works_in_any_process_that_has_the_key(self, links: Links) -> None:
        token = links.begin()
        assert links.another().callback(token).status == "completed"

    def test_may_come_before_the_wait(self, lab: Lab, links: Links) -> None:
        def mail(ctx: Context) -> None:
            links.send(ctx)
            links.engine.callback(links.sent[0], "yes")

        order = create_workflow("order").step("mail", mail).step("ask", lambda ctx: wait("approval"))
        assert links.engine.execute(order, id="o-1").output("ask") == "yes"

    def test_is_for_one_signal(self, links: Links) -> None:
        """What it carries goes to the signal that it was made for, whatever is awaited."""
        order = create_workflow("order").step("mail", lambda ctx: links.send(ctx, "other"))
        order.step("ask", lambda ctx: wait("approval"))
        engine = links.another(workflows=[order])
        engine.execute(order, id="o-1")
        assert engine.callback(links.sent[0]).status == "suspended"

    def test_says_whom_it_is_for_to_who_reads_it_and_no_key(self, links: Links) -> None:
        token = links.begin()
        assert said(token)[1:6] == ["k1", "default", "order", "o-1", "approval"]
        assert KEY not in str(said(token))

    def test_is_known_to_the_due_index_before_the_mail_is_put(self, lab: Lab, links: Links) -> None:
        """Nobody sends it again if this invocation dies half-way (rule 11)."""
        token = links.begin()
        calls = RecordingStorage(lab.storage)
        links.another(storage=calls).callback(token)
        names = [call.method for call in calls.calls]
        assert names.index("nudge") < names.index("put_mail")

    def test_can_be_taken_without_running_steps(self, lab: Lab, links: Links) -> None:
        assert links.engine.callback(links.begin(), advance=False).status == "suspended"
        assert lab.calls == []
        assert links.engine.recover()[0].status == "completed"

    @pytest.mark.parametrize("signal", ["", "a/b", "__c-1__", "x" * 129])
    def test_for_a_signal_that_cannot_be_is_refused_where_it_is_made(self, links: Links, signal: str) -> None:
        order = create_workflow("order", retry=None).step("ask", lambda ctx: ctx.callback_url(signal), retries=0)
        result = links.engine.execute(order, id="o-2")
        assert result.error is not None
        assert "signal name" in result.error.message

    def test_needs_an_engine_with_callbacks(self, lab: Lab, links: Links) -> None:
        result = lab.engine(default_retries=0).execute(links.workflow, id="o-1")
        assert result.error is not None
        assert "FluxEngine(callbacks=Callbacks(url, keys))" in result.error.message
        assert "FLUX_PUBLIC_URL and FLUX_CALLBACK_KEYS" in result.error.message

    def test_is_given_out_by_steps_alone(self, links: Links) -> None:
        told: list[str] = []

        def hook(ctx: Context, *more: object) -> None:
            try:
                ctx.callback_url("approval")
            except DefinitionError as error:
                told.append(str(error))

        engine = links.another(on={"workflow_complete": hook})
        engine.execute(create_workflow("other").step("a", lambda ctx: None))
        assert told == ["only a step can give out a callback link"]

    def test_that_gateways_would_cut_is_refused_where_it_is_made(self, links: Links) -> None:
        body = flow().step("x" * 128, links.send)
        for _ in range(25):
            body = flow().if_("y" * 128, lambda ctx: True, body)
        order = create_workflow("order").if_("z" * 128, lambda ctx: True, body)
        result = links.another(default_retries=0).execute(order, id="o-9")
        assert result.error is not None
        assert "make the names of its steps shorter, or nest it less" in result.error.message


class TestItIsUsed:
    def test_twice_and_counts_once(self, lab: Lab, links: Links) -> None:
        token = links.begin()
        links.engine.callback(token, "yes")
        assert links.engine.callback(token, "yes").status == "completed"
        assert lab.calls == ["last"]
        assert len(lab.storage.mail(lab.ref("o-1"))) == 1

    def test_with_another_payload_is_a_conflict(self, links: Links) -> None:
        token = links.begin()
        links.engine.callback(token, "yes")
        with pytest.raises(Conflict, match="another payload"):
            links.engine.callback(token, "no")

    def test_after_the_end_for_the_first_time_is_refused(self, links: Links) -> None:
        token = links.begin()
        links.engine.signal("order", "o-1", "approval", "by other means")
        with pytest.raises(Refused, match="completed"):
            links.engine.callback(token, "yes")

    def test_when_its_instance_was_deleted(self, lab: Lab, links: Links) -> None:
        token = links.begin()
        links.engine.cancel("order", "o-1")
        lab.clock.advance(1000)
        links.engine.delete("order", "o-1")
        with pytest.raises(UnknownInstance):
            links.engine.callback(token)

    def test_where_its_workflow_is_not_known(self, links: Links) -> None:
        token = links.begin()
        with pytest.raises(UnknownWorkflow):
            links.another(workflows=[]).callback(token)


class TestOneOccurrence:
    def test_automatic_attempts_send_links_that_count_as_one(self, lab: Lab, links: Links) -> None:
        def ask(ctx: Context) -> object:
            links.send(ctx)
            if ctx.attempt < 3:
                raise OSError
            return wait("approval")

        order = create_workflow("order").step("ask", ask)
        links.engine.execute(order, id="o-1")
        first, second, third = links.sent
        assert links.engine.callback(second, "yes").status == "completed"
        assert [links.engine.callback(token, "yes").status for token in (first, third)] == ["completed"] * 2
        with pytest.raises(Conflict):
            links.engine.callback(first, "no")

    def test_a_crash_and_the_run_after_it_send_links_that_count_as_one(self, lab: Lab, links: Links) -> None:
        def ask(ctx: Context) -> object:
            links.send(ctx)
            if len(links.sent) == 1:
                raise Killed
            return wait("approval")

        order = create_workflow("order").step("ask", ask)
        with pytest.raises(Killed):
            links.engine.execute(order, id="o-1")
        lab.past_the_lease()
        links.engine.wake(order, "o-1")
        assert [links.engine.callback(token, "yes").status for token in links.sent] == ["completed"] * 2
        assert len(lab.storage.mail(lab.ref("o-1"))) == 1

    def test_retrying_a_step_that_succeeded_spends_its_link(self, links: Links) -> None:
        old = links.begin()
        links.engine.callback(old, "yes")
        links.engine.retry_step("order", "o-1", "ask", force=True)
        with pytest.raises(ExpiredToken, match="an earlier run of step 'ask', which has been undone or retried since"):
            links.engine.callback(old, "yes")
        assert links.engine.callback(links.sent[-1], "no").output("ask") == "no"

    def test_retrying_a_step_that_waits_spends_its_link(self, links: Links) -> None:
        """Somebody asked for another mail, or the link is in the wrong hands."""
        old = links.begin()
        links.engine.retry_step("order", "o-1", "ask")
        with pytest.raises(ExpiredToken):
            links.engine.callback(old, "yes")
        assert links.engine.callback(links.sent[-1], "no").output("ask") == "no"

    def test_retrying_a_step_that_waited_in_vain_spends_its_link(self, lab: Lab, links: Links) -> None:
        old = links.begin()
        lab.clock.advance(3600)
        assert links.engine.wake("order", "o-1").status == "failed"
        links.engine.retry_step("order", "o-1", "ask")
        with pytest.raises(ExpiredToken):
            links.engine.callback(old)
        assert links.engine.callback(links.sent[-1]).status == "completed"

    def test_retrying_a_later_step_leaves_the_link_good(self, lab: Lab, links: Links) -> None:
        broken = [True]

        def pack(ctx: Context) -> None:
            if broken:
                raise NonRetryable

        order = create_workflow("order").step("mail", links.send).step("pack", pack)
        order.step("ask", lambda ctx: wait("approval"))
        links.engine.execute(order, id="o-1")
        broken.clear()
        links.engine.retry_step(order, "o-1", "pack")
        assert links.engine.callback(links.sent[0], "yes").output("ask") == "yes"

    def test_undoing_a_step_spends_its_link(self, links: Links) -> None:
        order = create_workflow("order").step("mail", links.send, compensate=lambda ctx: None)
        order.step("ask", lambda ctx: wait("approval"))
        links.engine.execute(order, id="o-1")
        links.engine.cancel(order, "o-1")
        with pytest.raises(ExpiredToken):
            links.engine.callback(links.sent[0])

    def test_each_iteration_sends_links_of_its_own(self, lab: Lab, links: Links) -> None:
        body = flow().step("ask", links.ask)
        order = create_workflow("order").loop("rounds", 2, body)
        links.engine.execute(order, id="o-1")
        assert links.engine.callback(links.sent[0], "a").status == "suspended"
        assert links.engine.callback(links.sent[0], "a").status == "suspended"
        assert links.engine.callback(links.sent[1], "b").status == "completed"

    def test_links_of_two_branches_do_not_stand_for_each_other(self, lab: Lab, links: Links) -> None:
        def asks(signal: str) -> Callable[[Context], object]:
            def handler(ctx: Context) -> object:
                links.send(ctx, signal)
                return wait(signal)

            return handler

        order = create_workflow("order").parallel(
            "both", flow("a").step("ask", asks("ann")), flow("b").step("ask", asks("ben"))
        )
        links.engine.execute(order, id="o-1")
        tokens = {said(token)[5]: token for token in links.sent}
        assert links.engine.callback(tokens["ann"], 1).status == "suspended"
        assert links.engine.callback(tokens["ben"], 2).status == "completed"


class TestItExpires:
    def test_after_the_time_of_the_engine(self, lab: Lab, links: Links) -> None:
        token = Links(lab, callbacks=Callbacks(URL, {"k1": KEY}, expires=timedelta(minutes=5))).begin()
        lab.clock.advance(299.999)
        assert links.engine.get("order", "o-1").status == "suspended"
        lab.clock.advance(0.001)
        with pytest.raises(ExpiredToken, match="has expired; ask whoever sent it for a new one"):
            links.engine.callback(token)

    def test_a_week_later_if_nothing_says_otherwise(self, lab: Lab, links: Links) -> None:
        assert said(links.begin())[-1] == lab.clock.now() + 7 * 86_400_000

    def test_when_the_step_says(self, lab: Lab, links: Links) -> None:
        order = create_workflow("order").step("mail", lambda ctx: links.send(ctx, expires=10))
        links.engine.execute(order, id="o-2")
        assert said(links.sent[-1])[-1] == lab.clock.now() + 10_000

    def test_used_before_and_again_after_it_is_expired_all_the_same(self, lab: Lab, links: Links) -> None:
        token = links.begin()
        links.engine.callback(token)
        lab.clock.advance(7 * 86400)
        with pytest.raises(ExpiredToken):
            links.engine.callback(token)

    @pytest.mark.parametrize("expires", [-1, "a day", None, True, float("nan"), 10**9])
    def test_no_time_that_is_none(self, expires: Any) -> None:
        with pytest.raises(DefinitionError, match=r"Callbacks\(expires=...\) must be a duration"):
            Callbacks(URL, {"k1": KEY}, expires=expires)


class TestKeys:
    def test_the_first_signs_and_all_are_accepted(self, lab: Lab, links: Links) -> None:
        old = links.begin()
        rotated = links.another(callbacks=Callbacks(URL, {"k2": OTHER, "k1": KEY}))
        rotated.execute(links.workflow, id="o-2")
        assert [said(token)[1] for token in links.sent] == ["k1", "k2"]
        assert [rotated.callback(token).status for token in (old, links.sent[-1])] == ["completed"] * 2

    def test_one_that_was_taken_away_signs_for_nothing_any_more(self, links: Links) -> None:
        token = links.begin()
        with pytest.raises(InvalidToken):
            links.another(callbacks=Callbacks(URL, {"k2": OTHER})).callback(token)

    def test_another_key_under_the_same_id(self, links: Links) -> None:
        token = links.begin()
        with pytest.raises(InvalidToken):
            links.another(callbacks=Callbacks(URL, {"k1": OTHER})).callback(token)

    def test_are_asked_for_at_each_use(self, links: Links) -> None:
        """So that a secret store can change them under a process that goes on."""
        keys = {"k1": KEY}
        callbacks = Callbacks(URL, lambda: keys)
        token = callbacks.token(TICKET)
        keys = {"k2": OTHER, "k1": KEY}
        assert callbacks.read(token, 0) == TICKET
        assert said(callbacks.token(TICKET))[1] == "k2"

    def test_that_are_none_or_too_short_are_refused_without_being_shown(self) -> None:
        for keys, why in (({}, "there is no key"), ({"k1": KEY, "k2": OTHER[1:]}, "callback key number 2 has 31")):
            with pytest.raises(DefinitionError, match=why) as raised:
                Callbacks(URL, keys).token(TICKET)
            assert OTHER[1:] not in str(raised.value)
            with pytest.raises(DefinitionError, match=why):
                Callbacks(URL, keys).read(forged([1, "k1", *TICKET]), 0)

    def test_whose_id_and_secret_were_mixed_up_are_refused_without_being_shown(self) -> None:
        secret = "s" * 40
        with pytest.raises(DefinitionError, match="callback key number 1 has 2 characters") as raised:
            Callbacks(URL, {secret: "k1"}).token(TICKET)
        assert secret not in str(raised.value)

    def test_are_in_no_repr(self, lab: Lab, links: Links) -> None:
        callbacks = Callbacks(URL, {"k1": KEY})
        for shown in (callbacks, links.engine, TICKET):
            assert KEY not in repr(shown)

    def test_no_message_shows_one(self, links: Links) -> None:
        token = links.begin()
        for text in (token, token[:-1], forged([1]), ""):
            with pytest.raises((InvalidToken, ExpiredToken)) as raised:
                Callbacks(URL, {"k1": KEY}).read(text, 2**60)
            assert KEY not in str(raised.value)

    @pytest.mark.parametrize("url", ["", "api.example.com", "ftp://x", "//x"])
    def test_a_url_that_is_none(self, url: str) -> None:
        with pytest.raises(DefinitionError, match="where the routes are served"):
            Callbacks(url, {"k1": KEY})


class TestKeysAsText:
    def test_the_first_one_signs(self) -> None:
        assert list(parsed_keys(f"k2:{OTHER}, k1:{KEY}\n").items()) == [("k2", OTHER), ("k1", KEY)]

    def test_a_secret_may_hold_a_colon(self) -> None:
        assert parsed_keys("k1:a:b") == {"k1": "a:b"}

    @pytest.mark.parametrize("text", ["", "secret", ":secret", "k1:secret,", "k1:secret,k1:secret2", "k1"])
    def test_any_other_form_is_refused_without_being_shown(self, text: str) -> None:
        with pytest.raises(DefinitionError, match=r"id:secret\[,id:secret\]") as raised:
            parsed_keys(text)
        assert not text or "secret2" not in str(raised.value)


class TestATokenOfSomebodyElse:
    def test_of_another_tenant_is_not_valid_here(self, lab: Lab, links: Links) -> None:
        token = links.begin()
        with pytest.raises(InvalidToken, match="another tenant than 'acme'"):
            links.another(tenant="acme").callback(token)

    def test_is_not_read_without_keys(self, lab: Lab, links: Links) -> None:
        token = links.begin()
        with pytest.raises(InvalidToken, match=r"FluxEngine\(callbacks=...\)"):
            lab.engine(workflows=[links.workflow]).callback(token)

    def test_of_another_form_is_not_valid(self) -> None:
        callbacks = Callbacks(URL, {"k1": KEY})
        good = [1, "k1", *TICKET]
        assert callbacks.read(forged(good), 0) == TICKET
        for at, value in ((0, 2), (0, True), (1, 1), (2, None), (7, "0"), (8, 0.0), (9, "soon"), (9, True)):
            wrong = [*good[:at], value, *good[at + 1 :]]
            with pytest.raises(InvalidToken):
                callbacks.read(forged(wrong), 0)
        for other in (good[:-1], [*good, 1], {"k1": 1}, "k1", None, []):
            with pytest.raises(InvalidToken):
                callbacks.read(forged(other), 0)


class TestATamperedToken:
    def test_is_not_valid_whatever_byte_was_changed(self) -> None:
        callbacks = Callbacks(URL, {"k1": KEY})
        token = callbacks.token(TICKET)
        for at, was in enumerate(token):
            for other in {"A", "z", "-", "_", ".", "+", "/", "=", " ", "\0", "é", "\ud800"} - {was}:
                with pytest.raises(InvalidToken):
                    callbacks.read(token[:at] + other + token[at + 1 :], 0)

    def test_is_not_valid_whatever_bit_of_it_was_turned(self) -> None:
        callbacks = Callbacks(URL, {"k1": KEY})
        token = callbacks.token(TICKET)
        for at, was in enumerate(token):
            for bit in range(8):
                with pytest.raises(InvalidToken):
                    callbacks.read(token[:at] + chr(ord(was) ^ 1 << bit) + token[at + 1 :], 0)

    def test_is_not_valid_cut_or_longer(self) -> None:
        callbacks = Callbacks(URL, {"k1": KEY})
        token = callbacks.token(TICKET)
        for length in range(len(token)):
            with pytest.raises(InvalidToken):
                callbacks.read(token[:length], 0)
        for more in ("A", "=", ".", ".A", " ", "\n", token):
            for longer in (token + more, more + token):
                with pytest.raises(InvalidToken):
                    callbacks.read(longer, 0)

    def test_is_not_valid_signed_by_nothing_or_by_what_it_says(self) -> None:
        callbacks = Callbacks(URL, {"k1": KEY})
        text, _, signature = callbacks.token(TICKET).partition(".")
        bare = urlsafe_b64encode(sha256(text.encode()).digest()).decode().rstrip("=")
        without_key = forged([1, "k1", *TICKET], "")
        turned = f"{signature}.{text}"
        for token in (f"{text}.", text, f"{text}.{bare}", f".{signature}", turned, without_key):
            with pytest.raises(InvalidToken):
                callbacks.read(token, 0)

    def test_that_anybody_can_think_of_is_not_valid_and_breaks_nothing(self, links: Links) -> None:
        deep = urlsafe_b64encode(b"[" * 3000).decode()
        huge = urlsafe_b64encode(b"[" + b"9" * 2900 + b"]").decode()
        hostile = [
            *(
                "",
                ".",
                "..",
                "....",
                "/",
                "../../etc/passwd",
                "%2e%2e",
                "\0",
                "é.é",
                "\ud800.\ud800",
                "null",
                "e30.e30",
            ),
            *("A" * 4096, "A" * 4097, "." * 100_000, f"{deep}.x", f"{huge}.x", "W10.W10", "' OR 1=1 --"),
        ]
        draw = random.Random(20)
        hostile += ["".join(draw.choices("AZaz09-_.=%\n\0é", k=draw.randrange(200))) for _ in range(2000)]
        for token in hostile:
            with pytest.raises(InvalidToken, match="use the link exactly as it was sent"):
                links.engine.callback(token)
