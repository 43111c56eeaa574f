"""Envoy's names that the bootstrap and the routes share."""

from aiaas_hub.schemas.endpoints import MAX_SECONDS

VIRTUAL_HOST = "gateway"
JWT = "envoy.filters.http.jwt_authn"
RBAC = "envoy.filters.http.rbac"
RATE = "envoy.filters.http.local_ratelimit"
BUFFER = "envoy.filters.http.buffer"
MUTATION = "envoy.filters.http.header_mutation"
CLAIMS = "claims"
"""Where the token's claims lie in a request's metadata."""
ROUTES = "endpoints"
TYPE = "type.googleapis.com/"
FILTERS = f"{TYPE}envoy.extensions.filters.http"
INFER_SECONDS = MAX_SECONDS
