"""What pytest loads: one option and one fixture. Every pytest run in an environment with Flux imports this module.

So it must not import anything of the kit before a test asks for the fixture: that would cost time, and hide the
first lines of the kit's modules from a coverage measurement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flux_core.ports import WorkflowStorage
    from flux_core.testing import FluxTest

_KINDS = "memory, sqlite, or module:attribute (a store, or a function that returns one)"
_USAGE_ERROR = 4
"""The exit code of pytest for a command line that is wrong."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--flux-store`."""
    parser.getgroup("flux").addoption(
        "--flux-store", metavar="STORE", default="memory", help=f"where the fixture flux_test keeps instances: {_KINDS}"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse an option that names no store before any test runs."""
    value = config.getoption("--flux-store")
    module, _, attribute = value.partition(":")
    if "://" in value:
        message = f"--flux-store={value}: a deployed stack cannot be tested so, its time is real; it takes {_KINDS}"
        raise pytest.UsageError(message)
    if value not in {"memory", "sqlite"} and not (module and attribute):
        message = f"--flux-store={value}: it takes {_KINDS}"
        raise pytest.UsageError(message)


@pytest.fixture
def flux_test(request: pytest.FixtureRequest) -> Callable[..., FluxTest]:
    """What makes a `FluxTest` over the store of `--flux-store`: call it with the workflows, `flux_test(order)`.

    The arguments are those of `FluxTest`. On a store that outlives the test each call has a fresh tenant, so that ids
    never meet.
    """
    from flux_core.testing import FluxTest

    value = request.config.getoption("--flux-store")
    names = {"memory": None, "sqlite": "_flux_sqlite"}
    name = names.get(value, "_flux_named_store")
    storage = None if name is None else request.getfixturevalue(name)

    def make(*workflows: Any, **options: Any) -> FluxTest:
        return FluxTest(*workflows, **{"storage": storage, **options})

    return make


@pytest.fixture
def _flux_sqlite(request: pytest.FixtureRequest) -> Iterator[WorkflowStorage]:
    """A fresh file for each test. It need not survive a power failure."""
    from flux_local import SQLiteStorage

    store = SQLiteStorage(request.getfixturevalue("tmp_path") / "flux.db", synchronous="OFF")
    yield store
    store.close()


@pytest.fixture(scope="session")
def _flux_named_store(request: pytest.FixtureRequest) -> Iterator[WorkflowStorage]:
    """The store that `module:attribute` names; made once a session, since connections are dear."""
    value = request.config.getoption("--flux-store")
    store = found = _imported(value)
    if isinstance(found, type) or not hasattr(found, "append"):
        store = found() if callable(found) else None
    if not hasattr(store, "append"):
        what = f"--flux-store={value} is {found!r}"
        pytest.exit(f"{what}, which is neither a WorkflowStorage nor a function that returns one", _USAGE_ERROR)
    store.ensure()
    yield store
    if store is not found:
        store.close()


def _imported(value: str) -> Any:
    from importlib import import_module

    name, _, attribute = value.partition(":")
    try:
        found: Any = import_module(name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        pytest.exit(f"--flux-store={value} cannot be imported: {error}", _USAGE_ERROR)
    return found
