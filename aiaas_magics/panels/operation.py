"""The lower half of the deploy panel: what serves, its traffic, a test, and how others call it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice

from traitlets import Bool, Int, List, Unicode, observe

from aiaas_hub.schemas import endpoints as wire
from aiaas_hub.schemas.models import Signature
from aiaas_magics import canary, display
from aiaas_magics.canary import traffic_line
from aiaas_magics.client import Client
from aiaas_magics.endpoint import Endpoint
from aiaas_magics.panels import rows
from aiaas_magics.panels.attention import WHY, Asking, Attended
from aiaas_magics.panels.background import Background
from aiaas_magics.panels.pictures import Picture, Scale, picture_of, see

_LISTED = 200
BUSY_SECONDS = 3.0
"""Between two looks at an endpoint of which a version is on its way or is judged."""
EMPTY = "No endpoints yet: publish a model above, or with '%aiaas publish NAME --run ID'."


@dataclass(frozen=True)
class _Seen:
    """What was read of an endpoint."""

    record: wire.Endpoint
    history: list[wire.Change]


@dataclass(frozen=True)
class _Answer:
    html: str


class Operation(Asking, Attended):
    """One of my endpoints: shares of the traffic, promote, roll back, retire, try, call."""

    endpoints: List[tuple[str, str]] = List()
    """`(text, name)`, the newest first."""
    chosen = Unicode()
    changes = Int()
    """How often something was changed here."""
    card = Unicode()
    """The endpoint as safe HTML."""
    empty = Unicode()
    can_split = Bool()
    """Whether there are two versions to share the requests."""
    share = Int()
    """Percent of the requests for the newer one of them."""
    split = Unicode()
    """Which versions share them."""
    can_promote = Bool()
    can_roll_back = Bool()
    can_retire = Bool()
    takes = Unicode()
    """What a row, or the text, looks like."""
    takes_text = Bool()
    picture_takes = Unicode()
    """What is done to a picture before it is sent; empty where the model takes none."""
    by_picture = Bool()
    """Whether a picture is given, not rows."""
    scales: List[tuple[str, str]] = List()
    """`(text, scale)`: what the numbers of a picture may be, the likeliest first."""
    scale = Unicode()
    """The one that is chosen, at first the likeliest; empty where the model takes no picture."""
    sample = Unicode()
    """A row to begin with."""
    versions: List[tuple[str, int]] = List()
    """`(text, version)` to ask: 0 is whichever the traffic leads to."""
    answer = Unicode()
    """Of the test, as safe HTML."""
    asking_model = Bool()
    language = Unicode("python")
    snippet = Unicode()
    """A program that calls it."""

    def __init__(self, client: Client, beside: Background) -> None:
        super().__init__(beside)
        self._client = client
        self._record: wire.Endpoint | None = None
        self._endpoint: Endpoint | None = None
        self._picture: Picture | None = None

    # What a user does

    def refresh(self) -> None:
        """Read which endpoints there are, and the one that is looked at."""
        self.beside.run(
            "endpoints",
            lambda: list(islice(self._client.endpoints.list(), _LISTED)),
            self._listed,
            self.failed,
        )

    def choose(self, name: str) -> None:
        """Look at this endpoint."""
        if not name or name == self.chosen:
            return
        self.decline()
        self.chosen = name
        self.answer = ""
        self._record = self._endpoint = None
        self._read()

    def look_at(self, name: str) -> None:
        """The same for one that was just published to: it may be new, or what it was before."""
        self.chosen, self._record, self._endpoint = "", None, None
        self.choose(name)
        self.refresh()

    def set_share(self, percent: int) -> None:
        """Ask back, then let the newer version have so many percent of the requests."""
        pair = self._pair
        record = self._record
        if pair is None or record is None:
            return
        old, new = pair
        wanted = {
            version: share for version, share in ((old, 100 - percent), (new, percent)) if share
        }
        self._change(
            f"Traffic of {record.name}: from {traffic_line(record.traffic)} to "
            f"{traffic_line(wanted)}?",
            lambda at: at.set_traffic(
                record.owner, record.name, wire.TrafficRequest(traffic=wanted, why=WHY)
            ),
        )

    def promote(self) -> None:
        record = self._record
        if record is None or not self.can_promote:
            return
        newest = max(record.traffic)
        self._change(
            f"Give all requests of {record.name} to version {newest}? Now they go to "
            f"{traffic_line(record.traffic)}.",
            lambda at: at.promote(record.owner, record.name, WHY),
        )

    def roll_back(self) -> None:
        record = self._record
        if record is None or not self.can_roll_back:
            return
        self._change(
            f"Roll {record.name} back from {traffic_line(record.traffic)} to "
            f"{traffic_line(record.former)}?",
            lambda at: at.rollback(record.owner, record.name, WHY),
        )

    def retire(self) -> None:
        record = self._record
        if record is None or not self.can_retire:
            return
        self._change(
            f"Retire {record.owner}/{record.name}? Whoever calls it gets no answer any more. Its "
            "models stay.",
            lambda at: at.retire(record.owner, record.name, WHY),
        )

    def try_rows(self, text: str, version: int = 0) -> None:
        """Send what somebody typed, to an exact version or (0) as any caller's."""
        self._try(
            lambda endpoint: rows.ask(
                endpoint, partial(rows.parse_rows, text), version or None
            ).html()
        )

    def try_picture(self, content: bytes, invert: bool, version: int = 0) -> None:
        """Send a file's picture, its numbers by the scale that is chosen."""
        picture, scale = self._picture, self.scale
        if picture is None:
            return

        def ask(endpoint: Endpoint) -> str:
            seen = see(content, picture, Scale(scale), invert=invert)
            answer = rows.ask(endpoint, lambda _: {picture.name: seen.array}, version or None)
            return display.picture(seen.address, "What was sent") + answer.html()

        self._try(ask)

    def _try(self, make: Callable[[Endpoint], str]) -> None:
        endpoint = self._endpoint
        if endpoint is None:
            return

        def ask() -> _Answer:
            return _Answer(make(endpoint))

        def show(answer: _Answer) -> None:
            self.asking_model = False
            if endpoint is self._endpoint:
                self.answer = answer.html

        def refuse(sentence: str) -> None:
            self.asking_model = False
            self.answer = f'<div role="alert">⚠ {display.escape(sentence)}</div>'

        self.asking_model = True
        self.beside.run("test", ask, show, refuse)

    # What comes back

    def _change(self, question: str, call: Callable[..., wire.Endpoint]) -> None:
        def done(_: wire.Endpoint) -> None:
            self.changes += 1
            self.refresh()

        def begin() -> None:
            self.beside.run("change", lambda: call(self._client.endpoints), done, self.failed)

        self.ask(question, begin)

    def _listed(self, found: list[wire.Endpoint]) -> None:
        self.error = ""
        live = [e for e in found if e.state is not wire.EndpointState.RETIRED or e.traffic]
        self.empty = "" if live else EMPTY
        self.endpoints = [
            (display.clean(f"{e.name} · {e.state} · {traffic_line(e.traffic)}"), e.name)
            for e in live
        ]
        if self._record is not None or self.chosen:
            self._read()
        elif live:
            self.choose(live[0].name)

    def _read(self) -> None:
        name = self.chosen

        def ask() -> _Seen:
            owner, plain, _ = self._client.resolve(name)
            record = self._client.endpoints.get(owner, plain)
            changes = self._client.endpoints.history(owner, plain)
            return _Seen(record, list(islice(changes, canary.SHOWN_CHANGES)))

        def show(seen: _Seen) -> None:
            if name == self.chosen:
                self._show(seen)

        if name:
            self.beside.run("endpoint", ask, show, self.failed)

    def _show(self, seen: _Seen) -> None:
        self.error = ""
        record = seen.record
        before = self._record
        if self._endpoint is None:
            self._endpoint = Endpoint(self._client, record)
        self._endpoint._take(record)
        self._endpoint._recent = seen.history
        self._record = record
        self.card = self._endpoint._html()
        self._traffic(record, before)
        if before is None or before.signature != record.signature:
            self._test_of(record.signature)
        self.versions = [("as the traffic goes", 0)] + [
            (f"version {number}", number) for number in sorted(record.traffic, reverse=True)
        ]
        self._write_snippet()
        newest = record.versions[0] if record.versions else None
        if newest is not None and (newest.is_underway or newest.is_baking):
            self.again("endpoint", BUSY_SECONDS, self._read)

    def _traffic(self, record: wire.Endpoint, before: wire.Endpoint | None) -> None:
        newest = record.versions[0] if record.versions else None
        self.can_promote = len(record.traffic) > 1
        self.can_roll_back = bool(record.former)
        self.can_retire = record.state is not wire.EndpointState.RETIRED
        pair = self._pair
        self.can_split = pair is not None and (newest is None or not newest.is_underway)
        if pair is None:
            self.share = 0
            self.split = (
                "One version serves: publish another one as a canary to share the requests."
            )
            return
        old, new = pair
        self.split = f"percent for version {new}; the rest goes to version {old}"
        if before is None or before.traffic != record.traffic:
            self.share = record.traffic.get(new, 0)

    @property
    def _pair(self) -> tuple[int, int] | None:
        """The two versions that share the requests, or could: older, newer."""
        record = self._record
        if record is None or not record.traffic:
            return None
        known = sorted({*record.traffic, *record.former})
        return (known[-2], known[-1]) if len(known) > 1 else None

    def _test_of(self, signature: Signature | None) -> None:
        self.answer = ""
        self.takes = rows.takes(signature) if signature is not None else ""
        self.takes_text = signature is not None and rows.takes_text(signature)
        self.sample = rows.example_rows(signature) if signature is not None else ""
        picture = self._picture = picture_of(signature) if signature is not None else None
        self.scales = (
            [(said, str(scale)) for scale, said in picture.scales.items()] if picture else []
        )
        self.scale = self.scales[0][1] if self.scales else ""
        self.picture_takes = picture.takes if picture is not None else ""
        self.by_picture = picture is not None and picture.is_likely

    @observe("language")
    def _another_language(self, _: object) -> None:
        self._write_snippet()

    def _write_snippet(self) -> None:
        from aiaas_magics.snippets import snippet

        record = self._record
        if record is None or record.signature is None or not record.traffic:
            self.snippet = ""
            return
        self.snippet = snippet(self.language, record.url, record.name, record.signature)
