"""`python -m tests.services.install`: what the tests need and no Python package brings is found, or installed.

Debian's packages by apt-get, as root only: nobody is asked for a password. Azurite by npm, Lambda's emulator and
Azure's Functions runtime by pip, into the user's cache. What cannot be had is told with what to do about it, and is no
error here: the tests that need it say so themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.services import (
    azure_functions,
    azurite,
    firestore,
    lambda_runtime,
    postgres,
    pubsub,
    terraform,
    terraform_schemas,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE: Final = 900.0
"""Seconds that one call of a package manager may take."""


class Component(NamedTuple):
    """Something that a test starts."""

    name: str
    found: Callable[[], object]
    packages: tuple[str, ...]
    """Debian's."""
    install: str
    """What to do by hand."""
    then: tuple[str, ...] = ()
    """A command after the packages."""


COMPONENTS: Final = (
    Component("PostgreSQL", postgres.programs, ("postgresql",), postgres.INSTALL),
    Component("Java", lambda: shutil.which("java"), ("openjdk-17-jre-headless",), firestore.INSTALL),
    Component("Google's Firestore emulator", firestore.archive, (firestore.PACKAGE,), firestore.INSTALL),
    Component("Google's Pub/Sub emulator", pubsub.archive, (pubsub.PACKAGE,), pubsub.INSTALL),
    Component(
        "Azurite",
        lambda: shutil.which("node") and azurite.program(),
        () if shutil.which("npm") else ("nodejs", "npm"),
        azurite.INSTALL,
        ("npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(azurite.CACHE), "azurite@3"),
    ),
    Component(
        "AWS's Lambda emulator",
        lambda_runtime.program,
        (),
        lambda_runtime.INSTALL,
        (sys.executable, "-m", "tests.services.lambda_runtime"),
    ),
    Component(
        "Azure's Functions runtime",
        azure_functions.interpreter,
        (),
        azure_functions.INSTALL,
        (sys.executable, "-m", "tests.services.azure_functions"),
    ),
    Component(
        "the schemas of Terraform's providers",
        lambda: terraform.program() is None or terraform_schemas.found(),
        (),
        terraform_schemas.INSTALL,
        (sys.executable, "-m", "tests.services.terraform_schemas"),
    ),
)


def main() -> None:
    """Look for each; install what is not there; tell what is missing then."""
    updated = False
    for component in COMPONENTS:
        if component.found():
            continue
        told = ""
        if component.packages:
            if os.geteuid() != 0 or shutil.which("apt-get") is None:
                _tell(component, "only root may install packages, where there is apt-get")
                continue
            _say(f"installing {component.name} ({' '.join(component.packages)})")
            if not updated:
                told = _run("apt-get", "update", "--quiet")
                updated = True
            told += _run(
                *("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"),
                *component.packages,
            )
        if component.then:
            _say(f"installing {component.name} ({component.then[0]})")
            told += _run(*component.then)
        if not component.found():
            _tell(component, told.strip()[-500:])


def _run(*command: str) -> str:
    """What a command that failed says; nothing if it did not."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        outcome = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, timeout=PATIENCE, env=environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}\n"
    return outcome.stdout if outcome.returncode else ""


def _tell(component: Component, why: str) -> None:
    _say(f"{component.name} is missing, and the tests on it will say so: {why or 'it was not found'}")
    _say(f"  {component.install}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
