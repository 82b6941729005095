"""Terraform for tests: the real program on a copy of a module, with providers out of folders, never a registry.

The provider of AWS is the real one, where a mirror of it is on the machine; those of Google and Azure are their schemas
(`tests.services.terraform_schemas`). What Terraform writes stays in the copy: no lock file, no state in the repository.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REGISTRY: Final = "registry.terraform.io"
INSTALL: Final = (
    "install Terraform 1.11 or newer (https://developer.hashicorp.com/terraform/install), and run `terraform providers "
    "mirror ~/.terraform.d/plugins` in infra/aws/terraform"
)
PATIENCE: Final = 900.0
"""Seconds that one command may take on a busy machine."""


def program() -> str | None:
    """Terraform itself."""
    return shutil.which("terraform")


def mirror() -> Path | None:
    """The folder that holds the real provider of AWS, as `terraform providers mirror` lays it out."""
    shared = [Path(one) for one in ("/usr/share", "/usr/local/share")]
    folders = [
        *(Path(one) for one in os.environ.get("FLUX_TERRAFORM_MIRROR", "").split(os.pathsep) if one),
        Path.home() / ".terraform.d" / "plugins",
        *(one / "terraform" / "plugins" for one in shared),
        *sorted(Path("/opt").glob("*")),
    ]
    return next((one for one in folders if (one / REGISTRY / "hashicorp" / "aws").is_dir()), None)


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    text: str
    """What it wrote, to both of its outputs."""


class Resource(NamedTuple):
    """A resource of a module, with names that a mock has made up for what only the cloud knows."""

    type: str
    name: str
    key: str
    """Of `for_each`; empty where there is one."""
    values: dict[str, Any]


def by_key(resources: Sequence[Resource], type_: str, name: str) -> dict[str, dict[str, Any]]:
    """By key, the values of one resource."""
    return {one.key: one.values for one in resources if (one.type, one.name) == (type_, name)}


class Module:
    """A copy of a module that commands are run in."""

    def __init__(self, source: Path, folder: Path, mirrors: Sequence[Path], environment: Mapping[str, str]) -> None:
        """`mirrors`: where providers are; what is in none of them is not to be had."""
        self.folder = folder / source.name
        shutil.copytree(source, self.folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        config = folder / "terraform.rc"
        paths = "".join(f'  filesystem_mirror {{ path = "{one}" }}\n' for one in mirrors)
        config.write_text(f"provider_installation {{\n{paths}}}\n")
        self._environment = {
            **os.environ,
            **environment,
            "TF_CLI_CONFIG_FILE": str(config),
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
        }

    def run(self, *arguments: str) -> Outcome:
        """Run a command of Terraform."""
        command = program()
        if command is None:
            missing("Terraform", INSTALL)
        outcome = subprocess.run(
            [command, *arguments, "-no-color"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return Outcome(outcome.returncode, outcome.stdout)

    def check(self, *arguments: str) -> str:
        """Run a command that has to succeed; what it wrote."""
        outcome = self.run(*arguments)
        assert outcome.code == 0, f"terraform {' '.join(arguments)}\n{outcome.text}"
        return outcome.text

    def planned(self, test: str) -> list[Resource]:
        """The resources that a plan would make, those of modules too.

        `test` is a test file with mocks and one run that plans; what mocks make up is known to the plan where they
        have `override_during = plan`.
        """
        found = self._told(test, "test_plan")["resource_changes"]
        return [
            Resource(one["type"], one["name"], str(one.get("index", "")), one["change"]["after"])
            for one in found
            if one["mode"] == "managed"
        ]

    def made(self, test: str) -> list[Resource]:
        """The resources that a run would leave: `test` is a test file with mocks and one run that applies."""
        found = self._told(test, "test_state")["root_module"]["resources"]
        return [
            Resource(one["type"], one["name"], str(one.get("index", "")), one["values"])
            for one in found
            if one["mode"] == "managed"
        ]

    def _told(self, test: str, kind: str) -> dict[str, Any]:
        """What the one run of a test file tells of its plan or of its state."""
        file = self.folder / "tests" / "told.tftest.hcl"
        file.write_text(test)
        lines = self.check("test", "-json", "-verbose", f"-filter=tests/{file.name}").splitlines()
        file.unlink()
        (told,) = (line[kind] for line in map(json.loads, lines) if line["type"] == kind)
        return dict(told)


def aws_module(source: Path, folder: Path, environment: Mapping[str, str]) -> Module:
    """A module on the real provider of AWS, made ready."""
    found = mirror()
    if program() is None or found is None:
        missing("Terraform with the provider of AWS", INSTALL)
    module = Module(source, folder, [found], environment)
    module.check("init", "-input=false")
    return module


def schema_module(source: Path, folder: Path) -> Module:
    """A module on the schemas of Google and Azure, made ready."""
    from tests.services import terraform_schemas as schemas

    if program() is None or not schemas.found():
        missing("Terraform with the schemas of the providers", schemas.INSTALL)
    code = "".join(file.read_text() for file in source.rglob("*.tf"))
    types = sorted({*re.findall(r'^(?:resource|data) "(\w+)"', code, re.MULTILINE)})
    environment = {"FLUX_TERRAFORM_TYPES": ",".join(types)}
    module = Module(source, folder, [schemas.mirror(folder / "mirror")], environment)
    module.check("init", "-input=false")
    return module
