"""The watchdog: extends the lease of an instance whose step outlasts half of it (PROTOCOL rule 14).

One daemon thread an engine, started when the first such step runs. It appends nothing but `renew`, through the
episode's own appender.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Condition

    from flux_core.episode import Episode
    from flux_core.ports import Logger

_starting = allocate_lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release)


class Watchdog:
    """Renews the leases of the episodes it watches."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._watched: dict[Episode, float] = {}
        self._renewing: Episode | None = None
        self._changed: Condition | None = None
        self._process = 0

    def watch(self, episode: Episode) -> None:
        """From now on renew the episode's lease when half of it has passed."""
        changed = self._changed
        if changed is None or self._process != os.getpid():
            changed = self._start()
        with changed:
            self._watched[episode] = episode.clock.monotonic() + episode.state.lease.ms / 2000
            changed.notify()

    def release(self, episode: Episode) -> None:
        """The step has ended; when this returns, nobody but the caller touches the episode."""
        changed = self._changed
        if changed is not None and self._process == os.getpid():
            with changed:
                self._watched.pop(episode, None)
                while self._renewing is episode:
                    changed.wait()

    def _start(self) -> Condition:
        """Start this process's thread, once: a forked child has none, nor may it wait for its parent's locks."""
        from threading import Condition, Thread

        with _starting:
            changed = self._changed
            if changed is None or self._process != os.getpid():
                self._watched, self._renewing = {}, None
                changed = self._changed = Condition()
                self._process = os.getpid()
                Thread(target=self._run, args=(changed,), name="flux-lease", daemon=True).start()
            return changed

    def _run(self, changed: Condition) -> None:
        while True:
            with changed:
                while not self._watched:
                    changed.wait()
                episode = min(self._watched, key=self._watched.__getitem__)
                pause = self._watched[episode] - episode.clock.monotonic()
                if pause > 0:
                    changed.wait(pause)
                    continue
                self._watched[episode] = episode.clock.monotonic() + episode.state.lease.ms / 2000
                self._renewing = episode
            self._renew(episode)
            with changed:
                self._renewing = None
                changed.notify_all()

    def _renew(self, episode: Episode) -> None:
        try:
            episode.renew()
        except Exception as error:  # noqa: BLE001 -- the owner waits for this thread, which therefore must not end
            # The owner notices at its own next append; a store that did not answer is asked again in half a lease.
            self._logger.warn("a lease was not renewed", id=episode.ref.id, error=repr(error))
