"""Which variables of a function that stands still can make a difference to what it does from there on.

Those that some way on from there reads before it writes them; those that the statement under way reads, since their
values may be on the stack; those of the `for` loops around it, since where an iterator stands is there, too; and those
that other functions share. It errs on the side of too many.
"""

from __future__ import annotations

import ast
import dis
import linecache
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType


@cache
def needed_at(code: CodeType, last: int) -> tuple[str, ...]:
    """The names, in order, of the variables that count while the instruction at `last` is under way."""
    instructions = list(dis.get_instructions(code))
    place = max(number for number, one in enumerate(instructions) if one.offset <= last)
    where = instructions[place].positions
    line = code.co_firstlineno if where is None or where.lineno is None else where.lineno
    found = {*code.co_cellvars, *code.co_freevars}
    for after in _after(code)[place]:
        found |= _read_before_written(code)[after]
    lines = _lines_under_way(code.co_filename, line)
    found |= {
        name
        for one in instructions
        if one.positions is not None and one.positions.lineno in lines
        for name in _names(one)
    }
    return tuple(sorted(found))


def _names(instruction: dis.Instruction) -> tuple[str, ...]:
    if instruction.opcode not in dis.haslocal:
        return ()
    return instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)


@cache
def _after(code: CodeType) -> list[list[int]]:
    """For each instruction the places of those that may come next; a few that cannot do no harm."""
    instructions = list(dis.get_instructions(code))
    places = {one.offset: number for number, one in enumerate(instructions)}
    found = [[number + 1] if number + 1 < len(instructions) else [] for number in range(len(instructions))]
    for number, one in enumerate(instructions):
        if one.opcode in dis.hasjrel or one.opcode in dis.hasjabs:
            found[number].append(places[one.argval])
    for entry in dis.Bytecode(code).exception_entries:  # type: ignore[attr-defined]  # not in the stubs
        for number, one in enumerate(instructions):
            if entry.start <= one.offset < entry.end:
                found[number].append(places[entry.target])
    return found


@cache
def _read_before_written(code: CodeType) -> list[frozenset[str]]:
    """For each instruction the variables that it, or some way on from it, reads before it writes them."""
    instructions, after = list(dis.get_instructions(code)), _after(code)
    live: list[frozenset[str]] = [frozenset()] * len(instructions)
    moving = True
    while moving:
        moving = False
        for number in reversed(range(len(instructions))):
            one = instructions[number]
            found = frozenset().union(*(live[place] for place in after[number]))
            names = _names(one)
            found = found - {*names} if one.opname in {"STORE_FAST", "DELETE_FAST"} else found | {*names}
            if found != live[number]:
                live[number], moving = found, True
    return live


@cache
def _lines_under_way(path: str, line: int) -> frozenset[int]:
    """The lines of the innermost statement around `line` (of a compound one its head) and of the heads of loops."""
    found: set[int] = {line}
    inner: ast.stmt | None = None
    for statement in _statements(path):
        if statement.lineno <= line <= (statement.end_lineno or line):
            if inner is None or statement.lineno >= inner.lineno:
                inner = statement
            if isinstance(statement, ast.For | ast.AsyncFor):
                found |= _head(statement)
    return frozenset(found | (_head(inner) if inner is not None else set()))


def _head(statement: ast.stmt) -> set[int]:
    body = getattr(statement, "body", None)
    end = max(statement.lineno, body[0].lineno - 1) if body else statement.end_lineno or statement.lineno
    return set(range(statement.lineno, end + 1))


@cache
def _statements(path: str) -> list[ast.stmt]:
    return list(_walk(ast.parse("".join(linecache.getlines(path)))))


def _walk(tree: ast.AST) -> Iterator[ast.stmt]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
