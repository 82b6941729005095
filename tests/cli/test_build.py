"""`flux build`: one zip for a cloud, the same bytes for the same input."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flux_cli.bytecode import compiled
from tests.cli.test_misuse import refused

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.cli.conftest import Flux

HERE = "{}.{}".format(*sys.version_info[:2])
ENTRIES = {"aws": "app.py", "gcp": "main.py", "azure": "function_app.py"}
TINY = "tiny-1.0-py3-none-any.whl"


def write_wheel(folder: Path, name: str = "tiny", version: str = "1.0") -> Path:
    """A wheel with one module and a script, which asks for nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "def known(word):\n    return word in {'x', 'y', 'z'}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name} = {name}:known\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


@pytest.fixture(autouse=True)
def project(flux: Flux, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose one requirement is a wheel in it. pip asks no index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    write_wheel(flux.folder / "wheels")
    source = flux.folder / "src"
    source.mkdir()
    for entry in ENTRIES.values():
        (source / entry).write_text("import tiny\nfrom workflows import NAME\nHELLO = tiny.known('x'), NAME\n")
    (source / "workflows.py").write_text("NAME = 'order'\n")
    (source / "requirements.txt").write_text(f"./wheels/{TINY}\n")
    return source


def built(flux: Flux, cloud: str, *options: str) -> dict[str, bytes]:
    """The files of the package."""
    done = flux("build", cloud, "--python", HERE, *options)
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(f"build/{cloud}.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sha256(done: Result) -> str:
    assert done.exit_code == 0, done.output
    return done.stdout.rpartition("sha256 ")[2].strip()


class TestThePackage:
    def test_of_aws_has_the_dependencies_beside_the_sources(self, flux: Flux) -> None:
        names = {name for name in built(flux, "aws") if not name.endswith(".pyc")}
        assert {"app.py", "workflows.py", "tiny/__init__.py", "tiny-1.0.dist-info/METADATA"} <= names

    def test_of_azure_has_them_where_its_worker_looks(self, flux: Flux) -> None:
        names = set(built(flux, "azure"))
        assert {"function_app.py", ".python_packages/lib/site-packages/tiny/__init__.py"} <= names
        assert "tiny/__init__.py" not in names

    def test_of_google_has_what_its_own_build_installs(self, flux: Flux) -> None:
        files = built(flux, "gcp")
        assert set(files) == {*ENTRIES.values(), "workflows.py", "requirements.txt", f"wheels/{TINY}"}
        assert files["requirements.txt"].decode() == f"./wheels/{TINY}\n"

    def test_runs_without_the_project(self, flux: Flux, tmp_path_factory: pytest.TempPathFactory) -> None:
        built(flux, "aws")
        there = tmp_path_factory.mktemp("task")
        with zipfile.ZipFile("build/aws.zip") as archive:
            archive.extractall(there)
        said = subprocess.check_output(
            [sys.executable, "-S", "-c", "import app, tiny; print(app.HELLO, tiny.__cached__)"], cwd=there, text=True
        )
        assert said.startswith("(True, 'order')")
        assert f"cpython-{HERE.replace('.', '')}.pyc" in said

    def test_says_nothing_of_the_machine_that_made_it(self, flux: Flux, project: Path) -> None:
        files = built(flux, "aws")
        assert not [name for name in files if name.startswith("bin/") or name.endswith(("RECORD", "direct_url.json"))]
        assert not [name for name, content in files.items() if str(flux.folder).encode() in content]

    def test_takes_a_wheel_of_flux_that_no_index_has(self, flux: Flux, project: Path) -> None:
        wheel = write_wheel(flux.folder / "elsewhere", "flux_serverless", "9.9.9")
        (project / "requirements.txt").write_text("flux-serverless==9.9.9\n")
        assert "flux_serverless/__init__.py" in built(flux, "aws", "--wheel", str(wheel))
        files = built(flux, "gcp", "--wheel", str(wheel))
        assert files[f"wheels/{wheel.name}"] == wheel.read_bytes()
        assert files["requirements.txt"].decode() == "--find-links wheels\nflux-serverless==9.9.9\n"


class TestTheSameInput:
    @pytest.mark.parametrize("cloud", list(ENTRIES))
    def test_makes_the_same_bytes_whatever_the_times_of_the_files(self, flux: Flux, project: Path, cloud: str) -> None:
        first = sha256(flux("build", cloud, "--python", HERE))
        for file in project.iterdir():
            os.utime(file, (1, 1))
            file.chmod(0o600)
        (project / "__pycache__").mkdir(exist_ok=True)
        (project / "__pycache__" / "workflows.cpython-311.pyc").write_bytes(b"old")
        assert sha256(flux("build", cloud, "--python", HERE, "--output", "other.zip")) == first

    def test_another_source_makes_other_bytes(self, flux: Flux, project: Path) -> None:
        first = sha256(flux("build", "gcp"))
        (project / "workflows.py").write_text("NAME = 'other'\n")
        assert sha256(flux("build", "gcp")) != first


class TestBytecode:
    def test_is_taken_without_a_look_at_the_source(self, flux: Flux) -> None:
        files = {name: content for name, content in built(flux, "aws").items() if name.endswith(".pyc")}
        assert f"__pycache__/app.cpython-{HERE.replace('.', '')}.pyc" in files
        assert {content[4:8] for content in files.values()} == {b"\x01\x00\x00\x00"}, "PEP 552: by hash, unchecked"

    def test_that_differs_from_time_to_time_is_left_out(self, tmp_path: Path) -> None:
        python = tmp_path / "python"
        python.write_text(
            f"#!{sys.executable}\n"
            "import pathlib, sys\n"
            "out = pathlib.Path(sys.argv[4])\n"
            "out.mkdir()\n"
            "(out / 'same.pyc').write_text('same')\n"
            "(out / 'other.pyc').write_text(sys.argv[5])\n"
        )
        python.chmod(0o755)
        assert list(compiled(str(python), tmp_path, tmp_path)) == [(Path("same.pyc"), b"same")]

    def test_of_a_python_that_is_not_here_is_left_to_the_function(self, flux: Flux) -> None:
        done = flux("build", "aws", "--python", "3.99")
        assert done.exit_code == 0, done.output
        assert "there is no python3.99 on PATH" in done.stderr
        assert "(0 of them bytecode)" in done.stdout


class TestRefused:
    def test_a_folder_without_the_entry_point(self, flux: Flux, project: Path) -> None:
        (project / "app.py").unlink()
        refused(flux("build", "aws"), 2, "there is no 'src/app.py'", "--source FOLDER")

    def test_a_folder_without_requirements(self, flux: Flux, project: Path) -> None:
        (project / "requirements.txt").unlink()
        refused(flux("build", "gcp"), 2, "there is no 'src/requirements.txt'")

    def test_a_wheel_that_is_named_and_not_there(self, flux: Flux) -> None:
        """Google's build would find it out, long after this."""
        Path("wheels", TINY).unlink()
        refused(flux("build", "gcp"), 2, f"there is no 'wheels/{TINY}', which 'src/requirements.txt' asks for")
        assert not Path("build").exists()

    def test_a_requirement_that_pip_does_not_find(self, flux: Flux, project: Path) -> None:
        (project / "requirements.txt").write_text("no-such-thing==1\n")
        done = flux("build", "aws")
        refused(done, 3, "pip cannot install 'src/requirements.txt' for Python 3.13 on arm64", "no-such-thing")
        assert not Path("build").exists()

    def test_a_wheel_that_is_newer_than_the_functions_linux(self, flux: Flux, project: Path) -> None:
        """Lambda's Python 3.11 runs on Amazon Linux 2, 3.12 and later on Amazon Linux 2023."""
        wheel = Path("wheels", TINY).rename(Path("wheels", "tiny-1.0-py3-none-manylinux_2_28_aarch64.whl"))
        (project / "requirements.txt").write_text(f"./{wheel}\n")
        refused(flux("build", "aws", "--python", "3.11"), 3, "pip cannot install", "for Python 3.11 on arm64")
        assert flux("build", "aws", "--python", "3.12").exit_code == 0

    def test_a_cloud_that_there_is_not(self, flux: Flux) -> None:
        refused(flux("build", "mars"), 2, "there is no package for 'mars'; there are aws, gcp, azure")

    def test_a_version_that_is_none(self, flux: Flux) -> None:
        refused(flux("build", "aws", "--python", "latest"), 2, "--python must be a version such as 3.13")

    def test_a_processor_that_there_is_not(self, flux: Flux) -> None:
        refused(flux("build", "aws", "--architecture", "z80"), 2, "--architecture must be arm64 or x86_64")
