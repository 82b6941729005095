"""A missing service is skipped loudly on a newcomer's machine and is a failure on the project's own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.services import install
from tests.services.install import Component
from tests.services.missing import missing

if TYPE_CHECKING:
    from pathlib import Path

INSTALL = "apt-get install postgresql"


def test_a_missing_service_skips_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUX_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"PostgreSQL cannot be had here.*{INSTALL}"):
        missing("PostgreSQL", INSTALL)


def test_a_missing_service_fails_where_services_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match=f"PostgreSQL cannot be had here.*{INSTALL}"):
        missing("PostgreSQL", INSTALL)


class TestTheInstaller:
    def test_says_nothing_where_all_is_there(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(install, "COMPONENTS", [Component("PostgreSQL", lambda: True, ("postgresql",), INSTALL)])
        install.main()
        assert capsys.readouterr() == ("", "")

    def test_runs_once_what_brings_a_component(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        brought = tmp_path / "brought"
        bring = (sys.executable, "-c", f"open({str(brought)!r}, 'w')")
        monkeypatch.setattr(install, "COMPONENTS", [Component("Azurite", brought.exists, (), INSTALL, bring)])
        install.main()
        assert "installing Azurite" in capsys.readouterr().err
        assert brought.exists()
        install.main()
        assert capsys.readouterr().err == "", "it is there now"

    def test_tells_what_is_missing_and_what_to_do_and_goes_on(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fails = (sys.executable, "-c", "import sys; sys.exit('no registry answers')")
        gone = Component("Azurite", lambda: False, (), "npm install azurite", fails)
        monkeypatch.setattr(install, "COMPONENTS", [gone, gone._replace(name="Java")])
        install.main()
        told = capsys.readouterr().err
        assert "Azurite is missing, and the tests on it will say so: no registry answers" in told
        assert "npm install azurite" in told
        assert "Java is missing" in told

    def test_leaves_packages_to_root(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        monkeypatch.setattr(install, "COMPONENTS", [Component("PostgreSQL", lambda: None, ("postgresql",), INSTALL)])
        install.main()
        assert f"only root may install packages, where there is apt-get\n  {INSTALL}" in capsys.readouterr().err
