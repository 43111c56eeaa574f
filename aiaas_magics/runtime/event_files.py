"""What the code of a worker writes for TensorBoard, kept with the run."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path

from aiaas_hub.schemas.errors import AiaasError
from aiaas_hub.schemas.jobs import JobEventFiles
from aiaas_magics.errors import RunOver
from aiaas_magics.runtime.surroundings import RunService

MAX_BYTES = 100 * 2**20


class EventFiles:
    """A directory of one worker's, sent when its code has ended, however it did."""

    def __init__(self, api: RunService, worker: int) -> None:
        self._api = api
        self._worker = worker
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        """Made when it is first asked for."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="aiaas-tensorboard-"))
        return self._directory

    def keep(self) -> None:
        """Send what was written and delete it. What cannot be sent is said in the run's log: it
        is no reason for the run to fail."""
        if self._directory is None:
            return
        directory, self._directory = self._directory, None
        try:
            self._send(directory)
        except RunOver:
            # Nobody asks for what a run that is over has written.
            return
        except (AiaasError, OSError) as error:
            message = error.message if isinstance(error, AiaasError) else str(error)
            self._say(f"are not kept: {message}")
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _send(self, directory: Path) -> None:
        found = [path for path in sorted(directory.rglob("*")) if path.is_file()]
        size = sum(path.stat().st_size for path in found)
        if size > MAX_BYTES:
            self._say(f"are not kept: they take {size >> 20} MiB, and at most 100 MiB are.")
            return
        if not found:
            return
        with tempfile.TemporaryDirectory(prefix="aiaas-tensorboard-") as aside:
            file = Path(aside) / "files.zip"
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in found:
                    archive.write(path, path.relative_to(directory))
            digest = self._api.upload(file).digest
        self._api.keep_event_files(JobEventFiles(worker=self._worker, digest=digest))

    def _say(self, what: str) -> None:
        # The run's log.
        print(f"[aiaas] worker {self._worker}'s files for TensorBoard {what}", flush=True)  # noqa: T201
