"""What the deploy panel knows and can do, with no page before it."""

from __future__ import annotations

from aiaas_magics import display
from aiaas_magics.client import Client
from aiaas_magics.panels.background import Background
from aiaas_magics.panels.operation import Operation
from aiaas_magics.panels.publication import Publication


class Deployment:
    """Publishing above, operating below; what was published is then looked at."""

    def __init__(self, client: Client, beside: Background) -> None:
        self.publication = Publication(client, beside)
        self.operation = Operation(client, beside)
        self.publication.observe(self._published, "published")
        self.operation.observe(self._changed, "changes")

    @property
    def beside(self) -> Background:
        return self.operation.beside

    @beside.setter
    def beside(self, beside: Background) -> None:
        self.publication.beside = self.operation.beside = beside

    def refresh(self) -> None:
        self.publication.refresh()
        self.operation.refresh()

    def _published(self, _: object) -> None:
        if self.publication.published:
            self.operation.look_at(self.publication.published)

    def _changed(self, _: object) -> None:
        # What was said above of the traffic is not so any more.
        self.publication.progress = ""
        self.publication.replan()

    def html(self) -> str:
        """What it shows where there is no widget."""
        return f"{self.publication.plan}{self.operation.card}" or (
            f"<div>{display.escape(self.text())}</div>"
        )

    def text(self) -> str:
        publication, operation = self.publication, self.operation
        models = [text for text, _ in publication.models]
        endpoints = [text for text, _ in operation.endpoints]
        trouble = publication.error or operation.error
        return "\n".join(
            [
                "Deploy (the panel itself needs a notebook page)",
                *([trouble] if trouble else []),
                f"models: {', '.join(models[:20]) or publication.empty or 'none known'}",
                f"endpoints: {', '.join(endpoints[:20]) or operation.empty or 'none known'}",
                "Publish with '%aiaas publish NAME --model MODEL', then '%aiaas endpoint NAME'.",
            ]
        )
