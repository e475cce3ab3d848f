"""Small halls in virtual time: the same run from the same seed, the production's behaviour, and files that explain."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import simulation
import simulation.station
from schemas.settings import ConfigurationError
from simulation.run import Result, compete
from simulation.scenario import Scenario, read
from simulation.score import score
from simulation.simulate import simulate, write
from zeroloop.simulating import run as run_command

SCENARIOS = Path(simulation.__file__).parent / "scenarios"
SHIPPED = sorted(SCENARIOS.glob("*.toml"))

SMALL = """
title = "A small hall"
duration_s = 120.0

[control]
engage_w = 1000.0
release_w = 300.0

[[group]]
station = "storage"
family = "storage"
count = 2
rating_w = [20000.0, 40000.0]

[[group]]
station = "packs"
family = "drive"
count = 2
rating_w = [20000.0, 30000.0]

[[group]]
station = "equalization"
family = "equalization"
count = 2
rating_w = [100000.0, 100000.0]
"""


def small(tmp_path: Path, more: str = "") -> Scenario:
    path = tmp_path / "small.toml"
    path.write_text(SMALL + more, encoding="utf-8")
    return read(path)


def run(tmp_path: Path, more: str = "", **options: object) -> tuple[Result, ...]:
    return compete(small(tmp_path, more), tmp_path, **options)  # type: ignore[arg-type]  # test keywords


def test_the_same_seed_gives_the_same_run_bit_for_bit_and_another_seed_another(tmp_path: Path) -> None:
    (first,), (again,), (other,) = run(tmp_path), run(tmp_path), run(tmp_path, seed=2)
    assert first.trace.load_w == again.trace.load_w
    assert first.trace.equalization_w == again.trace.equalization_w
    assert first.orders == again.orders
    assert first.trace.load_w != other.trace.load_w


def test_all_controllers_meet_the_same_load(tmp_path: Path) -> None:
    more = """
[[variant]]
name = "ours"
[[variant]]
name = "literal"
controller = "literal_delay"
plans = false
"""
    ours, literal = run(tmp_path, more)
    assert ours.trace.load_w == literal.trace.load_w
    assert ours.trace.equalization_w != literal.trace.equalization_w


def test_balancing_leaves_a_small_part_of_the_load(tmp_path: Path) -> None:
    (result,) = run(tmp_path)
    figures = score(result, 0.25)
    assert figures.mean_load_w > 5000.0
    assert figures.mean_total_w < 0.5 * figures.mean_load_w
    assert figures.violations.outside_limits == 0
    assert result.rejected == {}
    assert figures.bound_w < figures.mean_total_w
    assert sum(figures.residual_by_reason_wh.values()) == pytest.approx(figures.import_wh + figures.export_wh)
    assert figures.avoided_wh == pytest.approx(figures.unbalanced_wh - figures.import_wh - figures.export_wh)


def test_coarse_ticks_show_the_power_that_ticks_of_the_production_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (coarse,) = run(tmp_path)
    monkeypatch.setattr(simulation.station, "rest_until_s", lambda *args: args[-1])
    (fine,) = run(tmp_path)
    off_w = np.abs(np.asarray(coarse.trace.load_w) - np.asarray(fine.trace.load_w))
    # The noise of measurement is drawn anew with every tick: some ten watts of it remain.
    assert off_w.mean() < 0.004 * np.abs(np.asarray(fine.trace.load_w)).mean()
    assert coarse.trace.load_w != fine.trace.load_w  # they are two ways to run


def test_a_channel_that_is_stopped_brings_its_power_to_zero(tmp_path: Path) -> None:
    stop = '\n[[event]]\nat_s = 60.0\naction = "stop"\nstation = "[sp]*"\n'
    (result,) = run(tmp_path, stop)
    load_w = np.asarray(result.trace.load_w)
    assert np.abs(load_w[500:600]).mean() > 1000.0
    assert np.abs(load_w[700:]).max() == 0.0


def test_leases_run_out_where_the_equalization_stations_network_fails(tmp_path: Path) -> None:
    cut = '\n[[event]]\nat_s = 40.0\naction = "cut"\nstation = "equalization"\n'
    (result,) = run(tmp_path, cut)
    equalization_w = np.asarray(result.trace.equalization_w)
    assert np.abs(equalization_w[300:400]).max() > 1000.0
    assert np.abs(equalization_w[800:]).max() < 200.0
    assert result.events["lease_expired"] > 0


def test_lost_and_late_messages_do_no_harm_to_the_contract(tmp_path: Path) -> None:
    weather = "\n[network]\njitter_s = 0.3\nloss_ratio = 0.2\n[plans]\nshare_ratio = 0.5\nshift_s = 2.0\n"
    (result,) = run(tmp_path, weather)
    assert result.messages_lost > 20
    assert score(result, 0.25).violations.outside_limits == 0


def test_a_variant_may_meet_worse_plans_and_messages_and_a_dead_channel_on_the_same_loads(tmp_path: Path) -> None:
    more = """
