"""What a function on any cloud is told by its environment: the names, each written once, and how they are read.

Adapters hand the environment over as a mapping and add the names of their own cloud; whatever deploys Flux sets the
same names. It must not read an environment, nor know a cloud.
"""

from __future__ import annotations

from flux_core.callbacks import Callbacks, checked_keys, parsed_keys
from flux_core.engine import FluxEngine
from flux_core.errors import CallerError, DefinitionError
from flux_core.names import check_key
from flux_core.retry import LONGEST
from flux_core.rotation import checked_period
from flux_core.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Final

    from flux_core.engine import Workflow
    from flux_core.ports import Scheduler, WorkflowStorage

TENANT: Final = "FLUX_TENANT"
LEASE: Final = "FLUX_LEASE"
LONGEST_INVOCATION: Final = "FLUX_LONGEST_INVOCATION"
BUDGET: Final = "FLUX_BUDGET"
HTTP_BUDGET: Final = "FLUX_HTTP_BUDGET"
MOST_BYTES: Final = "FLUX_MOST_BYTES"
SWEEPER: Final = "FLUX_SWEEPER"
SWEEP_AHEAD: Final = "FLUX_SWEEP_AHEAD"
SWEEP_LIMIT: Final = "FLUX_SWEEP_LIMIT"
PURGE_AFTER: Final = "FLUX_PURGE_AFTER"
ROTATE_AFTER: Final = "FLUX_ROTATE_AFTER"
PUBLIC_URL: Final = "FLUX_PUBLIC_URL"
CALLBACK_KEYS: Final = "FLUX_CALLBACK_KEYS"
CALLBACK_EXPIRES: Final = "FLUX_CALLBACK_EXPIRES"
STORAGE: Final = "FLUX_STORAGE"
PAYLOADS: Final = "FLUX_PAYLOADS"
LOG_LEVEL: Final = "FLUX_LOG_LEVEL"

_LEVELS = ("debug", "info", "warn", "error")


class HostSettings(NamedTuple):
    """Durations are seconds."""

    tenant: str = "default"
    lease: float = 120.0
    longest_invocation: float = 900.0
    budget: float | None = None
    """How long an invocation may take, where the platform does not tell."""
    http_budget: float = 25.0
    """After so long an HTTP request is answered, and the instance goes on elsewhere: gateways cut at 29 s."""
    most_bytes: int = 262_144
    """Of an inbound body."""
    sweeper: bool = False
    """Whether a sweeper is deployed; without one and without a queue nothing would go on after a suspend."""
    sweep_ahead: float = 120.0
    sweep_limit: int = 1000
    purge_after: float | None = None
    """How long ago an instance has to have ended to be deleted; None: this function never deletes."""
    rotate_after: float | None = None
    """How old the text of the callback keys has to be to be rotated; None: this function never rotates them."""
    public_url: str | None = None
    callback_keys: str | None = None
    """`id:secret[,id:secret]`, the one that signs first."""
    callback_expires: float = 7 * 86400.0
    storage: str | None = None
    """The URL of the store, where it is not the cloud's default."""
    payloads: str | None = None
    """The URL under which large payloads are kept."""
    log_level: str = "info"

    @classmethod
    def from_mapping(cls, given: Mapping[str, str]) -> HostSettings:
        """The settings; what is absent or empty is as above. `DefinitionError` names a variable that is wrong."""
        budget = given.get(BUDGET)
        return cls(
            tenant=_tenant(given),
            lease=_seconds(given, LEASE, cls().lease),
            longest_invocation=_seconds(given, LONGEST_INVOCATION, cls().longest_invocation),
            budget=_seconds(given, BUDGET, 0) if budget else None,
            http_budget=_seconds(given, HTTP_BUDGET, cls().http_budget),
            most_bytes=whole(given, MOST_BYTES, cls().most_bytes),
            sweeper=_is_on(given),
            sweep_ahead=_seconds(given, SWEEP_AHEAD, cls().sweep_ahead),
            sweep_limit=whole(given, SWEEP_LIMIT, cls().sweep_limit),
            purge_after=_seconds(given, PURGE_AFTER, 0) if given.get(PURGE_AFTER) else None,
            rotate_after=_period(given),
            public_url=_url(given),
            callback_keys=_callback_keys(given),
            callback_expires=_seconds(given, CALLBACK_EXPIRES, cls().callback_expires),
            storage=given.get(STORAGE) or None,
            payloads=given.get(PAYLOADS) or None,
            log_level=_level(given),
        )

    def __repr__(self) -> str:
        """Without the keys: settings are printed when something is wrong, and what is printed is kept."""
        fields = self._asdict()
        if self.callback_keys is not None:
            fields["callback_keys"] = "[redacted]"
        return f"HostSettings({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


