"""A job's own calls to the service, with its run token.

A run outlives a restart of the service: every call is repeated while the service cannot be
reached or answers 5xx, and only an answer that it means ends a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import tenacity
from pydantic import BaseModel, TypeAdapter, ValidationError

from aiaas_hub.schemas.blobs import Blob
from aiaas_hub.schemas.datasets import Dataset
from aiaas_hub.schemas.errors import (
    AiaasError,
    ErrorBody,
    InternalError,
    Unavailable,
    from_body,
)
from aiaas_hub.schemas.jobs import (
    Job,
    JobEnvironment,
    JobEvent,
    JobEventFiles,
    JobLog,
    JobMetrics,
    JobUsage,
    Trial,
    TrialCreate,
)
from aiaas_hub.schemas.models import ModelHandOver, ModelVersion
from aiaas_hub.schemas.runs import ParamValue
from aiaas_hub.schemas.transforms import TransformResult
from aiaas_magics.errors import RunOver

Result = TypeVar("Result")
Answer = TypeVar("Answer", bound=BaseModel)

_EVENT: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)
_DATASETS: TypeAdapter[list[Dataset]] = TypeAdapter(list[Dataset])
_CHUNK = 1 << 20
_TIMEOUT = httpx.Timeout(60, connect=5)
# A large file is answered once it is stored.
_UPLOAD_TIMEOUT = httpx.Timeout(60, connect=5, read=600)
# Ray sets the workers' root logger to INFO, where each request would be a line of the run's log.
logging.getLogger("httpx").setLevel(logging.WARNING)

PATIENCE_SECONDS = 600.0
"""How long a call waits for a service that is down."""
FLUSH_SECONDS = 60.0
"""How long a checkpoint waits for what was told before it to arrive: longer than a restart of the
service, or the end of a whole platform, takes."""


class _NotNow(Exception):
    """The service is down or in trouble; asking again may help."""


class JobApi:
    """Calls of one run. Safe to use from several threads."""

    def __init__(
        self,
        base_url: str,
        run_id: str,
        token: Path | str,
        *,
        patience: float = PATIENCE_SECONDS,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`token` is the run token, or the file that holds it."""
        self._base_url = base_url
        self._job = f"/runs/{run_id}/job"
        self._patience = patience
        self._transport = transport
        secret = token.read_text().strip() if isinstance(token, Path) else token
        self._http = httpx.Client(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {secret}"},
            timeout=_TIMEOUT,
            # The address is direct: a proxy of the user's environment has no business here.
            trust_env=False,
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def job(self) -> Job:
        return self._parse(Job, self._call("GET", self._job))

    def snapshot(self) -> bytes:
        return self._call("GET", f"{self._job}/snapshot").content

    def download_dataset(self, index: int, target: Path) -> None:
        """Write dataset `index` of the job as Parquet to `target`."""

        def attempt() -> None:
            path = f"{self._job}/datasets/{index}/data"
            with self._http.stream("GET", path) as response:
                if response.is_error:
                    response.read()
                self._check(response)
                with target.open("wb") as file:
                    for chunk in response.iter_bytes(_CHUNK):
                        file.write(chunk)

        self._insist(attempt)

    def send_metrics(self, batch: JobMetrics) -> None:
        self._call("POST", f"{self._job}/metrics", json=batch.model_dump(mode="json"))

    def send_usage(self, usage: JobUsage) -> None:
        """Once: a sample that the service misses is followed by a newer one.

        Raises `Unavailable` while the service cannot be reached.
        """
        try:
            self._check(self._http.post(f"{self._job}/usage", json=usage.model_dump(mode="json")))
        except (httpx.TransportError, _NotNow) as error:
            raise Unavailable(
                f"The sample was not sent: {error or type(error).__name__}."
            ) from error

    def tell_environment(self, environment: JobEnvironment) -> None:
        body = environment.model_dump(mode="json")
        self._call("PUT", f"{self._job}/environment", json=body)

    def send_log(self, piece: JobLog) -> None:
        self._call("POST", f"{self._job}/log", json=piece.model_dump(mode="json"))

    def event(self, event: JobEvent) -> None:
        """Report a change of state; like all calls it raises `RunOver` when the run is over."""
        self._call("POST", f"{self._job}/events", json=_EVENT.dump_python(event, mode="json"))

    def begin_trial(self, number: int, params: dict[str, ParamValue]) -> Trial:
        """The run of a sweep's trial; a repeat of the number gives the same one."""
        body = TrialCreate(number=number, params=params).model_dump(mode="json")
        return self._parse(Trial, self._call("POST", f"{self._job}/trials", json=body))

    def of_trial(self, trial: Trial) -> JobApi:
        """The calls of a trial's own run."""
        return JobApi(
            self._base_url,
            trial.run_id,
            trial.token,
            patience=self._patience,
            transport=self._transport,
        )

    def upload(self, file: Path) -> Blob:
        def attempt() -> httpx.Response:
            response = self._http.post(
                "/blobs",
                content=_read(file),
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(file.stat().st_size),
                },
                timeout=_UPLOAD_TIMEOUT,
            )
            return self._check(response)

        return self._parse(Blob, self._insist(attempt))

    def hand_over(self, model: ModelHandOver) -> ModelVersion:
        body = model.model_dump(mode="json")
        return self._parse(ModelVersion, self._call("PUT", f"{self._job}/model", json=body))

    def keep_event_files(self, files: JobEventFiles) -> None:
        self._call("PUT", f"{self._job}/event-files", json=files.model_dump(mode="json"))

    def commit_datasets(self, result: TransformResult) -> list[Dataset]:
        """Make the versions that this transform is for; a repeat gives the same ones."""
        body = result.model_dump(mode="json")
        return _DATASETS.validate_json(
            self._call("PUT", f"{self._job}/datasets", json=body).content
        )

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._insist(lambda: self._check(self._http.request(method, path, **options)))

    def _insist(self, attempt: Callable[[], Result]) -> Result:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((httpx.TransportError, _NotNow)),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=3),
            stop=tenacity.stop_after_delay(self._patience),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except (httpx.TransportError, _NotNow) as error:
            raise Unavailable(
                f"The service cannot be reached from the run: {error or type(error).__name__}.",
                remedy="See that the platform is up, then submit the run again.",
            ) from error

    @staticmethod
    def _check(response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        if response.status_code >= 500 or response.status_code == 429:
            raise _NotNow(f"it answered {response.status_code}")
        if response.status_code in (409, 410):
            raise RunOver(_error(response).message)
        raise _error(response)

    @staticmethod
    def _parse(kind: type[Answer], response: httpx.Response) -> Answer:
        return kind.model_validate_json(response.content)


def _error(response: httpx.Response) -> AiaasError:
    try:
        return from_body(ErrorBody.model_validate_json(response.content))
    except ValidationError:
        return InternalError(
            f"The service answered {response.status_code} to {response.request.method} "
            f"{response.request.url.path}.",
        )


def _read(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk
