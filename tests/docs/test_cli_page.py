"""docs/cli.md is true: its walk is walked, and it names every command, option and exit code there is."""

from __future__ import annotations

import re
import shlex
import sys
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner

from flux_cli import exits
from flux_cli.program import program
from tests.docs.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def shape(text: str) -> list[str]:
    """The lines without what differs from run to run: keys, figures and spaces."""
    return [re.sub(r"[0-9a-f]{32}|<?\d+", "9", " ".join(line.split())) for line in text.splitlines()]


def test_its_walk_ends_as_it_says_and_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    (tmp_path / "orders_app.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "orders_app", raising=False)
    printed = ""
    for kind, block in re.findall(r"```(bash|text)\n(.*?)```", section("A walk"), re.DOTALL):
        if kind == "text":
            assert shape(printed) == shape(block)
            continue
        for line in block.splitlines():
            name, *words = shlex.split(line, comments=True)
            if name == "export":
                monkeypatch.setenv(*words[0].split("=", 1))
                continue
            done = CliRunner().invoke(program, words)
            printed = done.stdout
            said = re.search(r"# exit code (\d+)", line)
            assert done.exit_code == (int(said[1]) if said else 0), (line, done.output)
    engine = sys.modules["orders_app"].engine
    assert [(item.id, item.status) for item in engine.list().items] == [("o-2", "cancelled"), ("o-1", "completed")]
    engine.storage.close()


COMMANDS = typer.main.get_command(program).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_it_names_every_command_and_its_options(name: str) -> None:
    assert f"`flux {name}" in section("Commands")
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")}
    missing = {option for option in options - {"--help"} if f"`{option}`" not in section("Commands")}
    assert missing == set()


def test_it_names_every_exit_code() -> None:
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)} == codes
