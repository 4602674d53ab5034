"""Every rule for names: slugs, keys, ids, and the paths at which the two branches keep things.

Text becomes a file name by percent-encoding what is not safe in one, and is read back by percent-decoding, always. `~`
is never in an encoded name, so `~<hash>.yaml` is free for keys too long for a file name (the key is then inside).
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Container, Iterator, Mapping
from functools import lru_cache
from hashlib import sha1, sha256
from typing import Final

from gitstore import chance, values
from gitstore.errors import Invalid
from gitstore.paths import RESERVED, check_component

META_SUFFIX: Final = ".meta.yaml"
ARTIFACT_DOCUMENT: Final = "artifact.yaml"
NAME_MAX: Final = 255  # bytes of a file name (POSIX NAME_MAX on every common file system)
FILE_KEY_MAX: Final = 120

_SLUG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_DIGITS = re.compile(r"[0-9A-Fa-f]{4,40}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_UNSAYABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_RUNS = re.compile(r"[^a-z0-9]+")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")
_PARTS: Final = {"workspace.yaml": "workspace", "settings.yaml": "settings"}
_SPEC: Final = frozenset({"resources", "documents", "tools", "config", "instructions"})


# --- slugs and ids --------------------------------------------------------------------------------------------------


def check_slug(slug: str) -> None:
    """Raises Invalid unless this can be a workspace's slug, which is also its folder's name."""
    if not _SLUG.fullmatch(slug):
        why = "use 1 to 100 letters, digits, `.`, `_` and `-`, beginning and ending with a letter or digit"
    elif slug.lower().endswith((".git", ".lock")):
        why = "it must not end in `.git` or `.lock`"
    elif is_uuid(slug) or _uuid_like(slug):
        why = "it reads as an id"
    elif RESERVED.fullmatch(slug.split(".", 1)[0]):
        why = "some systems reserve this name for a device"
    else:
        return
    raise Invalid(f"`{one_line(slug, 60)}` cannot be a slug: {why}")


def check_snapshot(name: str) -> None:
    """Raises Invalid unless this can be a snapshot's name: a plain ref name that `at` cannot take for anything else."""
    if not _SLUG.fullmatch(name) or ".." in name:
        why = (
            "use 1 to 100 letters, digits, `.`, `_` and `-`, beginning and ending with a letter or digit, without `..`"
        )
    elif name.lower().endswith(".lock"):
        why = "it must not end in `.lock`, as git's locks do"
    elif fold(name) in ("head", "main", "evidence", "now"):
        why = "it means something else already"
    elif _DIGITS.fullmatch(name):
        why = "it would be taken for a commit; put a letter beyond `f`, or one of `.`, `_` and `-`, into it"
    elif _is_time(name):
        why = "it would be taken for a time; put a word before it"
    else:
        return
    raise Invalid(f"`{one_line(name, 60)}` cannot be the name of a snapshot: {why}")


def _is_time(text: str) -> bool:
    try:
        values.parse_iso(text)
    except (Invalid, OverflowError):
        return False
    return True


def _uuid_like(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in its usual form, in any case."""
    return _UUID.fullmatch(text) is not None


def new_id() -> str:
    """A new random id (UUIDv4)."""
    return str(uuid.UUID(bytes=chance.draw(), version=4))


def derive_id(workspace: str, key: str) -> str:
    """The id of what has no id of its own: UUIDv5 of the workspace's id and a key. The same for ever."""
    # Spelled out (RFC 9562 §5.5), because the standard library takes no name with foreign bytes in it.
    data = sha1(uuid.UUID(workspace).bytes + key.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=data[:16], version=5))


