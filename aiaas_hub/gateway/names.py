"""Names that the parts of Envoy's configuration share: Envoy's own, and those of versions."""

from aiaas_hub.domain.ports import RouteTarget
from aiaas_hub.schemas.endpoints import MAX_SECONDS

VIRTUAL_HOST = "gateway"
JWT = "envoy.filters.http.jwt_authn"
RATE = "envoy.filters.http.local_ratelimit"
BUFFER = "envoy.filters.http.buffer"
NAME_HEADER = "x-aiaas-endpoint"
"""An endpoint's own name, for the translator, who knows Triton's only."""
SECONDS_HEADER = "x-aiaas-seconds"
"""After how long the gateway ends a request, for a text that is to end before it."""
ONWARD_HEADER = "x-aiaas-onward"
"""The cluster that the translator's requests are for, where they go through Envoy."""
COMPLETIONS = ("completions", "chat/completions")
"""Paths of OpenAI's protocol, below an endpoint's `/v1` and below a version's in the translator."""
AUDIENCE_HEADER = "x-aiaas-audience"
KEY_HEADER = "x-aiaas-key"
SCOPE_HEADER = "x-aiaas-scope"
CLAIMS = {"aud": AUDIENCE_HEADER, "jti": KEY_HEADER, "scope": SCOPE_HEADER}
"""Claims of a key that was verified → the headers in which routes find them. A caller's own are
taken away before anything looks at them."""
VERSION_HEADER = "x-aiaas-model-version"
"""Of an answer: which version gave it."""
METADATA = "aiaas"
"""Where a route says its version, for who reads it there."""
CHOICE_HEADER = "x-aiaas-version"
"""An exact version, for who may choose one."""
ROUTES = "endpoints"
ROUTES_FILE = "endpoints.json"
"""Another name whenever the listener leaves to the routes what it checked itself before: it must
never read older ones."""
MIRRORS = "mirrors"
WAKER = "waker"
"""The way to the service, which wakes endpoints."""
TYPE = "type.googleapis.com/"
FILTERS = f"{TYPE}envoy.extensions.filters.http"
INFER_SECONDS = MAX_SECONDS


def inference_path(target: RouteTarget) -> str:
    """Triton's, of exactly this version."""
    return f"/v2/models/{target.model}/versions/{target.version}/infer"


def version_path(target: RouteTarget) -> str:
    """The translator's, of exactly this version; below it are the protocols' own."""
    return f"/v1/models/{target.model}/versions/{target.version}"


def predict_path(target: RouteTarget) -> str:
    """TensorFlow Serving's inference."""
    return f"{version_path(target)}:predict"


def statistics_name(target: RouteTarget) -> str:
    return f"{target.model}-v{target.version}"


def statistics_target(name: str) -> tuple[str, int]:
    """Model and version of a `statistics_name`."""
    model, _, version = name.rpartition("-v")
    return model, int(version)
