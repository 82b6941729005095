"""The function that rotates the callback keys in Secret Manager, called once a day."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import flask
import pytest
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.credentials import Credentials

from flux_core.callbacks import parsed_keys
from flux_core.testing import VirtualClock
from flux_gcp import rotation_function
from tests.services.vaults import TOKEN, SecretManager, Version, served

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME: Final = "projects/p/secrets/flux-callbacks"
ONE, TWO, THREE = "a" * 32, "b" * 32, "c" * 32
DAY: Final = 86400


class Clock(VirtualClock):
    """The time of the service."""

    def __init__(self, manager: SecretManager) -> None:
        super().__init__()
        self._manager = manager

    def now(self) -> int:
        return int(self._manager.now * 1000)


class Function:
    """The function, and the secret that it rotates."""

    def __init__(self, manager: SecretManager, **environment: str) -> None:
        given = {"FLUX_CALLBACK_SECRET": NAME, "FLUX_ROTATE_AFTER": str(30 * DAY), **environment}
        self.manager = manager
        self._handler = rotation_function(
            environment=given,
            session=AuthorizedSession(Credentials(TOKEN)),
            service=manager.url,
            clock=Clock(manager),
        )

    def call(self) -> tuple[int, dict[str, Any]]:
        """As Cloud Scheduler does; the status, and what is answered."""
        with flask.Flask("test").test_request_context("/invoke", method="POST", json={"action": "rotate"}):
            answer = flask.current_app.make_response(self._handler(flask.request))
        return answer.status_code, json.loads(answer.get_data())

    def keys(self) -> list[str]:
        return list(parsed_keys(self.manager.text(NAME)))


@pytest.fixture
def manager() -> Iterator[SecretManager]:
    fake = SecretManager()
    with served(fake):
        yield fake


class TestARun:
    def test_adds_a_key_to_one_that_is_alone_at_once(self, manager: SecretManager) -> None:
        manager.put(NAME, f"k1:{ONE}")
        function = Function(manager)
        assert function.call() == (200, {"rotated": True})
        assert function.keys() == ["k1", "k2"]
        assert len(parsed_keys(manager.text(NAME))["k2"]) == 64

    def test_has_it_sign_after_the_period_and_not_before(self, manager: SecretManager) -> None:
        manager.put(NAME, f"k1:{ONE},k2:{TWO}")
        function = Function(manager)
        manager.now += 30 * DAY - 60
        assert function.call() == (200, {"rotated": False, "left": 60})
        manager.now += 60
        assert function.call() == (200, {"rotated": True})
        assert function.keys() == ["k2", "k3", "k1"]

    def test_that_comes_twice_rotates_once(self, manager: SecretManager) -> None:
        manager.put(NAME, f"k2:{TWO},k3:{THREE},k1:{ONE}")
        manager.now += 31 * DAY
        function = Function(manager)
        assert [function.call()[1]["rotated"] for _ in range(3)] == [True, False, False]
        assert function.keys() == ["k3", "k4", "k2"]

    def test_for_a_year_leaves_three_keys_and_every_version(self, manager: SecretManager) -> None:
        manager.put(NAME, f"k1:{ONE}")
        function = Function(manager)
        for _ in range(37):
            assert function.call()[0] == 200
            manager.now += 10 * DAY
        assert function.keys() == ["k13", "k14", "k12"]
        assert len(manager.secrets[NAME]) == 14

    def test_reads_the_version_whose_age_it_has_read(self, manager: SecretManager) -> None:
        manager.put(NAME, f"k1:{ONE}")
        Function(manager).call()
        assert manager.asked == [
            f"GET /v1/{NAME}/versions/latest",
            f"GET /v1/{NAME}/versions/1:access",
            f"POST /v1/{NAME}:addVersion",
        ]


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("environment", "said"),
        [
            ({"FLUX_CALLBACK_SECRET": ""}, "FLUX_CALLBACK_SECRET must be the secret"),
            ({"FLUX_CALLBACK_SECRET": "flux-callbacks"}, "projects/PROJECT/secrets/NAME"),
            ({"FLUX_ROTATE_AFTER": ""}, "FLUX_ROTATE_AFTER is not set"),
            ({"FLUX_ROTATE_AFTER": str(7 * DAY)}, "FLUX_CALLBACK_EXPIRES"),
            ({"FLUX_CALLBACK_EXPIRES": str(30 * DAY)}, "31 days or more"),
        ],
    )
    def test_a_setting_is_named(self, manager: SecretManager, environment: dict[str, str], said: str) -> None:
        manager.put(NAME, f"k1:{ONE}")
        status, told = Function(manager, **environment).call()
        assert status == 500
        assert said in told["detail"]
        assert manager.asked == []

    def test_a_secret_that_is_not_there(self, manager: SecretManager) -> None:
        status, told = Function(manager).call()
        assert status == 503
        assert "HTTP 404 NOT_FOUND" in told["detail"]
        assert "Check FLUX_CALLBACK_SECRET" in told["detail"]

    def test_a_version_that_was_disabled(self, manager: SecretManager) -> None:
        manager.secrets[NAME] = [Version(f"k1:{ONE}", manager.now, enabled=False)]
        assert "is disabled: enable it" in Function(manager).call()[1]["detail"]

    def test_a_role_that_allows_too_little(self, manager: SecretManager) -> None:
        manager.put(NAME, f"k1:{ONE}")
        manager.failing = 403
        assert "versions.get, .access and .add" in Function(manager).call()[1]["detail"]

    def test_a_service_that_does_not_answer(self, manager: SecretManager) -> None:
        manager.url = "http://127.0.0.1:1"
        status, told = Function(manager).call()
        assert (status, "did not answer" in told["detail"]) == (503, True)

    def test_a_text_that_is_none(self, manager: SecretManager) -> None:
        manager.put(NAME, ONE)
        status, told = Function(manager).call()
        assert status == 500
        assert "id:secret" in told["detail"]
        assert manager.text(NAME) == ONE


class TestWhatIsTold:
    def test_no_key_is_in_an_answer_or_a_line(self, manager: SecretManager, capsys: pytest.CaptureFixture[str]) -> None:
        manager.put(NAME, f"k1:{ONE}")
        function = Function(manager, FLUX_LOG_LEVEL="debug")
        answers = [function.call()]
        manager.now += 30 * DAY
        answers.append(function.call())
        manager.failing = 400
        answers.append(function.call())
        written = capsys.readouterr().out
        assert "the keys are rotated" in written
        assert "Secret Manager refused" in written
        keys = {key for version in manager.secrets[NAME] for key in parsed_keys(version.text).values()}
        assert len(keys) == 3
        assert not [key for key in keys if key in written or key in str(answers)]

    def test_a_refused_version_is_not_quoted(
        self, manager: SecretManager, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manager.put(NAME, f"k1:{ONE}")
        monkeypatch.setattr("secrets.token_hex", lambda _: TWO)
        manager.newest = _only_once(manager)  # type: ignore[method-assign]
        answer = Function(manager).call()
        assert answer[0] == 503
        assert ":addVersion" in answer[1]["detail"]
        assert TWO not in str(answer) + capsys.readouterr().out


def _only_once(manager: SecretManager) -> Any:
    """The newest version the first time; then nothing is there, and the service quotes what it was sent."""
    asked: list[str] = []

    def newest(name: str) -> Version:
        asked.append(name)
        return type(manager).newest(manager, "none" if len(asked) > 1 else name)

    return newest
