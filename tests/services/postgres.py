"""PostgreSQL for tests: one server for each worker of pytest, a process of its own, ended by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL = "apt-get install postgresql-15, or a later one; pip install 'psycopg[binary]' (the extra [dev] brings it)"
OWNER = "postgres" if os.geteuid() == 0 else None
"""PostgreSQL refuses to run as root."""
AS_OWNER = [] if OWNER is None else ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--init-groups", "--"]
"""Before a command of PostgreSQL's. Not `Popen(user=...)`: Python has to fork for that, and gRPC, which another test of
this process may have loaded, does not always let go of a forked child."""
PATIENCE = 180.0
"""Seconds that a busy machine may need to start it."""
_ACCESS = """
host all guarded 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


class Postgres(NamedTuple):
    """A server that answers. Tests that share it keep apart by schemas."""

    port: int
    folder: Path
    programs: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its database."""
        return f"postgresql://flux@127.0.0.1:{self.port}/postgres"


def programs() -> Path | None:
    """The folder of the newest `initdb` and `postgres`."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


@contextmanager
def running(*, durable: bool = False, encrypted: bool = False) -> Iterator[Postgres]:
    """A server with its data in a folder of its own.

    `durable`: with the settings that production has. `encrypted`: it also speaks TLS, with a certificate of its own.
    """
    where = programs()
    if where is None:
        missing("PostgreSQL", INSTALL)
    folder = Path(tempfile.mkdtemp(prefix="flux-postgres-"))
    try:
        if OWNER is not None:
            shutil.chown(folder, OWNER, OWNER)
        _as_owner(
            [str(where / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "flux", "--no-sync",
             "-E", "UTF8", "--locale-provider=icu", "--icu-locale=en", "--locale=C"],
        )  # fmt: skip
        (folder / "data" / "pg_hba.conf").write_text(_ACCESS)
        if encrypted:
            _certify(folder / "data")
        process, port = start(where, folder, durable=durable)
        with process:
            try:
                yield Postgres(port, folder, where, process)
            finally:
                process.send_signal(signal.SIGQUIT)  # at once: what is in it is thrown away
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(where: Path, folder: Path, port: int = 0, *, durable: bool = False) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server over `folder` and wait until it answers; the caller ends the process."""
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "log_min_messages": "fatal",
        **({} if durable else {"fsync": "off", "full_page_writes": "off"}),
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*AS_OWNER, where / "postgres", "-D", folder / "data",
             *(f"--{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    give_up_at = time.monotonic() + PATIENCE
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > give_up_at:
            process.kill()
            missing(f"PostgreSQL ({(folder / 'log').read_text(errors='replace')[-500:]})", INSTALL)
        time.sleep(0.05)
    return process, port


def _certify(data: Path) -> None:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    valid = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = valid.sign(key, hashes.SHA256())
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (data / "server.crt").write_bytes(certificate.public_bytes(encoding))
    (data / "server.key").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    (data / "server.key").chmod(0o600)
    if OWNER is not None:
        shutil.chown(data / "server.crt", OWNER, OWNER)
        shutil.chown(data / "server.key", OWNER, OWNER)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write("ssl = on\n")


def _answers(port: int) -> bool:
    import psycopg

    try:
        psycopg.connect(f"postgresql://flux@127.0.0.1:{port}/postgres", connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def _as_owner(command: list[str]) -> None:
    outcome = subprocess.run(
        [*AS_OWNER, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd="/"
    )
    if outcome.returncode:
        missing(f"PostgreSQL ({outcome.stderr[-500:]})", INSTALL)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server."""
    try:
        import psycopg  # noqa: F401 -- the driver
    except ImportError as error:
        missing(f"psycopg ({error})", INSTALL)
    with running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A database of its own, which is gone afterwards."""
    import psycopg

    name = f"database_{time.monotonic_ns()}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield postgres.url.replace("/postgres", f"/{name}")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
