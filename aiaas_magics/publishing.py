"""Publishing: a run, a model or an object of the notebook becomes an endpoint that serves."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from aiaas_hub.schemas import endpoints as wire
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Card
from aiaas_magics import display
from aiaas_magics.canary import judgement_line, traffic_line
from aiaas_magics.client import current_client
from aiaas_magics.endpoint import Endpoint
from aiaas_magics.errors import PublishFailed, invalid
from aiaas_magics.model import Model
from aiaas_magics.model_card import card
from aiaas_magics.publication_plan import PublicationPlan, model_of_run
from aiaas_magics.registering import register
from aiaas_magics.run import Run
from aiaas_magics.screen import Screen, screen
from aiaas_magics.served import conversion_line, parity_line

_CANARY_PERCENT = 10
"""Of a bake for which no share was said."""
_ALL = 100
_AS_THE_PLATFORM_DOES = wire.ServingOptions()
_STEPS = ("staging", "verifying", "canary", "serving")


class PublishView:
    """How far a version has come."""

    def __init__(self, record: wire.Endpoint, version: int) -> None:
        self.record = record
        self._version = version

    @property
    def version(self) -> wire.EndpointVersion:
        for version in self.record.versions:
            if version.version == self._version:
                return version
        raise InvalidInput(
            f"Version {self._version} of {self.record.name} is gone.", remedy="Publish it again."
        )

    @property
    def _title(self) -> str:
        return f"{self.record.owner}/{self.record.name} version {self._version}"

    def _facts(self) -> list[tuple[str, str]]:
        version = self.version
        return [
            ("model", str(version.model)),
            ("now", "" if version.state.is_settled else version.reason),
            ("error", version.error),
            ("canary", judgement_line(version)),
            ("parity", parity_line(version.parity) if version.parity else ""),
            ("precision", conversion_line(version.parity)),
            ("traffic", traffic_line(self.record.traffic)),
            ("address", self.record.url if self.record.traffic else ""),
        ]

    def line(self) -> str:
        version = self.version
        parity = f" · {parity_line(version.parity)}" if version.parity else ""
        return display.clean(f"{self._title}: {version.state}{parity}")

    def html(self) -> str:
        state = str(self.version.state)
        steps = " → ".join(
            f"<b>{step}</b>" if step == state else display.muted(step) for step in _STEPS
        )
        if self.version.state is wire.EndpointState.SERVING:
            # The endpoint's own display has the rest.
            return f"<div>{display.escape(self.line())}</div>"
        facts = [(label, display.escape(value)) for label, value in self._facts()]
        if not self.version.state.is_settled:
            facts.insert(0, ("step", steps))
        return display.card(self._title, state, facts)

    def text(self) -> str:
        return display.text_card(self._title, str(self.version.state), self._facts())


def publish(
    thing: Any,
    example: Any = None,
    *,
    name: str | None = None,
    canary: int | None = None,
    shadow: bool | int = False,
    sticky: bool = False,
    bake: float | None = None,
    limits: Mapping[str, float] | None = None,
    eval_input: Any = None,
    labels: list[str] | None = None,
    tokenizer: Any = None,
    max_length: int | None = None,
    processor: Any = None,
    description: str | None = None,
    licence: str | None = None,
    metrics: Mapping[str, float] | None = None,
    instances: int | None = None,
    max_batch: int | None = None,
    warm_up: bool = False,
    timeout: float | None = None,
    precision: wire.Precision | None = None,
    idle: float | None = None,
    batch_delay: float | Literal["off"] | None = None,
    why: str = "",
) -> Endpoint:
    """Serve a Run's model, a Model, or a model object at the endpoint `name`.

    An object (torch, TorchScript, Keras 3, TensorFlow, scikit-learn, ONNX), or the path of a file
    with ONNX or TorchScript, is exported with `example` (an array with the batch first, or a tuple
    or dict of them); on `eval_input`, held-out rows, its outputs are compared with Triton's.
    Returns when the version serves or, of a canary, has its share. Raises `PublishFailed` if it
    does not come to serve: what served before goes on.

    With `tokenizer`, a fast one of transformers, or of a transformers pipeline or a
    SentenceTransformer, the endpoint takes texts, and so are `example` and `eval_input`: lists of
    them, of which all but the first `max_length` tokens are cut. It answers with the class's name
    too, of `labels` or the model's own. Of a causal language model, or of a pipeline with one, it
    goes on with them, and `max_length` counts what it adds too.

    With `processor`, an image processor of transformers or a dict such as `{"size": [224, 224],
    "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}`, or of a pipeline for images, the endpoint
    takes images, and so are `example` and `eval_input`: lists of paths, bytes or Pillow's images.

    `description`, `licence` and `metrics` stand on the card of the model that is registered so.

    `canary`: percent of the requests, until `promote()` or `rollback()`. `bake`: seconds after
    which its numbers decide that, by `limits` (`max_error_rate`, `max_slowdown`,
    `max_disagreement`); `Endpoint.wait()` waits for it. A first version gets all requests.
    `shadow`: it gets a copy of all requests, or of so many percent, and answers nobody.
    `sticky`: the same caller, by its key or the header `x-aiaas-sticky`, always comes to the same
    version of a canary's two.

    `instances` of the model infer at the same time, each in its own memory; `max_batch` rows at
    most come in one request; with `warm_up` all instances infer held-out rows before the first
    request; a request that takes longer than `timeout` seconds is answered with HTTP 504.
    `precision`: "fp16" or "int8"; refused where the held-out rows are then answered otherwise.
    `idle`: after so many seconds without a call it is unloaded, and the next call, which waits for
    that, loads it. `batch_delay`: milliseconds that a request waits for others to share a run of
    the model with; "off": each has its own.
    `why`: for the history.
    """
    plan = canary_plan(canary, bake, limits, _copied(shadow), sticky)
    options = serving_options(instances, max_batch, warm_up, timeout, precision, idle, batch_delay)
    client = current_client()
    said = card(description, licence, metrics)
    if isinstance(thing, Run | Model) and said != Card():
        raise InvalidInput(
            "The model is registered, and has a card.",
            remedy="Say that with its describe(): aiaas.models.get(NAME).describe(…).",
        )
    if isinstance(thing, Run):
        return publish_run(thing.id, name or thing.name, plan, options, why)
    if isinstance(thing, Model):
        return publish_model(str(thing), name or thing.name, plan, options, why)
    registered = register(
        client,
        name,
        thing,
        example,
        eval_input,
        labels,
        said,
        tokenizer=tokenizer,
        max_length=max_length,
        processor=processor,
    )
    model = f"{registered.owner}/{registered.name}@{registered.version}"
    return publish_model(model, registered.name, plan, options, why)


def _copied(shadow: bool | int) -> int | None:
    """Percent of the requests; `True` means all."""
    if isinstance(shadow, bool):
        return _ALL if shadow else None
    return shadow


def canary_plan(
    canary: int | None,
    bake: float | None,
    limits: Mapping[str, float] | None,
    shadow: int | None = None,
    sticky: bool = False,
) -> wire.CanaryPlan | None:
    """None: all requests at once. `canary` and `shadow` are percent. Raises `InvalidInput`."""
    if canary is not None and shadow is not None:
        raise InvalidInput(
            "A shadow answers nobody, so it has no share of the requests.",
            remedy="Give a canary's percent or a shadow's.",
        )
    if sticky and (shadow is not None or (canary is None and bake is None)):
        raise InvalidInput(
            "Callers can be sticky to a canary only.", remedy="Add a canary's percent."
        )
    if canary is None and bake is None and shadow is None:
        if limits:
            raise InvalidInput(
                "Limits are for a bake, and there is none.", remedy="Add bake=SECONDS."
            )
        return None
    unknown = set(limits or ()) - set(wire.Limits.model_fields)
    if unknown:
        raise InvalidInput(
            f"{sorted(unknown)[0]!r} is no limit.",
            remedy=f"There are {', '.join(wire.Limits.model_fields)}.",
        )
    try:
        return wire.CanaryPlan(
            percent=next(p for p in (canary, shadow, _CANARY_PERCENT) if p is not None),
            shadow=shadow is not None,
            sticky=sticky,
            bake_seconds=bake,
            limits=wire.Limits(**(limits or {})),
        )
    except ValidationError as error:
        raise invalid(error) from error


def serving_options(
    instances: int | None,
    max_batch: int | None,
    warm_up: bool,
    timeout: float | None,
    precision: wire.Precision | None = None,
    idle: float | None = None,
    batch_delay: float | Literal["off"] | None = None,
) -> wire.ServingOptions:
    """Raises `InvalidInput`."""
    try:
        return wire.ServingOptions(
            instances=instances,
            max_batch=max_batch,
            warm_up=warm_up,
            timeout_seconds=timeout,
            precision=precision,
            idle_seconds=idle,
            batch_delay=batch_delay,
        )
    except ValidationError as error:
        raise invalid(error) from error


def publish_run(
    run_id: str,
    name: str,
    plan: wire.CanaryPlan | None = None,
    options: wire.ServingOptions = _AS_THE_PLATFORM_DOES,
    why: str = "",
) -> Endpoint:
    return _publish(name, _asked(run=run_id, canary=plan, options=options, why=why))


def publish_model(
    reference: str,
    name: str,
    plan: wire.CanaryPlan | None = None,
    options: wire.ServingOptions = _AS_THE_PLATFORM_DOES,
    why: str = "",
) -> Endpoint:
    """`reference`: `[owner/]name[@version]` or `name@alias`; what it means now is published."""
    meant = current_client().model(reference).latest
    model = f"{meant.owner}/{meant.name}@{meant.version}"
    return _publish(name, _asked(model=model, canary=plan, options=options, why=why))


def plan_publication(
    run_id: str | None,
    reference: str | None,
    name: str,
    plan: wire.CanaryPlan | None = None,
    options: wire.ServingOptions = _AS_THE_PLATFORM_DOES,
) -> PublicationPlan:
    """What publishing the run's or the model would do; nothing is sent but questions."""
    client = current_client()
    if run_id is not None:
        model = model_of_run(client, run_id)
    else:
        model = client.model(reference or "").latest
    return PublicationPlan.ask(client, model, name, plan, options)


