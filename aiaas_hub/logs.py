"""The service's log: a line of text, or of JSON, with the id of the request that it belongs to."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from aiaas_hub.api.errors import request_id

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s%(request)s"


class _WithRequest(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        identifier = request_id.get()
        record.__dict__ |= {
            "request_id": identifier,
            "request": f" [{identifier}]" if identifier else "",
        }
        return True


class JsonLines(logging.Formatter):
    """One JSON object a record: `time`, `level`, `logger`, `message`, `request_id`, `error`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", ""),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in line.items() if value})


def set_up_logging(form: str) -> None:
    """`text` or `json`, to standard error."""
    handler = logging.StreamHandler()
    handler.addFilter(_WithRequest())
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Their requests carry tokens in headers that debug levels would show.
    logging.getLogger("httpx").setLevel(logging.WARNING)
