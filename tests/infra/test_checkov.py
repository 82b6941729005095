"""What checkov finds in `infra/` is what `infra/checkov.yaml` lists, each with a reason."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any, Final

import pytest

from tests.infra import sam
from tests.services.tools import CHECKOV

pytestmark = pytest.mark.infra

LIST: Final = sam.ROOT / "infra" / "checkov.yaml"
ENTRY: Final = re.compile(r"  - (CKV\w+) # (.+)")
OPTIONS: Final = (
    *("--framework", "cloudformation", "terraform", "--skip-download"),
    *("--quiet", "--compact", "--output", "json", "--soft-fail"),
)
OFFLINE: Final = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
"""Nothing that asks the network gets an answer."""


@pytest.fixture(scope="module")
def listed() -> dict[tuple[str, str], str]:
    """Check and resource, and the reason why it stays: the comment above, which several checks may share."""
    found: dict[tuple[str, str], str] = {}
    reason, above = "", False
    for line in LIST.read_text().partition("skip-check:\n")[2].splitlines():
        entry = ENTRY.fullmatch(line)
        if entry is None:
            comment = "" if line.startswith("  # ---") else line.removeprefix("  # ")
            reason = f"{reason} {comment}".strip() if above else comment
        else:
            found |= {(entry[1], resource): reason for resource in entry[2].split(", ")}
        above = entry is None
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What checkov says of Terraform's modules, the SAM template, and the template as CloudFormation gets it."""
    folder = shutil.copytree(LIST.parent, tmp_path_factory.mktemp("checkov") / "infra")
    (folder / "translated.json").write_text(json.dumps(sam.translate()))
    told = CHECKOV.run(folder, "--directory", ".", *OPTIONS, environment=OFFLINE)
    assert told.code == 0, told.error
    reports: list[dict[str, Any]] = json.loads(told.out)
    return reports


def findings(reports: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Check and resource, as the list has them: those of the templates by their logical ids."""
    return {
        (one["check_id"], re.sub(r"^AWS::\w+::\w+\.", "", one["resource"]))
        for report in reports
        for one in report["results"]["failed_checks"]
    }


def test_it_reads_all_there_is(found: list[dict[str, Any]]) -> None:
    assert [report["summary"]["parsing_errors"] for report in found] == [0] * len(found)
    assert sum(report["summary"]["passed"] for report in found) > 200


def test_what_it_finds_is_listed_and_what_is_listed_it_finds(
    found: list[dict[str, Any]], listed: dict[tuple[str, str], str]
) -> None:
    assert findings(found) == set(listed)


def test_every_entry_has_its_reason(listed: dict[tuple[str, str], str]) -> None:
    assert [entry for entry, reason in listed.items() if not re.fullmatch(r"[A-Z].{40,}\.", reason)] == []


def test_with_the_list_it_has_nothing_to_say() -> None:
    told = CHECKOV.run(sam.ROOT, "--config-file", "infra/checkov.yaml", environment=OFFLINE)
    assert told.code == 0, told.out + told.error
    assert re.findall(r"Failed checks: (\d+), Skipped checks: (\d+)", told.out) == [("0", "0")] * 2