def fold(text: str) -> str:
    """What two names must not share: NFC, case folded. File systems may tell neither apart."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


# --- text to file name and back -------------------------------------------------------------------------------------


def _encode(text: str, also: Container[int] = ()) -> str:
    """A file name for any text: what is safe stays, every other byte is `%XX`, and so are the characters at `also`.

    Safe are ASCII letters, digits, `.`, `_` and `-`, but neither `.` nor `-` at the beginning, nor `.` at the end, nor
    a name that Windows reserves for a device.
    """
    reserved = RESERVED.fullmatch(text.split(".", 1)[0])
    if not also and not reserved and _PLAIN.fullmatch(text) and not text.endswith("."):
        return text
    out = [c if c in _SAFE and at not in also else _escape(c) for at, c in enumerate(text)]
    if out and (out[0] in (".", "-") or reserved):
        out[0] = _escape(text[0])
    if out and out[-1] == ".":
        out[-1] = _escape(".")
    return "".join(out)


def _variants(text: str) -> Iterator[str]:
    """File names for a text, the plainest first, for when one is taken by a text that differs only in case.

    One letter is escaped, then more and more of them: with all of them escaped, no other text folds to the same name.
    """
    yield _encode(text)
    letters = [at for at, character in enumerate(text) if character.isascii() and character.isalpha()]
    for at in sorted(letters, key=lambda at: text[at].islower()):
        yield _encode(text, (at,))
    for count in range(2, len(letters) + 1):
        yield _encode(text, frozenset(letters[:count]))


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _decode(name: str) -> str:
    """The text a file name stands for; bytes that are no UTF-8 are shown as such."""
    data = _PERCENT.sub(lambda match: bytes([int(match[1], 16)]), name.encode("utf-8", "surrogateescape"))
    return data.decode("utf-8", "replace")


def _legible(stored: str) -> str:
    """The file name that a stored name stands for; a person's `a%2Fb` or `%0A` stands for no other name than itself."""
    name = _decode(stored)
    if name.strip(". ") and "/" not in name and not _UNSAYABLE.search(name):
        return name
    return stored.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _hashed(text: str) -> str:
    return "~" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def memory_file(key: str, taken: Container[str] = ()) -> str:
    """The name of a key's file in `memory/`. `taken`: folded names of other keys' files, which it must differ from."""
    for stem in _variants(key):
        name = stem + ".yaml"
        if len(name) > NAME_MAX:
            break
        if fold(name) not in taken:
            return name
    return _hashed(key) + ".yaml"


def is_long_memory(name: str) -> bool:
    """Whether a file of `memory/` holds `{key, value}` because its key is too long for a name."""
    return name.startswith("~") and name.endswith(".yaml")


def memory_key(name: str) -> str | None:
    """The key of a file in `memory/`; None for one that is no YAML file, or has its key inside."""
    if not name.endswith(".yaml") or name.startswith("~") or name == ".yaml":
        return None
    return _decode(name[:-5])


# --- evidence -------------------------------------------------------------------------------------------------------


def _shard(identity: str) -> tuple[str, str]:
    digest = sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    return digest[:2], digest[2:4]


def _document(folder: str, identity: str) -> str:
    name = _encode(identity) + ".yaml"
    if len(name) > NAME_MAX:
        name = _hashed(identity) + ".yaml"
    return f"{folder}/{_shard(identity)[0]}/{name}"


def workflow_path(identity: str) -> str:
    """Where the evidence branch keeps a workflow."""
    return _document("workflows", identity)


def task_path(identity: str) -> str:
    """Where the evidence branch keeps a task."""
    return _document("tasks", identity)


def artifact_folder(identity: str) -> str:
    """The folder of an artifact."""
    first, second = _shard(identity)
    return f"artifacts/{first}/{second}/{_encode(identity)}"


def id_of_evidence(path: str) -> str | None:
    """The id that the path of a workflow or task tells; None where the document itself must (`~<hash>.yaml`)."""
    name = path.rsplit("/", 1)[-1]
    return None if name.startswith("~") or not name.endswith(".yaml") else _decode(name[:-5])


def artifact_file(name: str) -> str:
    """The name under which an artifact's content is stored beside `artifact.yaml`."""
    stored = _visible(name)
    if fold(stored) == ARTIFACT_DOCUMENT:
        stored = _escape(stored[0]) + stored[1:]
    return _fit(stored, name)


def artifact_name(stored: str) -> str:
    """The file name an artifact's stored content stands for."""
    return _legible(stored)


def artifact_path(path: str) -> str:
    """An artifact's logical path, normalised: relative, `/`-separated, 1 to 1024 characters. Raises Invalid."""
    if not 1 <= len(path) <= 1024:
        raise Invalid("an artifact's path has 1 to 1024 characters")
    if path.startswith("/") or "\\" in path or re.match(r"[A-Za-z]:", path):
        raise Invalid(f"`{one_line(path, 80)}` must be a relative path with `/` between its parts")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for part in parts:
        check_component(part, longest=4096)  # only the last one becomes a file name, and a long one is hashed
    if not parts or path.endswith("/"):
        raise Invalid(f"`{one_line(path, 80)}` names no file")
    return "/".join(parts)


# --- files ----------------------------------------------------------------------------------------------------------


def check_file_name(name: str) -> str:
    """An uploaded file's name, reduced to its last `/` segment. Raises Invalid for what cannot be one."""
    last = name.rsplit("/", 1)[-1]
    if not 1 <= len(last) <= 255:
        raise Invalid("a file name has 1 to 255 characters")
    check_component(last, longest=1020)
    return last


