"""A missing service is skipped loudly on a newcomer's machine and is a failure on the project's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.services.missing import missing

if TYPE_CHECKING:
    from tests.conftest import RequireService

INSTALL = "apt-get install postgresql"


def test_a_service_that_answers_lets_the_test_go_on(require_service: RequireService) -> None:
    require_service("PostgreSQL", None, INSTALL)


def test_a_missing_service_skips_and_says_what_to_install(
    require_service: RequireService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLUX_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"PostgreSQL .*no server on port 5432.*{INSTALL}"):
        require_service("PostgreSQL", "no server on port 5432", INSTALL)


def test_a_missing_service_fails_where_services_are_required(
    require_service: RequireService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUX_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match=f"PostgreSQL .*no server on port 5432.*{INSTALL}"):
        require_service("PostgreSQL", "no server on port 5432", INSTALL)


def test_a_missing_component_skips_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUX_REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"moto cannot be had here.*{INSTALL}"):
        missing("moto", INSTALL)


def test_a_missing_component_fails_where_services_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match=f"moto cannot be had here.*{INSTALL}"):
        missing("moto", INSTALL)
