"""What a publish would do, said before anything is sent: for `--plan` and for the deploy panel."""

from __future__ import annotations

from collections.abc import Sequence

from aiaas_hub.schemas import endpoints as wire
from aiaas_hub.schemas import models as models_wire
from aiaas_hub.schemas.errors import InvalidInput, NotFound
from aiaas_hub.schemas.names import check_name
from aiaas_magics import display
from aiaas_magics.canary import limits_line, traffic_line
from aiaas_magics.client import Client
from aiaas_magics.display import Rich
from aiaas_magics.model import tensors
from aiaas_magics.served import options_line, parity_line

Facts = list[tuple[str, str]]


class PublicationPlan(Rich):
    """What would happen; nothing was sent but the question.

    `.problems` are sentences about why it would be refused, or its callers be.
    """

    def __init__(
        self,
        model: models_wire.ModelVersion,
        endpoint: wire.Endpoint | None,
        name: str,
        canary: wire.CanaryPlan | None,
        options: wire.ServingOptions,
    ) -> None:
        self.model = f"{model.owner}/{model.name}@{model.version}"
        self.version = _next(endpoint)
        self.problems = problems(endpoint, name)
        self._name = name
        self._told = facts_of_plan(model, endpoint, name, canary, options)

    @classmethod
    def ask(
        cls,
        client: Client,
        model: models_wire.ModelVersion,
        name: str,
        canary: wire.CanaryPlan | None,
        options: wire.ServingOptions,
    ) -> PublicationPlan:
        """Raises `InvalidInput` for what is no endpoint's name."""
        owner, plain, version = client.resolve(name)
        if version is not None:
            raise InvalidInput(
                f"{name!r} has a version.",
                remedy="Name the endpoint alone: versions are counted.",
            )
        check_name(plain)
        return cls(model, endpoint_of(client, owner, plain), plain, canary, options)

    @property
    def ok(self) -> bool:
        """Whether it can be published as it is."""
        return not self.problems

    def _facts(self) -> Facts:
        then = "publish it: the same without --plan" if self.ok else "do that, and ask again"
        return [*self._told, ("next", then)]

    def _html(self) -> str:
        facts = [(label, display.escape(text)) for label, text in self._facts()]
        return display.card(f"Plan for {self._name}", None, facts)

    def _text(self) -> str:
        return display.text_card(f"Plan for {self._name}", None, self._facts())


def endpoint_of(client: Client, owner: str, name: str) -> wire.Endpoint | None:
    try:
        return client.endpoints.get(owner, name)
    except NotFound:
        return None


def model_of_run(client: Client, run_id: str) -> models_wire.ModelVersion:
    """Raises `InvalidInput` where it has none."""
    pinned = client.runs.get(run_id).model
    if pinned is None:
        raise InvalidInput(
            f"Run {run_id} has no model.", remedy="Call ctx.save_model(…) in its code."
        )
    return client.models.get(pinned.owner, pinned.name, pinned.version).latest


def problems(endpoint: wire.Endpoint | None, name: str) -> list[str]:
    """Why the service would refuse it now."""
    newest = endpoint.versions[0] if endpoint is not None and endpoint.versions else None
    if newest is None or newest.state.is_settled:
        return []
    if newest.is_judged:
        return [
            f"Version {newest.version} is a canary that nobody has judged: '%aiaas promote "
            f"{name}' or '%aiaas rollback {name}'."
        ]
    return [f"Version {newest.version} is still being published."]


def facts_of_plan(
    model: models_wire.ModelVersion,
    endpoint: wire.Endpoint | None,
    name: str,
    canary: wire.CanaryPlan | None,
    options: wire.ServingOptions | None = None,
) -> Facts:
    """In lines, from what is known of the model and of the endpoint, where there is one."""
    traffic = endpoint.traffic if endpoint is not None else {}
    versions = endpoint.versions if endpoint is not None else []
    number = _next(endpoint)
    pinned = models_wire.PinnedModel(owner=model.owner, name=model.name, version=model.version)
    measured = next((v.parity for v in versions if v.model == pinned and v.parity), None)
    differs = ""
    signature = endpoint.signature if endpoint is not None else None
    if traffic and signature is not None and signature.inputs != model.signature.inputs:
        differs = (
            f"callers send {tensors(signature.inputs)} today; this one takes other inputs, and "
            "refuses theirs"
        )
    return [
        ("problems", " ".join(problems(endpoint, name))),
        ("model", f"{pinned}, {model.framework or 'of an unknown framework'}"),
        ("inputs", tensors(model.signature.inputs)),
        ("memory", _memory(model, measured, traffic)),
        ("export", f"differed from its source by at most {model.export_max_abs:.2g} when exported"),
        ("parity", f"at an earlier publish here: {parity_line(measured)}" if measured else ""),
        (
            "checked",
            "before its first request Triton's answers are compared with the model's own, on its "
            "held-out rows",
        ),
        ("served", options_line(options) if options is not None else ""),
        ("becomes", f"version {number} of {name}"),
        ("serves now", _serving(versions, traffic)),
        ("traffic", moved(endpoint, canary)),
        ("judged", _judged(traffic, canary)),
        ("careful", differs),
    ]


def _next(endpoint: wire.Endpoint | None) -> int:
    versions = endpoint.versions if endpoint is not None else []
    return max((v.version for v in versions), default=0) + 1


def _memory(
    model: models_wire.ModelVersion, measured: wire.Parity | None, traffic: dict[int, int]
) -> str:
    beside = f", beside {traffic_line(traffic)}" if traffic else ""
    took = ""
    if measured is not None and measured.memory_bytes:
        took = f"; it took {display.size(measured.memory_bytes)} of memory at an earlier publish"
    return f"Triton loads {display.size(model.size)} of ONNX{beside}{took}"


def _serving(versions: Sequence[wire.EndpointVersion], traffic: dict[int, int]) -> str:
    """What its report will stand beside."""
    return "; ".join(
        f"version {v.version} from {v.model}"
        + (f": {parity_line(v.parity)}" if v.parity is not None else "")
        for v in versions
        if v.version in traffic
    )


def moved(endpoint: wire.Endpoint | None, canary: wire.CanaryPlan | None) -> str:
    """What becomes of the requests that come now."""
    traffic = endpoint.traffic if endpoint is not None else {}
    number = _next(endpoint)
    if not traffic:
        return f"version {number}: 100 %, as the first one"
    now = traffic_line(traffic)
    if canary is None:
        return f"from {now} to version {number}: 100 %; a rollback leads back"
    end = "until you promote it or roll it back"
    if canary.bake_seconds is not None:
        end = f"until its numbers decide, after {display.duration(canary.bake_seconds)}"
    if canary.shadow:
        return f"stays {now}; version {number} gets a copy of {canary.percent} %, {end}"
    stays = "; the same caller always comes to the same version" if canary.sticky else ""
    return f"from {now} to {canary.percent} % for version {number}, {end}{stays}"


def _judged(traffic: dict[int, int], canary: wire.CanaryPlan | None) -> str:
    if not traffic or canary is None or canary.bake_seconds is None:
        return ""
    return limits_line(canary.limits)
