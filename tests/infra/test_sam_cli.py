"""The SAM template, as SAM's own command line takes it."""

from __future__ import annotations

import shutil
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from tests.infra import sam
from tests.services.moto import ENVIRONMENT
from tests.services.tools import SAM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.infra


def run(folder: Path, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})) -> str:
    """What a command of SAM's writes; it has to succeed."""
    outcome = SAM.run(folder, *arguments, environment={**ENVIRONMENT, "SAM_CLI_TELEMETRY": "0", **environment})
    assert outcome.code == 0, outcome.out + outcome.error
    return outcome.out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy, so that nothing is built in the repository."""
    copy = tmp_path / "sam"
    shutil.copytree(sam.FOLDER, copy)
    return copy


def test_it_is_valid_and_lints_clean(folder: Path) -> None:
    assert "is a valid SAM Template" in run(folder, "validate", "--lint")


def test_what_samconfig_says_are_parameters_of_the_template() -> None:
    import tomllib

    config = tomllib.loads((sam.FOLDER / "samconfig.toml").read_text())
    overrides = config["prod"]["deploy"]["parameters"]["parameter_overrides"].split()
    parameters = sam.read()["Parameters"]
    for name, value in (pair.split("=") for pair in overrides):
        assert value in [str(one) for one in parameters[name]["AllowedValues"]]
