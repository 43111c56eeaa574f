"""What an inference of a held-out row tells of a version that is served: READY alone proves neither
an answer nor that it is right."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiaas_hub.domain import parity, precision
from aiaas_hub.domain.data_ports import BlobStore
from aiaas_hub.domain.models import Models
from aiaas_hub.domain.ports import DoesNotAnswer, ServingEngine
from aiaas_hub.domain.publishing import ReadTensors, Tensors
from aiaas_hub.domain.records import Deployment, EndpointRecords
from aiaas_hub.schemas.endpoints import EndpointVersion
from aiaas_hub.schemas.errors import InvalidInput
from aiaas_hub.schemas.models import Signature

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Health:
    fault: str = ""
    """A sentence; empty where the answer was right."""
    is_wrong: bool = False
    """It answers, but otherwise than when it was verified."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def judged(
    answer: Tensors, expected: Tensors, version: EndpointVersion, signature: Signature
) -> Health:
    """By what was accepted when the version was published. Its difference from the source model was
    measured over all held-out rows then, and the tolerance is of the largest of them: of one row
    it is less, so that difference is allowed on top."""
    gap = max(parity.difference(array, answer.get(name)) for name, array in expected.items())
    scale = max(1.0, *(parity.magnitude(array) for array in expected.values()))
    measured = 0.0 if version.parity is None else version.parity.max_abs
    if not gap <= measured + precision.tolerance(version.options) * scale:
        return Health(
            f"Its answer to a held-out row is {gap:.3g} off the source model's; "
            f"it was at most {measured:.3g} when it was published.",
            is_wrong=True,
        )
    try:
        parity.check_labels(signature, answer)
    except InvalidInput as error:
        return Health(error.message, is_wrong=True)
    return Health()


class CanaryInferences:
    def __init__(
        self,
        records: EndpointRecords,
        models: Models,
        blobs: BlobStore,
        engine: ServingEngine,
        read_tensors: ReadTensors,
    ) -> None:
        self._records = records
        self._models = models
        self._blobs = blobs
        self._engine = engine
        self._read_tensors = read_tensors
        self._found: dict[tuple[str, int], Health] = {}

    def check(self) -> None:
        """One of each version that gets requests or copies of them."""
        for endpoint, deployments in self._records.routed():
            if endpoint.sleep is not None:
                continue
            called = {*endpoint.traffic, *([endpoint.shadow.version] if endpoint.shadow else [])}
            for deployment in deployments:
                if deployment.version in called:
                    try:
                        self._check(deployment)
                    except Exception:
                        log.exception("The health of %s is unknown", deployment.serving_name)

    def of(self, model: str, version: int) -> Health | None:
        """What the last one told."""
        return self._found.get((model, version))

    def _check(self, deployment: Deployment) -> None:
        pinned = deployment.info.model
        model = self._models.get(pinned.owner, pinned.name, pinned.version).latest
        path = self._blobs.local_path(self._models.evaluation(model))
        inputs, expected = parity.split_evaluation(
            self._read_tensors(path, rows=1), model.signature
        )
        key = (deployment.serving_name, deployment.version)
        former = self._found.get(key)
        try:
            answer = self._engine.infer(*key, inputs)
        except (InvalidInput, DoesNotAnswer) as error:
            found = Health(error.message)
        else:
            found = judged(answer, expected, deployment.info, model.signature)
        self._found[key] = found
        if not found.fault:
            return
        log.warning(
            "Version %s of %s/%s (%s) is not healthy: %s",
            deployment.version,
            deployment.owner,
            deployment.endpoint,
            deployment.serving_name,
            found.fault,
        )
        # What answers wrongly again after it was loaded anew has a file that is wrong: once more
        # would only take time from those that serve.
        if not (found.is_wrong and former is not None and former.is_wrong):
            self._engine.heal(deployment.serving_name)
