"""The band that finds its width by itself."""

import random
from dataclasses import replace

import pytest

from equalizer.control.band import FIRST_ENGAGE_W, FLOOR_RATIO, LEAST, width_w
from equalizer.control.image import LoopImage
from equalizer.control.settings import RELEASE_RATIO, ControlSettings
from equalizer.control.step import in_force
from schemas.messages import Policy
from tests.scenario.hall import Plant

SETTINGS = ControlSettings(auto_band=True)


def image(channels: int) -> LoopImage:
    return Plant(equalizers=channels).settled().image


def noise_w(sigma_w: float, *, seed: int = 1, count: int = 180) -> tuple[float, ...]:
    source = random.Random(seed)  # noqa: S311 - noise, no secret
    return tuple(source.gauss(0.0, sigma_w) for _ in range(count))


@pytest.mark.parametrize("seed", range(5))
def test_the_band_lies_above_the_noise_and_grows_with_it(seed: int) -> None:
    at = image(2)
    for sigma_w in (200.0, 1000.0, 5000.0):
        found_w = width_w(noise_w(sigma_w, seed=seed), at, SETTINGS)
        assert 3.0 * sigma_w < found_w < 5.5 * sigma_w


def test_steps_are_no_noise() -> None:
    calm_w = noise_w(200.0)
    stepped_w = tuple(power_w + 20e3 * (n // 60) for n, power_w in enumerate(calm_w))
    at = image(2)
    assert width_w(stepped_w, at, SETTINGS) == pytest.approx(width_w(calm_w, at, SETTINGS), rel=0.2)


def test_more_channels_can_afford_a_narrower_band() -> None:
    wandering_w = tuple(600.0 * n for n in range(180))
    assert width_w(wandering_w, image(6), SETTINGS) < width_w(wandering_w, image(2), SETTINGS)
    assert width_w(noise_w(500.0), image(6), SETTINGS) < width_w(noise_w(500.0), image(1), SETTINGS)


def test_a_load_that_stands_still_does_not_make_the_loop_chase_watts() -> None:
    assert width_w((5.0,) * 180, image(1), SETTINGS) == FLOOR_RATIO * 60_000.0


def test_the_first_band_stays_in_force_until_enough_is_known() -> None:
    plant = Plant(auto_band=True, engage_w=FIRST_ENGAGE_W, release_w=300.0).settled()
    plant.run(LEAST - 10)
    assert in_force(plant.state, plant.settings).engage_w == FIRST_ENGAGE_W
    plant.run(60)
    settings = in_force(plant.state, plant.settings)
    assert settings.engage_w < FIRST_ENGAGE_W
    assert settings.release_w == pytest.approx(RELEASE_RATIO * settings.engage_w)


@pytest.mark.parametrize("sigma_w", [30.0, 3000.0])
def test_whatever_the_noise_it_spends_no_change_and_a_step_is_still_met(sigma_w: float) -> None:
    plant = Plant(auto_band=True, policy=Policy.DWELL, equalizers=2, seed=4).settled()
    plant.channels["1"].noise_w = sigma_w
    plant.run(120)
    before = len(plant.changes)
    plant.run(180)
    noisy = len(plant.changes) - before
    assert noisy <= 4  # 24 changes were in the budget
    plant.load(ch=2, power_w=30_000.0)
    plant.run(20)
    assert abs(plant.total_w) < in_force(plant.state, plant.settings).engage_w + 3.0 * sigma_w


def test_a_band_of_a_fixed_width_stays_as_it_is() -> None:
    plant = Plant().settled()
    plant.channels["1"].noise_w = 3000.0
    plant.run(60)
    assert in_force(plant.state, plant.settings) is plant.settings
    assert replace(plant.settings, auto_band=True) != plant.settings
