"""What the shell offers for half a word, asked as bash asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from flux_cli.program import program
from tests.cli.orders import Orders

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Flux

    Offered = Callable[[str], list[str]]


@pytest.fixture
def orders(flux: Flux) -> Orders:
    """Two orders, one of which waits."""
    orders = Orders(flux)
    orders.reach("suspended", "o-1")
    orders.reach("failed", "p-2")
    return orders


@pytest.fixture
def offered(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """The words offered after a line, FLUX_APP naming the app."""
    monkeypatch.setenv("FLUX_APP", orders.app)
    return complete


def complete(line: str) -> list[str]:
    variables = {
        "_FLUX_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - (not line.endswith(" "))),
    }
    done = CliRunner().invoke(program, [], env=variables, prog_name="flux")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("flux li", ["list"]),
        ("flux un", ["unpause"]),
        ("flux list --status st", ["stuck"]),
        ("flux list --status roll", ["rolling_back", "rolled_back"]),
        ("flux list o", ["order"]),
        ("flux show ", ["p-2", "o-1"]),
        ("flux show o-", ["o-1"]),
        ("flux show order o-", ["o-1"]),
        ("flux retry p-2 g", ["gate"]),
        ("flux complete order p-2 ", ["first", "gate", "last"]),
        ("flux resume p-2 --from la", ["last"]),
        ("flux signal o-1 ", ["go"]),
        ("flux signal order o-1 g", ["go"]),
        ("flux signal o-1 go ", []),
    ],
)
def test_offers_what_fits(line: str, words: list[str], offered: Offered) -> None:
    assert offered(line) == words


def test_asks_the_app_of_the_option(orders: Orders) -> None:
    assert complete(f"flux show --app {orders.app} p") == ["p-2"]


@pytest.mark.parametrize("app", ["", "--app nowhere:engine", "--app broken:engine"])
def test_without_an_app_that_can_be_loaded_it_offers_and_says_nothing(app: str, flux: Flux) -> None:
    (flux.folder / "broken.py").write_text("print('hello')\nraise RuntimeError('not today')")
    assert complete(f"flux show {app} o") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_can_be_shown(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: (shell, f"/bin/{shell}"))
    done = CliRunner().invoke(program, ["--show-completion"], prog_name="flux")
    assert done.exit_code == 0
    assert "_FLUX_COMPLETE" in done.stdout
