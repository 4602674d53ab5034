"""Log lines as text or JSON, one line an event; a request's line carries its id. Secrets never come here."""

from __future__ import annotations

import logging
import sys
import time

import msgspec

from server.config import Settings

server = logging.getLogger("gitstore.server")
access = logging.getLogger("gitstore.access")

_FIELDS = ("request_id", "method", "path", "status", "ms", "actor", "remote")


class Line(logging.Formatter):
    """One line a record; `extra` fields of requests are kept. `form` is `json` or `text`."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end. Control characters of what was logged cannot start a line of their own."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        extra = {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        trace = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
        if self._json:
            shown = {
                "time": when,
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
            shown |= extra | ({"trace": trace} if trace else {})
            return msgspec.json.encode({k: _safe(v) for k, v in shown.items()}).decode()
        text = " ".join((when, record.levelname.lower(), record.getMessage(), *(f"{k}={v}" for k, v in extra.items())))
        line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
        return f"{line}\n{trace}" if trace else line


def _safe(value: object) -> object:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def configure(settings: Settings) -> None:
    """Sends the log to standard error in the form and from the level of the settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line(settings.log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    access.setLevel("INFO" if settings.access_log else "WARNING")
