"""The publish protocol: stage, rename, load, verify, route, narrow.

Each step may be repeated after a crash at any line; a version that fails any of them is taken out
again, and what was served before is served still.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from aiaas_hub.domain import input_drift, memory, parity, precision, traffic
from aiaas_hub.domain.data_ports import BlobStore
from aiaas_hub.domain.endpoints import Endpoints, topic
from aiaas_hub.domain.models import Models
from aiaas_hub.domain.ports import (
    ConvertedModel,
    DoesNotAnswer,
    ModelConverter,
    Notifier,
    ServingEngine,
)
from aiaas_hub.domain.records import Deployment, EndpointRecords
from aiaas_hub.schemas.endpoints import Endpoint, EndpointState, Parity, ServingOptions, Sleep
from aiaas_hub.schemas.errors import (
    AiaasError,
    DiskFull,
    InternalError,
    InvalidInput,
    Unavailable,
    is_of_a_full_disk,
)
from aiaas_hub.schemas.models import ModelVersion, Signature

log = logging.getLogger(__name__)

Tensors = Mapping[str, NDArray[Any]]


class ReadTensors(Protocol):
    def __call__(self, path: Path, rows: int | None = None) -> Tensors: ...


class Publisher:
    def __init__(
        self,
        records: EndpointRecords,
        endpoints: Endpoints,
        models: Models,
        blobs: BlobStore,
        engine: ServingEngine,
        notifier: Notifier,
        read_tensors: ReadTensors,
        converter: ModelConverter,
        memory_bytes: int | None = None,
    ) -> None:
        """`memory_bytes`: what all served models together may take; None: no limit."""
        self._memory_bytes = memory_bytes
        self._records = records
        self._endpoints = endpoints
        self._models = models
        self._blobs = blobs
        self._engine = engine
        self._notifier = notifier
        self._read_tensors = read_tensors
        self._converter = converter
        self._guard = threading.Lock()
        self._writers: dict[tuple[str, str], threading.Lock] = {}
        # Files of a model that nobody wants are removed under it, and files are installed under
        # it: else a model could be removed between its intent and its installation.
        self._files = threading.Lock()

    def publish(self, deployment: Deployment) -> None:
        """Take a version from where it is to serving or failed.

        One thread writes to an endpoint's models at a time. Raises `Unavailable` while Triton is
        not up or the disk is full: the version stays where it is, and the reconciler calls again.
        """
        with self.writer(deployment.owner, deployment.endpoint):
            self._publish(deployment)

    def _publish(self, deployment: Deployment) -> None:
        current = deployment
        while current.info.is_underway:
            try:
                advanced = self._advanced(current)
            except DoesNotAnswer as error:
                self._fail(
                    current,
                    InvalidInput(
                        f"{error.message} It was verified with batches of up to "
                        f"{deployment.info.options.largest_batch} rows, for which memory or time "
                        "may not be enough.",
                        remedy="Make the model smaller, or publish it with a smaller --max-batch.",
                    ),
                )
                return
            except Unavailable as error:
                if self._records.explain(current, str(error)):
                    self._notifier.notify(topic(deployment.owner, deployment.endpoint))
                raise
            except AiaasError as error:
                self._fail(current, error)
                return
            except Exception:
                log.exception("Publishing %s failed", deployment.serving_name)
                self._fail(
                    current,
                    InternalError(
                        "Publishing failed on the platform's side.",
                        remedy="Its log says why: ask whoever runs the platform.",
                    ),
                )
                return
            if advanced is None:
                # Retired meanwhile: what this call may have loaded is nobody's.
                break
            current = advanced
            self._notifier.notify(topic(deployment.owner, deployment.endpoint))
        if current.info.is_underway:
            self._converge_anew(deployment)

    def _advanced(self, deployment: Deployment) -> Deployment | None:
        """One step further; None if it is nobody's step any more."""
        steps = {
            EndpointState.STAGING: self._stage,
            EndpointState.VERIFYING: self._verify,
            EndpointState.CANARY: self._route,
        }
        try:
            return steps[deployment.info.state](deployment)
        except OSError as error:
            if is_of_a_full_disk(error):
                # No fault of the version, and over when somebody makes room.
                raise DiskFull from error
            raise

    def _stage(self, deployment: Deployment) -> Deployment | None:
        model = self._model(deployment)
        options = deployment.info.options
        tensors = self._read_tensors(self._blobs.local_path(self._models.evaluation(model)))
        inputs, _ = parity.split_evaluation(tensors, model.signature)
        reference = input_drift.reference(inputs, model.signature)
        with self._served_file(model, options) as onnx:
            staged = self._engine.stage(
                deployment.serving_name,
                deployment.version,
                model.signature,
                onnx,
                options,
                reference,
            )
        with self._files:
            try:
                memory.check(
                    staged,
                    options,
                    memory.taken(self._records.routed(), self._engine.memory()),
                    self._memory_bytes,
                )
            except InvalidInput:
                self._engine.discard(staged)
                raise
            self._engine.install(staged)
        return self._records.transition(deployment, EndpointState.STAGING, EndpointState.VERIFYING)

    @contextmanager
    def _served_file(self, model: ModelVersion, options: ServingOptions) -> Iterator[Path]:
        if options.precision is None:
            yield self._blobs.local_path(model.onnx)
            return
        with self._converted(model, options) as made:
            precision.check_size(options.precision, made.before, made.after)
            yield made.path

    def _converted(
        self, model: ModelVersion, options: ServingOptions
    ) -> AbstractContextManager[ConvertedModel]:
        assert options.precision is not None  # noqa: S101 - for the type checker
        return self._converter.converted(
            self._blobs.local_path(model.onnx),
            options.precision,
            self._blobs.local_path(self._models.evaluation(model)),
            options.largest_batch,
        )

    def _verify(self, deployment: Deployment) -> Deployment | None:
        model = self._model(deployment)
        endpoint, deployments = self._all(deployment.owner, deployment.endpoint)
        served = [
            d.version
            for d in deployments
            if d.serving_name == deployment.serving_name and d.version in traffic.kept(endpoint)
        ]
        self._engine.set_versions(
            deployment.serving_name,
            model.signature,
            sorted({*served, deployment.version}),
            deployment.info.options,
        )
        measured = self._measure(deployment, model)
        return self._records.transition(
            deployment,
            EndpointState.VERIFYING,
            EndpointState.CANARY,
            parity=measured.model_dump(),
        )

    def _measure(self, deployment: Deployment, model: ModelVersion) -> Parity:
        tensors = self._read_tensors(self._blobs.local_path(self._models.evaluation(model)))
        inputs, expected = parity.split_evaluation(tensors, model.signature)

        def infer(batch: Tensors) -> Tensors:
            answer = self._engine.infer(deployment.serving_name, deployment.version, batch)
            parity.check_labels(model.signature, answer)
            return answer

        options = deployment.info.options
        if options.warm_up:
            parity.warm_up(infer, inputs, options.instances or 1, options.largest_batch)
        measured, scale = parity.measure(infer, inputs, expected, options.largest_batch)
        taken = self._engine.memory().get((deployment.serving_name, deployment.version))
        measured = measured.model_copy(update={"memory_bytes": taken})
        if options.precision is not None:
            # Measured where it is told: nothing is kept of a version that is on its way.
            with self._converted(model, options) as made:
                found = precision.conversion(
                    options.precision,
                    made.before,
                    made.after,
                    lambda rows: parity.in_batches(infer, rows, options.largest_batch),
                    inputs,
                    expected,
                )
            measured = measured.model_copy(update={"conversion": found})
            precision.check(measured, scale)
        if not measured.max_abs <= precision.tolerance(options) * scale:
            raise InvalidInput(
                f"Triton's answers differ from the source model's by {measured.max_abs:.3g} on "
                f"{measured.rows} held-out rows.",
                remedy="Save the model in eval mode, and without random operations in forward().",
            )
        return measured

    def _route(self, deployment: Deployment) -> Deployment | None:
        """Its share of the requests: all, and then it serves, or that of a canary, which waits to
        be judged."""
        self._records.change(
            deployment.owner,
            deployment.endpoint,
            lambda endpoint: traffic.begin(endpoint, deployment.version),
            by=deployment.info.created_by,
        )
        routed: Deployment | None = self._current(deployment)
        if routed is None or routed.info.state is not EndpointState.CANARY:
            return None
        self._endpoints.apply_routes()
        if not routed.info.is_judged:
            routed = self._records.transition(routed, EndpointState.CANARY, EndpointState.SERVING)
        self._converge_anew(deployment)
        return routed

    def _fail(self, deployment: Deployment, error: AiaasError) -> None:
        log.warning(
            "Version %s of %s/%s failed: %s",
            deployment.version,
            deployment.owner,
            deployment.endpoint,
            error.message,
        )

        def decide(endpoint: Endpoint) -> traffic.Shift | None:
            state = next(v.state for v in endpoint.versions if v.version == deployment.version)
            # It may have been retired meanwhile.
            return (
                None if state.is_settled else traffic.fail(endpoint, deployment.version, str(error))
            )

        self._records.change(deployment.owner, deployment.endpoint, decide, by="")
        self._converge_anew(deployment)
        self._notifier.notify(topic(deployment.owner, deployment.endpoint))

    # Desired against actual

    def _converge_anew(self, deployment: Deployment) -> None:
        self.converge_endpoint(*self._all(deployment.owner, deployment.endpoint))

    def converge_endpoint(self, endpoint: Endpoint, deployments: Sequence[Deployment]) -> None:
        """Make Triton serve of one endpoint what it should, and remove what it should not.

        Of one that sleeps nothing is loaded, and all of it stays installed.
        """
        kept = traffic.kept(endpoint)
        is_complete = True
        for name in {d.serving_name for d in deployments}:
            mine = [d for d in deployments if d.serving_name == name]
            if any(d.info.is_underway for d in mine):
                # The publisher is at work on this very model, and one writer is the rule.
                is_complete = False
                continue
            wanted = {d.version for d in mine if d.version in kept}
            if not wanted:
                self._engine.remove(name)
                continue
            loaded = set() if endpoint.sleep is Sleep.ASLEEP else wanted
            if loaded != self._engine.ready_versions(name):
                self._engine.set_versions(
                    name, self._signature(mine[0]), sorted(loaded), mine[0].info.options
                )
            for version in self._engine.installed_versions(name) - wanted:
                self._engine.remove(name, version)
        if endpoint.sleep is Sleep.WAKING and is_complete:
            self._endpoints.set_sleep(endpoint.owner, endpoint.name, Sleep.WAKING, None)

    def converge(self) -> None:
        """The same for every endpoint that has traffic, and the routes; what no endpoint wants
        is unloaded and removed."""
        refused: Unavailable | None = None
        try:
            # First: rolling back and revoking must not wait for a model.
            self._endpoints.apply_routes()
        except Unavailable as error:
            # The models are Triton's, which may be up.
            refused = error
        for endpoint, _ in self._records.routed():
            self._converge_if_idle(endpoint.owner, endpoint.name)
        for model in self._engine.models():
            with self._files:
                if model not in self._wanted():
                    log.info("Removing model %s, which no endpoint wants", model)
                    self._engine.remove(model)
        if refused is not None:
            raise refused

    def _converge_if_idle(self, owner: str, name: str) -> None:
        writer = self.writer(owner, name)
        if not writer.acquire(blocking=False):
            return
        try:
            # Read under the lock: a version may have been published since.
            self.converge_endpoint(*self._all(owner, name))
        except Unavailable:
            raise
        except Exception:
            # One endpoint that cannot be mended must not keep the others from it.
            log.exception("Endpoint %s/%s does not converge", owner, name)
        finally:
            writer.release()

    def _wanted(self) -> set[str]:
        """Models that an endpoint serves or is going to. Unsettled ones are read first: one that
        settles in between is then found among the served."""
        wanted = {d.serving_name for d in self._records.unsettled()}
        for endpoint, deployments in self._records.routed():
            kept = traffic.kept(endpoint)
            wanted |= {d.serving_name for d in deployments if d.version in kept}
        return wanted

    def writer(self, owner: str, name: str) -> threading.Lock:
        """Held by whoever changes what is loaded of an endpoint."""
        with self._guard:
            return self._writers.setdefault((owner, name), threading.Lock())

    def _all(self, owner: str, name: str) -> tuple[Endpoint, Sequence[Deployment]]:
        """Versions first: one that is added in between is then not taken for a stranger's."""
        deployments = self._records.deployments(owner, name)
        endpoint = self._records.get(owner, name)
        assert endpoint is not None, "endpoints are not deleted"  # noqa: S101 - an invariant
        return endpoint, deployments

    def _current(self, deployment: Deployment) -> Deployment | None:
        _, deployments = self._all(deployment.owner, deployment.endpoint)
        return next((d for d in deployments if d.version == deployment.version), None)

    def _model(self, deployment: Deployment) -> ModelVersion:
        pinned = deployment.info.model
        return self._models.get(pinned.owner, pinned.name, pinned.version).latest

    def _signature(self, deployment: Deployment) -> Signature:
        return self._model(deployment).signature