def _visible(name: str) -> str:
    """A file name that people can read in a folder: only what is dangerous in one is encoded, and it is NFC."""
    out = []
    for character in name if name.isascii() else unicodedata.normalize("NFC", name):
        plain = character.isprintable() and character not in '%~/\\:*?"<>|'
        out.append(character if plain and character != "\ufeff" else _escape(character))
    if out and out[0] in (".", "-", " "):
        out[0] = _escape(out[0])
    if out and out[-1] in (".", " "):
        out[-1] = _escape(out[-1])
    if RESERVED.fullmatch(name.split(".", 1)[0].rstrip()) and len(out[0]) == 1:
        out[0] = _escape(out[0])
    stored = "".join(out)
    if not unicodedata.is_normalized("NFC", stored):
        # A combining mark would join the last digit of an escape before it.
        stored = "".join(character if character.isascii() else _escape(character) for character in stored)
    return stored


def _fit(stored: str, name: str, longest: int = NAME_MAX) -> str:
    """The stored name or, if a file system would not take it, a hash with the suffix that tells its type."""
    if len(stored.encode()) <= longest:
        return stored
    suffix = _SUFFIX.fullmatch(name, max(name.rfind("."), 0))
    return _hashed(name) + (suffix[0] if suffix else "")


def _file_part(name: str) -> str:
    stored = _visible(name)
    if stored.lower().endswith(META_SUFFIX):
        stored = stored[: -len(META_SUFFIX)] + "%2E" + stored[-len(META_SUFFIX) + 1 :]
    return _fit(stored, name, NAME_MAX - len(META_SUFFIX))


def file_path(name: str, key: str, taken: Mapping[str, str]) -> str:
    """Where a new file goes: `files/<name>`, or `files/<key>/<name>` where another key holds that name.

    `taken`: folded path → key (`""` for a folder). A folder that leads to other keys' files is not used for this one.
    """
    stored = _file_part(name)
    path = f"files/{stored}"
    holder = taken.get(fold(path))
    if holder is None or holder == key:
        return path
    for folder in _variants(key):
        if len(folder) > NAME_MAX:
            break
        place = fold(f"files/{folder}")
        others = (held for path, held in taken.items() if path == place or path.startswith(place + "/"))
        if not place.endswith(META_SUFFIX) and all(held in ("", key) for held in others):
            return f"files/{folder}/{stored}"
    return f"files/{_hashed(key)}/{stored}"


def file_name(path: str) -> str:
    """The file name that a path below `files/` stands for."""
    return _legible(path.rsplit("/", 1)[-1])


def meta_path(path: str) -> str:
    """The file that says of another what cannot be derived."""
    return path + META_SUFFIX


def file_key(name: str) -> str:
    """The key a file name gives: lower case, runs outside a-z and 0-9 as `-`; `file-` and 8 digits if nothing is left.

    What is longer than a key may be ends with 8 digits of a hash: two long names must not replace each other's content.
    """
    key = _RUNS.sub("-", name.lower()).strip("-")
    if key and len(key) <= FILE_KEY_MAX:
        return key
    digits = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{key[: FILE_KEY_MAX - 9].rstrip('-') or 'file'}-{digits}"


def key_of_path(below: str) -> str:
    """The key that a path below `files/` gives: `sub/a.md` → `sub-a-md`."""
    return file_key("/".join(_decode(part) for part in below.split("/")))


# --- what a path is -------------------------------------------------------------------------------------------------


@lru_cache(4096)
def classify(branch: str, path: str) -> tuple[str, str | None]:
    """The part a path belongs to, and the key or id it gives (for a `~` file its name without `.yaml`)."""
    first, _, rest = path.partition("/")
    if branch == "evidence":
        if first in ("workflows", "tasks") and path.endswith(".yaml") and path.count("/") in (1, 2):
            return first[:-1], id_of_evidence(path) or path.rsplit("/", 1)[-1][:-5]
        if first == "artifacts" and path.count("/") == 4:
            return "artifact", path.split("/")[3]
        return "other", None
    if not rest:
        return _PARTS.get(path, "other"), None
    if first == "memory" and "/" not in rest and rest.endswith(".yaml"):
        return "memory", memory_key(rest) or rest[:-5]
    if first == "spec" and rest.endswith(".yaml") and rest[:-5] in _SPEC:
        return "spec", rest[:-5]
    if first == "files":
        return "file", key_of_path(rest.removesuffix(META_SUFFIX))
    return "other", None


# --- text in commits ------------------------------------------------------------------------------------------------


def one_line(text: str, limit: int = 200) -> str:
    """Text as one line: control characters and line breaks become spaces; never empty, never longer than `limit`."""
    if text.isascii() and text.isprintable() and 0 < len(text) <= limit and text[0] != " " and text[-1] != " ":
        return text
    line = " ".join(_CONTROL.sub(" ", text).split())
    if len(line) > limit:
        line = line[: limit - 1].rstrip() + "…"
    return line or "-"


def identity(text: str) -> str:
    """A name or e-mail address as a commit can hold it: one line without `<` and `>` (gitformat: they end the name)."""
    return one_line(text.translate({0x3C: None, 0x3E: None}).strip(" .,:;\"'\\"))
