"""The tables of `PostgresStorage`, and how a database gets them. It must not read or write a workflow's data.

The comment on the table `log` says whose it is and in which form; tables of someone else or of a later form are refused
before anything in them changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core.errors import CorruptRecord, DefinitionError, StorageUnavailable

if TYPE_CHECKING:
    from flux_local.sql_storage import Cursor

VERSION = 1
_OWNER = "flux-serverless, form "
_LOCK = 0x464C5558  # "FLUX": who makes the tables holds it, so that two who do it at once do not disturb each other
_NAME_MOST = 63

# Names compare byte by byte, whatever the database's language: a cursor of a listing has to mean the same everywhere.
_TABLES = """
CREATE TABLE {}log (
    inst text COLLATE "C" NOT NULL, seq bigint NOT NULL, record bytea NOT NULL, PRIMARY KEY (inst, seq)
);
CREATE TABLE {}header (
    inst text COLLATE "C" NOT NULL PRIMARY KEY, tenant text COLLATE "C" NOT NULL, workflow text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL, status text NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL,
    epoch bigint NOT NULL, seq bigint NOT NULL, due bigint
);
CREATE INDEX header_newest ON {}header (tenant, created_at, id, workflow);
CREATE INDEX header_due ON {}header (due, inst) WHERE due IS NOT NULL;
CREATE TABLE {}mail (
    inst text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, at bigint NOT NULL,
    body bytea NOT NULL, PRIMARY KEY (inst, name, id)
);
CREATE TABLE {}snap (
    inst text COLLATE "C" NOT NULL PRIMARY KEY, seq bigint NOT NULL, state bytea NOT NULL
);
COMMENT ON TABLE {}log IS '{owner}{version}'"""


def checked_name(schema: str) -> str:
    """`schema`; `DefinitionError` if it is no plain name of PostgreSQL."""
    plain = schema.isidentifier() and schema.isascii() and schema == schema.lower()
    if not plain or len(schema) > _NAME_MOST or schema.startswith("pg_"):
        message = (
            f"schema must be a plain name of PostgreSQL (letters a-z, digits, _; at most {_NAME_MOST}, not pg_...), "
            f"not {schema!r}"
        )
        raise DefinitionError(message)
    return schema


def tables(schema: str) -> list[str]:
    """The statements that make the tables in `schema`, which is there."""
    text = _TABLES.replace("{owner}", _OWNER).replace("{version}", str(VERSION)).replace("{}", f'"{schema}".')
    return [statement.strip() for statement in text.split(";")]


def sql(schema: str = "flux") -> str:
    """All of it as a script, for whoever makes tables by hand or with a tool for migrations."""
    return ";\n".join([f'CREATE SCHEMA "{schema}"', *tables(checked_name(schema))]) + ";\n"


LOOK = (
    "SELECT to_regclass(?) IS NOT NULL, obj_description(to_regclass(?), 'pg_class'),"
    " set_config('statement_timeout', ?, false), set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('synchronous_commit',"
    " CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END,"
    " false)"
)
"""Asked once by every new connection: what is there, and how this session is to be."""


def look(cursor: Cursor, schema: str, timeout: float) -> tuple[bool, str | None]:
    """Set the session up: statements end after `timeout` seconds, and what is acknowledged is kept.

    Whether there is a table `log`, and its comment.
    """
    log = f'"{schema}".log'
    there, comment = cursor.execute(LOOK, (log, log, f"{int(timeout * 1000)}ms")).fetchall()[0][:2]
    return there, comment


def check(there: bool, comment: str | None, schema: str, place: str) -> None:  # noqa: FBT001 -- as `look` gives it
    """Nothing if the tables are ours and of this form; else the error that says what to do."""
    if not there:
        raise StorageUnavailable(
            f"The workflow store {place} has no tables in the schema {schema!r}. Call ensure() of the PostgresStorage "
            f"once, with a role that may create them, or run the script of flux_local.postgres_schema.sql({schema!r})."
        )
    if comment == f"{_OWNER}{VERSION}":
        return
    if comment is not None and comment.startswith(_OWNER):
        raise CorruptRecord(
            f"The workflow store {place} has tables of form {comment.removeprefix(_OWNER)} in the schema {schema!r}; "
            f"this Flux knows form {VERSION}. Use the Flux that made them, or a later one. Nothing in it was changed."
        )
    raise CorruptRecord(
        f"The schema {schema!r} of {place} has a table `log` of another application. Give Flux a schema of its own: "
        f"PostgresStorage(..., schema=...). Nothing in it was changed."
    )


def make(cursor: Cursor, schema: str, place: str) -> None:
    """Make schema and tables in one transaction, which the caller ends; nothing if they are there."""
    cursor.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
    log = f'"{schema}".log'
    rows = cursor.execute(
        "SELECT to_regnamespace(?) IS NOT NULL, to_regclass(?) IS NOT NULL,"
        " obj_description(to_regclass(?), 'pg_class')",
        (f'"{schema}"', log, log),
    ).fetchall()
    has_schema, there, comment = rows[0]
    if there:
        check(there, comment, schema, place)
        return
    if not has_schema:
        cursor.execute(f'CREATE SCHEMA "{schema}"')
    for statement in tables(schema):
        cursor.execute(statement)
