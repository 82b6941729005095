"""The app that rotates the callback keys in Key Vault: a timer, and nothing that anybody can call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from flux_azure.rotation import rotate
from flux_core import DefinitionError
from flux_core.callbacks import parsed_keys
from flux_core.errors import InvocationError
from flux_core.testing import VirtualClock
from tests.azure.in_process import Functions
from tests.services.vaults import KeyVault, Version, identity, served

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME: Final = "flux-callbacks"
ONE, TWO, THREE = "a" * 32, "b" * 32, "c" * 32
DAY: Final = 86400
TIMER = {"json": json.dumps({"IsPastDue": False})}


class Clock(VirtualClock):
    """The time of the vault."""

    def __init__(self, vault: KeyVault) -> None:
        super().__init__()
        self._vault = vault

    def now(self) -> int:
        return int(self._vault.now * 1000)


class App:
    """The app, and the secret that it rotates."""

    def __init__(self, vault: KeyVault, platform: dict[str, str], asked: list[dict[str, list[str]]]) -> None:
        self.vault = vault
        self.asked = asked
        """Queries for tokens."""
        self.environment = {
            "FLUX_CALLBACK_SECRET": f"{vault.url}/secrets/{NAME}",
            "FLUX_ROTATE_AFTER": str(30 * DAY),
            "AZURE_CLIENT_ID": "of-the-rotation",
            **platform,
        }

    def run(self, **environment: str) -> bool:
        return rotate({**self.environment, **environment}, Clock(self.vault))

    def keys(self) -> list[str]:
        return list(parsed_keys(self.vault.text(NAME)))


@pytest.fixture
def app() -> Iterator[App]:
    vault = KeyVault()
    with identity() as (environment, asked), served(vault):
        yield App(vault, environment, asked)


class TestARun:
    def test_adds_a_key_to_one_that_is_alone_at_once(self, app: App) -> None:
        app.vault.put(NAME, f"k1:{ONE}")
        assert app.run()
        assert app.keys() == ["k1", "k2"]
        assert len(parsed_keys(app.vault.text(NAME))["k2"]) == 64

    def test_has_it_sign_after_the_period_and_not_before(self, app: App) -> None:
        app.vault.put(NAME, f"k1:{ONE},k2:{TWO}")
        app.vault.now += 30 * DAY - 1
        assert not app.run()
        app.vault.now += 1
        assert app.run()
        assert app.keys() == ["k2", "k3", "k1"]

    def test_that_comes_twice_rotates_once(self, app: App) -> None:
        app.vault.put(NAME, f"k2:{TWO},k3:{THREE},k1:{ONE}")
        app.vault.now += 31 * DAY
        assert [app.run() for _ in range(3)] == [True, False, False]
        assert app.keys() == ["k3", "k4", "k2"]
        assert len(app.vault.secrets[NAME]) == 2

    def test_enters_the_vault_by_the_identity_of_the_app(self, app: App) -> None:
        app.vault.put(NAME, f"k1:{ONE}")
        app.run()
        assert {one["resource"][0] for one in app.asked} == {"https://vault.azure.net"}
        assert {one["client_id"][0] for one in app.asked} == {"of-the-rotation"}


class TestTheApp:
    def test_rotates_by_a_timer(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        app.vault.put(NAME, f"k1:{ONE}")
        for name, value in app.environment.items():
            monkeypatch.setenv(name, value)
        functions = Functions()
        assert [*functions._functions] == ["flux_rotate"]
        functions.call("flux_rotate", TIMER)
        assert app.keys() == ["k1", "k2"]

    def test_tells_the_platform_that_a_run_failed(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in app.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(InvocationError, match=r"HTTP 404.*Check FLUX_CALLBACK_SECRET"):
            Functions().call("flux_rotate", TIMER)

    def test_is_not_the_one_that_deletes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUX_ROTATE_AFTER", str(30 * DAY))
        monkeypatch.setenv("FLUX_PURGE_AFTER", "3600")
        with pytest.raises(DefinitionError, match="FLUX_PURGE_AFTER and FLUX_ROTATE_AFTER are both set"):
            Functions()


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("environment", "said"),
        [
            ({"FLUX_CALLBACK_SECRET": ""}, "FLUX_CALLBACK_SECRET must be the secret"),
            ({"FLUX_CALLBACK_SECRET": "https://v.vault.azure.net/secrets/n/1"}, "without a version"),
            ({"FLUX_ROTATE_AFTER": ""}, "FLUX_ROTATE_AFTER is not set"),
            ({"FLUX_ROTATE_AFTER": str(7 * DAY)}, "FLUX_CALLBACK_EXPIRES"),
        ],
    )
    def test_a_setting_is_named(self, app: App, environment: dict[str, str], said: str) -> None:
        with pytest.raises(DefinitionError, match=said):
            app.run(**environment)
        assert app.vault.asked == []

    @pytest.mark.parametrize(
        ("status", "said"), [(401, "AZURE_CLIENT_ID"), (403, "getSecret and setSecret"), (429, "by the next run")]
    )
    def test_a_refusal_says_what_to_do(self, app: App, status: int, said: str) -> None:
        app.vault.put(NAME, f"k1:{ONE}")
        app.vault.failing = status
        with pytest.raises(InvocationError, match=f"HTTP {status}.*{said}"):
            app.run()

    def test_an_app_without_an_identity(self, app: App) -> None:
        with pytest.raises(InvocationError, match=r"gave no token.*az functionapp identity assign"):
            app.run(IDENTITY_ENDPOINT="")

    def test_a_vault_that_does_not_answer(self, app: App) -> None:
        with pytest.raises(InvocationError, match="did not answer"):
            app.run(FLUX_CALLBACK_SECRET="http://127.0.0.1:1/secrets/n")  # noqa: S106 -- an address

    def test_a_text_that_is_none(self, app: App) -> None:
        app.vault.put(NAME, ONE)
        with pytest.raises(DefinitionError, match="id:secret") as told:
            app.run()
        assert ONE not in str(told.value)


class TestWhatIsTold:
    def test_no_key_is_in_a_line(self, app: App, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG")
        app.vault.put(NAME, f"k1:{ONE}")
        app.run(FLUX_LOG_LEVEL="debug")
        assert "the keys are rotated" in caplog.text
        assert not [key for key in parsed_keys(app.vault.text(NAME)).values() if key in caplog.text]

    def test_a_version_that_is_refused_is_not_quoted(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("secrets.token_hex", lambda _: TWO)
        app.vault.secrets[NAME] = [Version(f"k1:{ONE}", app.vault.now)]
        answer = app.vault.answer

        def refuse(method: str, *given: Any) -> dict[str, Any]:
            if method == "PUT":
                app.vault.allowed = "nobody"
                app.vault.admit("")
            return answer(method, *given)

        monkeypatch.setattr(app.vault, "answer", refuse)
        with pytest.raises(InvocationError, match="refused PUT") as told:
            app.run()
        assert TWO not in str(told.value)
