"""Sizes of equalization: which are tried, what is said of them, and a sweep from the command line to the report."""

import csv
import json
from pathlib import Path

import pytest

from schemas.settings import ConfigurationError, parse
from simulation.hall import build
from simulation.scenario import Scenario
from simulation.sizing import Bought, Size, advise, frontier, sized, sizes, variant
from zeroloop.main import main

HALL = """
title = "A small hall"
duration_s = 120.0

[control]
policy = "dwell"
delay_s = 2.0
engage_w = 500.0
release_w = 150.0

[[group]]
station = "storage"
family = "storage"
count = 2
rating_w = [20000.0, 20000.0]

[[group]]
station = "batteries"
family = "equalization"
count = 3
rating_w = [10000.0, 30000.0]
capacity_wh = 40000.0
ramp_s = 1.0
on_lost = "zero"

[[variant]]
name = "a peer"
controller = "openems"

[[variant]]
name = "ours"
"""
PLANT = HALL.replace("duration_s = 120.0", 'duration_s = 120.0\nplant = "traces"')


def scenario(text: str = HALL) -> Scenario:
    return parse(Scenario, text, source="a test", environment={})


def bought(channels: int, rating_kw: float, avoided_kwh: float, *, capacity_kwh: float = 10.0) -> Bought:
    return Bought(
        size=Size(channels, 1e3 * rating_kw, 1e3 * capacity_kwh),
        length_s=43200.0,
        avoided_wh=500.0 * avoided_kwh,
        unbalanced_wh=60e3,
        residual_w=1e3,
        residual_ratio=0.4,
        saved=0.25 * 0.5 * avoided_kwh,
        changes=100,
        changes_per_channel_hour=10.0 / channels,
        lowest_soc_ratio=0.2,
        highest_soc_ratio=0.9,
        hasty=0,
    )


def test_what_is_not_said_is_drawn_around_the_scenarios_own() -> None:
    tried = sizes(scenario())
    assert {one.channels for one in tried} == {1, 2, 4, 8}
    assert {one.rating_w for one in tried} == {10e3, 20e3, 40e3}
    assert {one.capacity_wh for one in tried} == {20e3, 40e3}
    assert sizes(scenario(), (2,), (5e3,), (1e3,)) == (Size(2, 5e3, 1e3),)


def test_without_a_battery_of_its_own_a_channel_gets_one_for_its_rating() -> None:
    tried = sizes(scenario(HALL.replace("capacity_wh = 40000.0\n", "")), (1,), (10e3, 20e3))
    assert {(one.rating_w, one.capacity_wh) for one in tried} == {(10e3, 5e3), (10e3, 10e3), (20e3, 10e3), (20e3, 20e3)}


def test_a_size_replaces_the_halls_equalization_and_nothing_else() -> None:
    hall = scenario()
    small, large = (build(sized(hall, Size(count, 5e3, 2e3)), Path(), seed=3) for count in (1, 4))
    assert [len(one.stations[-1].channel) for one in (small, large)] == [1, 4]
    assert {channel.charge_limit_w for channel in large.stations[-1].channel} == {5e3}
    assert {channel.ramp_w_per_s for channel in large.stations[-1].channel} == {5e3}
    assert small.stations[0] == large.stations[0] == build(hall, Path(), seed=3).stations[0]


def test_a_hall_without_equalization_can_be_sized_where_the_rating_is_said() -> None:
    bare = scenario(HALL[: HALL.index('[[group]]\nstation = "batteries"')])
    with pytest.raises(ConfigurationError, match="--rating-kw"):
        sizes(bare)
    (size,) = sizes(bare, (2,), (5e3,), (1e3,))
    assert [group.station for group in sized(bare, size).group] == ["storage", "equalization"]


def test_it_is_tried_with_our_control_unless_another_is_named() -> None:
    assert variant(scenario(), None).name == "ours"
    assert variant(scenario(), "a peer").name == "a peer"
    with pytest.raises(ConfigurationError, match="there are 'a peer', 'ours'"):
        variant(scenario(), "nobody")


