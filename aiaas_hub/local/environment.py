"""What of the operator's environment goes on to the platform's processes."""

from __future__ import annotations

from collections.abc import Mapping

# Cloud credentials and tokens of the operator's shell are none of the platform's business.
_KEPT = (
    "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ",
    "USER", "VIRTUAL_ENV", "XDG_CACHE_HOME", "XDG_DATA_HOME", "CUDA_VISIBLE_DEVICES",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip
_KEPT_PREFIXES = (
    "LC_",
    "AIAAS_",
    # Where packages come from: the service installs Triton's environment.
    "PIP_",
)


def kept_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the hub and the service may know; users' servers get fewer."""
    return {
        name: value
        for name, value in environ.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
