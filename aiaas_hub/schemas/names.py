"""Names of objects, and the references users write for them."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from aiaas_hub.schemas.errors import InvalidInput

MAX_NAME_LENGTH = 64
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")


def check_name(name: str) -> str:
    """Return `name` if it may name an object, else raise `InvalidInput`.

    Names become parts of URLs, file names and Triton model names, hence the narrow alphabet.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidInput(
            f"A name has at most {MAX_NAME_LENGTH} characters; this one has {len(name)}.",
            remedy="Choose a shorter name.",
        )
    if not _NAME.fullmatch(name) or ".." in name:
        raise InvalidInput(
            f"{name!r} is not a valid name.",
            remedy="Use letters, digits, '-', '_' and single '.', starting and ending with a "
            "letter or digit.",
        )
    return name


def _pydantic_name(name: str) -> str:
    try:
        return check_name(name)
    except InvalidInput as error:
        # pydantic collects ValueErrors; other exceptions would leave its validation half done.
        raise ValueError(f"{error.message} {error.remedy}") from error


Name = Annotated[str, AfterValidator(_pydantic_name)]


class Reference(NamedTuple):
    """`name`, `owner/name`, `name@3` or `owner/name@3`, taken apart."""

    owner: str | None
    name: str
    version: int | None

    def __str__(self) -> str:
        owner = f"{self.owner}/" if self.owner else ""
        version = f"@{self.version}" if self.version else ""
        return f"{owner}{self.name}{version}"


def parse_reference(text: str) -> Reference:
    """Take `[owner/]name[@version]` apart; raise `InvalidInput` if it is not one."""
    path, at, version_text = text.strip().partition("@")
    owner, slash, name = path.rpartition("/")
    # The owner is a hub user name, which the hub has validated: it may hold what names may not.
    if (slash and not owner) or "/" in owner or "\n" in owner:
        raise InvalidInput(f"{text!r} is not NAME or OWNER/NAME.", remedy="Write owner/name.")
    version = None
    if at:
        if not re.fullmatch(r"v?[1-9][0-9]{0,8}", version_text):
            raise InvalidInput(
                f"{version_text!r} is not a version.",
                remedy=f"Versions are numbers: write {name}@1.",
            )
        version = int(version_text.removeprefix("v"))
    return Reference(owner or None, check_name(name), version)


ALIAS = re.compile(r"(?!v?[0-9])[a-z][a-z0-9_-]{0,31}")
"""What a version of a model may be called besides its number."""


def check_alias(text: str) -> str:
    """Raise `InvalidInput` unless `text` can be an alias."""
    if not ALIAS.fullmatch(text):
        raise InvalidInput(
            f"{text!r} cannot be an alias.",
            remedy="Aliases are small letters, digits, '-' and '_', as in champion.",
        )
    return text


def parse_model(text: str) -> tuple[Reference, str | None]:
    """`[owner/]name[@version]`, or with an alias for the version, which is given beside it."""
    path, _, version = text.strip().partition("@")
    if version and ALIAS.fullmatch(version):
        return parse_reference(path), version
    return parse_reference(text), None
