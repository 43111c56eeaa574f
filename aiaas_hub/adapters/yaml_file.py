"""A validated YAML file that is read anew when it changed."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from aiaas_hub.schemas.errors import InvalidInput

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path, model: type[Model], what: str) -> Model:
    """Read and check a file; `InvalidInput` says what is wrong and where."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(
            f"The {what} file {path} cannot be read: {error.strerror}.",
            remedy="Restore it, or name another one.",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"The {what} file {path} is not YAML: {error}.", remedy="Correct the file."
        ) from error
    try:
        return model.model_validate({} if data is None else data)
    except ValidationError as error:
        raise InvalidInput(
            f"The {what} file {path} is not valid: {_explain(error)}.",
            remedy="Correct the file; docs/operate.md explains the fields.",
        ) from error


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in error.errors()
    )


class YamlFile(Generic[Model]):
    """`read` gives the file as it is now; one that is not there is as an empty one."""

    def __init__(self, path: Path, model: type[Model], what: str) -> None:
        self._path = path
        self._model = model
        self._what = what
        self._seen: tuple[int, int, int] | None = None
        self._content: Model | None = None

    def last(self) -> Model | None:
        """As it is, or while it is broken as it last was; None if it never was anything else."""
        try:
            return self.read()
        except InvalidInput:
            return self._content

    def read(self) -> Model:
        """Raises `InvalidInput` while the file is broken."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen = None
            return self._model()
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if self._content is None or seen != self._seen:
            self._content = read_yaml(self._path, self._model, self._what)
            self._seen = seen
        return self._content
