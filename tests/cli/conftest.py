"""`flux` on small apps: in this process where that is enough, else as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from flux_cli.program import program

if TYPE_CHECKING:
    from typer.testing import Result

ROOT = Path(__file__).resolve().parents[2]

GREETINGS = """
from flux_core import FluxEngine, MemoryStorage, NonRetryable, RetryPolicy, create_workflow, sleep, wait

class Wrong(NonRetryable):
    pass

greeted = []

def check(raw):
    if not isinstance(raw, dict) or "name" not in raw:
        raise ValueError("a greeting needs a name")

def greet(ctx):
    greeted.append(ctx.input["name"])
    if ctx.input["name"] == "nobody":
        raise Wrong("nobody is there")
    if ctx.input["name"] == "later" and ctx.attempt == 1:
        raise RuntimeError("come again")
    return "hello " + ctx.input["name"]

def answer(ctx):
    if ctx.input["name"] == "waiting":
        return wait("reply")
    if ctx.input["name"] == "sleepy":
        return sleep(0.3)

def ungreet(ctx):
    pass

def part(ctx):
    if ctx.input["name"] == "rude":
        raise Wrong("he left without a word")

greeting = (
    create_workflow("greeting", retry=RetryPolicy(initial=0.01))
    .input(check)
    .step("greet", greet, compensate=ungreet)
    .step("answer", answer)
    .step("part", part)
)
engine = FluxEngine(MemoryStorage(), workflows=[greeting])

def make():
    return engine
"""


COMMAND = typer.main.get_command(program)
"""Built once: typer builds the tree at every call otherwise, which is most of a call's time."""


class Flux:
    """Runs `flux` in a folder of its own, whose module `app` is importable under a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = f"app_{abs(hash(str(folder)))}"
        self.app = f"{self.module}:engine"

    def write_app(self, source: str) -> None:
        (self.folder / f"{self.module}.py").write_text(dedent(source), encoding="utf-8")

    def write_lines(self, *lines: object, name: str = "in.jsonl") -> str:
        """Each a line: text as it is, everything else as JSON."""
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (self.folder / name).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return name

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """In this process."""
        return CliRunner().invoke(program, list(arguments), input=stdin)

    def run(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """`flux run --app` with the app of this folder."""
        return self("run", "--app", self.app, *arguments, stdin=stdin)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """As a process of its own."""
        paths = os.pathsep.join((str(ROOT), str(ROOT / "adapters")))
        environment = options.pop("env", os.environ)
        return subprocess.Popen(
            [sys.executable, "-m", "flux_cli", *arguments],
            cwd=self.folder,
            env=environment | {"PYTHONPATH": paths},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )


def module_of(flux: Flux) -> Any:
    """The module of the app, as the command line imports it."""
    return import_module(flux.module)


@pytest.fixture
def flux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flux:
    """`flux` in an empty folder with the app of greetings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr("typer.testing._get_command", lambda _: COMMAND)
    tool = Flux(tmp_path)
    tool.write_app(GREETINGS)
    return tool
