"""The watchdog: extends the lease of an instance whose step outlasts half of it (PROTOCOL rule 14).

One daemon thread an engine, started when the first such step runs. It appends nothing but `renew`, through the
episode's own appender.
"""

from __future__ import annotations

from flux_core.errors import FluxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Condition

    from flux_core.episode import Episode
    from flux_core.ports import Logger


class Watchdog:
    """Renews the leases of the episodes it watches."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._watched: dict[Episode, float] = {}
        self._renewing: Episode | None = None
        self._changed: Condition | None = None

    def watch(self, episode: Episode) -> None:
        """From now on renew the episode's lease when half of it has passed."""
        from threading import Condition, Thread

        if self._changed is None:
            self._changed = Condition()
            Thread(target=self._run, name="flux-lease", daemon=True).start()
        with self._changed:
            self._watched[episode] = episode.clock.monotonic() + episode.state.lease.ms / 2000
            self._changed.notify()

    def release(self, episode: Episode) -> None:
        """The step has ended; when this returns, nobody but the caller touches the episode."""
        if self._changed is not None:
            with self._changed:
                self._watched.pop(episode, None)
                while self._renewing is episode:
                    self._changed.wait()

    def _run(self) -> None:
        changed = self._changed
        assert changed is not None  # noqa: S101 -- set before this thread starts
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
        except FluxError as error:
            # The owner notices at its own next append; a store that did not answer is asked again in half a lease.
            self._logger.warn("a lease was not renewed", id=episode.ref.id, error=repr(error))
