"""TLS as a client of the broker: who is trusted, and with what we prove ourselves."""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from schemas.messages import Severity, Values
from schemas.settings import BrokerSettings, ConfigurationError
from transport import credentials

SOON_S = 30 * 86400.0
_URGENT_S = 3 * 86400.0
_LOOK_EVERY_S = 3600.0
_UNCONNECTED_EVERY_S = 10.0
_TELL_EVERY_S = 86400.0

_LOG = logging.getLogger(__name__)


def client_context(broker: BrokerSettings) -> ssl.SSLContext | None:
    """Return what a connection to the broker is made with; None for one in the clear.

    Only the named authority is believed, not the system's. The broker proves itself first (`expected_host`): our own
    certificate and every MQTT byte, a password among them, come after that (RFC 8446, 4.4; RFC 5246, 7.3).

    Raises:
        OSError: a file cannot be read, or holds no certificate or key (`ssl.SSLError`).
        ConfigurationError: the credentials file cannot be used.
    """
    if broker.ca_file is None:
        return None
    if broker.credentials_file is not None:
        context = ssl.create_default_context(cadata=credentials.read(Path(broker.credentials_file)).authority_pem)
    else:
        context = ssl.create_default_context(cafile=broker.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if broker.cert_file is not None:
        context.load_cert_chain(broker.cert_file, broker.key_file)
    return context


def expected_host(broker: BrokerSettings) -> str:
    """Return the name that the broker's certificate must bear.

    With a credentials file it is the same wherever the broker is: its authority vouches for one broker alone, and an
    address that DNS-SD gave need not be in the certificate.
    """
    return broker.host if broker.credentials_file is None else credentials.BROKER_IDENTITY


def own_expiry_unix_time_s(broker: BrokerSettings) -> dict[str, float]:
    """Return until when the certificates in our files hold: `own` and `authority`, those that there are.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file holds no certificate.
    """
    expiry: dict[str, float] = {}
    if broker.cert_file is not None:
        certificates = x509.load_pem_x509_certificates(Path(broker.cert_file).read_bytes())
        expiry["own"] = certificates[0].not_valid_after_utc.timestamp()
    if broker.ca_file is not None:
        certificates = x509.load_pem_x509_certificates(Path(broker.ca_file).read_bytes())
        expiry["authority"] = max(one.not_valid_after_utc.timestamp() for one in certificates)
    return expiry


def peer_expiry_unix_time_s(connection: ssl.SSLSocket) -> float | None:
    """Return until when the broker's certificate holds."""
    peer = connection.getpeercert()
    until = (peer or {}).get("notAfter")
    return float(ssl.cert_time_to_seconds(until)) if isinstance(until, str) else None


Tell = Callable[[Severity, str, str, Values], None]
"""Called with severity, code and text of an event."""


@dataclass(slots=True)
class ExpiryWatch:
    """Looks once an hour how long our certificates still hold, and tells once a day within the last 30 days.

    Args:
        utc: seconds since 1970; certificates know no other clock.
        tell: publishes an event.
    """

    utc: Callable[[], float]
    tell: Tell
    _until_s: dict[str, float] = field(default_factory=dict)
    _next_s: float = 0.0
    _told_s: dict[str, float] = field(default_factory=dict)

    @property
    def left_s(self) -> dict[str, float]:
        """Seconds until expiry, negative after it: `own`, `authority`, `broker`; empty without TLS."""
        now_s = self.utc()
        return {which: at_s - now_s for which, at_s in self._until_s.items()}

    def look(self, broker: BrokerSettings | None, peer_unix_time_s: float | None) -> None:
        """Look, unless it was done within the hour. A renewed file is seen at the next look.

        Args:
            broker: how we connect; None: not known yet.
            peer_unix_time_s: until when the broker's certificate holds; None: no TLS, or not connected yet.
        """
        now_s = self.utc()
        if broker is None or broker.ca_file is None or self._next_s - _LOOK_EVERY_S <= now_s < self._next_s:
            return
        try:
            until_s = own_expiry_unix_time_s(broker)
        except (OSError, ValueError, ConfigurationError) as error:
            _LOG.warning("certificate_unreadable error=%r", str(error))
            until_s = {}
        if peer_unix_time_s is not None:
            until_s["broker"] = peer_unix_time_s
        self._next_s = now_s + (_LOOK_EVERY_S if peer_unix_time_s is not None else _UNCONNECTED_EVERY_S)
        self._until_s = until_s
        for which, left_s in self.left_s.items():
            self._tell(which, left_s, now_s)

    def _tell(self, which: str, left_s: float, now_s: float) -> None:
        if left_s > SOON_S or 0.0 <= now_s - self._told_s.get(which, -_TELL_EVERY_S) < _TELL_EVERY_S:
            return
        self._told_s[which] = now_s
        severity = Severity.WARNING if left_s > _URGENT_S else Severity.ALARM
        days = left_s / 86400.0
        what = {"own": "our certificate", "authority": "the authority", "broker": "the broker's certificate"}[which]
        text = f"{what} expires in {days:.1f} days" if left_s > 0.0 else f"{what} expired {-days:.1f} days ago"
        _LOG.warning("certificate_expiry which=%s days=%.1f", which, days)
        values: Values = {"which": which, "left_s": round(left_s)}
        self.tell(severity, "certificate_expiry", f"{text}: `zeroloop credentials renew`", values)
