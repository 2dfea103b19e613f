"""Certificates: browsers allow the microphone only on pages that come over TLS."""

import contextlib
import ipaddress
import socket
import ssl
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ConfigError
from ...utils.private_files import write_private

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, GeneralName

_VALID_DAYS = 30


def from_folder(folder: str | Path) -> ssl.SSLContext:
    """``cert.pem`` and ``key.pem`` of a folder (``--ssl``).

    Raises: ConfigError if they are missing or do not fit each other.
    """
    cert, key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
    for path in (cert, key):
        if not path.is_file():
            raise ConfigError(
                f"--ssl {folder}: there is no {path.name} in it. Put cert.pem and "
                "key.pem there, or use --https for a certificate made on the spot."
            )
    try:
        return _context(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"--ssl {folder}: cert.pem and key.pem cannot be used ({error}): they must "
            "be a PEM certificate and its key without a password."
        ) from error


def made_on_the_spot(names: list[str]) -> tuple[ssl.SSLContext, str]:
    """A new certificate for ``names`` (host names or IP addresses) and its fingerprint.

    Browsers warn about it once, because nobody has signed it: the fingerprint (SHA-256,
    as they show it) is for comparison. The key does not stay on the disk.
    """
    from cryptography.hazmat.primitives import hashes, serialization

    certificate, key = new_certificate(names)
    with tempfile.TemporaryDirectory(prefix="moshi-tls-") as folder:  # mode 0700
        cert_path, key_path = Path(folder) / "cert.pem", Path(folder) / "key.pem"
        write_private(cert_path, certificate.public_bytes(serialization.Encoding.PEM))
        write_private(key_path, key)
        context = _context(cert_path, key_path)
    return context, certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def new_certificate(names: list[str]) -> "tuple[Certificate, bytes]":
    """A self-signed certificate and its key, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    me = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "moshi_mlx")])
    now = datetime.now(timezone.utc)
    alternatives = x509.SubjectAlternativeName([_general_name(n) for n in names])
    for_servers = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(me)
        .issuer_name(me)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_VALID_DAYS))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(for_servers, critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def own_addresses() -> list[str]:
    """IPv4 addresses at which other machines may reach this one, best first."""
    found: list[str] = []
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with datagrams as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing: asks the routing table
        found.append(probe.getsockname()[0])
    with contextlib.suppress(OSError):
        found += [str(i[4][0]) for i in socket.getaddrinfo(socket.gethostname(), None)]
    usable = [
        a for a in found if ":" not in a and not ipaddress.ip_address(a).is_loopback
    ]
    return list(dict.fromkeys(usable))


def own_names() -> list[str]:
    """All names by which a browser may address this machine."""
    host = socket.gethostname()
    short = host.split(".")[0]
    names = ["localhost", "127.0.0.1", "::1", host, f"{short}.local", *own_addresses()]
    return list(dict.fromkeys(names))


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    return context


def _general_name(name: str) -> "GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
