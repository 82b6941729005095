"""`python -m tests.conformance.run FILE.json [ID ...]`: how our engine does on a file of recorded cases.

One line a case: `same`, `deliberate` (with the pages that say why), `DIFFERENT`, or `CANNOT RUN` (a word of the case is
not known). Below it every part that differs, ours and theirs. Ends with 1 if anything is DIFFERENT or cannot be run,
so that it can stand in a script; `--quiet` leaves the parts of deliberate cases out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tests.conformance.behaviours import UnknownInCase
from tests.conformance.comparison import Comparison, compare
from tests.conformance.interpreter import run_case
from tests.conformance.known import PAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

BAD = frozenset({"DIFFERENT", "CANNOT RUN"})


def report(case: dict[str, Any], out: TextIO, *, quiet: bool) -> str:
    """Run one case, print what came of it, and return the verdict."""
    head = f"{case['id']}  {case.get('title', '')}"
    try:
        ours = run_case(case)
    except UnknownInCase as error:
        out.write(f"CANNOT RUN   {head}\n             {error}\n")
        return "CANNOT RUN"
    except Exception as error:  # noqa: BLE001 -- one case that breaks must not hide what the others say
        out.write(f"CANNOT RUN   {head}\n             it raised {error!r}\n")
        return "CANNOT RUN"
    found = compare(case, ours)
    if found is None:
        out.write(f"no reference {head}\n             no build of the original was observed to run this case\n")
        return "no reference"
    out.write(f"{found.verdict:<12} {head}\n")
    if found.verdict == "DIFFERENT" or (found.verdict == "deliberate" and not quiet):
        _explain(found, out)
    return found.verdict


def _explain(found: Comparison, out: TextIO) -> None:
    for page in dict.fromkeys(PAGES[name] for name in found.classes):
        names = ", ".join(name for name in found.classes if PAGES[name] == page)
        out.write(f"             {names}: {page}\n")
    for one in found.differences:
        mark = " " if one.explained else "!"
        out.write(f"           {mark} {one.key}\n")
        out.write(f"               ours    {json.dumps(one.ours)}\n")
        out.write(f"               theirs  {json.dumps(one.theirs)}  ({found.build})\n")


def main(arguments: Sequence[str], out: TextIO = sys.stdout) -> int:
    """Run the cases of a file (`{"cases": [...]}` or a list); ids after the file choose some of them."""
    quiet = "--quiet" in arguments
    names = [argument for argument in arguments if argument != "--quiet"]
    if not names:
        out.write(f"{__doc__}\n")
        return 2
    read = json.loads(Path(names[0]).read_text(encoding="utf-8"))
    cases = read["cases"] if isinstance(read, dict) else read
    counts: dict[str, int] = {}
    for case in cases:
        if names[1:] and case["id"] not in names[1:]:
            continue
        verdict = report(case, out, quiet=quiet)
        counts[verdict] = counts.get(verdict, 0) + 1
    out.write(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())) + "\n")
    return 1 if BAD & set(counts) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
