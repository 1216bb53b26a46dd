"""Self-signed certificates made at test time with the ``openssl`` command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def make_certificate(folder: Path, name: str, host: str = "localhost") -> tuple[Path, Path]:
    """A certificate for ``host`` and 127.0.0.1, and its key; skips the test where ``openssl`` is missing."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{host},IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


AUTHORITY = """[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""


def make_expired_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """As `make_certificate`, for localhost, and good until 2020 only."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    certificate, key, asked = (folder / f"{name}.{kind}" for kind in ("pem", "key", "csr"))
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    (folder / "authority.cnf").write_text(AUTHORITY.format(folder=folder))
    request = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    request += ["-keyout", str(key), "-out", str(asked), "-subj", f"/CN={name}"]
    request += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    sign = ["openssl", "ca", "-selfsign", "-batch", "-notext", "-config", str(folder / "authority.cnf")]
    sign += ["-keyfile", str(key), "-in", str(asked), "-out", str(certificate)]
    sign += ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
    for command in (request, sign):
        subprocess.run(command, check=True, capture_output=True)
    return certificate, key