def test_the_frontier_buys_less_with_every_step() -> None:
    rows = [bought(1, 10, 40), bought(2, 10, 50), bought(1, 30, 80), bought(4, 10, 85), bought(8, 10, 84)]
    steps = frontier(rows)
    assert [step.after for step in steps] == [rows[0], rows[2], rows[3]]
    assert [step.marginal_h_per_day for step in steps] == pytest.approx([4.0, 2.0, 0.5])


def test_of_the_same_power_and_energy_the_simplest_is_on_the_frontier() -> None:
    simple = bought(1, 20, 50, capacity_kwh=5.0)
    steps = frontier([bought(2, 10, 50), bought(1, 20, 50), simple])
    assert [step.after for step in steps] == [simple]


def test_it_says_where_more_buys_little() -> None:
    rows = [
        bought(1, 10, 40),
        bought(2, 10, 60),
        bought(4, 10, 66),
        bought(1, 20, 45),
        bought(2, 10, 59, capacity_kwh=5),
    ]
    advice = advise(rows)
    assert advice.worth_h_per_day == pytest.approx(0.8)
    assert advice.enough is rows[1]
    assert "a further kW avoids 0.30 kWh a day, below 0.80; the first avoided 4.00" in advice.words[0]
    assert "The same 20 kW as 1 x 20 kW, 10 kWh each avoid 15.0 kWh a day less" in advice.words[1]
    assert "Batteries of 10 instead of 5 kWh" in advice.words[2]
    assert "the same within 1 %" in advice.words[2]
    assert advise(rows, 0.2).enough is rows[2]
    assert "larger sizes may be worth a look" in advise(rows, 0.2).words[0]
    assert "Even the smallest" in advise(rows, 9.0).words[0]


def test_sizes_that_avoid_nothing_are_called_so() -> None:
    assert advise([bought(1, 10, -4), bought(2, 10, 0)]).words == ("No size avoids any energy here.",)


@pytest.mark.parametrize("text", [HALL, PLANT], ids=["stations", "traces"])
def test_a_sweep_leaves_a_page_a_table_and_json(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "hall.toml", tmp_path / "out"
    path.write_text(text)
    jobs = "2" if text is HALL else "1"
    options = ["--channels", "1,2", "--rating-kw", "5,20", "--capacity-kwh", "20", "--seconds", "60", "--jobs", jobs]
    assert main(["size", str(path), "--out", str(out), *options]) == 0
    told = json.loads((out / "sizing.json").read_text())
    with (out / "sizing.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["channels"], row["rating_w"]) for row in rows] == [
        ("1", "5000.0"), ("1", "20000.0"), ("2", "5000.0"), ("2", "20000.0"),
    ]  # fmt: skip
    avoided_wh = [size["avoided_wh"] for size in told["sizes"]]
    assert len({round(size["unbalanced_wh"], 3) for size in told["sizes"]}) == 1
    assert avoided_wh[0] < avoided_wh[3]
    assert all(size["hasty"] == 0 for size in told["sizes"])
    page = (out / "sizing.html").read_text()
    assert page.count("<svg") == 2
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")
    printed = " ".join(capsys.readouterr().out.split())
    assert " ".join(told["words"][0].split()) in printed
    assert all(word in printed.split() for word in ("channels", "|total|,", "channel", "charge"))
    assert "…" not in printed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--channels", "1,x"], "--channels: 'x' is no whole number"),
        (["--channels", "0"], "--channels: 0 is not between 1 and 1000"),
        (["--rating-kw", "nan"], "--rating-kw: nan is not between"),
        (["--capacity-kwh", "-1"], "--capacity-kwh: -1 is not between"),
        (["--worth", "-1"], "--worth: -1 is not 0 or more"),
        (["--seconds", "0"], "--seconds: must be a number of at least 1, not 0"),
        (["--jobs", "0"], "--jobs: 0 is not 1 or more"),
        (["--variant", "nobody"], "variant 'nobody': there are"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hall.toml"
    path.write_text(HALL)
    assert main(["size", str(path), "--out", str(tmp_path / "out"), *options]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert says in printed.err
    assert not (tmp_path / "out").exists()
