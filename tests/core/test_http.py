"""The routes: what each request does, how it is answered, and that nothing that arrives breaks anything."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin

import pytest

from flux_core import Callbacks, NonRetryable, create_workflow, sleep, wait
from flux_core.host import Host
from flux_core.hosting import HostSettings
from flux_core.http import Request, Response, to_invocation
from tests.core.conftest import Lab

if TYPE_CHECKING:
    from flux_core import Context

RUN: Final = "/workflows/order/executions"
KEY: Final = "k" * 32


class Site:
    """A host over one store, with an order that waits, fails or completes as its input says."""

    def __init__(self, **settings: Any) -> None:
        self.lab = Lab()
        self.links: list[str] = []

        def ask(ctx: Context) -> object:
            self.links.append(ctx.callback_url("go").removeprefix("https://x.example"))
            return wait("go", timeout=600)

        def pack(ctx: Context) -> str:
            if ctx.input == "fail":
                message = "no box"
                raise NonRetryable(message)
            return "packed"

        order = create_workflow("order").step("first", lambda ctx: ctx.data.update(by="ann"))
        order.step("ask", ask, when=lambda ctx: ctx.input == "wait").step("pack", pack)
        nap = create_workflow("nap").step("nap", lambda ctx: sleep(3600))
        self.engine = self.lab.engine(
            workflows=[order, nap], callbacks=Callbacks("https://x.example", {"k1": KEY}), default_retries=0
        )
        self.host = Host(self.engine, HostSettings(sweeper=True, **settings))

    def send(self, method: str, path: str, body: object = b"", **headers: str) -> Response:
        path, _, query = path.partition("?")
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        pairs = dict(pair.split("=", 1) for pair in query.split("&") if pair)
        return self.host.http(Request(method, path, pairs, named, raw))

    def post(self, path: str, body: object = b"", **headers: str) -> Any:
        """The status and the body of the answer."""
        return told(self.send("POST", path, body, **headers))

    def get(self, path: str) -> Any:
        return told(self.send("GET", path))


def told(response: Response) -> tuple[int, Any]:
    return response.status, json.loads(response.body)


@pytest.fixture
def site() -> Site:
    return Site()


class TestStarting:
    def test_with_the_body_as_input(self, site: Site) -> None:
        status, body = site.post(RUN, {"total": 5})
        assert (status, body["status"], body["created"]) == (200, "completed", True)
        assert site.engine.get("order", body["id"]).state.input == {"total": 5}

    def test_without_a_body(self, site: Site) -> None:
        status, body = site.post(RUN)
        assert (status, site.engine.get("order", body["id"]).state.input) == (200, None)

    def test_is_202_while_it_has_not_ended(self, site: Site) -> None:
        status, body = site.post(RUN, "wait")
        assert (status, body["status"], body["waiting_for"]) == (202, "suspended", ["go"])

    def test_is_200_when_it_has_failed(self, site: Site) -> None:
        status, body = site.post(RUN, "fail")
        assert (status, body["status"], body["error"]["message"]) == (200, "failed", "no box")

    def test_says_where_to_look(self, site: Site) -> None:
        response = site.send("POST", RUN, "wait", idempotency_key="o-1")
        assert response.headers == {
            "content-type": "application/json",
            "cache-control": "no-store",
            "location": "../../workflows/order/executions/o-1",
        }

    @pytest.mark.parametrize("root", ["https://x.example", "https://x.example/prod", "https://x.example/flux/v1"])
    def test_says_where_to_look_whatever_a_gateway_has_before_the_routes(self, site: Site, root: str) -> None:
        started = json.dumps({"action": "execute", "workflow": "order", "input": "fine", "id": "o-1"}).encode()
        for path, body in ((RUN, b'"fine"'), (f"{RUN}/", b'"fine"'), ("/invoke", started)):
            response = site.send("POST", path, body, idempotency_key="o-1")
            assert urljoin(root + path, response.headers["location"]) == f"{root}{RUN}/o-1"

    def test_has_the_idempotency_key_for_an_id(self, site: Site) -> None:
        answers = [site.post(RUN, "wait", idempotency_key="o-1") for _ in range(2)]
        assert [(status, body["id"], body["created"]) for status, body in answers] == [
            (202, "o-1", True),
            (202, "o-1", False),
        ]
        assert site.post(RUN, "other", idempotency_key="o-1")[0] == 409

    def test_takes_the_key_in_quotes_as_well(self, site: Site) -> None:
        """The header's standard makes it a string of structured fields."""
        assert site.post(RUN, idempotency_key='"o-1"')[1]["id"] == "o-1"

    @pytest.mark.parametrize("key", ["", '""'])
    def test_refuses_an_empty_key(self, site: Site, key: str) -> None:
        for path in (RUN, f"{RUN}/o-1/signals/go"):
            status, body = site.post(path, idempotency_key=key)
            assert (status, "Idempotency-Key is empty" in body["detail"]) == (400, True)

    def test_async_returns_before_anything_ran(self, site: Site) -> None:
        status, body = site.post(f"{RUN}?mode=async", idempotency_key="o-1")
        assert (status, body["status"]) == (202, "pending")
        assert site.engine.recover()[0].status == "completed"

    def test_shows_data_and_history_on_demand(self, site: Site) -> None:
        _, body = site.post(f"{RUN}?include=data,history")
        assert body["data"] == {"by": "ann"}
        assert [step["name"] for step in body["history"]] == ["first", "ask", "pack"]


