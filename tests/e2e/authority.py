"""A certificate authority of a test: certificates of servers and clients, made without a command."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass
class Authority:
    """A certificate authority of a test, and what it signs. Files are PEM."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def file(self) -> Path:
        """Its own certificate."""
        path = self.folder / f"{self.name}-ca.pem"
        if not path.exists():
            is_ca = x509.BasicConstraints(ca=True, path_length=None)
            made = self._begin(self.name, self.key.public_key(), timedelta(days=2))
            made = made.add_extension(is_ca, critical=True)
            made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            path.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path

    def issue(
        self,
        name: str,
        *names: x509.GeneralName,
        use: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        lives: timedelta = timedelta(days=1),
    ) -> tuple[Path, Path]:
        """A certificate with this common name and these others, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._begin(name, key.public_key(), lives)
        if names:
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = made.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        known = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        made = made.add_extension(known, critical=False)
        certificate, private = self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key"
        certificate.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, private

    def below(self, name: str) -> Authority:
        """An authority that this one signed."""
        made = Authority(self.folder, name)
        signed = self._begin(name, made.key.public_key(), timedelta(days=2))
        signed = signed.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        known = x509.SubjectKeyIdentifier.from_public_key(made.key.public_key())
        signed = signed.add_extension(known, critical=False)
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        signed = signed.add_extension(above, critical=False)
        path = self.folder / f"{name}-ca.pem"
        path.write_bytes(signed.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return made

    def revoke(self, *certificates: Path, lives: timedelta = timedelta(days=1), file: str = "") -> Path:
        """Its list of revoked certificates, now these alone."""
        made = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .last_update(datetime.now(UTC) - timedelta(days=2))
            .next_update(datetime.now(UTC) + lives)
        )
        for certificate in certificates:
            serial = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(datetime.now(UTC))
            made = made.add_revoked_certificate(entry.build())
        path = self.folder / (file or f"{self.name}-crl.pem")
        path.write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path

    def _begin(self, name: str, key: ec.EllipticCurvePublicKey, lives: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=3))
            .not_valid_after(now + lives)
        )
