"""The control at work: what it takes over from another server, and what no server can have meant."""

from dataclasses import replace
from types import MappingProxyType

import pytest

from equalizer.config import EqualizerSettings
from equalizer.control.state import Hold, Level, Order
from equalizer.helm import Helm
from equalizer.ledger import SavedAccount
from equalizer.metrics import Counters
from equalizer.voice import Voice
from schemas.examples import EXAMPLES
from schemas.messages import Basis, LoopBalance, Phase, SetpointStep


def helm() -> Helm:
    settings = EqualizerSettings()
    voice = Voice(settings, version="1", started_unix_time_s=0.0, metrics_url=None, clock=lambda: 0.0, utc=lambda: 0.0)
    return Helm(settings, saved=SavedAccount(), voice=voice, counters=Counters(), clock=lambda: 0.0, utc=lambda: 0.0)


def balance(target_power_w: float) -> LoopBalance:
    said = LoopBalance.model_validate_json(EXAMPLES["LoopBalance"][0])
    return said.model_copy(update={"target_power_w": target_power_w})


@pytest.mark.parametrize(("said_w", "taken_w"), [(-5e3, -5e3), (1e300, 0.0)])
def test_another_servers_target_is_taken_over_where_a_hall_can_have_it(said_w: float, taken_w: float) -> None:
    following = helm()
    following.follow(balance(said_w))
    assert following.standpoint(Phase.STANDBY).target_power_w == taken_w


def test_the_control_is_told_under_which_number_its_last_order_went_out() -> None:
    key, leading = ("s", "1"), helm()
    hold = Hold(boot_id="b", levels=(Level(0.0, 0.0, 0.0),))
    leading._state = replace(leading._state, holds=MappingProxyType({key: hold}))
    order = Order(*key, Basis(boot_id="b", seq=1), (SetpointStep(after_s=0.0, power_w=0.0),), "refresh", "renew")
    numbers = []
    for _ in range(2):
        leading.send((order,), 4)
        numbers.append(leading._state.holds[key].order)
    assert numbers == [(4, 1), (4, 2)]
