"""Every setting of the server, in one frozen object; the only file that reads the environment.

A setting is looked up in three places, the later one wins: the file `gitstore.toml`, the environment
(`GITSTORE_` and the setting's name in capitals), the command line. A name that is no setting is an error that
suggests the nearest one, because a mistyped limit that is silently ignored is a limit that does not exist.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

PREFIX = "GITSTORE_"
CONFIG_VARIABLE = "GITSTORE_CONFIG"
FILE_NAME = "gitstore.toml"
MIB = 1024 * 1024
_DATA = Path("data")
_UNQUOTABLE = re.compile(r'["\\\x00-\x1f\x7f]|\$\{')  # what ssh_config(5) has no way to write


class SettingsError(ValueError):
    """A setting is unknown or has a value it cannot have; the text says where it stands and what would do."""


def _setting(default: Any, doc: str, *, secret: bool = False, low: float | None = None) -> Any:
    return field(default=default, metadata={"doc": doc, "secret": secret, "low": low})


@dataclass(frozen=True, repr=False)
class Settings:
    """What the server was told. Sizes are bytes, times are seconds unless the name says otherwise."""

    data: Path = _setting(_DATA, "the folder that holds everything")  # noqa: RUF009  (makes a field, no value)
    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8080, "port to listen on; 0 picks a free one", low=0)
    admin_key: str | None = _setting(None, "a bootstrap key, accepted as it is with scope admin", secret=True)
    secret_key: str | None = _setting(None, "the key that seals stored tokens; else one is made", secret=True)
    public_url: str | None = _setting(None, "how clients reach this server, for links; no trailing slash")
    cors_origins: tuple[str, ...] = _setting((), "browser origins that may call the API; `*` for any")
    rate_limit_per_minute: int = _setting(0, "requests a key may make in a minute; 0 is no limit", low=0)
    max_body_bytes: int = _setting(2 * MIB, "largest JSON body", low=1024)
    max_file_bytes: int = _setting(10 * MIB, "largest file or artifact", low=1)
    max_batch_files: int = _setting(10, "most files in one batch", low=1)
    max_push_bytes: int = _setting(512 * MIB, "largest push, as git packs it", low=1024)
    git_binary: str | None = _setting("git", "the git program that serves fetches and pushes; empty: do without")
    git_push_scope: Literal["agent", "worker", "admin", "service"] = _setting("admin", "weakest scope that may push")
    git_concurrency: int = _setting(16, "fetches and pushes served at a time; more wait", low=1)
    git_timeout: float = _setting(120.0, "seconds a fetch or push may stand still", low=1)
    metrics_open: bool = _setting(False, "serve /metrics without a key")
    secret_policy: Literal["refuse", "allow"] = _setting("refuse", "what to do with text that is a credential")
    verify_allow_private: bool = _setting(False, "let private and loopback git hosts be reached")
    verify_allow: tuple[str, ...] = _setting((), "git hosts and networks that may be reached all the same")
    verify_timeout: float = _setting(15.0, "seconds a verify-git-access check may take", low=0.1)
    checkout_mode: Literal["auto", "manual"] = _setting("auto", "whether edits in the folders become commits alone")
    checkout_settle: float = _setting(1.0, "seconds without a change before an edit is taken in", low=0.05)
    checkout_sweep: float = _setting(60.0, "seconds between two looks at every folder", low=1)
    checkout_watch: bool = _setting(True, "watch the folders; without it only the periodic look finds edits")
    search_timeout: float = _setting(2.0, "seconds one search may take; one that needs longer is given up", low=0.05)
    sync_timeout: float = _setting(120.0, "seconds one exchange with a followed remote may take", low=1)
    ssh_known_hosts: str | None = _setting(None, "the file with the keys of the ssh hosts that may be reached")
    ssh_identity: str | None = _setting(None, "the private key file that is offered to ssh hosts")
    trash_days: int = _setting(30, "days a deleted workspace can be restored", low=0)
    reclaim_days: float = _setting(14.0, "days that what nobody needs any more stays on the disk", low=0)
    maintenance: bool = _setting(True, "pack loose objects and reclaim space in the background")
    token_hours: float = _setting(24.0, "life of a token, and at most of a session at the pages", low=0.01)
    log_format: Literal["text", "json"] = _setting("text", "form of log lines")
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "least severe line that is logged")
    access_log: bool = _setting(False, "log one line a request")
    shutdown_grace: float = _setting(2.0, "seconds a stop waits for requests in flight", low=0)
    threads: int = _setting(8, "threads for work that would hold up the event loop", low=1)
    keep_alive: float = _setting(75.0, "seconds an idle connection is kept", low=1)
    body_timeout: float = _setting(60.0, "seconds a body may stand still", low=1)

    @property
    def upload_bytes(self) -> int:
        """Largest body of one upload: the file as base64 with a line break each 76 characters, and its fields."""
        return self.max_file_bytes * 4 // 3 * 108 // 100 + self.max_body_bytes

    @property
    def batch_bytes(self) -> int:
        """Largest body of a batch: as many uploads as a batch may have."""
        return self.upload_bytes * self.max_batch_files

    def render(self) -> str:
        """The settings as a `gitstore.toml` that gives the same ones, each with its meaning; secrets masked."""
        lines = []
        for each in fields(self):
            value = getattr(self, each.name)
            lines.append(f"# {each.metadata['doc']}  [{variable(each.name)}]")
            if value is None:
                lines.append(f"# {each.name} =")
            elif each.metadata["secret"]:
                lines.append(f'# {each.name} = "***"')
            else:
                lines.append(f"{each.name} = {_toml(value)}")
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        shown = {
            f.name: "***" if f.metadata["secret"] and getattr(self, f.name) else getattr(self, f.name)
            for f in fields(self)
        }
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def variable(name: str) -> str:
    """The environment variable of a setting: `public_url` → `GITSTORE_PUBLIC_URL`."""
    return PREFIX + name.upper()


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """The settings in force: file < environment < flags.

    `flags` holds only what was given on the command line (`None` values are left out). `file` is a file that must
    exist; without it `GITSTORE_CONFIG` names one, else `gitstore.toml` of the working directory is read if it is
    there. Raises SettingsError for an unknown name, a value of the wrong kind, or a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    known = typing.get_type_hints(Settings)
    values: dict[str, Any] = {}

    named = file or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    path = named or Path(FILE_NAME)
    if named is not None or path.exists():
        for name, value in _read(path).items():
            if name not in known:
                raise SettingsError(f"{path}: unknown setting `{name}`{_suggest(name, known)}")
            values[name] = _value(name, value, known[name], f"{path}: {name}")

    for key, text in environ.items():
        if not key.startswith(PREFIX) or key == CONFIG_VARIABLE:
            continue
        name = key.removeprefix(PREFIX).lower()
        if name not in known or key != variable(name):
            raise SettingsError(f"unknown variable {key}{_suggest(name, known, variable)}")
        values[name] = _value(name, _typed(text, known[name], key), known[name], key)

    for name, value in (flags or {}).items():
        if value is None:
            continue
        if name not in known:
            raise SettingsError(f"unknown setting `{name}`{_suggest(name, known)}")
        values[name] = _value(name, value, known[name], f"--{name.replace('_', '-')}")
    return Settings(**values)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error


