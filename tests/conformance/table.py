"""The table of verdicts, one row a case, read from `table.toml`. It judges nothing; `test_conformance.py` does."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Row(NamedTuple):
    """What is held of one case: the verdict, why, by which known classes, and our value of each part that differs."""

    verdict: str
    because: str
    classes: list[str]
    ours: dict[str, Any]


@cache
def cases() -> dict[str, dict[str, Any]]:
    """The recorded cases by id."""
    read = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
    return {case["id"]: case for case in read["cases"]}


@cache
def rows() -> dict[str, Row]:
    """The rows by id."""
    read = tomllib.loads((HERE / "table.toml").read_text(encoding="utf-8"))
    return {
        id_: Row(
            row["verdict"],
            row.get("because", ""),
            row.get("classes", []),
            {key: json.loads(text) for key, text in row.get("ours", {}).items()},
        )
        for id_, row in read.items()
    }
