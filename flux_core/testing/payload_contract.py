"""The behaviour suite that every payload store must pass; shipped, as `StoreContract` is.

    from flux_core.testing import PayloadContract

    class TestMyPayloads(PayloadContract):
        def make_payloads(self):
            return MyPayloads()

The promises are those of `flux_core.ports.PayloadStorage`. Each case fails with a sentence that says what the payload
store did wrong. This module must not know any.
"""
# ruff: noqa: D102 -- the name of a case is its documentation

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core.errors import PayloadMissing, StorageUnavailable
from flux_core.keys import sha256
from flux_core.testing.store_case import ALL_BYTES, NAME_CHARACTERS, must, ref, same, together

if TYPE_CHECKING:
    from flux_core.ports import InstanceRef, PayloadStorage


class PayloadContract:
    """All cases. Inherit, override `make_payloads`, and name the class so that pytest collects it (`Test...`)."""

    writers = 16
    """Threads that put at the same time."""
    large = 5 * 1024 * 1024
    """Bytes of the largest payload."""

    payloads: PayloadStorage

    def make_payloads(self) -> PayloadStorage:
        """A fresh, empty payload store; called once for each test."""
        raise NotImplementedError(f"{type(self).__name__} must override make_payloads() and return a fresh, empty one.")

    def reopen(self, payloads: PayloadStorage) -> PayloadStorage:
        """Open anew what `payloads` has open, as another process would. A durable one overrides this."""
        return payloads

    def setup_method(self) -> None:
        """Make the payload store that the case works on."""
        self.payloads = self.make_payloads()
        self.payloads.ensure()

    def teardown_method(self) -> None:
        """Close it."""
        self.payloads.close()

    # --- put and get -------------------------------------------------------------------------------------------

    def test_a_payload_comes_back_byte_by_byte(self) -> None:
        for data in (b"", b"\x00", ALL_BYTES, b'{"ref":"looks like a reference"}'):
            self._is(ref(), self._put(ref(), data), data)

    def test_a_payload_of_any_size_comes_back(self) -> None:
        data = (ALL_BYTES * (self.large // 256 + 1))[: self.large]
        self._is(ref(), self._put(ref(), data), data)

    def test_a_payload_that_is_put_again_stays_as_it_is(self) -> None:
        digest = self._put(ref(), b"once")
        self._put(ref(), b"once")
        self._is(ref(), digest, b"once")

    def test_writers_of_the_same_payload_do_not_disturb_each_other(self) -> None:
        data = ALL_BYTES * 1000
        together(self.writers, lambda _: self._put(ref(), data))
        self._is(ref(), sha256(data), data)

    def test_writers_of_many_payloads_lose_none(self) -> None:
        digests = together(self.writers, lambda number: self._put(ref(), b"payload %d" % number))
        for number, digest in enumerate(digests):
            self._is(ref(), digest, b"payload %d" % number)

    def test_a_payload_that_was_never_put_is_missing(self) -> None:
        self._put(ref(), b"another one")
        self._is_missing(ref(), sha256(b"never put"), "that was never put")
        self._is_missing(ref("nobody"), sha256(b"another one"), "of an instance that has none")

    def test_the_payloads_of_one_instance_are_not_those_of_another(self) -> None:
        digest = self._put(ref("1"), b"mine")
        for other in (ref("10"), ref("1:"), ref("0"), ref("1", workflow="refund"), ref("1", tenant="other")):
            self._is_missing(other, digest, f"of {other}, which only {ref('1')} has")

    def test_names_that_differ_in_case_only_are_two(self) -> None:
        digest = self._put(ref("order-a"), b"small")
        self._is_missing(ref("ORDER-A"), digest, "of ORDER-A, which only order-a has")

    def test_names_of_any_permitted_character_and_length(self) -> None:
        for at in (ref(NAME_CHARACTERS), ref("x" * 128, "W" * 128, "-" * 128), ref("..."), ref(":-:")):
            self._is(at, self._put(at, b"named"), b"named")

    def test_what_was_put_is_there_after_opening_again(self) -> None:
        digest = self._put(ref(), ALL_BYTES)
        self.payloads = self.reopen(self.payloads)
        self._is(ref(), digest, ALL_BYTES)

    # --- purge, ensure, close ----------------------------------------------------------------------------------

    def test_purge_leaves_no_payload_of_the_instance(self) -> None:
        digests = [self._put(ref(), b"payload %d" % number) for number in range(30)]
        self.payloads.purge(ref())
        for digest in digests:
            self._is_missing(ref(), digest, "after purge")

    def test_purge_leaves_all_others_alone(self) -> None:
        others = [ref("10"), ref("1:"), ref("0"), ref("1", workflow="refund"), ref("1", tenant="other")]
        for at in (ref("1"), *others):
            self._put(at, b"kept")
        self.payloads.purge(ref("1"))
        for at in others:
            self._is(at, sha256(b"kept"), b"kept")

    def test_purge_of_an_instance_without_payloads_is_harmless(self) -> None:
        self.payloads.purge(ref("nobody"))
        self._put(ref(), b"gone")
        self.payloads.purge(ref())
        self.payloads.purge(ref())

    def test_purges_at_the_same_time_do_not_disturb_each_other(self) -> None:
        digest = self._put(ref(), b"gone")
        together(4, lambda _: self.payloads.purge(ref()))
        self._is_missing(ref(), digest, "after purge")

    def test_a_payload_can_be_put_again_after_purge(self) -> None:
        self._put(ref(), b"again")
        self.payloads.purge(ref())
        self._is(ref(), self._put(ref(), b"again"), b"again")

    def test_ensure_again_changes_nothing(self) -> None:
        digest = self._put(ref(), b"kept")
        self.payloads.ensure()
        self._is(ref(), digest, b"kept")

    def test_a_payload_store_says_whether_a_restart_loses_everything(self) -> None:
        same(type(self.payloads.ephemeral), bool, "the type of `ephemeral`")

    def test_a_closed_payload_store_refuses_every_call(self) -> None:
        other = self.make_payloads()
        other.ensure()
        other.close()
        other.close()
        for call in (
            lambda: other.put(ref(), sha256(b"x"), b"x"),
            lambda: other.get(ref(), sha256(b"x")),
            lambda: other.purge(ref()),
        ):
            try:
                call()
            except StorageUnavailable:
                continue
            raise AssertionError("a closed payload store carried out a call; it must raise StorageUnavailable")

    # --- shorthands --------------------------------------------------------------------------------------------

    def _put(self, at: InstanceRef, data: bytes) -> str:
        digest = sha256(data)
        self.payloads.put(at, digest, data)
        return digest

    def _is(self, at: InstanceRef, digest: str, wanted: bytes) -> None:
        same(self.payloads.get(at, digest), wanted, f"payload {digest[:8]} of {at}")

    def _is_missing(self, at: InstanceRef, digest: str, what: str) -> None:
        try:
            found = self.payloads.get(at, digest)
        except PayloadMissing as error:
            must(bool(str(error)), f"PayloadMissing for a payload {what} has no message")
            return
        raise AssertionError(f"a payload {what} was found, with {len(found)} bytes; it must be PayloadMissing")
