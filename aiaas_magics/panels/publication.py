"""The upper half of the deploy panel: what would be published, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from traitlets import Bool, Float, Int, List, Unicode, observe

from aiaas_hub.schemas import endpoints as wire
from aiaas_hub.schemas import models as models_wire
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.names import check_name
from aiaas_hub.schemas.runs import RunState
from aiaas_magics import display
from aiaas_magics.client import Client
from aiaas_magics.endpoint import Endpoint
from aiaas_magics.panels.attention import WHY, Asking, Attended
from aiaas_magics.panels.background import Background
from aiaas_magics.publication_plan import Facts, endpoint_of, facts_of_plan, model_of_run, moved
from aiaas_magics.publishing import PublishView, canary_plan, failure
from aiaas_magics.served import reports_html

_LISTED = 200
EMPTY = "No models yet: a run makes one with ctx.save_model(…), or aiaas.publish(model, x[:2], …)."


@dataclass(frozen=True)
class Plan:
    """What would happen."""

    facts: Facts
    question: str = ""
    """To be answered first, where all requests of a live endpoint move at once."""


@dataclass(frozen=True)
class Wish:
    """What somebody wants published, as it stands in the form."""

    source: str
    model: str
    version: int
    run: str
    name: str
    canary: int
    bake: float

    @property
    def plan(self) -> wire.CanaryPlan | None:
        """Raises `InvalidInput`."""
        if self.bake < 0:
            raise InvalidInput("A bake takes no negative time.", remedy="Give seconds, or 0.")
        return canary_plan(self.canary or None, self.bake or None, None)


class Publication(Attended, Asking):
    """Chooses a model and an endpoint's name, says what would happen, and does it."""

    models: List[tuple[str, str]] = List()
    """`(text, owner/name)`, the newest first."""
    versions: List[tuple[str, int]] = List()
    """`(text, number)` of the chosen model, the newest first."""
    runs: List[tuple[str, str]] = List()
    """`(text, id)` of runs that succeeded with a model."""
    source = Unicode("model")
    """`model` or `run`."""
    model = Unicode()
    version = Int()
    run = Unicode()
    name = Unicode()
    """Of the endpoint."""
    canary = Int()
    """Percent of the requests that it gets at first; 0: all of them."""
    bake = Float()
    """Seconds after which its numbers decide; 0: somebody does."""
    empty = Unicode()
    plan = Unicode()
    """What would happen, as safe HTML."""
    ready = Bool()
    """Whether there is something that can be published."""
    progress = Unicode()
    """How far it has come, as safe HTML."""
    publishing = Bool()
    published = Unicode()
    """Name of the endpoint that was published to last."""

    def __init__(self, client: Client, beside: Background) -> None:
        super().__init__(beside)
        self._client = client
        self._known: dict[str, models_wire.Model] = {}
        self._named = ""
        self._shown_model = ""
        self._settling = False

    def refresh(self) -> None:
        """Read what can be published. What is chosen stays chosen."""

        def ask() -> tuple[list[models_wire.Model], Facts]:
            models = list(islice(self._client.models.list(), _LISTED))
            found = self._client.runs.list(state=RunState.SUCCEEDED)
            runs = [
                (f"{record.name} · {record.id} → {record.model}", record.id)
                for record in islice(found, _LISTED)
                if record.model is not None
            ]
            return models, runs

        self.beside.run("choices", ask, lambda found: self._choices(*found), self.failed)

    def publish(self) -> None:
        """Begin, after asking back where that moves all requests of an endpoint at once."""
        if self.publishing or not self.ready:
            return
        wish, client = self._wish, self._client

        def know(plan: Plan) -> None:
            self.publishing = False
            if plan.question:
                self.ask(plan.question, lambda: self._begin(wish))
            else:
                self._begin(wish)

        def refuse(sentence: str) -> None:
            self.publishing = False
            self.failed(sentence)

        self.decline()
        self.publishing = True
        # Read anew: what the plan in sight says of the endpoint may be of some time ago.
        self.beside.run("moves", lambda: plan_of(client, wish), know, refuse)

    def _begin(self, wish: Wish) -> None:
        """Show how far it is until it serves, has a canary's share, or failed."""
        client = self._client
        version = 0

        def going() -> Iterator[wire.Endpoint]:
            owner, plain, request = _request(client, wish)
            started = client.endpoints.publish(owner, plain, request)
            yield started
            yield from client.endpoints.watch(owner, plain, started.versions[0].version)

        def show(record: wire.Endpoint) -> None:
            nonlocal version
            self.error = ""
            version = version or record.versions[0].version
            view = PublishView(record, version)
            underway = view.version.is_underway
            self.progress = view.html() + ("" if underway else reports_html(record))
            if not underway:
                self._over(record, version)

        def lost(sentence: str) -> None:
            self.publishing = False
            more = f" What was begun goes on: '%aiaas endpoint {wish.name}'." if version else ""
            self.failed(sentence + more)

        self.publishing = True
        self.progress = f"<div>{display.escape(f'Publishing to {wish.name} …')}</div>"
        self.beside.follow("publish", going, show, lost)

    @property
    def _wish(self) -> Wish:
        return Wish(
            self.source, self.model, self.version, self.run, self.name.strip(), self.canary,
            self.bake,
        )  # fmt: skip

    def _over(self, record: wire.Endpoint, version: int) -> None:
        self.publishing = False
        failed = failure(Endpoint(self._client, record), record, version)
        if failed is not None:
            self.progress = f'<div role="alert">{display.escape(failed)}</div>'
        self.published = ""
        self.published = record.name
        self.replan()

    def _choices(self, models: list[models_wire.Model], runs: Facts) -> None:
        self.error = ""
        self._known = {f"{m.owner}/{m.name}": m for m in models}
        self._settling = True
        self.empty = "" if models else EMPTY
        self.models = [(display.clean(name), name) for name in self._known]
        self.runs = [(display.clean(text), run_id) for text, run_id in runs]
        if self.model not in self._known:
            self.model = next(iter(self._known), "")
        if not any(run == self.run for _, run in runs):
            self.run = runs[0][1] if runs else ""
        self._versions()
        self._settling = False
        self.replan()

    @observe("model")
    def _another_model(self, _: object) -> None:
        self._versions()
        # A name that somebody typed stays.
        plain = self.model.rpartition("/")[2]
        if self.name in ("", self._named) and plain:
            self.name = self._named = plain

    def _versions(self) -> None:
        known = self._known.get(self.model)
        latest = known.latest.version if known is not None else 0
        called: dict[int, list[str]] = {}
        for alias, version in (known.aliases if known is not None else {}).items():
            called.setdefault(version, []).append(f"@{alias}")
        self.versions = [
            (" ".join([f"version {number}", *called.get(number, [])]), number)
            for number in range(latest, max(0, latest - _LISTED), -1)
        ]
        if not 1 <= self.version <= latest or self._shown_model != self.model:
            self.version = latest
        self._shown_model = self.model

    @observe("source", "model", "version", "run", "name", "canary", "bake")
    def _changed(self, _: object) -> None:
        if not self._settling:
            # What was asked was of another wish.
            self.decline()
            self.replan()

    def replan(self) -> None:
        """Say anew what would happen: the form or the endpoint is another one."""
        wish, client = self._wish, self._client
        if not (wish.run if wish.source == "run" else wish.model):
            self.ready = False
            self.plan = ""
            return

        def show(plan: Plan) -> None:
            self.ready = True
            shown = [(label, display.escape(text)) for label, text in plan.facts]
            self.plan = display.card("Plan", None, shown)

        def refuse(sentence: str) -> None:
            self.ready = False
            self.plan = display.card("Plan", None, [("not yet", display.escape(sentence))])

        self.beside.run("plan", lambda: plan_of(client, wish), show, refuse)


