"""A book that goes on from what another one has known draws the same image, whatever comes then."""

from hypothesis import given
from hypothesis import strategies as st

from equalizer.control.book import LoopBook
from tests.unit.control.test_book import SETTINGS, plan, status, telemetry

CHANNELS = ("1", "2", "eq")
POWERS_W = st.sampled_from([0.0, 4000.0, -7000.0, 12345.678901])


def events() -> st.SearchStrategy[tuple[str, str, float, float]]:
    kinds = st.sampled_from(["telemetry", "plan", "silence", "online", "offline", "meter"])
    return st.tuples(kinds, st.sampled_from(CHANNELS), POWERS_W, st.sampled_from([0.05, 0.7, 3.5]))


class Bench:
    """A book, and what becomes of it."""

    def __init__(self) -> None:
        self.book = LoopBook(SETTINGS)
        self.now_s = 1000.0
        self.seq = 0

    def take(self, kind: str, channel: str, power_w: float, after_s: float) -> None:
        self.now_s += after_s
        self.seq += 1
        match kind:
            case "telemetry":
                said = telemetry(power_w, self.seq, equalizing=channel == "eq")
                self.book.telemetry("s", channel, said, retained=False, now_s=self.now_s)
            case "plan":
                self.book.plan("s", channel, plan(self.seq, (0.0, power_w), (4.2, 1000.0)), self.now_s)
            case "online" | "offline":
                self.book.status("s", status(*CHANNELS, online=kind == "online"), self.now_s)
            case "meter":
                self.book.meter(power_w, self.now_s)

    def recalled(self) -> "Bench":
        other = Bench()
        other.book.recall(self.book.memory)
        other.now_s, other.seq = self.now_s, self.seq
        return other


@given(st.lists(events(), max_size=30), st.lists(events(), max_size=30))
def test_a_recalled_book_draws_the_same_image_now_and_later(
    before: list[tuple[str, str, float, float]], after: list[tuple[str, str, float, float]]
) -> None:
    one = Bench()
    for event in before:
        one.take(*event)
        one.book.image(one.now_s)
    other = one.recalled()
    assert other.book.image(one.now_s) == one.book.image(one.now_s)
    for event in after:
        one.take(*event)
        other.take(*event)
        assert other.book.image(one.now_s) == one.book.image(one.now_s)
    assert other.book.memory == one.book.memory
