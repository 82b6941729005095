"""The commands in bash blocks exist: make targets, subcommands and options of flux, extras, modules and files."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from importlib.util import find_spec

import pytest

from tests.docs.conftest import ROOT, bash_blocks, documents, name_of


def commands() -> list[tuple[str, str]]:
    """Page and line of every command in a bash block."""
    return [
        (name_of(page), line)
        for page in documents()
        for block in bash_blocks(page)
        for line in block.parsed.splitlines()
        if line.strip() and not line.startswith("#")
    ]


@cache
def help_of(subcommand: str) -> str:
    """What `flux SUBCOMMAND --help` prints; empty if there is no such subcommand."""
    program = (
        f"import sys; sys.argv = ['flux', *{subcommand.split()!r}, '--help']; from flux_cli.main import run; run()"
    )
    paths = [str(ROOT), str(ROOT / "adapters")]
    script = f"import sys; sys.path[:0] = {paths!r}; {program}"
    shown = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.stdout) if shown.returncode == 0 else ""


def problem(command: str) -> str | None:
    """Why `command` cannot be run in a checkout; None if it can."""
    name, *arguments = shlex.split(command, comments=True)
    match name:
        case "make":
            targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
            missing = [word for word in arguments if re.fullmatch(r"[a-z]+", word) and word not in targets]
            return f"no make target {missing[0]}" if missing else None
        case "flux":
            shown = help_of("" if arguments[0].startswith("--") else arguments[0])
            if not shown:
                return f"no subcommand {arguments[0]}"
            unknown = [word for word in arguments if word.startswith("--") and word not in shown]
            files = [word for word in arguments if word.endswith(".jsonl") and not (ROOT / word).is_file()]
            if unknown or files:
                return f"there is no {(unknown + files)[0]}"
            return _id_field_problem(arguments)
        case "pip" if arguments[:1] == ["install"]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
            extras = {extra for word in arguments for extra in re.findall(r"\[(.+)\]", word)}
            wrong = extras - set(project["optional-dependencies"])
            return f"no extra {wrong}" if wrong else None
        case "export" if len(arguments) == 1 and arguments[0].startswith(("FLUX_", "FIRESTORE_")):
            return None
        case "curl":  # tests/docs/test_http_page.py makes these requests
            here = any(word.startswith("http://127.0.0.1:8000/") for word in arguments)
            return None if here else "it asks somebody else"
        case "python" if arguments[:1] == ["-m"]:
            return None if find_spec(arguments[1]) else f"no module {arguments[1]}"
        case _:
            return f"nothing is known of the command {name}"


def _id_field_problem(arguments: list[str]) -> str | None:
    if "--id-field" not in arguments:
        return None
    field = arguments[arguments.index("--id-field") + 1]
    for word in arguments:
        if word.endswith(".jsonl"):
            first = (ROOT / word).read_text(encoding="utf-8").partition("\n")[0]
            return None if field in json.loads(first) else f"{word} has no field {field}"
    return None


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_in_a_page_exists(page: str, command: str) -> None:
    assert problem(command) is None


@pytest.mark.parametrize(
    "command",
    [
        "make dinner",
        "flux fly",
        "flux run --no-such-option",
        "flux run --app a:b examples/no_such_file.jsonl",
        "flux run --app a:b --id-field shoe_size examples/order_fulfilment/orders.jsonl",
        "pip install '.[no-such-extra]'",
        "python -m no_such_module",
        "curl https://example.com/workflows",
        "rm -rf .",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    assert problem(command) is not None
