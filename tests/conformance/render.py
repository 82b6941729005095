"""`python -m tests.conformance.render` writes `docs/conformance.md` from the table; a test tells if it is stale."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.known import CLASSES, PAGES
from tests.conformance.table import Row, cases, rows

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
_HEAD = """\
# Conformance with the original engine

<!-- Written by `python -m tests.conformance.render` from tests/conformance/; do not edit. -->

The workflow model comes from a TypeScript engine. Its behaviour was recorded in two builds, as cases that are data
(`tests/conformance/cases.json`): a workflow, operations, and what was observed. Each case is run on our engine.

- **same**: outcomes, statuses, step statuses and retries, data, handler order and trace event order agree with one of
  the builds. Hooks and back-off delays are compared as well; where only they differ, a note says why.
- **deliberate**: it differs, for the reason given. `tests/conformance/table.toml` holds our value of every part that
  differs, so a change on either side makes a test fail.

"""
_MORE = """
## Running other cases

`python -m tests.conformance.run FILE.json [ID ...]` runs a file of the same form (`{"cases": [...]}` or a list) and
prints one line a case: `same`, `deliberate`, `DIFFERENT`, or `CANNOT RUN` for a word that the
interpreter does not know. Below it stands each part that differs, ours and theirs, as in

```text
deliberate   retry-07  data writes of failed attempts accumulate
             failed-attempts: docs/decisions/behaviour-failed-attempts-leave-nothing.md
             1 execute data
               ours    {"n": 1}
               theirs  {"n": 3}  (flux-3.0.1)
```

An operation is named by its place and verb (`1 execute`). A part marked `!` is one that no known class accounts for;
it makes the case `DIFFERENT`, and the exit status 1. `--quiet` leaves out the parts of deliberate cases.

The known classes are rules in `tests/conformance/known.py`. Each turns what the original did into what we do instead,
and a difference counts as deliberate only if the result is exactly our observation. After a verb that we refuse (or
that takes another course on purpose) later operations are about another history; their differences are shown, and
do not count.

How a case is carried over: milliseconds become seconds; time is virtual, so back-offs take none; `saveState` and
`patchStored` have no counterpart; `recovery: {"type": "retry"}` becomes the compensation's `retries`; jitter is
switched off, since the original has none. A group `{"parallel": [steps]}` becomes a `.parallel` whose branches are its
members, with `on_error="wait_all"`; the entry of the parallel itself is left out, and the order among the members of
a group is not compared. In `concurrent` each verb begins while a handler of the one before it runs.

| class | what we do | page |
|---|---|---|
"""


def page() -> str:
    """The text of `docs/conformance.md`."""
    counts: dict[str, int] = {}
    for row in rows().values():
        counts[row.verdict] = counts.get(row.verdict, 0) + 1
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("same", "deliberate") if verdict in counts)
    lines = [f"{len(rows())} cases: {told}.", "", "| case | title | verdict | reason |", "|---|---|---|---|"]
    lines += [f"| {id_} | {cases()[id_]['title']} | {row.verdict} | {_reason(row)} |" for id_, row in rows().items()]
    classes = [f"| {known.name} | {_sentence(known.rewrite.__doc__)} | {_link(known.page)} |" for known in CLASSES]
    return _HEAD + "\n".join(lines) + "\n" + _MORE + "\n".join(classes) + "\n"


def _reason(row: Row) -> str:
    pages = ", ".join(_link(one) for one in dict.fromkeys(PAGES[name] for name in row.classes))
    if row.verdict == "same" and pages:
        return f"Hooks: {pages}"
    return f"{row.because} {pages}".strip()


def _link(page: str) -> str:
    name = page.removeprefix("docs/")
    return f"[{name.removeprefix('decisions/behaviour-').removesuffix('.md').replace('-', ' ')}]({name})"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
