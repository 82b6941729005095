"""Our engine beside the recorded original: every case has a row, every row holds, and the recogniser can say no."""

from __future__ import annotations

import copy
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import render
from tests.conformance.behaviours import UnknownInCase
from tests.conformance.comparison import NOTED, Comparison, compare
from tests.conformance.interpreter import run_case
from tests.conformance.known import PAGES
from tests.conformance.run import main
from tests.conformance.table import HERE, cases, rows

ROOT = Path(__file__).resolve().parents[2]
RUN = list(rows())


@cache
def observed(id_: str) -> dict[str, Any]:
    return run_case(cases()[id_])


def compared(id_: str, ours: dict[str, Any] | None = None) -> Comparison:
    found = compare(cases()[id_], observed(id_) if ours is None else ours)
    assert found is not None
    return found


def test_every_case_has_a_row_in_the_same_order() -> None:
    assert list(rows()) == list(cases())


@pytest.mark.parametrize("id_", RUN)
def test_the_verdict_of_the_row_is_what_comparing_gives(id_: str) -> None:
    found = compared(id_)
    assert found.unexplained == []
    assert (found.verdict, found.classes) == (rows()[id_].verdict, rows()[id_].classes)


@pytest.mark.parametrize("id_", RUN)
def test_what_differs_is_exactly_what_the_row_holds(id_: str) -> None:
    assert {difference.key: difference.ours for difference in compared(id_).differences} == rows()[id_].ours


@pytest.mark.parametrize("id_", [id_ for id_ in RUN if rows()[id_].verdict == "same"])
def test_a_row_that_is_the_same_differs_in_hooks_and_delays_at_most(id_: str) -> None:
    assert {key.rpartition(" ")[2] for key in rows()[id_].ours} <= NOTED


@pytest.mark.parametrize("id_", [id_ for id_, row in rows().items() if row.verdict != "same"])
def test_a_row_that_is_not_the_same_says_why(id_: str) -> None:
    row = rows()[id_]
    assert row.because.endswith(".")
    assert row.classes


@pytest.mark.parametrize("page", sorted(set(PAGES.values())))
def test_every_page_that_is_cited_exists_and_tells_both_sides(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "**Ours.**" in text or "| ours |" in text
    assert "**The original.**" in text or "| 3.0.1 |" in text


def test_every_page_about_behaviour_is_cited() -> None:
    pages = {f"docs/decisions/{path.name}" for path in (ROOT / "docs" / "decisions").glob("behaviour-*.md")}
    assert pages == set(PAGES.values())


def test_the_page_is_up_to_date() -> None:
    assert render.PAGE.read_text(encoding="utf-8") == render.page()


# --- the recogniser can say no -----------------------------------------------------------------------------------


def spoilt(id_: str, part: str) -> dict[str, Any]:
    """Our observation of the case with one part of its first operation made wrong."""
    ours = copy.deepcopy(observed(id_))
    first = ours["ops"][0]
    match part:
        case "handlers":
            first["handlers"] = [*first.get("handlers", []), "run:ghost#1"]
        case "trace":
            first["trace"] = [{"type": "step:start", "stepName": "ghost"}, *first.get("trace", [])]
        case "hooks":
            first["hooks"] = [*first.get("hooks", []), "stepComplete:ghost"]
        case "outcome":
            first.pop("result", None)
            first["threw"] = {"type": "Refused", "message": "made wrong"}
        case _:
            first["result"][part] = {"status": "cancelled", "history": [], "data": {"ghost": 1}}[part]
    return ours


INSTANCES = [
    id_
    for id_ in RUN
    if cases()[id_]["ops"][0]["op"] == "execute" and "status" in (observed(id_)["ops"][0].get("result") or {})
]


@pytest.mark.parametrize("part", ["handlers", "trace", "hooks", "outcome", "status", "history", "data"])
@pytest.mark.parametrize("id_", INSTANCES)
def test_a_wrong_part_of_the_first_operation_is_never_taken_for_deliberate(id_: str, part: str) -> None:
    assert compared(id_, spoilt(id_, part)).verdict == "DIFFERENT"


def test_wrong_delays_are_never_taken_for_deliberate() -> None:
    ours = {**observed("retry-01"), "backoffDelaysMs": [1000, 1000]}
    assert [one.key for one in compared("retry-01", ours).unexplained] == ["case backoff"]


# --- running other files ------------------------------------------------------------------------------------------


def printed(tmp_path: Path, cases_: list[dict[str, Any]], *arguments: str) -> tuple[int, str]:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": cases_}), encoding="utf-8")
    out = io.StringIO()
    return main([str(path), *arguments], out), out.getvalue()


def test_a_file_of_cases_is_told_a_line_a_case(tmp_path: Path) -> None:
    chosen = [cases()[id_] for id_ in ("exec-01", "retry-07", "par-02")]
    status, text = printed(tmp_path, chosen, "--quiet")
    assert status == 0
    assert text == (
        "same         exec-01  three ok steps complete\n"
        "deliberate   retry-07  data writes of failed attempts accumulate\n"
        "same         par-02  stepParallel: all ok\n"
        "1 deliberate, 2 same\n"
    )


def test_a_deliberate_case_shows_both_sides_and_names_the_page(tmp_path: Path) -> None:
    status, text = printed(tmp_path, list(cases().values()), "retry-07")
    assert status == 0
    assert text == (
        "deliberate   retry-07  data writes of failed attempts accumulate\n"
        "             failed-attempts: docs/decisions/behaviour-failed-attempts-leave-nothing.md\n"
        "             1 execute data\n"
        '               ours    {"n": 1}\n'
        '               theirs  {"n": 3}  (flux-3.0.1)\n'
        "1 deliberate\n"
    )


def test_a_case_that_differs_shows_the_part_and_fails(tmp_path: Path) -> None:
    wrong = copy.deepcopy(cases()["exec-02"])
    for build in wrong["observed"].values():
        build["ops"][0]["result"]["data"] = {"a": 1, "c": 2}
    status, text = printed(tmp_path, [wrong])
    assert status == 1
    assert "DIFFERENT    exec-02" in text
    assert "           ! 1 execute data\n" in text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ops": [{"op": "dance"}]}, "dance"),
        ({"ops": [{"op": "execute", "colour": "red"}]}, "colour"),
        ({"config": {"turbo": True}}, "turbo"),
        ({"workflow": {"name": "w", "steps": [{"name": "a", "do": [{"juggle": 3}]}]}}, "juggle"),
        ({"workflow": {"name": "w", "steps": [{"name": "a", "do": [], "when": {"moon": "full"}}]}}, "moon"),
        ({"workflow": {"name": "w", "steps": [{"name": "a", "do": [], "compensate": {"pray": 1}}]}}, "pray"),
        ({"recovery": {"a": {"type": "pray"}}}, "pray"),
    ],
)
def test_a_word_that_is_not_known_is_said_and_not_passed_over(
    tmp_path: Path, change: dict[str, Any], word: str
) -> None:
    one = {**cases()["exec-01"], **change}
    with pytest.raises(UnknownInCase, match=word):
        run_case(one)
    status, text = printed(tmp_path, [one])
    assert status == 1
    assert text.startswith("CANNOT RUN   exec-01")


def test_the_recorded_cases_are_all_there() -> None:
    assert len(json.loads((HERE / "cases.json").read_text(encoding="utf-8"))["cases"]) == 72