def hosted(
    settings: HostSettings,
    workflows: Iterable[Workflow],
    storage: WorkflowStorage,
    scheduler: Scheduler | None,
    *,
    queue: str,
    keys: Callable[[], Mapping[str, str]] | None = None,
    **options: Any,
) -> FluxEngine:
    """The engine of a function. `queue` names the variable that gives it a queue; `options` are `FluxEngine`'s.

    `keys` finds the callback keys where the settings do not hold them. `DefinitionError` says what is missing: a store
    that outlives the function, and either a queue or a sweeper (PROTOCOL rule 11).
    """
    if keys is None and settings.callback_keys is not None:
        parsed = parsed_keys(settings.callback_keys)

        def keys() -> Mapping[str, str]:
            return parsed

    if keys is not None and "callbacks" not in options:
        if settings.public_url is None:
            message = (
                f"there are keys for callback links, but nothing says where the links are to lead: set {PUBLIC_URL} to "
                f"where the routes are served, such as https://api.example.com"
            )
            raise DefinitionError(message)
        options["callbacks"] = Callbacks(settings.public_url, keys, settings.callback_expires)
    options.setdefault("tenant", settings.tenant)
    options.setdefault("lease", settings.lease)
    options.setdefault("longest_invocation", settings.longest_invocation)
    return checked(FluxEngine(storage, workflows=workflows, scheduler=scheduler, **options), settings, queue=queue)


def checked(engine: FluxEngine, settings: HostSettings, *, queue: str) -> FluxEngine:
    """The engine, if a function can run it; `DefinitionError` says what it lacks. `queue` as for `hosted`."""
    if getattr(engine.storage, "ephemeral", False):
        message = (
            "the engine's store forgets everything when the function's process ends; give the handler a store that "
            "lasts, by its settings or as storage="
        )
        raise DefinitionError(message)
    if not engine.scheduled and not settings.sweeper:
        message = (
            f"neither {queue} nor {SWEEPER} is set, so nothing would bring timers and hand-overs back: set {queue} "
            f"to the queue of the worker function, or deploy the sweeper on a schedule and set {SWEEPER}=on"
        )
        raise DefinitionError(message)
    return engine


def number(given: Mapping[str, str], name: str, default: float) -> float:
    """The variable as a positive number; `default` if it is absent or empty. `DefinitionError` for anything else."""
    text = given.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        message = f"{name} must be a number above 0, not {text!r}"
        raise DefinitionError(message)
    return value


def whole(given: Mapping[str, str], name: str, default: int) -> int:
    """The same for a whole number."""
    value = number(given, name, default)
    if value % 1:
        message = f"{name} must be a whole number above 0, not {given[name]!r}"
        raise DefinitionError(message)
    return int(value)


def _seconds(given: Mapping[str, str], name: str, default: float) -> float:
    value = number(given, name, default)
    if value > LONGEST:
        message = f"{name} must be at most a year in seconds, not {given[name]!r}"
        raise DefinitionError(message)
    return value


def _period(given: Mapping[str, str]) -> float | None:
    if not given.get(ROTATE_AFTER):
        return None
    expires = _seconds(given, CALLBACK_EXPIRES, HostSettings().callback_expires)
    return checked_period(_seconds(given, ROTATE_AFTER, 0), expires, ROTATE_AFTER)


def _tenant(given: Mapping[str, str]) -> str:
    try:
        return check_key("tenant", given.get(TENANT) or HostSettings().tenant)
    except CallerError as error:
        message = f"{TENANT}: {error}"
        raise DefinitionError(message) from None


def _url(given: Mapping[str, str]) -> str | None:
    url = given.get(PUBLIC_URL) or None
    if url is not None and not url.startswith(("https://", "http://")):
        message = f"{PUBLIC_URL} is where the routes are served, such as https://api.example.com; got {url!r}"
        raise DefinitionError(message)
    return url


def _callback_keys(given: Mapping[str, str]) -> str | None:
    text = given.get(CALLBACK_KEYS) or None
    try:
        if text is not None:
            checked_keys(parsed_keys(text))
    except DefinitionError as error:
        message = f"{CALLBACK_KEYS}: {error}"
        raise DefinitionError(message) from None
    return text


def _is_on(given: Mapping[str, str]) -> bool:
    text = given.get(SWEEPER) or "off"
    if text not in {"on", "off"}:
        message = f"{SWEEPER} must be 'on' (a sweeper is deployed) or 'off', not {text!r}"
        raise DefinitionError(message)
    return text == "on"


def _level(given: Mapping[str, str]) -> str:
    level = given.get(LOG_LEVEL) or HostSettings().log_level
    if level not in _LEVELS:
        message = f"{LOG_LEVEL} must be one of {', '.join(_LEVELS)}, not {level!r}"
        raise DefinitionError(message)
    return level
