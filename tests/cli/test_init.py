"""`flux init`: a new folder with a project, or one sentence and nothing at all."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flux_cli import shipped, starters
from flux_cli.starters import STARTERS
from flux_core import __version__
from tests.cli.test_misuse import refused

if TYPE_CHECKING:
    from tests.cli.conftest import Flux

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def flux(flux: Flux) -> Flux:
    """In an empty folder."""
    for left in flux.folder.iterdir():
        left.unlink()
    return flux


@pytest.fixture
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that looks like a wheel of the kit."""
    path = tmp_path_factory.mktemp("wheel") / "flux_serverless-9.9.9-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("flux_core/__init__.py", "")
    return path


class TestAProject:
    @pytest.mark.parametrize("kind", list(STARTERS))
    def test_it_is_made_and_the_next_commands_are_told(self, flux: Flux, kind: str) -> None:
        done = flux("init", kind, "orders")
        assert done.exit_code == 0, done.output
        lines = done.stdout.splitlines()
        assert lines[0].startswith("made orders/ (")
        assert [line.strip() for line in lines[1:]] == ["cd orders", *STARTERS[kind].commands]
        assert Path("orders/README.md").read_text().startswith("# orders\n")
        assert Path("orders/.gitignore").is_file()
        assert [path.name for path in Path().iterdir()] == ["orders"]

    def test_it_can_be_entered_by_everybody_as_any_folder(self, flux: Flux) -> None:
        flux("init", "local", "orders")
        assert Path("orders").stat().st_mode & 0o777 == 0o755

    def test_its_app_is_found_by_the_command_line(self, flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
        flux("init", "local", "orders")
        monkeypatch.chdir("orders")
        monkeypatch.setattr(sys, "path", [str(Path.cwd()), *sys.path])
        for module in ("app", "workflows"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        order = ("--id-field", "sku", "--input", '{"sku": "tea", "total": 400}')
        assert flux("run", "--app", "app:engine", *order).exit_code == 0
        done = flux("signal", "--app", "app:engine", "tea", "approved", "--payload", '{"yes": true}', "--json")
        assert '"status": "completed"' in done.stdout
        sys.modules["app"].engine.storage.close()

    def test_it_asks_the_index_for_this_version_and_says_so(self, flux: Flux) -> None:
        done = flux("init", "local", "orders")
        assert "--wheel FILE" in done.stderr
        assert Path("orders/requirements.txt").read_text() == f"flux-serverless[cli]=={__version__}\n"

    def test_a_local_wheel_comes_along(self, flux: Flux, wheel: Path) -> None:
        done = flux("init", "local", "orders", "--wheel", str(wheel))
        assert (done.exit_code, done.stderr) == (0, "")
        assert Path("orders/requirements.txt").read_text() == f"./wheels/{wheel.name}[cli]\n"
        assert Path("orders/wheels", wheel.name).read_bytes() == wheel.read_bytes()


class TestRefused:
    @pytest.mark.parametrize(
        "name", ["", "abc", "Orders", "1st", "my_orders", "ab--cd", "orders-", "-x", "../up", "a" * 13, "é"]
    )
    def test_a_name_that_some_cloud_does_not_take(self, flux: Flux, name: str) -> None:
        refused(flux("init", "local", "--", name), 2, "cannot name a project", "4 to 12 of a-z, 0-9")
        assert list(Path().iterdir()) == []

    def test_a_folder_that_is_there_already(self, flux: Flux) -> None:
        Path("orders").mkdir()
        refused(flux("init", "local", "orders"), 2, "there is a 'orders' already", "choose another name")
        assert list(Path("orders").iterdir()) == []

    def test_a_link_that_leads_nowhere(self, flux: Flux) -> None:
        Path("orders").symlink_to("nowhere")
        refused(flux("init", "local", "orders"), 2, "there is a 'orders' already")

    def test_a_kind_that_there_is_not(self, flux: Flux) -> None:
        refused(flux("init", "mainframe", "orders"), 2, "there is no starter 'mainframe'; there are local")

    def test_a_wheel_that_is_not_there(self, flux: Flux) -> None:
        refused(flux("init", "local", "orders", "--wheel", "none.whl"), 2, "there is no file 'none.whl'", "pip wheel")

    def test_a_wheel_of_something_else(self, flux: Flux) -> None:
        Path("other-1.whl").write_bytes(b"no wheel")
        refused(flux("init", "local", "orders", "--wheel", "other-1.whl"), 2, "is no wheel of flux-serverless")
        assert not Path("orders").exists()

    def test_a_folder_that_cannot_be_written_leaves_nothing(self, flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        refused(flux("init", "local", "orders"), 3, "No space left on device; nothing of it was")
        assert list(Path().iterdir()) == []


class TestTemplates:
    @pytest.fixture
    def templates(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder of templates of the test's own."""
        top = tmp_path_factory.mktemp("shipped")
        for folder in ("shared", "local"):
            (top / "templates" / folder).mkdir(parents=True)
        monkeypatch.setattr(shipped, "_PACKAGE", top)
        return top / "templates"

    def test_an_unknown_variable_is_an_error_and_nothing_is_written(self, flux: Flux, templates: Path) -> None:
        (templates / "local" / "README.md").write_text("# {{ name }} of {{owner}}")
        refused(
            flux("init", "local", "orders"), 3, "README.md", "the unknown variable {{owner}}", "kit, name, pin, source"
        )
        assert list(Path().iterdir()) == []

    def test_the_starters_own_file_wins_over_the_shared_one(self, flux: Flux, templates: Path) -> None:
        (templates / "shared" / "README.md").write_text("shared")
        (templates / "local" / "README.md").write_text("own")
        flux("init", "local", "orders")
        assert Path("orders/README.md").read_text() == "own"

    def test_bytecode_that_pip_has_compiled_is_left_out(self, flux: Flux, templates: Path) -> None:
        (templates / "local" / "__pycache__").mkdir()
        (templates / "local" / "__pycache__" / "app.cpython-311.pyc").write_bytes(b"\x00")
        (templates / "local" / "app.py").write_text("")
        flux("init", "local", "orders")
        assert [path.name for path in Path("orders").iterdir()] == ["app.py"]

    def test_a_name_may_begin_with_a_dot_once_rendered(self, flux: Flux, templates: Path) -> None:
        (templates / "shared" / "dot-gitignore").write_text("build/")
        flux("init", "local", "orders")
        assert Path("orders/.gitignore").read_text() == "build/"


def test_an_installation_without_templates_says_so(flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_PACKAGE", flux.folder)
    monkeypatch.setattr(shipped, "_CHECKOUT", flux.folder)
    refused(flux("init", "local", "orders"), 3, "has no folder 'templates'", "install the package anew")


def test_every_starter_has_a_template_of_its_own() -> None:
    folders = {path.name for path in (ROOT / "templates").iterdir() if path.is_dir()}
    assert {name for starter in STARTERS.values() for name in starter.templates} == folders - {"shared"}
    assert starters.STARTERS is STARTERS


def test_an_installed_wheel_renders_from_its_own_files(tmp_path: Path) -> None:
    """Built by the installed hatchling and unpacked as pip does it, far from any checkout."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "flux_cli", "init", "local", "orders", "--wheel", str(wheel)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "orders").iterdir()} >= {"app.py", "tests", "wheels"}
