"""What a function is told by its environment: every variable, and what is wrong is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from flux_core import Callbacks, DefinitionError, create_workflow, hosting
from flux_core.hosting import HostSettings, checked, hosted
from flux_core.payloads import MemoryPayloads
from tests.core.conftest import Lab

if TYPE_CHECKING:
    from flux_core import Context, FluxEngine

KEY: Final = "k" * 32
RIGHT: Final[dict[str, tuple[str, str, object]]] = {
    "FLUX_TENANT": ("tenant", "acme", "acme"),
    "FLUX_LEASE": ("lease", "30", 30.0),
    "FLUX_LONGEST_INVOCATION": ("longest_invocation", "540.5", 540.5),
    "FLUX_BUDGET": ("budget", "55", 55.0),
    "FLUX_HTTP_BUDGET": ("http_budget", "8", 8.0),
    "FLUX_MOST_BYTES": ("most_bytes", "1024", 1024),
    "FLUX_SWEEPER": ("sweeper", "on", True),
    "FLUX_SWEEP_AHEAD": ("sweep_ahead", "60", 60.0),
    "FLUX_SWEEP_LIMIT": ("sweep_limit", "50", 50),
    "FLUX_PURGE_AFTER": ("purge_after", "86400", 86400.0),
    "FLUX_ROTATE_AFTER": ("rotate_after", "2592000", 2592000.0),
    "FLUX_PUBLIC_URL": ("public_url", "https://x.example", "https://x.example"),
    "FLUX_CALLBACK_KEYS": ("callback_keys", f"k1:{KEY}", f"k1:{KEY}"),
    "FLUX_CALLBACK_EXPIRES": ("callback_expires", "3600", 3600.0),
    "FLUX_STORAGE": ("storage", "s3://bucket/prefix", "s3://bucket/prefix"),
    "FLUX_PAYLOADS": ("payloads", "s3://bucket/large", "s3://bucket/large"),
    "FLUX_LOG_LEVEL": ("log_level", "debug", "debug"),
}
NO_NUMBERS: Final = ("0", "-1", "a", "nan", "inf", "1,5", "0x10", "ten", " ")
WRONG: Final[dict[str, tuple[str, ...]]] = {
    "FLUX_TENANT": ("a/b", "..", "a" * 129, "a b", "__x__"),
    "FLUX_LEASE": (*NO_NUMBERS, "1e12"),
    "FLUX_LONGEST_INVOCATION": (*NO_NUMBERS, "1e12"),
    "FLUX_BUDGET": (*NO_NUMBERS, "1e12"),
    "FLUX_HTTP_BUDGET": (*NO_NUMBERS, "1e12"),
    "FLUX_MOST_BYTES": (*NO_NUMBERS, "0.5", "10.5"),
    "FLUX_SWEEPER": ("true", "1", "ON", "no"),
    "FLUX_SWEEP_AHEAD": (*NO_NUMBERS, "1e12"),
    "FLUX_SWEEP_LIMIT": (*NO_NUMBERS, "0.5", "10.5"),
    "FLUX_PURGE_AFTER": (*NO_NUMBERS, "1e12"),
    "FLUX_ROTATE_AFTER": (*NO_NUMBERS, "1e12", "604800", "691199"),
    "FLUX_PUBLIC_URL": ("x.example", "ftp://x.example", "/callbacks"),
    "FLUX_CALLBACK_KEYS": (KEY, f"k1:{KEY},", "k1:short", f"{KEY}:k1", f"k1:{KEY},k1:{KEY}"),
    "FLUX_CALLBACK_EXPIRES": (*NO_NUMBERS, "1e12"),
    "FLUX_LOG_LEVEL": ("DEBUG", "warning", "3"),
}


class TestAVariable:
    @pytest.mark.parametrize("name", RIGHT)
    def test_is_read(self, name: str) -> None:
        field, text, value = RIGHT[name]
        settings = HostSettings.from_mapping({name: text})
        assert getattr(settings, field) == value
        assert settings._replace(**{field: getattr(HostSettings(), field)}) == HostSettings()

    @pytest.mark.parametrize("name", RIGHT)
    def test_that_is_empty_is_as_if_it_were_absent(self, name: str) -> None:
        assert HostSettings.from_mapping({name: ""}) == HostSettings.from_mapping({}) == HostSettings()

    @pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in WRONG.items() for text in texts])
    def test_that_is_wrong_is_named(self, name: str, text: str) -> None:
        with pytest.raises(DefinitionError, match=f"^{name}\\b"):
            HostSettings.from_mapping({name: text})

    def test_has_its_name_in_one_place(self) -> None:
        names = {value for value in vars(hosting).values() if isinstance(value, str) and value.startswith("FLUX_")}
        assert names == set(RIGHT)
        assert {field for field, _, _ in RIGHT.values()} == set(HostSettings._fields)


class TestThePeriodOfARotation:
    def test_is_at_least_a_day_longer_than_links_live(self) -> None:
        given = {"FLUX_CALLBACK_EXPIRES": "3600", "FLUX_ROTATE_AFTER": "90000"}
        assert HostSettings.from_mapping(given).rotate_after == 90000.0
        with pytest.raises(DefinitionError, match=r"rotated every 1 day.*FLUX_CALLBACK_EXPIRES"):
            HostSettings.from_mapping({**given, "FLUX_ROTATE_AFTER": "89999"})


class TestASecret:
    def test_is_in_no_repr(self) -> None:
        settings = HostSettings.from_mapping({"FLUX_CALLBACK_KEYS": f"k1:{KEY}"})
        for text in (repr(settings), str(settings), f"{settings}"):
            assert KEY not in text
            assert "callback_keys='[redacted]'" in text
        assert "callback_keys=None" in repr(HostSettings())

    @pytest.mark.parametrize("text", WRONG["FLUX_CALLBACK_KEYS"])
    def test_is_in_no_message(self, text: str) -> None:
        with pytest.raises(DefinitionError) as raised:
            HostSettings.from_mapping({"FLUX_CALLBACK_KEYS": text})
        assert KEY not in str(raised.value)
        assert raised.value.__cause__ is None


class Queue:
    """A scheduler that nobody listens to."""

    horizon = 900.0

    def wake(self, ref: object, delay: float) -> None:
        """It is lost."""


class Lasting(Lab):
    """A laboratory whose store says that it outlives the process."""

    def __init__(self) -> None:
        super().__init__()
        self.storage.ephemeral = False
        self.order = create_workflow("order").step("ask", self.ask)
        self.urls: list[str] = []

    def ask(self, ctx: Context) -> None:
        self.urls.append(ctx.callback_url("go"))

    def hosted(self, given: dict[str, str], queue: Any = None, **options: Any) -> FluxEngine:
        return hosted(
            HostSettings.from_mapping(given), [self.order], self.storage, queue, queue="FLUX_QUEUE_URL", **options
        )


class TestAnEngineOfAFunction:
    def test_needs_a_queue_or_a_sweeper(self) -> None:
        lab = Lasting()
        with pytest.raises(DefinitionError) as raised:
            lab.hosted({})
        assert str(raised.value) == (
            "neither FLUX_QUEUE_URL nor FLUX_SWEEPER is set, so nothing would bring timers and hand-overs back: set "
            "FLUX_QUEUE_URL to the queue of the worker function, or deploy the sweeper on a schedule and set "
            "FLUX_SWEEPER=on"
        )
        assert lab.hosted({"FLUX_SWEEPER": "on"}).scheduled is False
        assert lab.hosted({}, Queue()).scheduled is True

    def test_refuses_a_store_that_forgets(self) -> None:
        lab = Lasting()
        lab.storage.ephemeral = True
        with pytest.raises(DefinitionError, match="store forgets everything when the function's process ends"):
            lab.hosted({}, Queue())

    def test_refuses_payloads_that_are_forgotten(self) -> None:
        with pytest.raises(DefinitionError, match="forgets everything"):
            Lasting().hosted({}, Queue(), payloads=MemoryPayloads())

    def test_refuses_them_of_an_engine_that_somebody_else_made_too(self) -> None:
        lab = Lab()
        with pytest.raises(DefinitionError, match="forgets everything"):
            checked(lab.engine(), HostSettings(sweeper=True), queue="Q")
        lab.storage.ephemeral = False
        with pytest.raises(DefinitionError, match="neither Q nor FLUX_SWEEPER is set"):
            checked(lab.engine(), HostSettings(), queue="Q")

    def test_has_the_tenant_and_the_lease_of_the_settings(self) -> None:
        lab = Lasting()
        engine = lab.hosted({"FLUX_TENANT": "acme", "FLUX_LEASE": "7", "FLUX_SWEEPER": "on"}, clock=lab.clock)
        engine.execute(create_workflow("nap").step("nap", lab.note("nap")), id="1", advance=False)
        assert lab.storage.header(lab.ref("1", "nap")._replace(tenant="acme")) is not None
        assert engine._lease == 7

    def test_has_what_it_is_given_rather_than_what_the_settings_say(self) -> None:
        assert Lasting().hosted({"FLUX_TENANT": "acme", "FLUX_SWEEPER": "on"}, tenant="other").tenant == "other"

    def test_sends_links_to_its_own_routes(self) -> None:
        lab = Lasting()
        given = {"FLUX_PUBLIC_URL": "https://x.example/", "FLUX_CALLBACK_KEYS": f"k1:{KEY}", "FLUX_SWEEPER": "on"}
        lab.hosted(given).execute("order")
        assert lab.urls[0].startswith("https://x.example/callbacks/")

    def test_asks_for_its_keys_where_they_are_kept(self) -> None:
        lab = Lasting()
        asked: list[int] = []

        def keys() -> dict[str, str]:
            asked.append(1)
            return {"k1": KEY}

        engine = lab.hosted({"FLUX_PUBLIC_URL": "https://x.example", "FLUX_SWEEPER": "on"}, keys=keys)
        assert asked == []
        engine.execute("order")
        assert (len(lab.urls), asked) == (1, [1])

    def test_with_keys_but_no_address_for_its_links_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="set FLUX_PUBLIC_URL to where the routes are served"):
            Lasting().hosted({"FLUX_CALLBACK_KEYS": f"k1:{KEY}", "FLUX_SWEEPER": "on"})

    def test_takes_callbacks_of_ones_own(self) -> None:
        lab = Lasting()
        given = {"FLUX_PUBLIC_URL": "https://x.example/", "FLUX_CALLBACK_KEYS": f"k1:{KEY}", "FLUX_SWEEPER": "on"}
        lab.hosted(given, callbacks=Callbacks("https://y.example", {"k": KEY})).execute("order")
        assert lab.urls[0].startswith("https://y.example/")
