"""Reads a recording back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recording.writer import DIARY_TOPIC, MEMORY_TOPIC, OWN_TOPICS, SCHEMA, SETTINGS_TOPIC
from schemas.codec import MalformedError, decode_telemetry
from schemas.loads import Telemetry
from schemas.settings import ConfigurationError
from schemas.topics import ChannelAddress, ChannelTopic, parse


@dataclass(frozen=True, slots=True)
class Row:
    """One message."""

    at_s: float
    """Arrival after the beginning, monotonic."""
    unix_time_s: float
    topic: str
    retained: bool
    """Whether the broker had kept it from before."""
    payload: bytes


class Recording:
    """A file that `zeroloop record` wrote.

    Raises:
        ConfigurationError: there is none, or it is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            known = pl.read_parquet_schema(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = "there is no such file" if not path.exists() else str(error).splitlines()[0]
            raise ConfigurationError(f"{path}: is no recording: {reason}") from None
        if dict(known) != dict(SCHEMA):
            raise ConfigurationError(f"{path}: is no recording (`zeroloop record` makes one)")
        self._frame = pl.scan_parquet(path)

    def rows(self) -> Iterator[Row]:
        """Yield all messages, in the order of their arrival."""
        frame = self._frame.filter(~pl.col("topic").is_in(OWN_TOPICS)).sort("at_s", maintain_order=True).collect()
        for row in frame.iter_rows():
            yield Row(*row)

    def settings(self) -> bytes | None:
        """Return the equalizer's configuration, as JSON, where it was recorded."""
        found = self._frame.filter(pl.col("topic") == SETTINGS_TOPIC).select("payload").collect()
        return None if found.is_empty() else bytes(found.item(0, 0))

    def memories(self) -> list[tuple[float, bytes]]:
        """Return what the control remembered, and when it was asked, after the beginning; nothing where it was not."""
        return self._own(MEMORY_TOPIC)

    def diaries(self) -> list[bytes]:
        """Return when the control decided, as it was handed out piece by piece; the pieces overlap."""
        return [payload for _, payload in self._own(DIARY_TOPIC)]

    def _own(self, topic: str) -> list[tuple[float, bytes]]:
        found = self._frame.filter(pl.col("topic") == topic).sort("at_s").select("at_s", "payload").collect()
        return [(float(at_s), bytes(payload)) for at_s, payload in found.iter_rows()]

    def channels(self) -> list[tuple[str, str]]:
        """Return station and channel of everybody whose telemetry is in it."""
        topics = self._frame.select(pl.col("topic").unique()).collect().to_series().to_list()
        found = [parse(topic) for topic in topics]
        return sorted(
            (a.station, a.channel) for a in found if isinstance(a, ChannelAddress) and a.leaf is ChannelTopic.TELEMETRY
        )

    def telemetry(
        self,
        station: str,
        channel: str,
        *,
        since_unix_time_s: float | None = None,
        until_unix_time_s: float | None = None,
    ) -> Iterator[tuple[Row, Telemetry]]:
        """Yield a channel's live telemetry in a span of the recorder's time; a malformed message is passed over."""
        frame = self._frame.filter(pl.col("topic").str.ends_with(f"/station/{station}/channel/{channel}/telemetry"))
        frame = frame.filter(~pl.col("retained"))
        if since_unix_time_s is not None:
            frame = frame.filter(pl.col("unix_time_s") >= since_unix_time_s)
        if until_unix_time_s is not None:
            frame = frame.filter(pl.col("unix_time_s") <= until_unix_time_s)
        for values in frame.sort("at_s", maintain_order=True).collect().iter_rows():
            row = Row(*values)
            try:
                yield row, decode_telemetry(row.payload)
            except MalformedError:
                continue
