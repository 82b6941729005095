"""docs/http.md is true: its requests are made, and answered as it shows; it names every route, action and status."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from flux_cli.serving import Serving
from flux_core.host import Host
from flux_core.hosting import HostSettings
from flux_core.invocation import ACTIONS
from tests.docs.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = (ROOT / "docs" / "http.md").read_text(encoding="utf-8")
PLACE: Final = "http://127.0.0.1:8000"


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def curl(line: str, url: str) -> object:
    """What a line of curl would print, as JSON."""
    name, *words = shlex.split(line)
    assert name == "curl"
    method, headers, body, address = "GET", {}, None, ""
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-H":
            key, _, value = words.pop(0).partition(": ")
            headers[key] = value
        elif word == "-d":
            body = words.pop(0).encode()
        else:
            address = word
    request = Request(address.replace(PLACE, url), body, headers, method=method)  # noqa: S310 -- of this page
    try:
        with urlopen(request, timeout=30) as response:  # noqa: S310
            answer: object = json.load(response)
    except HTTPError as error:
        with error:
            answer = json.load(error)
    return answer


def test_its_requests_are_answered_as_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shop: dict[str, object] = {"__name__": "shop"}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], shop)  # noqa: S102 -- the page's own app
    engine = shop["engine"]
    serving = Serving(Host(engine, HostSettings()), lambda _: None, stopping=lambda: False, port=0)  # type: ignore[arg-type]  # of the page
    serving.begin()
    try:
        walk = re.findall(r"```(?:bash|json)\n(.*?)\n```", section("A walk"), re.DOTALL)
        assert len(walk) == 10
        for line, shown in zip(walk[::2], walk[1::2], strict=True):
            assert curl(line, serving.url) == json.loads(shown), line
    finally:
        serving.end()
        engine.storage.close()  # type: ignore[attr-defined]  # as above


def test_it_names_every_route_of_the_module_that_has_them() -> None:
    import flux_core.http

    assert flux_core.http.__doc__ is not None
    routes = re.findall(r"^    (?:GET |POST) (/\S+)", flux_core.http.__doc__, re.MULTILINE)
    table = section("The routes")
    for route in routes:
        head, bar, _ = route.rpartition("/")
        for last in route.rpartition("/")[2].split("|"):
            assert f"{head}{bar}{last}`" in table or f"`/{last}`" in table, route
    assert len(routes) == 8


def test_it_shows_every_action() -> None:
    assert set(re.findall(r'"action": "(\w+)"', section("Direct invocations"))) >= set(ACTIONS)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 410, 413, 422, 500, 503])
def test_it_says_when_a_status_is_answered(status: int) -> None:
    assert f"\n| {status} |" in section("Problems")
