"""The SAM template, as SAM's own command line takes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.infra import sam
from tests.services import sam_cli
from tests.services.missing import missing
from tests.services.moto import ENVIRONMENT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.infra


def run(folder: Path, *arguments: str) -> str:
    """What a command of SAM's writes; it has to succeed."""
    program = sam_cli.program()
    if program is None:
        missing("SAM's command line", sam_cli.INSTALL)
    environment = {**os.environ, **ENVIRONMENT, "SAM_CLI_TELEMETRY": "0", "PYTHONPATH": ""}
    outcome = subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


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