[[event]]
at_s = 20.0
action = "unplug"
station = "equalization"
only = ["dead"]
[[variant]]
name = "well"
[[variant]]
name = "lossy"
loss_ratio = 0.2
[[variant]]
name = "planless"
share_ratio = 0.0
[[variant]]
name = "plans off"
shift_s = 2.0
[[variant]]
name = "dead"
"""
    results = {result.variant.name: result for result in run(tmp_path, more)}
    well = results["well"]
    for name, result in results.items():
        assert result.trace.load_w == well.trace.load_w
        assert (result.orders == well.orders) == (name == "well")
    assert results["lossy"].messages_lost > 20
    assert well.messages_lost == 0
    assert max(results["planless"].trace.announced_w) == 0.0
    dead_w = np.asarray(results["dead"].trace.equalization_w)
    assert np.abs(dead_w[300:]).max() == 0.0


def test_a_run_leaves_a_page_a_summary_and_tables(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    seen: list[float] = []
    outcome = simulate(path, seed=3, duration_s=60.0, only=(), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    write(outcome, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 3
    assert "src=" not in page
    assert "A small hall" in page
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["seed"] == 3
    assert summary["variants"][0]["mean_load_w"] > 0.0
    assert (tmp_path / "out" / "trace.parquet").stat().st_size > 0


def test_a_hall_in_which_nothing_happened_has_its_page_too(tmp_path: Path) -> None:
    outcome = simulate(
        SCENARIOS / "storage.toml",
        seed=None,
        duration_s=5.0,
        only=("confirm, plans",),
        progress=lambda done: None,  # noqa: ARG005 - nobody looks
    )
    assert outcome.scores[0].mean_load_w == 0.0
    write(outcome, tmp_path / "out")
    assert "<svg" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_on_80_columns_every_figure_and_every_word_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(SMALL + "[[variant]]\nname = 'OpenDTU-OnBattery, gated'\n", encoding="utf-8")
    console = Console(file=io.StringIO(), width=80)
    run_command(path, tmp_path / "out", seed=1, seconds=5.0, variants=(), console=console)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().split("report.html")[0]
    assert "OpenDTU-OnBattery" in shown
    assert "avoided" in shown
    assert "…" not in shown


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_scenario_runs(path: Path) -> None:
    scenario = read(path)
    outcome = simulate(path, seed=None, duration_s=10.0, only=(scenario.variant[0].name,), progress=lambda done: None)  # noqa: ARG005 - nobody looks
    (result,) = outcome.results
    assert len(result.trace.time_s) * result.trace.step_s == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("[[variant]]\nname = 'a'\n[[variant]]\nname = 'a'\n", "name of its own"),
        ("[[event]]\nat_s = 1.0\naction = 'explode'\n", "action"),
        ("[[group]]\nstation = 'x'\nfamily = 'drive'\ncount = 1\nrating_w = [9.0, 2000.0]\n", "rating_w"),
        ("[netwerk]\n", "netwerk"),
        ("[[event]]\nat_s = 1.0\naction = 'stop'\nonly = ['as configured']\n", "only"),
        ("[[event]]\nat_s = 1.0\naction = 'stop'\nonly = ['nobody']\n", "nobody"),
        ("[[station]]\nconfig = 'nowhere.toml'\n", "nowhere.toml"),
        ("[[group]]\nstation = 'packs'\nfamily = 'drive'\ncount = 1\nrating_w = [1000.0, 2000.0]\n", "two stations"),
        ("[[group]]\nstation = 'x'\nfamily = 'drive'\ncount = 1\nrating_w = [900.0, 200.0]\n", "rating_w"),
    ],
)
def test_what_is_wrong_with_a_scenario_is_said_on_one_line(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        run(tmp_path, "\n" + wrong, duration_s=1.0)
    assert "\n" not in str(caught.value)
