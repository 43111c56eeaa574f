"""The hub's proxy, but for what it says of activity.

The proxy counts every byte: a page that nobody looks at keeps a server's connections alive, and
the hub would take that for work. What a server itself says of its activity is what counts here.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy


class QuietProxy(ConfigurableHTTPProxy):  # type: ignore[misc]  # jupyterhub has no types
    """Configured as `ConfigurableHTTPProxy` is."""

    async def get_all_routes(self) -> dict[str, Any]:
        """The routes, without `last_activity`: some proxies do not know it, so nobody needs it."""
        routes: dict[str, Any] = await super().get_all_routes()
        for route in routes.values():
            route["data"].pop("last_activity", None)
        return routes
