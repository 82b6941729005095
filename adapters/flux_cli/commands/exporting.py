"""`flux export`: instances as JSON lines, out of a store. It must not change anything."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated, Final

import typer

from flux_cli import completion
from flux_cli.apps import opened
from flux_cli.exits import GOOD, SOME_FAILED, UNUSABLE, USAGE, CommandFailed
from flux_cli.failures import told
from flux_cli.operation import note_memory
from flux_cli.options import App, Statuses
from flux_cli.output import drop_output, emit, note, notes, written
from flux_cli.progress import Bar, PlainLines
from flux_core import CorruptRecord, ImportUnfinished, InstanceRef, UnknownInstance
from flux_core.names import check_key
from flux_core.state import TERMINAL
from flux_core.transfer import export_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flux_cli.progress import Watch
    from flux_core import FluxEngine

_PAGE: Final = 200


class _Seen:
    """One exported instance, as the progress bar wants it."""

    def __init__(self, status: str) -> None:
        self.status = status


def export(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORKFLOW] [ID]...",
            help="Only this workflow's instances, only those of these ids.",
            autocompletion=completion.words_of("ID"),
            show_default=False,
        ),
    ] = None,
    *,
    app: App = None,
    status: Statuses = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write this file, all of it or nothing, instead of standard output.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With -o: the summary as JSON. The export is JSON in any case.")
    ] = False,
) -> None:
    """Export instances, one JSON line each: every record, the mailbox and the header, for flux import.

    The lines hold inputs, data and outputs in clear. An instance that has not ended goes on where it is; once it is
    imported elsewhere, let only one of the two stores go on with it.

    Exit codes:

    0 all exported

    1 some cannot be read, and were left out

    2 the command line is wrong, or an id does not exist

    3 the app, its store or the file cannot be used
    """
    engine, spec = opened(app)
    note_memory(engine)
    refs, total = _chosen(engine, spec, words or [], status)
    err = notes()
    note(err, "note: the export holds inputs, data and outputs in clear")
    watch: Watch = Bar(err, total) if err.is_terminal and output is not None else PlainLines(err, total)
    counts: Counter[str] = Counter()
    left: list[str] = []
    try:
        with told("nothing was written" if output else "what was written is not all"), _target(output) as write, watch:
            for ref in refs:
                try:
                    line = export_instance(engine.storage, ref)
                except UnknownInstance:
                    continue  # deleted meanwhile
                except (CorruptRecord, ImportUnfinished) as error:
                    left.append(str(error))
                    continue
                header = line["header"]
                assert isinstance(header, dict)  # noqa: S101 -- by its form
                counts[header["status"]] += 1
                write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
                watch.settled(_Seen(header["status"]))
    except BrokenPipeError:
        drop_output()  # whoever read it has gone
        raise typer.Exit(SOME_FAILED) from None
    for problem in left:
        note(err, f"left out: {problem}")
    if as_json and output is not None:
        emit({"file": str(output), "instances": counts.total(), "by_status": dict(counts), "left_out": len(left)})
    _summary(lambda text: note(err, text), counts, output, len(left))
    raise typer.Exit(SOME_FAILED if left else GOOD)


def _chosen(
    engine: FluxEngine, spec: str, words: list[str], status: list[str] | None
) -> tuple[Iterator[InstanceRef], int | None]:
    """The instances that are meant, and how many they are if that is known."""
    workflow, ids = (words[0], words[1:]) if words else (None, [])
    if workflow is not None and workflow not in engine.workflows and not engine.list(workflow, limit=1).items:
        holders = [name for name in sorted(engine.workflows) if _has(engine, name, words)]
        if len(holders) > 1:
            raise CommandFailed(
                f"the workflows {', '.join(holders)} each have {', '.join(words)}; say which: "
                f"flux export [WORKFLOW] [ID]...",
                USAGE,
            )
        if not holders:
            known = ", ".join(sorted(engine.workflows)) or "none"
            raise CommandFailed(
                f"there is no instance of a workflow {workflow!r}; the engine of {spec!r} has {known}, and none has "
                f"the id{'s' if ids else ''} {', '.join(words)}. Nothing was exported",
                USAGE,
            )
        workflow, ids = holders[0], words
    if workflow is not None and ids:
        if status:
            raise CommandFailed("ids and --status exclude each other; give one of them", USAGE)
        refs = [InstanceRef(engine.tenant, workflow, check_key("id", word)) for word in ids]
        for ref in refs:
            if engine.storage.tail(ref) is None:
                raise CommandFailed(
                    f"workflow {ref.workflow!r} has no instance {ref.id!r}; flux list shows those there are. "
                    f"Nothing was exported",
                    USAGE,
                )
        return iter(refs), len(refs)
    engine.list(workflow, status or None, 1)  # a status that does not exist is told before anything is written
    return _listed(engine, workflow, status), None


def _has(engine: FluxEngine, workflow: str, ids: list[str]) -> bool:
    """Whether the workflow has an instance of each of the ids."""
    return all(
        engine.storage.header(InstanceRef(engine.tenant, workflow, check_key("id", word))) is not None for word in ids
    )


def _listed(engine: FluxEngine, workflow: str | None, status: list[str] | None) -> Iterator[InstanceRef]:
    cursor = None
    while True:
        page = engine.list(workflow, status or None, _PAGE, cursor)
        for item in page.items:
            yield InstanceRef(item.tenant, item.workflow, item.id)
        cursor = page.cursor
        if cursor is None:
            return


@contextmanager
def _target(path: Path | None) -> Iterator[Callable[[str], object]]:
    """What writes a line: to standard output, or to a file that takes its place when all is well."""
    if path is None:
        with written():
            yield sys.stdout.write
            sys.stdout.flush()
        return
    try:
        # Readable by its owner alone, as temporary files are: what it holds is in clear.
        with NamedTemporaryFile(
            "w", encoding="utf-8", newline="\n", dir=path.absolute().parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                yield file.write
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                with suppress(OSError):
                    Path(file.name).unlink()
                raise
    except OSError as error:
        raise CommandFailed(
            f"{str(path)!r} cannot be written: {error.strerror}; nothing of it was. Choose another file", UNUSABLE
        ) from error


def _summary(say: Callable[[str], object], counts: Counter[str], output: Path | None, left: int) -> None:
    total = counts.total()
    shown = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    where = f" to {output}" if output is not None else ""
    say(
        f"exported {instances(total)}{where}{f': {shown}' if shown else ''}"
        + (f"; {left} left out, because they cannot be read" if left else "")
    )
    live = sum(count for status, count in counts.items() if status not in TERMINAL)
    if live:
        say(
            f"{live} of them {'has' if live == 1 else 'have'} not ended: once imported elsewhere, let only one of the "
            f"two stores go on with {'it' if live == 1 else 'them'}"
        )


def instances(count: int) -> str:
    """`1 instance`, `2 instances`."""
    return f"{count or 'no'} instance{'' if count == 1 else 's'}"
