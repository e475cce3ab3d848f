"""Which part of the load the plans speak for, and which remains.

A channel whose plan counts contributes its plan's power to the announced part, and what it is off its plan to the
remainder. Where a channel passes from one part to the other, the sum does not jump, and `transferred_uw` says how much
of the remainder's jump is no change of the load.
"""

from collections import Counter

from equalizer.control.forecast import Forecast, Plan
from equalizer.control.image import ChannelKey
from equalizer.control.records import ChannelRecord, Tally

TOLERANCE_RATIO = 0.05
"""A channel agrees with its plan within this part of the highest power that is known of it …"""
TOLERANCE_UW = 5_000_000
"""… or within 5 W."""
CONTRADICTIONS = 2
"""So many telemetry messages in a row off the plan end it."""


class Announcements:
    """The plans that count."""

    def __init__(self, tally: Tally, ignored: Counter[str]) -> None:
        self.forecast = Forecast()
        self.transferred_uw = 0
        self._tally = tally
        self._ignored = ignored
        self._owners: dict[Plan, ChannelRecord] = {}

    def counted(self) -> tuple[ChannelKey, ...]:
        """Return whose plans count, in the order in which they came."""
        return tuple(record.key for record in self._owners.values())

    def recall(self, record: ChannelRecord, plan: Plan) -> None:
        """Let a plan count that was remembered; the channel's remainder is remembered too."""
        self.forecast.add(plan)
        self._owners[plan] = record
        record.plan = plan

    def advance(self, now_s: float) -> None:
        """Let time pass: edges are met, and plans whose knowledge has ended count no more."""
        for plan in self.forecast.advance(now_s):
            self.drop(self._owners[plan])

    def take(self, record: ChannelRecord, plan: Plan, now_s: float) -> None:
        """Let a plan count. What it says beyond what was believed of the channel is an announced change."""
        self.advance(now_s)
        old_uw = 0
        if record.plan is not None:
            old_uw = self.forecast.power_uw(record.plan)
            self._release(record, record.plan)
        believed_uw = old_uw + record.remainder_uw
        power_uw = self._bind(record, plan)
        agrees = abs(power_uw - believed_uw) <= _tolerance_uw(record, plan)
        self._tally.set_remainder(record, believed_uw - power_uw if agrees else 0)
        self.transferred_uw += (0 if agrees else power_uw - believed_uw) - (power_uw - old_uw)

    def take_waiting(self, record: ChannelRecord, plan: Plan, before_uw: int, now_s: float) -> None:
        """Let a plan count that came before the channel was heard (again); it had counted with `before_uw`."""
        self.advance(now_s)
        power_uw = self._bind(record, plan)
        agrees = abs(power_uw - record.power_uw) <= _tolerance_uw(record, plan)
        self._tally.set_remainder(record, record.power_uw - power_uw if agrees else 0)
        self.transferred_uw -= before_uw

    def drop(self, record: ChannelRecord) -> None:
        """Let a channel's plan count no more: the channel is in the remainder, as measured."""
        plan = record.plan
        if plan is None:
            return
        self.transferred_uw += self.forecast.power_uw(plan)
        self._release(record, plan)
        self._tally.set_remainder(record, record.counted_uw if record.equalization is None else 0)

    def compare(self, record: ChannelRecord, plan: Plan, now_s: float) -> None:
        """Hold a measurement against the plan; a channel that does something else for two messages has none."""
        expected = plan.range_uw(now_s)
        if expected is None:
            return
        lowest_uw, highest_uw = expected
        tolerance_uw = _tolerance_uw(record, plan)
        if lowest_uw - tolerance_uw <= record.power_uw <= highest_uw + tolerance_uw:
            record.off_plan = 0
            if lowest_uw == highest_uw:
                self._tally.set_remainder(record, record.power_uw - lowest_uw)
            return
        record.off_plan += 1
        if record.off_plan >= CONTRADICTIONS:
            self._ignored["plan_contradicted"] += 1
            self.drop(record)

    def _bind(self, record: ChannelRecord, plan: Plan) -> int:
        self.forecast.add(plan)
        self._owners[plan] = record
        record.plan = plan
        record.off_plan = 0
        return self.forecast.power_uw(plan)

    def _release(self, record: ChannelRecord, plan: Plan) -> None:
        self.forecast.remove(plan)
        del self._owners[plan]
        record.plan = None


def _tolerance_uw(record: ChannelRecord, plan: Plan) -> int:
    """Return how far a channel may be off; notes the highest power on the way."""
    record.highest_uw = max(record.highest_uw, abs(record.power_uw), plan.highest_uw)
    return max(TOLERANCE_UW, round(TOLERANCE_RATIO * record.highest_uw))