def plan_of(client: Client, wish: Wish) -> Plan:
    """What would happen. Raises `AiaasError` where nothing could."""
    canary = wish.plan
    model = _model(client, wish)
    owner, plain, _ = client.resolve(_endpoint_name(wish))
    endpoint = endpoint_of(client, owner, plain)
    facts = facts_of_plan(model, endpoint, plain, canary)
    if canary is not None or endpoint is None or not endpoint.traffic:
        return Plan(facts)
    return Plan(facts, f"Traffic of {plain}: {moved(endpoint, canary)}. Publish it?")


def _model(client: Client, wish: Wish) -> models_wire.ModelVersion:
    if wish.source != "run":
        owner, name, _ = client.resolve(wish.model)
        return client.models.get(owner, name, wish.version or None).latest
    return model_of_run(client, wish.run)


def _request(client: Client, wish: Wish) -> tuple[str, str, wire.PublishRequest]:
    owner, plain, _ = client.resolve(_endpoint_name(wish))
    if wish.source == "run":
        return owner, plain, wire.PublishRequest(run=wish.run, canary=wish.plan, why=WHY)
    reference = f"{wish.model}@{wish.version}" if wish.version else wish.model
    return owner, plain, wire.PublishRequest(model=reference, canary=wish.plan, why=WHY)


def _endpoint_name(wish: Wish) -> str:
    if not wish.name:
        raise InvalidInput("The endpoint has no name.", remedy="Type one.")
    return check_name(wish.name)
