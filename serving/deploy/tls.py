"""TLS files of TensorFlow Serving: `ssl.pbtxt` from PEM files, and an authority of one's own to try it with.

    python -m serving.deploy.tls test-authority DIR --host localhost
    python -m serving.deploy.tls ssl-config --key DIR/server.key --certificate DIR/server.crt \\
        --client-authority DIR/authority.crt --output DIR/ssl.pbtxt

TensorFlow Serving wants the PEM texts themselves in its `--ssl_config_file`, not their paths; it reads them at its
start only, and uses them for gRPC (the REST port stays plain HTTP).
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import os
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TEST_DAYS = 30


class TlsError(Exception):
    """Raised for PEM files that TensorFlow Serving could not use; the message says which and why."""


@dataclass(frozen=True)
class ServerTls:
    """PEM texts of a server, checked: the key belongs to the certificate, and both can be read.

    Attributes:
        key: private key, without a passphrase.
        certificate: certificate of the server, followed by those of authorities in between, if any.
        client_authority: certificates that clients' certificates must come from; "" leaves clients unchecked.
    """

    key: str
    certificate: str
    client_authority: str = ""

    @classmethod
    def from_files(cls, key: Path, certificate: Path, client_authority: Path | None = None) -> ServerTls:
        """Reads and checks PEM files.

        Raises:
            TlsError: a file cannot be read, is no PEM file of its kind, or key and certificate do not belong together.
        """

        def no_passphrase() -> str:
            raise TlsError(f"{key}: expected a private key without a passphrase; TensorFlow Serving cannot ask for one")

        key_text, certificate_text = _read_pem(key), _read_pem(certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(certificate, key, password=no_passphrase)
        except ssl.SSLError as error:
            raise TlsError(
                f"{key}, {certificate}: expected a private key and the certificate that belongs to it: {error.reason}"
            ) from error
        if client_authority is None:
            return cls(key_text, certificate_text)
        authority = _read_pem(client_authority)
        try:
            context.load_verify_locations(cadata=authority)
        except ssl.SSLError as error:
            raise TlsError(f"{client_authority}: expected certificates in PEM form: {error.reason}") from error
        return cls(key_text, certificate_text, authority)


def ssl_config(server: ServerTls) -> str:
    """Returns the SSLConfig of `server` in protobuf's text form, for `--ssl_config_file`."""
    fields = [f"server_key:{_quoted(server.key)}", f"server_cert:{_quoted(server.certificate)}"]
    if server.client_authority:
        # Without client_verify the server would not even ask clients for a certificate.
        fields += [f"custom_ca:{_quoted(server.client_authority)}", "client_verify: true"]
    return "\n".join(fields) + "\n"


def write_private(path: Path, text: str) -> None:
    """Writes `text` to `path` whole, by rename, readable for its owner only."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
    partial.replace(path)


def make_test_authority(folder: Path, hosts: Sequence[str]) -> None:
    """Writes authority.crt and, signed by it, server.key, server.crt, client.key and client.crt, good for 30 days.

    For trials: the authority's own key is thrown away, so that nothing else can be signed with it.

    Args:
        folder: where to; made if it is not there.
        hosts: names and addresses under which clients will reach the server.

    Raises:
        TlsError: the package cryptography is not installed.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise TlsError("test-authority needs the package cryptography: pip install cryptography") from error

    def subject(name: str) -> Any:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def pem(key: Any) -> str:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii")

    def sign(name: str, public_key: Any, extensions: Sequence[tuple[Any, bool]]) -> str:
        # Clocks differ: valid since an hour ago.
        since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject(name))
            .issuer_name(subject("fusion-ner test authority"))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(since + datetime.timedelta(days=_TEST_DAYS))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")

    authority_key, server_key, client_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    folder.mkdir(parents=True, exist_ok=True)
    authority = sign(
        "fusion-ner test authority",
        authority_key.public_key(),
        [(x509.BasicConstraints(ca=True, path_length=0), True)],
    )
    not_an_authority = (x509.BasicConstraints(ca=False, path_length=None), True)
    server = sign(
        hosts[0],
        server_key.public_key(),
        [
            not_an_authority,
            (x509.SubjectAlternativeName([_general_name(x509, host) for host in hosts]), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        ],
    )
    client = sign(
        "fusion-ner test client",
        client_key.public_key(),
        [not_an_authority, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)],
    )
    for name, text in (("authority.crt", authority), ("server.crt", server), ("client.crt", client)):
        (folder / name).write_text(text, encoding="ascii")
    for name, key in (("server.key", server_key), ("client.key", client_key)):
        write_private(folder / name, pem(key))


def _general_name(x509: Any, host: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _read_pem(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise TlsError(f"{path}: expected a PEM file; it cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TlsError(f"{path}: expected a PEM file; received bytes that are no ASCII text (a DER file?)") from error
    if "-----BEGIN " not in text:
        raise TlsError(f"{path}: expected a PEM file, with a line -----BEGIN ..-----; received none")
    return text


def _quoted(text: str) -> str:
    r"""Returns `text` as one text-format string in pieces, a line each; PEM needs no other escapes than \n."""
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    return "".join('\n  "' + line.replace("\\", "\\\\").replace('"', '\\"') + '\\n"' for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 0, or 2 after a sentence about what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.deploy.tls", description="TLS files of TensorFlow Serving."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    config = commands.add_parser("ssl-config", help="write the file for --ssl_config_file")
    config.add_argument("--key", required=True, type=Path, metavar="PEM", help="private key, without a passphrase")
    config.add_argument("--certificate", required=True, type=Path, metavar="PEM", help="certificate of the server")
    config.add_argument(
        "--client-authority",
        type=Path,
        metavar="PEM",
        help="admit only clients with a certificate from this authority (mutual TLS)",
    )
    config.add_argument("--output", required=True, type=Path, metavar="FILE", help="such as ssl.pbtxt; holds the key")
    test = commands.add_parser("test-authority", help="write keys and certificates for a trial, good for 30 days")
    test.add_argument("folder", type=Path, metavar="DIR")
    test.add_argument(
        "--host", action="append", required=True, help="name or address of the server as clients know it; repeatable"
    )
    options = parser.parse_args(arguments)
    try:
        if options.command == "ssl-config":
            server = ServerTls.from_files(options.key, options.certificate, options.client_authority)
            write_private(options.output, ssl_config(server))
        else:
            make_test_authority(options.folder, options.host)
    except (TlsError, OSError) as error:
        print(f"fusion-ner: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
