"""What must survive the process survives it, and a damaged file costs nothing but itself."""

from pathlib import Path

import pytest

from equalizer.ledger import Ledger, SavedAccount, StandingOrders


def test_a_new_ledger_begins_at_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state", "main")
    assert ledger.epoch() == 0
    assert ledger.account() == SavedAccount()
    assert ledger.damaged == []


def test_epoch_and_account_come_back_after_a_restart(tmp_path: Path) -> None:
    account = SavedAccount(import_wh=12.5, export_wh=3.25, unbalanced_wh=99.0, setpoint_changes=17)
    first = Ledger(tmp_path / "state", "main")
    first.store_epoch(41)
    first.store_account(account)
    second = Ledger(tmp_path / "state", "main")
    assert second.epoch() == 41
    assert second.account() == account


def test_two_loops_share_a_folder(tmp_path: Path) -> None:
    Ledger(tmp_path, "a").store_epoch(5)
    Ledger(tmp_path, "b").store_epoch(9)
    assert (Ledger(tmp_path, "a").epoch(), Ledger(tmp_path, "b").epoch()) == (5, 9)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"epoch": "7"}', b'{"epoch": true}', b'{"epoch": -1}'])
def test_a_damaged_epoch_is_kept_aside_and_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "epoch-main.json").write_bytes(content)
    ledger = Ledger(tmp_path, "main")
    assert ledger.epoch() == 0
    assert (tmp_path / "epoch-main.json.damaged-1").read_bytes() == content
    assert not (tmp_path / "epoch-main.json").exists()
    assert len(ledger.damaged) == 1
    assert "epoch-main.json.damaged-1" in ledger.damaged[0]


@pytest.mark.parametrize("value", ["NaN", "-1.0", '"1"', "Infinity", "true"])
def test_a_damaged_account_never_becomes_energy(tmp_path: Path, value: str) -> None:
    (tmp_path / "energy-main.json").write_text(f'{{"import_wh": {value}}}')
    ledger = Ledger(tmp_path, "main")
    assert ledger.account() == SavedAccount()
    assert len(ledger.damaged) == 1


def test_the_second_damage_does_not_overwrite_the_first(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        (tmp_path / "energy-main.json").write_bytes(content)
        Ledger(tmp_path, "main").account()
    kept = sorted(path.read_bytes() for path in tmp_path.glob("energy-main.json.damaged-*"))
    assert kept == [b"one", b"two"]


def test_storing_leaves_no_temporary_file(tmp_path: Path) -> None:
    Ledger(tmp_path, "main").store_epoch(1)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-main.json"]


@pytest.mark.parametrize(
    "orders",
    [StandingOrders(), StandingOrders(paused=True), StandingOrders(target_power_w=-5e3, instead_of_w=0.0)],
)
def test_what_operators_ordered_comes_back_after_a_restart(tmp_path: Path, orders: StandingOrders) -> None:
    Ledger(tmp_path, "main").store_orders(orders)
    assert Ledger(tmp_path, "main").orders() == orders


def test_without_orders_nothing_is_paused(tmp_path: Path) -> None:
    assert Ledger(tmp_path, "main").orders() == StandingOrders()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"paused": 0}', b'{"target_power_w": "1"}', b'{"instead_of_w": NaN}', b'{"target_power_w": 1e300}'],
)
def test_where_the_orders_are_damaged_the_loop_is_paused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "operator-main.json").write_bytes(content)
    ledger = Ledger(tmp_path, "main")
    assert ledger.orders() == StandingOrders(paused=True)
    assert (tmp_path / "operator-main.json.damaged-1").read_bytes() == content
    assert len(ledger.damaged) == 1
