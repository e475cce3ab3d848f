"""What balancing has spared today, in virtual time."""

import datetime as dt

import pytest

from dashboard.config import DashboardSettings, TariffSection
from dashboard.energy import Day, DayBook, Reading
from schemas.messages import EnergyAccount
from schemas.settings import ConfigurationError, parse

MIDNIGHT_S = dt.datetime(2026, 3, 4, tzinfo=dt.UTC).timestamp()
HOUR_S = 3_600.0


def local(unix_time_s: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(unix_time_s, dt.UTC)


def account(avoided_wh: float, exchanged_wh: float = 0.0) -> EnergyAccount:
    return EnergyAccount(
        import_wh=exchanged_wh, export_wh=0.0, unbalanced_wh=avoided_wh + exchanged_wh, avoided_wh=avoided_wh
    )


def book(price: float = 0.2, last: Reading | None = None, day: Day | None = None) -> DayBook:
    return DayBook(lambda _minute: price, local, last, day)


def test_an_account_that_was_opened_long_ago_counts_from_what_is_heard_first() -> None:
    days = book()
    assert days.take(MIDNIGHT_S + HOUR_S, account(50_000.0)).avoided_wh == 0.0
    day = days.take(MIDNIGHT_S + HOUR_S + 1.0, account(51_000.0, exchanged_wh=100.0))
    assert (day.avoided_wh, day.exchanged_wh, day.unbalanced_wh) == (1_000.0, 100.0, 1_100.0)
    assert day.saved == pytest.approx(0.2)


def test_a_new_day_begins_at_zero_and_a_gap_over_midnight_is_shared_by_time() -> None:
    days = book()
    days.take(MIDNIGHT_S - HOUR_S, account(0.0))
    day = days.take(MIDNIGHT_S + HOUR_S, account(2_000.0))
    assert day.date == "2026-03-04"
    assert day.avoided_wh == pytest.approx(1_000.0)
    assert day.saved == pytest.approx(0.2)


def test_a_restart_of_the_page_goes_on_where_it_ended() -> None:
    before = book()
    before.take(MIDNIGHT_S + HOUR_S, account(0.0))
    before.take(MIDNIGHT_S + 2 * HOUR_S, account(500.0))
    after = book(last=before.last, day=before.day)
    assert after.take(MIDNIGHT_S + 3 * HOUR_S, account(800.0)).avoided_wh == pytest.approx(800.0)


def test_an_account_that_begins_anew_takes_nothing_away() -> None:
    days = book()
    days.take(MIDNIGHT_S, account(9_000.0))
    days.take(MIDNIGHT_S + 60.0, account(9_500.0))
    assert days.take(MIDNIGHT_S + 120.0, account(20.0)).avoided_wh == pytest.approx(520.0)


def test_each_minute_has_its_price() -> None:
    tariff = parse(
        DashboardSettings,
        "[tariff]\nprice_per_kwh = 0.3\n[[tariff.period]]\nbegins = '22:00'\nends = '06:00'\nprice_per_kwh = 0.1",
        source="d.toml",
        environment={},
    ).tariff
    assert [tariff.price_at(60 * hour) for hour in (0, 5, 6, 21, 22, 23)] == [0.1, 0.1, 0.3, 0.3, 0.1, 0.1]
    days = DayBook(tariff.price_at, local)
    days.take(MIDNIGHT_S + 5 * HOUR_S, account(0.0))
    assert days.take(MIDNIGHT_S + 7 * HOUR_S, account(2_000.0)).saved == pytest.approx(0.1 + 0.3)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[tariff]\n[[tariff.period]]\nbegins = '25:00'\nends = '06:00'\nprice_per_kwh = 1.0", "'25:00' is no time"),
        ("[page]\ncert_file = 'c.pem'", "belong together"),
        ("[page]\nprot = 1", "did you mean port?"),
    ],
)
def test_a_wrong_configuration_is_one_line(text: str, part: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^d\.toml: ") as caught:
        parse(DashboardSettings, text, source="d.toml", environment={})
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_minute_has_two_prices() -> None:
    with pytest.raises(ValueError, match="share the time from 05:00"):
        TariffSection.model_validate(
            {
                "period": (
                    {"begins": "22:00", "ends": "06:00", "price_per_kwh": 0.1},
                    {"begins": "05:00", "ends": "07:00", "price_per_kwh": 0.2},
                )
            }
        )