def _suggest(name: str, known: typing.Iterable[str], spelled: Callable[[str], str] = str) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{spelled(near[0])}`?" if near else "; `--print-config` lists the settings"


def _plain(kind: Any) -> Any:
    """The type without its `| None`."""
    if get_origin(kind) is types.UnionType:
        return next(each for each in get_args(kind) if each is not types.NoneType)
    return kind


def _typed(text: str, kind: Any, where: str) -> Any:
    """Text of the environment as the value that the same setting would have in the file."""
    kind = _plain(kind)
    if kind is bool:
        words = {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }
        if text.lower() not in words:
            raise SettingsError(f"{where}: expected true or false, got {text!r}")
        return words[text.lower()]
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise SettingsError(f"{where}: expected a number, got {text!r}") from None
    if get_origin(kind) is tuple:
        return [each.strip() for each in text.split(",") if each.strip()]
    return text


def _value(name: str, value: Any, kind: Any, where: str) -> Any:
    """`value`, checked and brought into the setting's type; raises SettingsError."""
    if value == "" and kind != _plain(kind):
        return None
    kind = _plain(kind)
    if kind is Path:
        if not isinstance(value, str | Path) or not str(value):
            raise SettingsError(f"{where}: expected a path")
        return Path(value)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise SettingsError(f"{where}: expected a list of texts")
        value = tuple(value)
    elif get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise SettingsError(f"{where}: expected one of {', '.join(get_args(kind))}, got {value!r}")
    elif kind is bool or isinstance(value, bool):
        if kind is not bool or not isinstance(value, bool):
            raise SettingsError(f"{where}: expected {_word(kind)}, got {value!r}")
    elif kind is float:
        if not isinstance(value, int | float):
            raise SettingsError(f"{where}: expected a number, got {value!r}")
        value = float(value)
    elif not isinstance(value, kind):
        raise SettingsError(f"{where}: expected {_word(kind)}, got {type(value).__name__}")  # it may be a secret
    return _ruled(name, value, where)


def _word(kind: Any) -> str:
    return {bool: "true or false", int: "a whole number", str: "a text"}.get(kind, "another kind of value")


def _ruled(name: str, value: Any, where: str) -> Any:
    low = Settings.__dataclass_fields__[name].metadata["low"]
    if low is not None and not value >= low:  # written so that NaN fails too
        raise SettingsError(f"{where}: must be at least {low}, got {value}")
    if name == "port" and value > 65535:
        raise SettingsError(f"{where}: must be at most 65535, got {value}")
    if name == "public_url":
        parts = urlsplit(value)
        if (
            parts.scheme not in ("http", "https")
            or not parts.netloc
            or parts.query
            or parts.fragment
            or "@" in parts.netloc
        ):
            raise SettingsError(f"{where}: expected an http(s) address without query or password, got {value!r}")
        return value.rstrip("/")
    if name == "cors_origins":
        for origin in value:
            parts = urlsplit(origin)
            if origin != "*" and (not parts.scheme or not parts.netloc or parts.path or parts.query or parts.fragment):
                raise SettingsError(f"{where}: expected an origin such as https://app.example.org, got {origin!r}")
    if name in ("ssh_known_hosts", "ssh_identity") and (not os.path.isabs(value) or _UNQUOTABLE.search(value)):
        raise SettingsError(f"{where}: expected an absolute path without quotes, backslashes and `${{`")
    if name in ("admin_key", "secret_key") and (not value.isascii() or not value.isprintable() or " " in value):
        raise SettingsError(f"{where}: expected printable ASCII without spaces")
    return value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    escaped = "".join(
        {'"': '\\"', "\\": "\\\\"}.get(char, char if char.isprintable() else f"\\U{ord(char):08x}")
        for char in str(value)
    )
    return f'"{escaped}"'
