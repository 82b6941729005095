"""On what the figures were measured, and how busy it was. It must not tell the machine's name or any path of it."""

from __future__ import annotations

import platform
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

QUIET = 0.5
"""A load (of one minute) below which nobody else can be said to use the machine."""


def describe(root: Path, folder: Path) -> dict[str, object]:
    """The machine, the interpreter, and the commit of the working tree `root`; `folder` holds the database files."""
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "file_system": _file_system(folder),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "commit": _commit(root),
    }


def slug(machine: dict[str, object]) -> str:
    """A file name's part that tells machines apart."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"\(r\)|\(tm\)|processor|cpu", " ", str(machine["cpu"]).lower()))
    return "-".join([*words[:4], f"{machine['cores']}cores"])


def load() -> float | None:
    """The load average of the last minute; None where the system does not tell."""
    try:
        return round(float(Path("/proc/loadavg").read_text(encoding="ascii").split()[0]), 2)
    except OSError:
        return None


def await_quiet(seconds: float) -> None:
    """Wait until nobody else uses the machine, `seconds` at most."""
    end = time.monotonic() + seconds
    while (now := load()) is not None and now >= QUIET and time.monotonic() < end:
        print(f"load {now}: waiting until it is below {QUIET}", file=sys.stderr)
        time.sleep(5)


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _file_system(folder: Path) -> str:
    """The type of the file system under `folder`: a commit costs what its disk takes."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return "unknown"
    resolved = folder.resolve()
    over = [mount for mount in mounts if resolved.is_relative_to(mount[1])]
    return max(over, key=lambda mount: len(mount[1]))[2] if over else "unknown"


def _commit(root: Path) -> str:
    def git(*words: str) -> str:
        run = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)  # noqa: S607
        return run.stdout.strip() if run.returncode == 0 else ""

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "flux_core", "adapters", "benchmarks")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (" and changes" if changed else "")
