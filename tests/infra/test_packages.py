"""What is deployed: the package of each starter, made with what the package index has, and the stack that takes it."""

from __future__ import annotations

import _imp
import os
import re
import shutil
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import boto3
import pytest

from flux_cli.packages import TARGETS
from flux_cli.starters import STARTERS
from tests.infra import packages, sam
from tests.infra.test_sam_cli import run
from tests.services.terraform import Module, aws_module, schema_module

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.services.moto import Moto

pytestmark = pytest.mark.infra

KINDS = {"aws": "aws", "gcp": "gcp", "azure": "azure"}
"""By cloud, a starter whose package is for it."""
MEGABYTE = 1_000_000
LARGEST = {"aws": 40 * MEGABYTE, "gcp": MEGABYTE, "azure": 40 * MEGABYTE}
"""Lambda takes 50 in one request; what Google's own build installs is not in its package."""
CREDENTIALS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
every_cloud = pytest.mark.parametrize("cloud", list(TARGETS))


class Built(NamedTuple):
    """A project, and its package twice."""

    project: Path
    told: str
    first: Path
    second: Path

    def files(self) -> Mapping[PurePosixPath, bytes]:
        """What is in the package."""
        return content(self.first)


def content(package: Path) -> dict[PurePosixPath, bytes]:
    with zipfile.ZipFile(package) as archive:
        return {PurePosixPath(name): archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages.wheel_of_flux(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def built(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Built]:
    """By cloud."""
    made = {}
    for cloud, kind in KINDS.items():
        project = packages.project(kind, tmp_path_factory.mktemp(cloud), wheel)
        told = packages.flux(project, "build", cloud)
        for file in project.rglob("*.py"):
            os.utime(file, (1, 1))
        packages.flux(project, "build", cloud, "--output", "again.zip")
        made[cloud] = Built(project, told, project / "build" / f"{cloud}.zip", project / "again.zip")
    return made


def source_hash(magic: bytes, source: bytes) -> bytes:
    """What bytecode says of its source; `importlib.util` has it for the Python that runs alone."""
    return _imp.source_hash(int.from_bytes(magic, "little"), source)


class TestThePackage:
    @every_cloud
    def test_is_the_same_bytes_when_it_is_made_again(self, built: Mapping[str, Built], cloud: str) -> None:
        assert built[cloud].first.read_bytes() == built[cloud].second.read_bytes()

    @every_cloud
    def test_holds_the_entry_point_and_the_workflows(self, built: Mapping[str, Built], cloud: str) -> None:
        assert {PurePosixPath(TARGETS[cloud].entry), PurePosixPath("workflows.py")} <= built[cloud].files().keys()

    @every_cloud
    def test_is_no_larger_than_it_has_to_be(self, built: Mapping[str, Built], cloud: str) -> None:
        assert 0 < built[cloud].first.stat().st_size < LARGEST[cloud]

    @pytest.mark.parametrize(("cloud", "adapter"), [("aws", "flux_aws"), ("azure", "flux_azure")])
    def test_holds_flux_and_all_it_needs(self, built: Mapping[str, Built], cloud: str, adapter: str) -> None:
        folder = PurePosixPath(TARGETS[cloud].packages or "")
        needed = {"flux_core", "flux_blob", adapter, "obstore"} | ({"boto3", "botocore"} if cloud == "aws" else set())
        assert {folder / name / "__init__.py" for name in needed} <= built[cloud].files().keys()

    def test_of_google_holds_flux_for_its_own_build(self, built: Mapping[str, Built], wheel: Path) -> None:
        files = built["gcp"].files()
        assert files[PurePosixPath("wheels", wheel.name)] == wheel.read_bytes()
        assert files[PurePosixPath("requirements.txt")].decode().startswith(f"./wheels/{wheel.name}[")

    @pytest.mark.parametrize("cloud", ["aws", "azure"])
    def test_is_for_the_functions_machine(self, built: Mapping[str, Built], cloud: str) -> None:
        libraries = {path: library for path, library in built[cloud].files().items() if path.suffix == ".so"}
        machines = {b"\xb7\x00": "aarch64", b"\x3e\x00": "x86_64"}  # e_machine of ELF
        assert {machines[library[18:20]] for library in libraries.values()} == {MACHINES[TARGETS[cloud].architecture]}

    @pytest.mark.parametrize("cloud", ["aws", "azure"])
    def test_has_the_bytecode_of_its_sources(self, built: Mapping[str, Built], cloud: str) -> None:
        """Or none of them, where there is no Python of that version to make it; the command says so then."""
        files = built[cloud].files()
        version = TARGETS[cloud].python.replace(".", "")
        bytecode = {path: code for path, code in files.items() if path.suffix == ".pyc"}
        assert f"({len(bytecode)} of them bytecode)" in built[cloud].told
        for path, code in bytecode.items():
            assert path.name.endswith(f".cpython-{version}.pyc")
            source = files[path.parent.parent / f"{path.name.partition('.')[0]}.py"]
            assert code[8:16] == source_hash(code[:4], source), f"{path} is of another source"
        sources = [path for path in files if path.suffix == ".py"]
        assert not bytecode or len(bytecode) > 0.9 * len(sources)


class TestSam:
    """SAM takes the package as it is: its own builder finds no wheel of obstore for arm64."""

    def test_deploys_the_package_of_the_starter(
        self, built: Mapping[str, Built], tmp_path: Path, moto_cloud: Moto
    ) -> None:
        project = shutil.copytree(built["aws"].project, tmp_path / "shop")
        assert "is a valid SAM Template" in run(project, "validate", "--lint")
        assert deployed(project, moto_cloud) == {built["aws"].first.read_bytes()}

    def test_deploys_it_too_after_sam_build(self, built: Mapping[str, Built], tmp_path: Path, moto_cloud: Moto) -> None:
        project = shutil.copytree(built["aws"].project, tmp_path / "shop")
        assert "Build Succeeded" in run(project, "build")
        assert (project / ".aws-sam" / "build" / "template.yaml").is_file()
        assert deployed(project, moto_cloud) == {built["aws"].first.read_bytes()}

    def test_deploys_the_package_of_the_template_in_infra(self, wheel: Path, tmp_path: Path, moto_cloud: Moto) -> None:
        folder = shutil.copytree(sam.FOLDER, tmp_path / "sam")
        packages.flux(folder, "build", "aws", "--wheel", str(wheel))
        assert "Build Succeeded" in run(folder, "build")
        package = folder / "build" / "aws.zip"
        assert deployed(folder, moto_cloud) == {package.read_bytes()}
        names = {"app.py", "flux_aws/__init__.py", "flux_core/__init__.py"}
        assert {PurePosixPath(name) for name in names} <= content(package).keys()

    def test_runs_it_on_what_it_was_made_for(self) -> None:
        functions = sam.read()["Globals"]["Function"]
        target = TARGETS["aws"]
        assert (functions["Runtime"], functions["Architectures"]) == (f"python{target.python}", [target.architecture])


def deployed(folder: Path, aws: Moto) -> set[bytes]:
    """What the functions would get: `sam package` is the part of `sam deploy` that brings it to the bucket."""
    s3 = boto3.client("s3", endpoint_url=aws.endpoint, region_name="eu-central-1", **CREDENTIALS)
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    told = run(folder, "package", "--s3-bucket", "code", environment={"AWS_ENDPOINT_URL": aws.endpoint})
    places = re.findall(r"CodeUri: s3://code/(\S+)", told)
    assert len(places) == len(sam.of_type(sam.read(), "AWS::Serverless::Function"))
    code = {place: s3.get_object(Bucket="code", Key=place)["Body"].read() for place in set(places)}
    for place in code:
        s3.delete_object(Bucket="code", Key=place)
    s3.delete_bucket(Bucket="code")
    return set(code.values())


@pytest.mark.parametrize("kind", [kind for kind, starter in STARTERS.items() if "flux" in dict(starter.infra).values()])
def test_terraform_finds_the_project_valid(kind: str, wheel: Path, tmp_path: Path) -> None:
    project = packages.project(kind, tmp_path, wheel)
    cloud = kind.partition("-")[0]
    copy = tmp_path / "copy"
    copy.mkdir()
    module: Module = aws_module(project, copy, {}) if cloud == "aws" else schema_module(project, copy)
    assert "The configuration is valid" in module.check("validate")
    assert module.run("fmt", "-check", "-recursive").code == 0
