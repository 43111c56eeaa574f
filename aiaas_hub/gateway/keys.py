"""Endpoint keys: ES256 tokens that the control plane signs and Envoy verifies by itself.

A key is `iss`=aiaas-hub, `aud`=owner/endpoint, `sub`=who it was given to, `scope`, `jti`, `iat`,
`exp`. So inference goes on while the control plane is down; a key is revoked by its `jti` in the
routes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from aiaas_hub.home import Home, write_private

ISSUER = "aiaas-hub"
KEY_FILE = "gateway_key.pem"


class GatewayKeys:
    """The signing key of this home, made at first use and kept in a file of mode 600."""

    def __init__(self, home: Home) -> None:
        path = home.secret_file(KEY_FILE)
        if not path.exists():
            made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            write_private(path, made, replace=False)
        # Read back: another process may have been first.
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{path} holds no elliptic curve key.")
        self._key = key
        self._id = _thumbprint(key)

    def sign(
        self, audience: str, jti: str, subject: str, expires_at: datetime, scope: str = "infer"
    ) -> str:
        """A token for `audience` (`owner/endpoint`) that holds until `expires_at` (aware)."""
        if expires_at.tzinfo is None:
            raise ValueError("expires_at needs a time zone.")
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "sub": subject,
            "jti": jti,
            "scope": scope,
            "iat": int(datetime.now(UTC).timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._id})

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set (RFC 7517)."""
        return {
            "keys": [{**_public(self._key), "kid": self._id, "use": "sig", "alg": "ES256"}],
        }


def _public(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(key.public_key(), as_dict=True)


def _thumbprint(key: ec.EllipticCurvePrivateKey) -> str:
    """RFC 7638: the hash of the required members in lexicographic order."""
    canonical = json.dumps(_public(key), sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(canonical).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
