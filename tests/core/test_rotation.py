"""The keys of callback links, rotated: each is known before it signs, and accepted for a period after it has signed."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_core import Callbacks, DefinitionError, InvalidToken, InvocationError
from flux_core.callbacks import Ticket, parsed_keys
from flux_core.rotation import checked_age, due, follows, rotated, switches

DAY: Final = 86400.0
WEEK: Final = 7 * DAY
ONE, TWO, THREE, FOUR, FIVE = (letter * 32 for letter in "abcde")


def ids(text: str) -> list[str]:
    return list(parsed_keys(text))


class TestTheOrder:
    def test_a_key_that_is_alone_goes_on_signing_and_gets_a_next_one(self) -> None:
        assert rotated(f"k1:{ONE}", TWO) == f"k1:{ONE},k2:{TWO}"

    def test_then_the_next_one_signs_and_the_first_is_accepted_on(self) -> None:
        assert rotated(f"k1:{ONE},k2:{TWO}", THREE) == f"k2:{TWO},k3:{THREE},k1:{ONE}"

    def test_from_then_on_the_oldest_is_dropped(self) -> None:
        assert rotated(f"k2:{TWO},k3:{THREE},k1:{ONE}", FOUR) == f"k3:{THREE},k4:{FOUR},k2:{TWO}"

    def test_a_second_key_that_is_older_than_the_first_never_signs_again(self) -> None:
        by_hand = f"k2:{TWO},k1:{ONE}"
        assert rotated(by_hand, THREE) == f"k2:{TWO},k3:{THREE},k1:{ONE}"
        assert rotated(rotated(by_hand, THREE), FOUR) == f"k3:{THREE},k4:{FOUR},k2:{TWO}"

    def test_ids_without_a_number_are_older_than_any_that_has_one(self) -> None:
        assert rotated(f"blue:{ONE},green:{TWO}", THREE) == f"blue:{ONE},k1:{THREE},green:{TWO}"

    def test_a_date_is_a_number_too(self) -> None:
        assert ids(rotated(f'{{"2026-11-21": "{ONE}"}}', TWO)) == ["2026-11-21", "k20261122"]

    def test_the_day_of_a_later_month_is_not_taken_for_an_earlier_one(self) -> None:
        by_hand = f"2026-11-21:{ONE},2026-10-30:{TWO}"
        assert ids(rotated(by_hand, THREE)) == ["2026-11-21", "k20261122", "2026-10-30"]

    def test_an_object_stays_an_object(self) -> None:
        assert rotated(f' {{"k1": "{ONE}"}}', TWO) == f'{{"k1":"{ONE}","k2":"{TWO}"}}'


class TestLinks:
    @given(st.integers(1, 12), st.integers(0, 12))
    def test_one_is_accepted_by_all_who_read_the_keys_within_a_period_before_or_after(self, at: int, seen: int) -> None:
        text, texts = f"k1:{ONE}", [f"k1:{ONE}"]
        for number in range(12):
            text = rotated(text, f"{number:032}")
            texts.append(text)
        ticket = Ticket("default", "order", "o-1", "go", "ask", 0, 0, 1000)
        token = Callbacks("https://x.example", parsed_keys(texts[at])).token(ticket)
        reader = Callbacks("https://x.example", parsed_keys(texts[seen]))
        if abs(at - seen) <= 1:
            assert reader.read(token, 0) == ticket
        if seen > at + 2:
            with pytest.raises(InvalidToken):
                reader.read(token, 0)


class TestWhen:
    def test_a_next_key_is_added_at_once_and_signs_after_a_period(self) -> None:
        assert due(f"k1:{ONE}", 0.0, WEEK)
        assert not due(f"k1:{ONE},k2:{TWO}", WEEK - 1, WEEK)
        assert due(f"k1:{ONE},k2:{TWO}", WEEK, WEEK)

    def test_changing_the_key_that_signs_is_refused_while_links_of_the_last_change_live(self) -> None:
        text = f"k2:{TWO},k3:{THREE},k1:{ONE}"
        with pytest.raises(InvocationError, match=r"changed 2 days ago, and links live for 7 days") as told:
            checked_age(text, 2 * DAY, WEEK)
        assert not {ONE, TWO, THREE} & set(str(told.value).split())
        checked_age(text, WEEK, WEEK)
        checked_age(f"k1:{ONE}", 0.0, WEEK)

    def test_a_text_follows_another_if_what_signs_is_known_there(self) -> None:
        before = f"k1:{ONE},k2:{TWO}"
        assert follows(rotated(before, THREE), before)
        assert follows(before, before)
        assert not follows(f"k3:{THREE},k1:{ONE}", before)
        assert not follows(f"k2:{FIVE},k1:{ONE}", before)


class TestATextThatCannotBeRotated:
    @pytest.mark.parametrize("text", ["", ONE, "k1:short", "{}", '{"k1": 1}', f"k1:{ONE},k1:{TWO}"])
    def test_is_refused_without_being_shown(self, text: str) -> None:
        for ask in (lambda: rotated(text, TWO), lambda: switches(text), lambda: follows(text, text)):
            with pytest.raises(DefinitionError) as told:
                ask()
            assert ONE not in str(told.value)

    def test_a_new_key_that_is_too_short_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match="at least 32"):
            rotated(f"k1:{ONE}", "short")
