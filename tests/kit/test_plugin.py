"""The pytest plugin, as a project has it that tests its workflows: the fixture, and the store of its choice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
from flux_core import MemoryStorage, create_workflow, wait

order = create_workflow("order").step("approval", lambda ctx: wait("approval", timeout=86400, on_timeout="nobody"))


class Closing(MemoryStorage):
    def close(self):
        print("the store is closed")


shared = Closing()
not_a_store = 7


def made():
    print("a store is made")
    return Closing()


def test_one(flux_test):
    flux = flux_test(order)
    run = flux.execute(order, {"amount": 5}, id="o-1")
    assert run.created
    flux.advance(days=2)
    run.assert_completed()
    print("store", type(flux.storage.inner).__name__)


def test_other(flux_test):
    flux = flux_test(order, default_retries=0, seed=3)
    run = flux.execute(order, {"amount": 6}, id="o-1")
    assert run.created
    run.signal("approval", {"by": "Ada"})
    assert run.output("approval", dict) == {"by": "Ada"}
    again = flux_test(order).execute(order, {"amount": 7}, id="o-1")
    assert again.created
"""

FAILING = """
from flux_core import create_workflow, wait

order = create_workflow("order").step("approval", lambda ctx: wait("approval", timeout=86400))


def test_it(flux_test):
    flux = flux_test(order)
    flux.execute(order, id="o-1").assert_completed()
"""


class Project:
    """A folder with tests in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "test_orders.py").write_text(TESTS)

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(ROOT), str(ROOT / "adapters"), str(self.folder)])
        command = [sys.executable, "-m", "pytest", "-p", "flux_pytest.plugin", "-p", "no:cacheprovider", "-s"]
        return subprocess.run(
            [*command, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("option", "store", "made", "closed"),
    [
        ((), "MemoryStorage", 0, 0),
        (("--flux-store", "sqlite"), "SQLiteStorage", 0, 0),
        (("--flux-store=test_orders:made",), "Closing", 1, 1),
        (("--flux-store=test_orders:shared",), "Closing", 0, 0),
        (("--flux-store=test_orders:Closing",), "Closing", 0, 1),
    ],
)
def test_the_same_tests_run_on_any_store_and_what_was_made_for_them_is_closed(
    project: Project, option: tuple[str, ...], store: str, made: int, closed: int
) -> None:
    outcome = project.pytest(*option)
    assert "2 passed" in outcome.stdout, outcome.stdout
    assert f"store {store}\n" in outcome.stdout
    assert outcome.stdout.count("a store is made") == made
    assert outcome.stdout.count("the store is closed") == closed


def test_a_failed_assertion_shows_the_story_and_not_the_inside_of_the_kit(project: Project) -> None:
    (project.folder / "test_failing.py").write_text(FAILING)
    told = project.pytest("test_failing.py").stdout
    assert "1 failed" in told
    assert "E       AssertionError: order/o-1: it is suspended, not completed. Step 'approval' waits for signal" in told
    assert "E         +00:00:00        approval waits for signal 'approval' for 1 d" in told
    assert "test_failing.py:9: AssertionError" in told
    assert "_fail(" not in told


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sqlit", "--flux-store=sqlit: it takes memory, sqlite, or module:attribute"),
        ("https://example.com/prod", "a deployed stack cannot be tested so, its time is real"),
        (":made", "--flux-store=:made: it takes memory"),
        ("test_orders:nothing", "--flux-store=test_orders:nothing cannot be imported: module 'test_orders' has no"),
        ("no_such_module:made", "cannot be imported: No module named 'no_such_module'"),
        ("test_orders:not_a_store", "is 7, which is neither a WorkflowStorage nor a function that returns one"),
    ],
)
def test_a_store_that_is_none_ends_the_run_and_says_why(project: Project, value: str, message: str) -> None:
    outcome = project.pytest(f"--flux-store={value}")
    assert outcome.returncode == 4
    assert message in outcome.stdout + outcome.stderr


def test_loading_the_plugin_imports_nothing_of_the_kit() -> None:
    paths = [str(ROOT), str(ROOT / "adapters")]
    script = f"import sys; sys.path[:0] = {paths!r}; import flux_pytest.plugin; print(*sys.modules)"
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in outcome.stdout.split()}
    assert {name for name in loaded if name.startswith("flux")} == {"flux_pytest"}
