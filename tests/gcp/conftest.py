"""Stores on the emulator, each in a project of its own, directly or through a relay."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flux_core.ports import Header, InstanceRef
from flux_gcp import FirestoreStorage
from flux_gcp.settings import EMULATOR, VARIABLES
from tests.gcp.relay import Relay, relays
from tests.services.cloud_tasks import CloudTasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_numbers = count(1)
ORDER = InstanceRef("acme", "order", "1")


def new_project() -> str:
    """A project that nothing was ever written to."""
    return f"flux-{os.getpid()}-{next(_numbers)}"


def head(seq: int, due: int | None = None, *, status: str = "running", epoch: int = 1) -> Header:
    """A header with what the test is not about filled in."""
    return Header(status, 1, 1, epoch, seq, due)


def loaded_of_googles() -> str:
    """An expression: which modules of Google's are loaded. The bare namespaces are there from the start.

    functions-framework puts them, empty, into every interpreter.
    """
    return "sorted(m for m in sys.modules if m.startswith(('google.', 'grpc')) and m != 'google.cloud')"


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def open_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., FirestoreStorage]]:
    """Open a store at an address; all are closed at the end."""
    opened: list[FirestoreStorage] = []

    def open_at(address: str, project: str | None = None, timeout: float = 60.0) -> FirestoreStorage:
        with monkeypatch.context() as patch:
            patch.setenv(EMULATOR, address)
            opened.append(FirestoreStorage(project or new_project(), timeout=timeout))
            opened[-1].ensure()
        return opened[-1]

    yield open_at
    for store in opened:
        store.close()


@pytest.fixture
def cloud_tasks() -> Iterator[CloudTasks]:
    """Queues of this test alone: a server takes a few milliseconds."""
    service = CloudTasks()
    yield service
    service.stop()


@pytest.fixture
def relay(firestore_emulator: str) -> Iterator[Relay]:
    yield from relays(firestore_emulator)


@pytest.fixture
def store(open_store: Callable[..., FirestoreStorage], relay: Relay) -> FirestoreStorage:
    """A store behind the relay."""
    return open_store(relay.address)


@pytest.fixture
def direct(
    open_store: Callable[..., FirestoreStorage], store: FirestoreStorage, firestore_emulator: str
) -> FirestoreStorage:
    """Another connection to the same data, past the relay: somebody else."""
    return open_store(firestore_emulator, store.settings.project)
