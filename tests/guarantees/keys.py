"""Keys and certificates for the tests of credentials, and servers that ask for them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]

NO_LIMITS = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
JETSTREAM = NO_LIMITS | dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


def _key(kind: int) -> tuple[nkeys.KeyPair, bytes]:
    seed = nkeys.encode_seed(os.urandom(32), kind)
    return nkeys.from_seed(seed), seed


def _public(key: nkeys.KeyPair) -> str:
    return bytes(key.public_key).decode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _claim(name: str, subject: nkeys.KeyPair, issuer: nkeys.KeyPair, nats: dict[str, Any]) -> str:
    """A signed JWT as NATS has them."""
    claims = {
        "iat": int(time.time()),
        "iss": _public(issuer),
        "name": name,
        "sub": _public(subject),
        "nats": {**nats, "version": 2},
    }
    digest = hashlib.sha256(json.dumps(claims).encode()).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    head = _encode(json.dumps({"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    body = _encode(json.dumps(claims).encode())
    return f"{head}.{body}.{_encode(issuer.sign(f'{head}.{body}'.encode()))}"


class Operator:
    """An operator of decentralised authentication, with one account for a space."""

    def __init__(self) -> None:
        self._key, _ = _key(nkeys.PREFIX_BYTE_OPERATOR)
        self._system, _ = _key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._account, _ = _key(nkeys.PREFIX_BYTE_ACCOUNT)

    def config(self) -> str:
        """Return the lines of a server's configuration that trust it."""
        system = _claim("SYS", self._system, self._key, {"type": "account", "limits": NO_LIMITS})
        account = _claim("happen", self._account, self._key, {"type": "account", "limits": JETSTREAM})
        return (
            f"operator: {_claim('op', self._key, self._key, {'type': 'operator'})}\n"
            f"system_account: {_public(self._system)}\nresolver: MEMORY\nresolver_preload: {{\n"
            f"  {_public(self._system)}: {system}\n  {_public(self._account)}: {account}\n}}"
        )

    def credentials(self, file: Path) -> Path:
        """A ``.creds`` file of a user of the account."""
        key, seed = _key(nkeys.PREFIX_BYTE_USER)
        user = {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
        file.write_text(
            f"-----BEGIN NATS USER JWT-----\n{_claim('ada', key, self._account, user)}\n"
            f"------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n"
            "------END USER NKEY SEED------\n"
        )
        return file


def certificate(folder: Path) -> Path:
    """A self-signed certificate for loopback; its key is ``key.pem`` beside it."""
    made = folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(made)]
    subprocess.run([*command.split(), *names.split(), *files], check=True, capture_output=True)
    return made
