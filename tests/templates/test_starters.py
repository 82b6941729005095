"""Every starter, rendered: its own tests pass, and what they share is the same in all."""

from __future__ import annotations

import ast
import os
import posixpath
import re
import subprocess
import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from flux_cli.packages import TARGETS
from flux_cli.starters import STARTERS
from flux_core import __version__
from tests.templates.starter import ROOT, entry_file, files_of, source, written

if TYPE_CHECKING:
    from pathlib import Path

every_starter = pytest.mark.parametrize("kind", list(STARTERS))


def imported(code: str) -> set[str]:
    """The top-level packages that the code imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@every_starter
def test_its_tests_pass_as_it_is_rendered(kind: str, tmp_path: Path) -> None:
    given = {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "AWS_", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error::ResourceWarning"],
        cwd=written(kind, tmp_path),
        env=given | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "adapters")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 5, "the tests of the workflows and those of the entry point"


@every_starter
def test_its_workflows_are_those_of_all_starters(kind: str) -> None:
    assert source(kind, "workflows.py") == source("local", "workflows.py")


def test_the_workflows_know_no_cloud() -> None:
    outside = imported(source("local", "workflows.py")) - set(sys.stdlib_module_names)
    assert outside == {"flux_core"}


@every_starter
def test_its_entry_point_has_about_ten_lines(kind: str) -> None:
    entry = source(kind, entry_file(kind))
    lines = [line for line in entry.splitlines() if line and not line.startswith(('"""', "from __future__"))]
    assert len(lines) <= 10


@every_starter
def test_nothing_in_it_was_left_to_replace(kind: str) -> None:
    left = [str(path) for path, content in files_of(kind).items() if b"{{" in content and path.suffix != ".yaml"]
    assert left == []


@every_starter
def test_it_asks_for_this_version_of_the_kit(kind: str) -> None:
    folder = PurePosixPath(STARTERS[kind].source)
    assert re.fullmatch(
        rf"flux-serverless\[[a-z,]+\]=={re.escape(__version__)}\n.*",
        files_of(kind)[folder / "requirements.txt"].decode(),
        re.DOTALL,
    )


@every_starter
def test_its_readme_says_how_to_test_deploy_and_tear_it_down(kind: str) -> None:
    readme = files_of(kind)[PurePosixPath("README.md")].decode()
    heads = re.findall(r"^## (.+)$", readme, re.MULTILINE)
    assert {"Set up and test", "Deploy", "Tear down"} <= set(heads)


@every_starter
def test_every_link_in_its_pages_leads_to_one_of_its_files(kind: str) -> None:
    files = files_of(kind)
    links = [
        (page.as_posix(), target)
        for page in files
        if page.suffix == ".md"
        for target in re.findall(r"\]\(([^)#]+)", files[page].decode())
        if "://" not in target
    ]
    assert [
        (page, target)
        for page, target in links
        if PurePosixPath(posixpath.normpath(PurePosixPath(page).parent / target)) not in files
    ] == []


@pytest.mark.parametrize("kind", [kind for kind in STARTERS if kind != "local"])
def test_its_readme_says_how_to_see_that_it_works(kind: str) -> None:
    readme = files_of(kind)[PurePosixPath("README.md")].decode()
    assert f"flux doctor {kind.removesuffix('-terraform')} --" in readme.partition("## See that it works")[2]


@every_starter
def test_what_deploying_leaves_in_it_is_no_part_of_its_repository(kind: str) -> None:
    ignored = files_of(kind)[PurePosixPath(".gitignore")].decode().split()
    assert {"build/", ".aws-sam/", ".terraform/", "*.tfstate", "*.tfstate.*"} <= set(ignored)


@every_starter
def test_it_has_no_bytecode_and_no_lock_file(kind: str) -> None:
    assert [p for p in files_of(kind) if "__pycache__" in p.parts or "lock" in p.name] == []


@pytest.mark.parametrize("kind", [kind for kind in STARTERS if kind != "local"])
def test_its_package_is_the_one_that_flux_build_makes(kind: str) -> None:
    cloud = kind.partition("-")[0]
    assert f"flux build {cloud}" in STARTERS[kind].commands
    files = files_of(kind)
    stack = {PurePosixPath("main.tf"), PurePosixPath("template.yaml")} & files.keys()
    text = b"".join(files[path] for path in [*stack, PurePosixPath("README.md")]).decode()
    assert f"build/{cloud}.zip" in text
    assert PurePosixPath("src", TARGETS[cloud].entry) in files


def variables(terraform: str) -> dict[str, str]:
    """The variables that the text declares, by name."""
    blocks = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', terraform, re.MULTILINE | re.DOTALL)
    return dict(blocks)


@pytest.mark.parametrize("kind", [kind for kind, starter in STARTERS.items() if "flux" in dict(starter.infra).values()])
class TestTerraform:
    def test_it_sets_variables_that_its_module_has_and_all_that_have_no_default(self, kind: str) -> None:
        files = files_of(kind)
        main = files[PurePosixPath("main.tf")].decode()
        declared = variables(files[PurePosixPath("flux/variables.tf")].decode())
        call = main.partition('module "flux" {')[2].partition("\n}")[0]
        given = set(re.findall(r"^  (\w+) +=", call, re.MULTILINE)) - {"source"}
        needed = {name for name, block in declared.items() if not re.search(r"^  default +=", block, re.MULTILINE)}
        assert needed <= given <= set(declared)

    def test_it_asks_for_the_providers_of_its_module(self, kind: str) -> None:
        files = files_of(kind)
        main = files[PurePosixPath("main.tf")].decode()
        module = files[PurePosixPath("flux/versions.tf")].decode()
        wanted = re.findall(r'(?:source|version) +(= ".*")', module)
        assert wanted == re.findall(r'(?:source|version) +(= "(?!\./).*")', main)

    def test_the_module_comes_without_its_own_tests(self, kind: str) -> None:
        assert [path for path in files_of(kind) if path.suffix == ".hcl"] == []
