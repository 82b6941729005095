"""Infrastructure and adapters use the same names: settings, and what the stores are made of."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING

import pytest

from tests.infra.sam import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {
    "aws": ("flux_core.hosting", "flux_aws.settings"),
    "gcp": ("flux_core.hosting", "flux_gcp.settings"),
    "azure": ("flux_core.hosting", "flux_azure.settings"),
}
"""By cloud: the modules that say what a function is told by its environment."""
NAME = re.compile(r"FLUX_[A-Z_]+")


def files(cloud: str) -> list[Path]:
    """What is written for a cloud."""
    found = [path for path in (ROOT / "infra" / cloud).rglob("*") if path.suffix in {".yaml", ".tf", ".hcl", ".md"}]
    return [path for path in found if ".terraform" not in path.parts]


def known(cloud: str) -> set[str]:
    """The names that a function on that cloud reads."""
    names = set()
    for module in SETTINGS[cloud]:
        constants = vars(importlib.import_module(module)).values()
        names |= {one for one in constants if isinstance(one, str) and NAME.fullmatch(one)}
    return names


@pytest.mark.parametrize("cloud", SETTINGS)
def test_every_setting_is_one_that_the_adapter_reads(cloud: str) -> None:
    written = {(path.name, name) for path in files(cloud) for name in NAME.findall(path.read_text())}
    assert {one for one in written if one[1] not in known(cloud)} == set()


@pytest.mark.parametrize("cloud", SETTINGS)
def test_what_a_deployment_cannot_do_without_is_set(cloud: str) -> None:
    needed = {
        "aws": {"FLUX_TABLE", "FLUX_PAYLOADS", "FLUX_QUEUE_URL", "FLUX_SWEEPER", "FLUX_HOP_BUDGET",
                "FLUX_PUBLIC_URL", "FLUX_CALLBACK_SECRET", "FLUX_METRICS", "FLUX_PURGE_AFTER"},
        "gcp": {"FLUX_PROJECT", "FLUX_DATABASE", "FLUX_PAYLOADS", "FLUX_TASKS_QUEUE", "FLUX_WORKER_URL",
                "FLUX_TASKS_ACCOUNT", "FLUX_SWEEPER", "FLUX_PUBLIC_URL", "FLUX_CALLBACK_KEYS", "FLUX_PURGE_AFTER",
                "FLUX_CALLBACK_SECRET", "FLUX_ROTATE_AFTER"},
        "azure": {"FLUX_STORAGE", "FLUX_PAYLOADS", "FLUX_QUEUE", "FLUX_BUDGET", "FLUX_PUBLIC_URL",
                  "FLUX_CALLBACK_KEYS", "FLUX_PURGE_AFTER", "FLUX_CALLBACK_SECRET", "FLUX_ROTATE_AFTER"},
    }  # fmt: skip
    folders = {path.parent for path in files(cloud) if path.suffix in {".yaml", ".tf"}}
    assert folders
    for folder in folders:
        text = "".join(path.read_text() for path in folder.iterdir() if path.suffix in {".yaml", ".tf"})
        assert needed[cloud] <= {*NAME.findall(text)}, folder