class TestLooking:
    def test_at_one(self, site: Site) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        assert site.get(f"{RUN}/o-1") == (
            200,
            {"id": "o-1", "workflow": "order", "status": "suspended", "waiting_for": ["go"]},
        )

    def test_at_its_data_and_history(self, site: Site) -> None:
        site.post(RUN, idempotency_key="o-1")
        assert set(site.get(f"{RUN}/o-1?include=data")[1]) == {"id", "workflow", "status", "data"}
        assert set(site.get(f"{RUN}/o-1?include=data,history")[1]) == {"id", "workflow", "status", "data", "history"}
        assert site.get(f"{RUN}/o-1?include=")[0] == 200
        assert site.get(f"{RUN}/o-1?include=secrets")[0] == 400

    def test_at_all_a_page_at_a_time(self, site: Site) -> None:
        for number in range(5):
            site.post(RUN, idempotency_key=f"o-{number}")
            site.lab.clock.advance(1)
        found, path = [], f"{RUN}?limit=2"
        while path:
            _, page = site.get(path)
            found += [item["id"] for item in page["items"]]
            path = f"{RUN}?limit=2&cursor={page['cursor']}" if page["cursor"] else ""
        assert found == ["o-4", "o-3", "o-2", "o-1", "o-0"]

    def test_at_those_of_some_statuses(self, site: Site) -> None:
        for input_ in ("wait", "fail", "go"):
            site.post(RUN, input_)
        assert len(site.get(f"{RUN}?status=failed,suspended")[1]["items"]) == 2
        assert site.get(f"{RUN}?status=lost")[0] == 400

    @pytest.mark.parametrize("limit", ["0", "1001", "-1", "+5", "1e3", "", " 5", "٣", "9" * 400, "five"])
    def test_refuses_a_limit_that_is_none(self, site: Site, limit: str) -> None:
        status, body = site.get(f"{RUN}?limit={limit}")
        assert (status, "a whole number from 1 to 1000" in body["detail"]) == (400, True)


