"""The result as JSON and as a table. It must not measure, nor change a figure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.figure import Figure

    Result = dict[str, object]


def write(folder: Path, name: str, result: Result, figures: list[Figure]) -> list[Path]:
    """`name`.json and `name`.md in `folder`; the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = result | {"figures": [{**figure._asdict(), "verdict": figure.verdict} for figure in figures]}
    made = folder / f"{name}.json", folder / f"{name}.md"
    made[0].write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    made[1].write_text(markdown(result, figures), encoding="utf-8")
    return list(made)


def markdown(result: Result, figures: list[Figure]) -> str:
    """The whole result for a reader."""
    machine, load = result["machine"], result["load"]
    assert isinstance(machine, dict)
    assert isinstance(load, dict)
    quick = " (quick: it says nothing of speed)" if result["quick"] else ""
    lines = [f"# Benchmark of {result['date']}{quick}", "", _MACHINE.format(**machine, **load), "", _METHOD]
    for topic in dict.fromkeys(figure.topic for figure in figures):
        chosen = [figure for figure in figures if figure.topic == topic]
        table = _matrix(chosen) if all(": " in figure.name for figure in chosen) else _table(chosen)
        lines += ["", f"## {topic[0].upper()}{topic[1:]}", "", *table]
    modules = result.get("modules")
    if isinstance(modules, dict):
        lines += ["", "Modules that `import flux_core` adds:", ""]
        lines += [f"- {name}: {', '.join(found) or 'none'}" for name, found in modules.items()]
    return "\n".join(lines) + "\n"


_MACHINE = (
    "{cpu}, {cores} cores, {system}, {file_system}; {python}, SQLite {sqlite}; commit {commit}. "
    "Load of the last minute: {before} before, {after} after. Made by `make bench`."
)
_METHOD = (
    "What is compared was measured in turn, in one run. The verdict is by the median; best is the least of all "
    "samples, low and high are the first and third quartile. Flat: half the distance between the dearest and the "
    "cheapest length of a workflow over their middle. At 10 steps the start and the end of the instance show."
)


def _matrix(figures: Sequence[Figure]) -> list[str]:
    """Figures named `row: column`, median first and the best in brackets; a missed one is bold."""
    rows = list(dict.fromkeys(figure.name.partition(": ")[0] for figure in figures))
    columns = list(dict.fromkeys(figure.name.partition(": ")[2] for figure in figures))
    cells = {figure.name: figure for figure in figures}
    lines = ["| | " + " | ".join(columns) + " | verdict |", "|---|" + "--:|" * len(columns) + "---|"]
    for row in rows:
        shown, missed, aims = [], [], set()
        for column in columns:
            figure = cells.get(f"{row}: {column}")
            if figure is None:
                shown.append("")
                continue
            aims.add(figure.target)
            mark = "**" if figure.verdict == "missed" else ""
            missed += [column] if mark else []
            aim = "" if figure.target is None else f", target {figure.target:g}"
            shown.append(f"{mark}{_shown(figure.median)}{mark} ({_shown(figure.best)}) {figure.unit}{aim}")
        verdict = f"missed: {'; '.join(missed)}" if missed else "" if aims == {None} else "met"
        lines.append(f"| {row} | {' | '.join(shown)} | {verdict} |")
    return lines


def _table(figures: Sequence[Figure]) -> list[str]:
    lines = [
        "| figure | unit | best | median | low | high | target | verdict |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for figure in figures:
        numbers = " | ".join(_shown(value) for value in (figure.best, figure.median, figure.low, figure.high))
        target = "" if figure.target is None else f"{figure.target:g}"
        lines.append(f"| {figure.name} | {figure.unit} | {numbers} | {target} | {figure.verdict} |")
    return lines


def _shown(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.1f}"