def _asked(**fields: Any) -> wire.PublishRequest:
    """Raises `InvalidInput`."""
    try:
        return wire.PublishRequest(**fields)
    except ValidationError as error:
        raise invalid(error) from error


def _publish(name: str, request: wire.PublishRequest) -> Endpoint:
    client = current_client()
    owner, plain, version = client.resolve(name)
    if version is not None:
        raise InvalidInput(
            f"{name!r} has a version.", remedy="Name the endpoint alone: versions are counted."
        )
    started = client.endpoints.publish(owner, plain, request)
    return follow(Endpoint(client, started))


def follow(endpoint: Endpoint, on: Screen | None = None) -> Endpoint:
    """Show the newest version until it serves or has a canary's share; raises `PublishFailed` if
    it will not."""
    on = on or screen()
    record = endpoint._record
    version = record.versions[0].version
    view = PublishView(record, version)
    on.show(view)
    shown = record
    try:
        for view.record in endpoint._client.endpoints.watch(record.owner, record.name, version):
            if view.record != shown:
                on.show(view)
                shown = view.record
    except KeyboardInterrupt:
        sys.stdout.write(
            f"Detached: publishing goes on. Look at it with '%aiaas endpoint {endpoint.name}'; "
            f"stop serving with '%aiaas retire {endpoint.name}'.\n"
        )
        return endpoint
    endpoint._take(view.record)
    failed = failure(endpoint, view.record, version)
    if failed is not None:
        raise failed
    return endpoint


def failure(endpoint: Endpoint, record: wire.Endpoint, version: int) -> PublishFailed | None:
    """Why this version of the endpoint will not serve; None if it does or has a canary's share."""
    end = PublishView(record, version).version
    if end.state is wire.EndpointState.FAILED and end.routed_at is None:
        former = traffic_line(record.traffic)
        still = f" What served before serves still ({former})." if record.traffic else ""
        return PublishFailed(
            endpoint,
            f"Version {version} of {endpoint.name} was not published: "
            f"{display.sentence(end.error)}{still}",
            remedy=f"Correct the model and publish again; '%aiaas endpoint {endpoint.name}' shows "
            "the endpoint.",
        )
    if end.state is wire.EndpointState.RETIRED:
        return PublishFailed(
            endpoint,
            f"Endpoint {endpoint.name} was retired meanwhile.",
            remedy="Publish again if that was not meant.",
        )
    return None