class TestVerbs:
    def test_a_signal_has_the_body_for_its_payload(self, site: Site) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        assert site.post(f"{RUN}/o-1/signals/go", {"ok": True})[0] == 200
        assert site.engine.get("order", "o-1").output("ask") == {"ok": True}

    def test_a_signal_has_the_idempotency_key_for_its_deduplication_id(self, site: Site) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        path = f"{RUN}/o-1/signals/other"
        assert [site.post(path, 1, idempotency_key="m" * 5000)[0] for _ in range(2)] == [202, 202]
        assert site.post(path, 2, idempotency_key="m" * 5000)[0] == 409
        assert len(site.lab.storage.mail(site.lab.ref("o-1"))) == 1

    def test_a_signal_without_a_key_is_a_message_of_its_own(self, site: Site) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        for _ in range(2):
            site.post(f"{RUN}/o-1/signals/other", 1)
        assert len(site.lab.storage.mail(site.lab.ref("o-1"))) == 2

    def test_an_async_signal_is_kept_and_left_to_others(self, site: Site) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        assert site.post(f"{RUN}/o-1/signals/go?mode=async")[1]["status"] == "suspended"
        assert site.engine.recover()[0].status == "completed"

    @pytest.mark.parametrize(
        ("verb", "body", "status"),
        [
            ("steps/ask/complete", {"output": 1, "who": "ann"}, "completed"),
            ("steps/ask/skip", {"who": "ann", "why": "no need"}, "completed"),
            ("steps/ask/retry", {"data": {"n": 1}}, "suspended"),
            ("cancel", {"reason": "late"}, "cancelled"),
            ("pause", {"who": "ann"}, "paused"),
            ("unpause", {}, "suspended"),
            ("resume", {}, "suspended"),
            ("cancel", None, "cancelled"),
        ],
    )
    def test_of_repair_have_their_arguments_in_the_body(self, site: Site, verb: str, body: object, status: str) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        code, told_ = site.post(f"{RUN}/o-1/{verb}", b"" if body is None else body)
        assert (code, told_["status"]) == (200 if status in {"completed", "cancelled"} else 202, status)
        for entry in site.engine.audit("order", "o-1"):
            assert entry.who == (body or {}).get("who")  # type: ignore[attr-defined]  # a dictionary or None

    def test_say_that_their_body_is_an_object(self, site: Site) -> None:
        status, body = site.post(f"{RUN}/o-1/cancel", ["late"])
        assert (status, "has to be an object" in body["detail"]) == (400, True)

    @pytest.mark.parametrize("name", ["id", "workflow", "action", "step"])
    def test_refuse_a_body_that_contradicts_the_path(self, site: Site, name: str) -> None:
        status, body = site.post(f"{RUN}/o-1/steps/ask/skip", {name: "other"})
        assert (status, body["detail"]) == (400, f"'{name}' is said by the path; leave it out of the body")

    def test_take_an_invocation(self, site: Site) -> None:
        status, body = site.post("/invoke", {"action": "execute", "workflow": "order", "id": "o-1"})
        assert (status, body["id"], body["status"]) == (200, "o-1", "completed")


class TestACallback:
    def test_answers_the_wait_with_the_body(self, site: Site) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        assert site.post(site.links[0], {"ok": 1}) == (200, {"id": "o-1", "status": "completed"})
        assert site.engine.get("order", "o-1").output("ask") == {"ok": 1}

    def test_shows_nothing_of_the_instance_whatever_is_asked_for(self, site: Site) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        _, body = site.post(f"{site.links[0]}?include=data,history&mode=sync")
        assert set(body) == {"id", "status"}

    def test_is_not_for_looking(self, site: Site) -> None:
        """What opens links in mails must not answer them."""
        site.post(RUN, "wait", idempotency_key="o-1")
        for method in ("GET", "HEAD"):
            assert site.send(method, site.links[0]).status == 405
        assert site.engine.get("order", "o-1").status == "suspended"

    def test_that_nobody_signed_is_403(self, site: Site) -> None:
        assert site.post("/callbacks/a.b")[0] == 403

    def test_that_is_spent_or_expired_is_410(self, site: Site) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        site.post(f"{RUN}/o-1/steps/ask/retry")
        assert [site.post(link)[0] for link in site.links] == [410, 200]

    def test_is_the_only_route_of_a_public_host(self, site: Site) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        site.host = Host(site.engine, site.host.settings, only_callbacks=True)
        for method, path in (
            *(("POST", RUN), ("GET", RUN), ("POST", "/invoke"), ("POST", f"{RUN}/o-1/cancel"), ("POST", "/")),
            ("POST", "/%63allbacks/../invoke"),
        ):
            assert site.send(method, path).status == 404
        assert site.post(site.links[0])[0] == 200


