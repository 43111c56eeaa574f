"""Beside each Triton in its pod: makes it serve what the object store says.

    GET  /ready                    has Triton all that it should have? the pod's readiness
    PUT  /models/{model}           read the model's record anew, and serve what it says
    POST /models/{model}/heal      restart its instances

python -m aiaas_hub.adapters.triton_kubernetes.agent, with `AgentSettings` in its environment. When
the pod starts, and when its Triton did, everything is loaded before the pod counts as ready:
neither the service nor another pod need be up for that.
"""

from __future__ import annotations

import contextlib
import hmac
import http.server
import json
import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aiaas_hub.adapters.triton_kubernetes.catalogue import Catalogue
from aiaas_hub.adapters.triton_kubernetes.manifests import (
    AGENT_PORT,
    GRPC_PORT,
    MODELS,
    SECRETS,
    control_headers,
)
from aiaas_hub.adapters.triton_local.client import TritonClient
from aiaas_hub.adapters.triton_local.loading import Loading
from aiaas_hub.adapters.triton_local.repository import Repository
from aiaas_hub.schemas.errors import AiaasError, InternalError, NotFound, Unauthenticated, to_body

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class AgentSettings:
    group: str
    store: str
    address: str
    """Of the pod: Triton listens there, and so does this."""
    secret: str

    @classmethod
    def from_environment(cls) -> AgentSettings:
        return cls(
            group=os.environ["AIAAS_GROUP"],
            store=os.environ["AIAAS_SERVING_URL"],
            address=os.environ["AIAAS_POD_ADDRESS"],
            secret=(SECRETS / "control").read_text().strip(),
        )


class Agent:
    """`confirmed` are the versions that this Triton was seen to serve: where one of them is gone
    without being asked to, Triton was started anew and everything is loaded again."""

    def __init__(self, settings: AgentSettings, root: Path) -> None:
        self._group = settings.group
        self._catalogue = Catalogue(settings.store)
        self._repository = Repository(root)
        self._repository.prepare()
        self._incoming = root / "staging"
        target = f"{settings.address}:{GRPC_PORT}"
        self._triton = TritonClient(target, control_headers(settings.secret))
        self._loading = Loading(self._repository, lambda: self._triton)
        self._confirmed: dict[str, set[int]] = {}
        self._complete = False
        self.ready = False
        self._said = ""

    def look(self) -> None:
        """Load what is missing; afterwards `ready` says whether nothing is."""
        try:
            if not self._complete:
                wanted = self._catalogue.models(self._group)
                self._serve_all(wanted | self._repository.models())
                self._complete = True
            index = self._triton.index()
            self._serve_all(model for model in list(self._confirmed) if self._lacks(index, model))
            self._say(True, f"Ready: {len(self._confirmed)} models")
        except AiaasError as error:
            self._say(False, f"Not ready: {error}")

    def _serve_all(self, models: Iterable[str]) -> None:
        """Raises what the first that failed raised, when all others are served."""
        failure: AiaasError | None = None
        for model in sorted(models):
            with self._loading.lock(model):
                # A request may have changed it since.
                if self._complete and not self._lacks(self._triton.index(), model):
                    continue
                self._say(False, f"Not ready: {model} is not loaded")
                try:
                    self.serve(model)
                except AiaasError as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    def _lacks(self, index: Mapping[str, Mapping[int, tuple[str, str]]], model: str) -> bool:
        found = index.get(model, {})
        confirmed = self._confirmed.get(model, set())
        return any(found.get(version, ("", ""))[0] != "READY" for version in confirmed)

    def _say(self, ready: bool, words: str) -> None:
        if ready is not self.ready or (not ready and words != self._said):
            log.info(words)
        self.ready, self._said = ready, words

    def serve(self, model: str) -> set[int]:
        """Make files and Triton as the model's record says; the versions that are served."""
        with self._loading.lock(model):
            record = self._catalogue.read(self._group, model)
            if record is None or not record.served:
                self._confirmed.pop(model, None)
                self._loading.remove(model)
                return set()
            wanted = set(record.served)
            # Of what is no longer to be served nothing is missed from here on.
            self._confirmed[model] = self._confirmed.get(model, set()) & wanted
            for version in sorted(wanted - self._repository.versions(model)):
                self._install(model, version, record.versions[version].sha256)
            self._loading.serve(model, wanted, record.config)
            self._confirmed[model] = wanted
            for version in self._repository.versions(model) - wanted:
                self._loading.remove(model, version)
            return wanted

    def heal(self, model: str) -> set[int]:
        self._loading.heal(model)
        return self._triton.ready_versions(model)

    def _install(self, model: str, version: int, sha256: str) -> None:
        incoming = self._incoming / f".incoming.{secrets.token_hex(6)}"
        try:
            self._catalogue.fetch(sha256, incoming)
            staged = self._repository.stage(model, version, incoming)
        finally:
            incoming.unlink(missing_ok=True)
        self._repository.seal(staged)
        self._repository.install(staged)


def handler(agent: Agent, secret: str) -> type[http.server.BaseHTTPRequestHandler]:
    """The requests of the module's docstring; all but the probe's need the secret."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 300

        def do_GET(self) -> None:
            if self.path == "/ready":
                self._answer(200 if agent.ready else 503, {"ready": agent.ready})
            else:
                self._refuse(NotFound("There is no such path."))

        def do_PUT(self) -> None:
            self._act(lambda model: agent.serve(model), "")

        def do_POST(self) -> None:
            self._act(lambda model: agent.heal(model), "heal")

        def _act(self, act: Callable[[str], set[int]], verb: str) -> None:
            try:
                given = self.headers.get("Authorization") or ""
                if not hmac.compare_digest(given.encode(), f"Bearer {secret}".encode()):
                    raise Unauthenticated("This needs the secret of the servers.")
                match urlsplit(self.path).path.split("/"):
                    case ["", "models", model, *rest] if rest == [verb][: bool(verb)]:
                        self._answer(200, {"ready": sorted(act(unquote(model)))})
                    case _:
                        raise NotFound("There is no such path.")
            except AiaasError as error:
                self._refuse(error)
            except Exception:
                log.exception("A request failed")
                self._refuse(InternalError("The pod's agent failed; its log says why."))

        def _refuse(self, error: AiaasError) -> None:
            self._answer(error.status, to_body(error, "").model_dump())

        def _answer(self, status: int, body: object) -> None:
            # What a request carries is not read: none of these has a body.
            self.close_connection = True
            data = json.dumps(body).encode()
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Probes come every second."""

    return Handler


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = AgentSettings.from_environment()
    agent = Agent(settings, MODELS.parent)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Before the first look at the store: what is recorded after it comes as a request.
    server = http.server.ThreadingHTTPServer(
        (settings.address, AGENT_PORT), handler(agent, settings.secret)
    )
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while not stop.is_set():
        agent.look()
        stop.wait(LOOK_SECONDS)


if __name__ == "__main__":
    main()
