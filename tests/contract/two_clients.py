"""Two clients of one store, each with what it remembers, against a store in memory that does the same at once.

Every answer of either must be the one that `MemoryStorage` gives, whoever did what before: appends to free and taken
slots, with and without a header, nudges, settles, mail, snapshots, purges and a new life under the same id. Who appends
to a free slot has seen the record before, as the port asks; who appends to a taken one may know anything.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from flux_core import MemoryStorage
from flux_core.ports import Header, InstanceRef, Mail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flux_core import WorkflowStorage

    Call = Callable[[WorkflowStorage], object]

STATUSES = ("running", "suspended", "completed", "failed", "stuck")
KINDS = ("append", "append", "head", "head", "taken", "nudge", "settle", "mail", "snap", "look", "purge")
TIMES = (0, 5, 1_700_000_000_000, 40_000_000_000_000)
"""Of clocks that are right and of clocks that are far off; the last is a timer of a thousand years."""
LATEST = 50_000_000_000_000


def play(clients: Sequence[WorkflowStorage], seed: int, turns: int) -> None:
    """`turns` calls on two instances, each by one of the clients; names and ids of their own for each seed."""
    random = Random(seed)
    model = MemoryStorage()
    tenant = f"tenant-{seed}"
    refs = [InstanceRef(tenant, "order", "a"), InstanceRef(tenant, "order.", "." + "b" * 126 + ".")]
    story: list[str] = []
    for _ in range(turns):
        ref, number = random.choice(refs), random.randrange(len(clients))
        name, call = _call(random, model, ref)
        story.append(f"client {number}: {ref.id[:3]} {name}")
        wanted, found = call(model), call(clients[number])
        assert found == wanted, "\n".join([*story, f"the store gave {found!r}, it must be {wanted!r}"])
    for number, client in enumerate(clients):
        for call in (look for ref in refs for look in _looks(ref)):
            assert call(client) == call(model), "\n".join([*story, f"client {number} at the end"])


def _call(random: Random, model: MemoryStorage, ref: InstanceRef) -> tuple[str, Call]:
    tail = model.tail(ref)
    free = 0 if tail is None else tail[0] + 1
    header = model.header(ref)
    what = random.choice(
        ("append", "append", "head", "head", "taken", "nudge", "settle", "mail", "snap", "look", "purge")
    )
    if what == "append" or (what == "taken" and not free):
        record = b"%d" % random.randrange(1_000)
        return f"append {free}", lambda store: (store.tail(ref), store.append(ref, free, record))
    if what == "head":
        due = random.choice((None, *TIMES))
        new = Header(random.choice(STATUSES), random.choice(TIMES[:3]), 1, random.randrange(3), free, due)
        if header is not None:
            new = new._replace(created_at=header.created_at)
        return f"append {free} {new}", lambda store: (store.tail(ref), store.append(ref, free, b"", new))
    if what == "taken":
        seq = random.randrange(free)
        late = Header("running", 1, 1, 9, seq, 3) if random.random() < 0.5 else None
        return f"append to the taken slot {seq}", lambda store: store.append(ref, seq, b"late", late)
    if what == "nudge":
        epoch, due = random.randrange(3), random.choice(TIMES)
        return f"nudge {epoch} {due}", lambda store: store.nudge(ref, epoch, due)
    if what == "settle":
        seq, due, then = (0, 7, None) if header is None else (header.seq, header.due or 7, random.choice((None, 9)))
        seq -= random.randrange(2)
        return f"settle {seq} {due} {then}", lambda store: store.settle(ref, seq, due, then)
    if what == "mail":
        mail = Mail("go.", f"{random.randrange(4)}", random.choice(TIMES), b"" if random.random() < 0.5 else b"x")
        return f"put {mail}", lambda store: store.put_mail(ref, mail)
    if what == "snap":
        seq = random.randrange(-1, 5)
        return f"snapshot {seq}", lambda store: store.put_snapshot(ref, seq, b"" if seq % 2 else b"%d" % seq)
    if what == "purge":
        seq = max(free - 1, 0) - (random.random() < 0.5)
        return f"purge {seq}", lambda store: store.purge(ref, seq)
    return "look", random.choice(_looks(ref))


def _looks(ref: InstanceRef) -> tuple[Call, ...]:
    return (
        lambda store: store.read(ref),
        lambda store: store.read(ref, 2),
        lambda store: store.tail(ref),
        lambda store: store.header(ref),
        lambda store: store.mail(ref),
        lambda store: store.snapshot(ref),
        lambda store: sorted(
            entry for entry in store.due(50_000_000_000_000, 10_000) if entry.ref.tenant == ref.tenant
        ),
        lambda store: list(store.list(ref.tenant).items),
        lambda store: list(store.list(ref.tenant, ref.workflow, ["running", "failed", "stuck", "suspended"]).items),
    )
