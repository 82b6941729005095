"""What the log keeps. A record is an envelope and a body; it must not contain behaviour.

Bodies are flat dictionaries with short keys, because every step pays for their bytes:

=========== ========================================================================================
type        body
=========== ========================================================================================
start       `ver` version, `fp` fingerprint, `names` step names, `in` input, `ih` its hash, `l` lease ms, `dl` cap;
            `kinds` a letter a step (see `workflow`), `to` ms that the whole may take, if limited, `pt` patches; of a
            child `pa` [workflow, id, path] of the step that waits for it, and no `l`: nobody owns it yet
claim       `l` lease ms, `dl` when the platform ends the invocation (ms since the epoch), if known
renew       -
step        `p` path, `a` attempt, `ms` duration, `o` output, `set`/`del` data delta; `w` [signals, due, default] if
            the handler returned a directive, with `c` if it was a commit's, whose effect is made; `e` error if the
            attempts have ended, with `rb` if there is something to undo; `h` if kept by a retry
skipped     `p`, `ms`, `h` if kept by a retry
decide      `p` of a branch, loop, parallel or map, `a`, `ms`, `k` its letter, `c` what was decided; `names` and `kinds`
            of the body that is entered, absent if none is; of a parallel `bodies` {branch: [names, kinds]}; of a map
            `items`; of both `mc` how many at a time, if limited, `all` if a failure waits for the others
join        `p` of a parallel or map, `a`, `ms`, `set` what was made of keys that several branches or items have written
child       `p`, `a`, `ms`, `wf` workflow, `id`, `in` input and `ih` its hash of the instance that is to be started;
            `wait` if the step waits for its end
intent      `p`, `a`, `undo` for a compensation, `u` if an earlier attempt's outcome is unknown
comp        `p`, `a`, `ms`, `set`/`del`; `e` if the compensation failed
retry_wait  `p`, `a`, `e`, `due`, `undo`, `u`: an attempt failed, the next is due then
recv        `p`, `m` mail key, `o` payload; `e` if a child has failed, with `rb` if there is something to undo
timeout     `p`; `e` if the step fails by it, with `rb` if there is something to undo; without `p` it is the whole
            workflow's time that has passed
susp        `need` so many ends of children have to be in the mailbox before a tick has something to do, if several
yield       `cut` path of a plain step that the invocation's deadline ended
end         `s` status
stuck       `why`, `p`, `d` detail, `e` what made an outcome unknown
blocked     `why`, `d` detail
adopt       `ver`, `fp`, `names`, `kinds` of the definition that the instance goes on with; `was` {old: new name},
            `pass` new steps that are skipped, `lanes` {path: [names, kinds]} of the open bodies, `forks` {path: bodies}
            of open parallels and maps, `gone` nested paths
cancelreq   `why`, `by`
pause       `why`, `by`
unpause     `why`, `by`
retry       `p` target, `reset` paths, `data`, `kept`, `force`, `by`, `why`; `frames` and `lanes` that it starts in
resolve     `p`, `h` how, `o` output, `by`, `why`; with `reset`, `data`, `kept`, `frames`, `lanes` if it opens an ended
            instance
=========== ========================================================================================

`o`, `in`, `set`, `data`, `kept`, `items`, the writes in `frames` and the default in `w` hold users' values (tagged in
the stored form, see `values`).
The type `snapref` of PROTOCOL is not written by this version, nor is `patch`: the markers are in `start`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final


SCHEMA: Final = 1

START: Final = "start"
CLAIM: Final = "claim"
RENEW: Final = "renew"
STEP: Final = "step"
SKIPPED: Final = "skipped"
DECIDE: Final = "decide"
JOIN: Final = "join"
CHILD: Final = "child"
INTENT: Final = "intent"
COMP: Final = "comp"
RETRY_WAIT: Final = "retry_wait"
RECV: Final = "recv"
TIMEOUT: Final = "timeout"
SUSP: Final = "susp"
YIELD: Final = "yield"
END: Final = "end"
STUCK: Final = "stuck"
BLOCKED: Final = "blocked"
ADOPT: Final = "adopt"
CANCELREQ: Final = "cancelreq"
PAUSE: Final = "pause"
UNPAUSE: Final = "unpause"
RETRY: Final = "retry"
RESOLVE: Final = "resolve"

TYPES: Final = frozenset(
    {
        START, CLAIM, RENEW, STEP, SKIPPED, DECIDE, JOIN, CHILD, INTENT, COMP, RETRY_WAIT, RECV, TIMEOUT, SUSP, YIELD,
        END, STUCK, BLOCKED, ADOPT, CANCELREQ, PAUSE, UNPAUSE, RETRY, RESOLVE,
    }
)  # fmt: skip
"""What this version writes and reads."""

CONTROL: Final = frozenset({CANCELREQ, PAUSE, UNPAUSE, RETRY, RESOLVE})
"""Appended by verbs, not by the owner, who absorbs them when he finds his slot taken (PROTOCOL rule 6)."""

RELEASING: Final = frozenset({SUSP, YIELD, END, STUCK, BLOCKED})
"""After these nobody owns the instance."""


class Record:
    """One entry of a log."""

    __slots__ = ("at", "body", "by", "counter", "epoch", "header", "text", "type")

    def __init__(
        self,
        type: str,
        epoch: int,
        at: int,
        body: dict[str, Any],
        header: tuple[str, int | None] | None = None,
        text: str | None = None,
    ) -> None:
        self.type = type
        self.epoch = epoch
        self.at = at
        """Milliseconds since the epoch."""
        self.body = body
        self.header = header
        """`(status, due)` if the record is an episode boundary, so that the header changes in its commit."""
        self.text = text
        """The body as JSON without its braces, if whoever made the record had it at hand."""
        self.by = ""
        self.counter = 0
        """With `by` the nonce: drawn once an invocation, counted up by record (PROTOCOL rule 3)."""

    def __repr__(self) -> str:
        return f"<{self.type} ep={self.epoch} at={self.at} {self.body}>"
