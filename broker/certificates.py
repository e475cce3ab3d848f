"""X.509 as a hall needs it (RFC 5280): an authority, certificates for the broker and its clients, a revocation list."""

import datetime as dt
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transport.credentials import BROKER_IDENTITY

_BACKDATED_S = 3600.0
"""Clocks of a hall differ; a certificate that begins in the future is refused."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key with its certificate, PEM."""

    key_pem: str
    certificate_pem: str
    serial: int
    expires_unix_time_s: float


def new_authority(common_name: str, now_s: float, lifetime_s: float) -> Issued:
    """Return an authority of our own: it signs names, and no further authorities."""
    key = _new_key()
    name = _name(common_name)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _begun(name, name, key, now_s, now_s + lifetime_s)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _issued(key, builder.sign(key, hashes.SHA256()))


class Signer:
    """An authority at work.

    Args:
        key_pem: its private key.
        certificate_pem: its certificate.

    Raises:
        ValueError: they are no key and certificate.
    """

    def __init__(self, key_pem: bytes, certificate_pem: bytes) -> None:
        key = serialization.load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("no elliptic curve key")  # noqa: TRY004 - the file's content, not a caller's mistake
        self._key: CertificateIssuerPrivateKeyTypes = key
        self._certificate = x509.load_pem_x509_certificate(certificate_pem)

    @property
    def expires_unix_time_s(self) -> float:
        """Until when the authority holds; nothing that it signs holds longer."""
        return self._certificate.not_valid_after_utc.timestamp()

    def server(self, common_name: str, places: Sequence[str], now_s: float, lifetime_s: float) -> Issued:
        """Return a broker's certificate, good under these host names and addresses, and for no client."""
        names = x509.SubjectAlternativeName([_general_name(place) for place in (*places, BROKER_IDENTITY)])
        return self._issue(common_name, ExtendedKeyUsageOID.SERVER_AUTH, now_s, lifetime_s, names)

    def client(self, common_name: str, now_s: float, lifetime_s: float) -> Issued:
        """Return a client's certificate, good for no server."""
        return self._issue(common_name, ExtendedKeyUsageOID.CLIENT_AUTH, now_s, lifetime_s)

    def revocations(self, revoked: Iterable[tuple[int, float]], at_s: float) -> str:
        """Return the revocation list, PEM.

        It holds as long as the authority: an expired one would shut everybody out, and there is nobody who fetches it.

        Args:
            revoked: serial numbers, each with when it was revoked.
            at_s: the list's date; where a broker knows several, the latest counts.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(_time(at_s))
            .next_update(self._certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(int(at_s)), critical=False)
            .add_extension(self._authority_key(), critical=False)
        )
        for serial, when_s in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_time(when_s))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _issue(
        self,
        common_name: str,
        purpose: x509.ObjectIdentifier,
        now_s: float,
        lifetime_s: float,
        names: x509.SubjectAlternativeName | None = None,
    ) -> Issued:
        key = _new_key()
        until_s = min(now_s + lifetime_s, self.expires_unix_time_s)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _begun(_name(common_name), self._certificate.subject, key, now_s, until_s)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(self._authority_key(), critical=False)
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return _issued(key, builder.sign(self._key, hashes.SHA256()))

    def _authority_key(self) -> x509.AuthorityKeyIdentifier:
        own = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now_s: float, until_s: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now_s - _BACKDATED_S))
        .not_valid_after(_time(until_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _issued(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> Issued:
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Issued(
        key_pem.decode(),
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        certificate.serial_number,
        certificate.not_valid_after_utc.timestamp(),
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(place: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(place))
    except ValueError:
        return x509.DNSName(place)


def _time(unix_time_s: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(unix_time_s), dt.UTC)
