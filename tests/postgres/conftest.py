"""Schemas of their own for tests that share a server, and a wire between a store and its server that can be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from flux_local import PostgresStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.services.postgres import Postgres

_numbers = count(1)


@pytest.fixture
def schema() -> str:
    """A name that no other test on this server has."""
    return f"test_{next(_numbers)}"


@pytest.fixture
def opened(postgres: Postgres, schema: str) -> Iterator[Callable[..., PostgresStorage]]:
    """Opens stores on one schema; they are closed at the end."""
    stores: list[PostgresStorage] = []

    def open_(url: str = "", **options: Any) -> PostgresStorage:
        stores.append(PostgresStorage(url or postgres.url, **{"schema": schema, "timeout": 60, **options}))
        return stores[-1]

    yield open_
    for store in stores:
        with suppress(Exception):
            store.close()


@pytest.fixture
def store(opened: Callable[..., PostgresStorage]) -> PostgresStorage:
    """A store with tables."""
    made = opened()
    made.ensure()
    return made


@pytest.fixture
def admin(postgres: Postgres) -> Iterator[psycopg.Connection]:
    """A connection past the store."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        yield connection


class Wire:
    """A port of 127.0.0.1 that leads to the server, until a test says otherwise."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.losing = False
        """The next answer is thrown away, and the connection with it: the server has done what it was asked."""
        self.silent = False
        """No answer comes through any more."""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        for one in (self._listening, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, from_: socket.socket, to: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := from_.recv(1 << 16):
                if answers and self.silent:
                    continue
                if answers and self.losing:
                    self.losing = False
                    break
                to.sendall(data)
        for one in (from_, to):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def wire(postgres: Postgres) -> Iterator[Wire]:
    """The way to the server."""
    made = Wire(postgres.port)
    yield made
    made.close()