class TestAWrongRequest:
    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", RUN, "POST, GET"),
            ("DELETE", f"{RUN}/o-1", "GET"),
            ("POST", f"{RUN}/o-1", "GET"),
            ("HEAD", f"{RUN}/o-1", "GET"),
            ("GET", f"{RUN}/o-1/cancel", "POST"),
            ("GET", f"{RUN}/o-1/signals/go", "POST"),
            ("GET", f"{RUN}/o-1/steps/ask/retry", "POST"),
            ("GET", "/callbacks/a.b", "POST"),
            ("GET", "/invoke", "POST"),
            ("OPTIONS", RUN, "POST, GET"),
            ("post", RUN, "POST, GET"),
            ("X" * 9999, RUN, "POST, GET"),
        ],
    )
    def test_of_a_method_that_a_route_does_not_take(self, site: Site, method: str, path: str, allowed: str) -> None:
        response = site.send(method, path)
        assert (response.status, response.headers["allow"]) == (405, allowed)
        assert json.loads(response.body)["status"] == 405

    @pytest.mark.parametrize(
        "path",
        [
            *("", "/", "//", "/workflows", "/workflows/order", "/workflows/order/execution", "/executions"),
            *("/callbacks", f"{RUN}//cancel/x"),
            *(f"{RUN}/o-1/fly", f"{RUN}/o-1/steps/ask", f"{RUN}/o-1/steps/ask/undo", f"{RUN}/o-1/signals", "/invoke/x"),
            *(f"{RUN}/o-1/cancel/now", f"{RUN}/o-1/delete", "/callbacks/a/b", "/WORKFLOWS/order/executions"),
            *("/workflows/order/%65xecutions", f"{RUN}/o-1/%63ancel", "x" * 9999, "/\0", "/\ud800"),
        ],
    )
    def test_of_no_route_says_how_routes_begin(self, site: Site, path: str) -> None:
        status, body = site.post(path)
        assert (status, "routes begin with /workflows/NAME/executions" in body["detail"]) == (404, True)
        assert len(body["detail"]) < 400

    @pytest.mark.parametrize("name", ["a/b", "../..", "..", ".", "__x__", "a b", "é", "\0", "a" * 129, "a" * 9999, "%"])
    def test_of_a_name_that_is_none(self, site: Site, name: str) -> None:
        hostile = quote(name, safe="")
        for method, path in (
            ("POST", f"{RUN}/{hostile}/signals/go"),
            ("GET", f"{RUN}/{hostile}"),
            ("POST", f"{RUN}/{hostile}/cancel"),
            ("POST", f"{RUN}/o-1/signals/{hostile}"),
            ("GET", f"/workflows/{hostile}/executions"),
        ):
            assert site.send(method, path).status in {400, 404}, path
        assert site.send("POST", RUN, idempotency_key=name).status == 400
        assert site.send("POST", f"/workflows/{hostile}/executions").status == 404
        assert site.send("POST", f"{RUN}/o-1/steps/{hostile}/retry").status == 404

    def test_of_too_large_a_body(self) -> None:
        site = Site(most_bytes=100)
        for path in (RUN, f"{RUN}/o-1/signals/go", f"{RUN}/o-1/cancel", "/invoke", "/callbacks/a.b"):
            status, body = site.post(path, b'"' + b"x" * 99 + b'"')
            assert (status, "at most 100 are taken" in body["detail"]) == (413, True)
        assert site.post(RUN, b'"' + b"x" * 98 + b'"')[0] == 200

    @pytest.mark.parametrize(
        "body",
        [b"{", b"\xff\xfe", b"NaN", b"[1,]", b"[" * 1000, b'{"a":' * 1000, b"a=1&b=2", b"<a/>", b"\0", b'{"a":1}}'],
    )
    def test_of_a_body_that_is_no_json(self, site: Site, body: bytes) -> None:
        for path in (RUN, f"{RUN}/o-1/signals/go", f"{RUN}/o-1/cancel", "/invoke"):
            status, told_ = site.post(path, body)
            assert (status, told_["detail"].startswith("the body is not ")) == (400, True)

    def test_of_a_body_nested_a_thousand_deep(self, site: Site) -> None:
        """Whether the parser gives up on it or the limit of values is met: it is the caller's fault."""
        site.post(RUN, "wait", idempotency_key="o-1")
        for deep in (b"[" * 1000 + b"]" * 1000, b'{"a":' * 1000 + b"1" + b"}" * 1000, b"[" * 65 + b"]" * 65):
            for path in (RUN, f"{RUN}/o-1/signals/go", f"{RUN}/o-1/steps/pack/complete", "/invoke", site.links[0]):
                assert site.post(path, deep)[0] in {400, 422}

    def test_of_a_content_type_of_another_kind_is_read_all_the_same(self, site: Site) -> None:
        """curl calls everything a form."""
        assert site.post(RUN, {"a": 1}, content_type="application/x-www-form-urlencoded")[0] == 200

    def test_of_half_a_surrogate_pair_comes_back_as_it_was_sent(self, site: Site) -> None:
        site.post(RUN, "wait", idempotency_key="o-1")
        site.post(f"{RUN}/o-1/signals/go", b'"\\ud800 \\\\ \\udc00"')
        response = site.send("GET", f"{RUN}/o-1?include=history")
        assert b'"\\ud800 \\\\ \\udc00"' in response.body
        assert json.loads(response.body)["history"][1]["output"] == "\ud800 \\ \udc00"

    def test_of_a_number_that_json_has_no_form_for_is_no_answer(self, site: Site) -> None:
        site.engine.execute("order", {"x": float("nan")}, "o-1")
        assert site.get(f"{RUN}/o-1?include=data,history")[0] == 200

    def test_is_answered_by_a_problem(self, site: Site) -> None:
        response = site.send("GET", f"{RUN}/none")
        assert response.headers == {"content-type": "application/problem+json", "cache-control": "no-store"}
        assert json.loads(response.body) == {
            "type": "urn:flux:problem:UnknownInstance",
            "title": "Unknown instance",
            "status": 404,
            "detail": "workflow 'order' has no instance 'none' in tenant 'default'",
        }


