"""What becomes of plans before they are sent: some channels have none, the others' edges are off."""

from random import Random

from schemas.codec import decode, encode
from schemas.messages import ChannelPlan
from schemas.topics import ChannelAddress, parse
from simulation.scenario import PlansSection

SHORTEST_SEGMENT_S = 0.001


class PlanTalk:
    """A hall's plans, as they are told.

    Args:
        settings: of the scenario, or of one variant.
        seed: who has none, and by how much edges are off.
    """

    def __init__(self, settings: PlansSection, seed: str) -> None:
        self._settings = settings
        self._seed = seed
        self._silent: dict[tuple[str, str], bool] = {}
        self._random = Random(f"{seed}/plans")  # noqa: S311 - a hall's variety, no secret

    def told(self, topic: str, payload: bytes) -> bytes | None:
        """Return a plan's message as it is sent; null: not at all."""
        if self._settings.share_ratio >= 1.0 and self._settings.shift_s == 0.0:
            return payload
        address = parse(topic)
        assert isinstance(address, ChannelAddress)  # noqa: S101 - plans have no other topic
        plan = self.of(address.station, address.channel, decode(ChannelPlan, payload))
        return None if plan is None else encode(plan)

    def of(self, station: str, channel: str, plan: ChannelPlan) -> ChannelPlan | None:
        """Return a channel's plan as it is sent; null: not at all."""
        key = station, channel
        if key not in self._silent:
            luck = Random(f"{self._seed}/plans/{station}/{channel}").random()  # noqa: S311 - a hall's variety, no secret
            self._silent[key] = luck >= self._settings.share_ratio
        if self._silent[key]:
            return None
        if self._settings.shift_s == 0.0:
            return plan
        shift_s = self._random.uniform(-self._settings.shift_s, self._settings.shift_s)
        segments = [plan.segments[0]]
        for segment in plan.segments[1:]:
            soonest_s = segments[-1].after_s + SHORTEST_SEGMENT_S
            segments.append(segment.model_copy(update={"after_s": max(soonest_s, segment.after_s + shift_s)}))
        until_s = max(plan.until_s, segments[-1].after_s + SHORTEST_SEGMENT_S)
        return plan.model_copy(update={"segments": tuple(segments), "until_s": until_s})
