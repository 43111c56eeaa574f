"""Runs in other people's trackers: MLflow by its URI, and TensorBoard's event files.

The service's own records stay the truth. An export says which run it is of, so that a second one
goes on where the first one ended and doubles nothing.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from aiaas_hub.schemas import runs as wire
from aiaas_hub.schemas.errors import AiaasError, InvalidInput, Unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from aiaas_magics.client import Client
    from aiaas_magics.run import Run

Item = TypeVar("Item")

URI = "AIAAS_MLFLOW_URI"
"""Environment variable of a notebook: every run that is watched to its end goes there."""
EXPERIMENT = "AIAAS_MLFLOW_EXPERIMENT"
_DEFAULT_EXPERIMENT = "aiaas"
_RUN = "aiaas.run_id"
_POINTS = "aiaas.exported_points"
_MODEL = "aiaas.model"
# What MLflow's servers take at once, and of a parameter: older ones take no more.
_BATCH = 1000
_PARAMS_BATCH = 100
_LONGEST = 500
_NOT_IN_NAMES = re.compile(r"[^\w\-. /:]")
_STATUS = {
    wire.RunState.SUCCEEDED: "FINISHED",
    wire.RunState.FAILED: "FAILED",
    wire.RunState.LOST: "FAILED",
    wire.RunState.CANCELLED: "KILLED",
}
_EVENTS = "events.out.tfevents.*.aiaas"


def to_mlflow(run: Run, uri: str | None = None, experiment: str | None = None) -> str:
    """Write the run to MLflow and return its id there; a sweep's trials are written below it.

    Raises `InvalidInput` without a URI or the package, `Unavailable` if MLflow does not take it.
    """
    uri = uri or os.environ.get(URI)
    if not uri:
        raise InvalidInput(
            "It is not said which MLflow to write to.",
            remedy=f"Give its address, run.to_mlflow('http://…'), or set {URI}.",
        )
    experiment = experiment or os.environ.get(EXPERIMENT) or _DEFAULT_EXPERIMENT
    with _speaking_to(uri):
        from mlflow import MlflowClient

        exporter = _Exporter(run._client, MlflowClient(tracking_uri=uri), experiment)
        record = run.refresh(always=True)
        written = exporter.write(record)
        if record.kind is wire.RunKind.SWEEP:
            for trial in run._client.runs.trials(run.id):
                exporter.write(trial, parent=written)
        return written


def export_if_wanted(run: Run) -> str | None:
    """What to tell about an export that the environment asks for; None if it asks for none.

    The run has come to its end whatever becomes of it, so nothing is raised.
    """
    uri = os.environ.get(URI)
    if not uri:
        return None
    try:
        return f"In MLflow ({_public(uri)}) it is run {to_mlflow(run, uri)}."
    except AiaasError as error:
        return f"It is not in MLflow: {error}"


class _Exporter:
    def __init__(self, client: Client, mlflow: MlflowClient, experiment: str) -> None:
        self._client = client
        self._mlflow = mlflow
        self._experiment = self._experiment_id(experiment)

    def write(self, record: wire.Run, parent: str | None = None) -> str:
        found = self._find(record) or self._create(record, parent)
        run_id: str = found.info.run_id
        self._params(run_id, record)
        self._metrics(run_id, record.id, int(found.data.tags.get(_POINTS, 0)))
        self._model(run_id, record, found.data.tags.get(_MODEL))
        self._tags(run_id, {"aiaas.state": str(record.state)})
        if record.state in _STATUS:
            end = record.finished_at
            self._mlflow.set_terminated(run_id, _STATUS[record.state], _milliseconds(end))
        return run_id

    def _experiment_id(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._mlflow.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._mlflow.create_experiment(name))
            except MlflowException:
                # Somebody else made it just now, or it is a true failure and shows again.
                found = self._mlflow.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _find(self, record: wire.Run) -> Any:
        same = f"tags.`{_RUN}` = '{record.id}'"
        found = self._mlflow.search_runs([self._experiment], same, max_results=1)
        return found[0] if found else None

    def _create(self, record: wire.Run, parent: str | None) -> Any:
        tags = {
            _RUN: record.id,
            "mlflow.user": record.owner,
            "mlflow.source.name": f"aiaas {record.name}",
            "aiaas.code": record.snapshot.digest,
            "aiaas.datasets": ", ".join(map(str, record.datasets)),
            "aiaas.workers": str(record.resources.workers),
            "aiaas.kind": str(record.kind),
        }
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        if record.resumed_from is not None:
            tags["aiaas.resumed_from"] = record.resumed_from
        name = record.name if record.trial is None else f"{record.name} trial {record.trial}"
        start = _milliseconds(record.started_at or record.created_at)
        return self._mlflow.create_run(self._experiment, start, tags, name)

    def _params(self, run_id: str, record: wire.Run) -> None:
        from mlflow.entities import Param

        # They never change, and a repeat of the same value is taken.
        params = [Param(_name(k), str(v)[:_LONGEST]) for k, v in record.params.items()]
        for batch in _batches(params, _PARAMS_BATCH):
            self._mlflow.log_batch(run_id, params=batch)

    def _metrics(self, run_id: str, run: str, since: int) -> None:
        from mlflow.entities import Metric

        while True:
            page = self._client.runs.metrics(run, since=since)
            metrics = [
                Metric(_name(name), value, int(point.time * 1000), point.step)
                for point in page.points
                for name, value in point.values.items()
            ]
            for batch in _batches(metrics, _BATCH):
                self._mlflow.log_batch(run_id, metrics=batch)
            if not page.points or page.next_since <= since:
                return
            since = page.next_since
            self._tags(run_id, {_POINTS: str(since)})

    def _model(self, run_id: str, record: wire.Run, written: str | None) -> None:
        model = record.model
        if model is None or str(model) == written:
            return
        with tempfile.TemporaryDirectory(prefix="aiaas-mlflow-") as directory:
            file = Path(directory) / "model.onnx"
            self._client.models.download(model.owner, model.name, model.version, file)
            self._mlflow.log_artifact(run_id, str(file), "model")
        self._tags(run_id, {_MODEL: str(model)})

    def _tags(self, run_id: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._mlflow.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def to_tensorboard(run: Run, directory: str | Path) -> Path:
    """Write the run's metrics as an event file to `directory/RUN` and return that. What its
    workers wrote to `ctx.tensorboard_dir` lies below it, and so do a sweep's trials. A second
    export takes the place of the first.

    Raises `InvalidInput` without the package `tensorboardX`.
    """
    record = run.refresh(always=True)
    target = Path(directory).expanduser() / record.id
    _write_events(run._client, record, target)
    if record.kind is wire.RunKind.SWEEP:
        for trial in run._client.runs.trials(run.id):
            _write_events(run._client, trial, target / f"trial-{trial.trial}")
    return target


def _write_events(client: Client, record: wire.Run, target: Path) -> None:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise _missing("tensorboardX") from None
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".aiaas-", dir=target) as aside:
        # The suffix tells this file from those that somebody else writes there.
        with SummaryWriter(aside, filename_suffix=".aiaas") as writer:
            since = 0
            while True:
                page = client.runs.metrics(record.id, since=since)
                for point in page.points:
                    for name, value in point.values.items():
                        writer.add_scalar(name, value, point.step, point.time)
                if not page.points or page.next_since <= since:
                    break
                since = page.next_since
        former = set(target.glob(_EVENTS))
        for file in Path(aside).glob(_EVENTS):
            former.discard(file.rename(target / file.name))
        for file in former:
            file.unlink()
    for files in record.event_files:
        _bring(client, record, files, target / f"worker-{files.worker}")


def _bring(client: Client, record: wire.Run, files: wire.EventFiles, target: Path) -> None:
    """What a worker wrote by itself; the files of several attempts have names of their own."""
    with tempfile.TemporaryDirectory(prefix=".aiaas-", dir=target.parent) as aside:
        archive = Path(aside) / "files.zip"
        client.runs.download_event_files(record.id, files, archive)
        with zipfile.ZipFile(archive) as content:
            content.extractall(target)


@contextmanager
def _speaking_to(uri: str) -> Iterator[None]:
    """MLflow's errors in a sentence, and soon: by itself it tries for minutes."""
    try:
        import mlflow
    except ImportError:
        raise _missing("mlflow-skinny") from None
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    added = {name: value for name, value in patience.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with warnings.catch_warnings():
            # Of the libraries below it; nothing that a user could do about them.
            warnings.simplefilter("ignore")
            yield
    except mlflow.exceptions.MlflowException as error:
        said = _beginning(_without_secret(str(error), uri))
        file_store = "MLFLOW_ALLOW_FILE_STORE" in str(error)
        raise Unavailable(
            f"MLflow at {_public(uri)} did not take the run: {said}",
            remedy="Use a database: sqlite:///mlflow.db."
            if file_store
            else "See that the address is right and that MLflow runs there, then try again.",
        ) from None  # its text may hold the address with a password
    finally:
        for name in added:
            os.environ.pop(name, None)


def _missing(package: str) -> InvalidInput:
    return InvalidInput(
        f"The package {package} is not installed here.",
        remedy="Run '%pip install \"aiaas-hub[tracking]\"', then try again.",
    )


def _public(uri: str) -> str:
    """Without a password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _batches(items: list[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _without_secret(text: str, uri: str) -> str:
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    return text.replace(f"{user}{at}", "") if at else text


def _beginning(text: str, most: int = 300) -> str:
    """The sentences of the first line that fit."""
    line = next(iter(text.strip().splitlines()), "It does not say why.")
    if len(line) <= most:
        return line
    whole = line[: most + 1]
    end = max(whole.rfind(". "), whole.rfind("! "), whole.rfind("? "))
    return line[: end + 1] if end > 0 else f"{line[: most - 2].rpartition(' ')[0]} …"


def _name(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name)[:250]


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