class TestRoutes:
    def test_are_decoded_once(self) -> None:
        request = Request("GET", "/workflows/or%64er/executions/o%252D1", {}, {}, b"")
        assert to_invocation(request, 99).arguments == {"workflow": "order", "id": "o%2D1"}

    def test_do_not_mind_slashes_around_them(self, site: Site) -> None:
        for path in (f"{RUN}/", RUN[1:], f"/{RUN}"):
            assert site.post(path)[0] == 200


STATUSES: Final = {200, 202, 400, 403, 404, 405, 409, 410, 413, 422}
"""What a request may be answered with as long as nothing is wrong here."""
NAMES: Final = ("order", "order", "nap", "none", "o-1", "o-2", "w-0", "w-100", "ask", "pack", "first", "go")
"""Of what there is, or could be."""
NASTY: Final = (
    *("", "..", ".", "__x__", "%", "%2", "%2e%2e", "%00", "%ff", "%F0%9F%98%80", "a%2Fb", "\0", "\ud800", "é"),
    *("a" * 128, "a" * 129, "a" * 3000, "' OR 1=1", "{id}", "*", "?", "#", "\n", "\r\nset-cookie: a=b"),
    *("executions", "workflows", "callbacks", "invoke", "cancel", "retry", "signals", "steps"),
)
JSONS: Final = (
    *(b"", b"", b"{}", b"[]", b"null", b"1", b'"wait"', b'"wait"', b'"fail"', b'{"who":"ann"}', b'{"who":1}'),
    *(b"NaN", b"-", b"1e999", b'{"data":{"$decimal":"1"}}', b'{"$x":{"$esc":1}}', b'{"id":"x"}', b'{"force":true}'),
    *(b'{"from_step":9}', b'{"a":1,"a":2}', b'"\\ud800"', b"[" * 1000, b"[" * 900 + b"]" * 900, b"\xff", b"\0"),
    *(b'{"output":' + b"9" * 5000 + b"}", b'"' + b"x" * 2000 + b'"', b'{"action":[]}', b'{"action":"list"}'),
    *(b'{"action":"wake","workflow":"order","id":"o-1"}', b'{"action":"sweep","limit":2}'),
    *(b'{"action":"execute","workflow":"order","id":"__x__"}', b'{"action":"callback","token":"\\ud800"}'),
    b'{"action":"signal","workflow":"order","id":"o-1","name":"go","dedupe_id":"\\ud800"}',
)
_ONE: Final = "/workflows/{}/executions/{}"
SHAPES: Final = (
    *("/workflows/{}/executions", _ONE, _ONE + "/signals/{}", _ONE + "/cancel", _ONE + "/pause", _ONE + "/unpause"),
    *(_ONE + "/steps/{}/retry", _ONE + "/steps/{}/complete", _ONE + "/steps/{}/skip", _ONE + "/resume"),
    *(
        "/workflows/order/executions",
        "/workflows/order/executions/o-1/signals/{}",
        "/workflows/order/executions/w-0/{}",
    ),
    *("/callbacks/{}", "/callbacks/{}.{}", "/invoke", "/invoke", "/{}", "{}/{}", "/workflows/{}/{}/{}/{}/{}"),
)


def hostile(draw: random.Random, links: list[str]) -> Request:
    """Some request: near a right one, or far from any."""
    path = draw.choice(links) if links and draw.random() < 0.05 else draw.choice(SHAPES)
    path = path.format(*(draw.choice(NAMES if draw.random() < 0.8 else NASTY) for _ in range(path.count("{}"))))
    if draw.random() < 0.1:
        at = draw.randrange(len(path) + 1)
        path = path[:at] + draw.choice(NASTY) + path[at + draw.randrange(3) :]
    query = {
        name: draw.choice((*values, *NASTY))
        for name, values in (
            ("mode", ("sync", "async")),
            ("include", ("data", "data,history", ",,")),
            ("limit", ("1", "1000", "-1", "9" * 99)),
            ("cursor", ("a", "e30=")),
            ("status", ("failed", "failed,completed")),
        )
        if draw.random() < 0.15
    }
    headers = {"idempotency-key": draw.choice(NASTY)} if draw.random() < 0.3 else {}
    body = draw.choice(JSONS)
    if body and draw.random() < 0.2:
        at = draw.randrange(len(body))
        body = body[:at] + draw.randbytes(draw.randrange(1, 4)) + body[at + draw.randrange(3) :]
    return Request(draw.choice(("GET", "POST", "POST", "POST", "PUT", "\0")), path, query, headers, body)


def test_ten_thousand_hostile_requests_are_answered_and_none_of_them_breaks_anything() -> None:
    site = Site(most_bytes=4096)
    for id_, input_ in (("o-1", "wait"), ("o-2", "fail")):
        site.post(RUN, input_, idempotency_key=id_)
    draw = random.Random(6)
    seen: dict[int, int] = {}
    for number in range(10_000):
        if number % 100 == 0:
            site.engine.execute("order", "wait", f"w-{number}")
        if number % 500 == 0:
            site.engine.retry_step("order", f"w-{number}", "ask")  # which spends the first of its links
        request = hostile(draw, site.links[-20:])
        response = site.host.http(request)
        assert response.status in STATUSES, (request, response)
        body = json.loads(response.body)
        is_problem = response.headers["content-type"] == "application/problem+json"
        assert is_problem == (response.status >= 400) == ("detail" in body and body.get("status") == response.status)
        assert not any("\n" in value or "\r" in value for value in response.headers.values())
        seen[response.status] = seen.get(response.status, 0) + 1
    assert set(seen) == STATUSES, seen
    assert [line for line in site.lab.log.lines if line[0] == "error"] == []
    assert site.post(RUN, "fine")[0] == 200
