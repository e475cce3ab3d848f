"""A server's announcement; tests copy it with what matters to them."""

from schemas.messages import ControlSummary, Phase, Policy, Presence, ServerAnnouncement, SetpointSummary

ANNOUNCED = ServerAnnouncement(
    server="hall-a",
    status=Presence.ONLINE,
    epoch=7,
    phase=Phase.BALANCING,
    version="1",
    started_unix_time_s=500.0,
    telemetry_period_s=1.0,
    control=ControlSummary(policy=Policy.CONFIRM, delay_s=15.0),
    setpoint=SetpointSummary(ttl_s=30.0, refresh_s=5.0),
)
