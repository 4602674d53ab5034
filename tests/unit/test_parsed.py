"""Documents kept by the id of their blob: read once, bounded, and never confused."""

from __future__ import annotations

import pytest

from gitstore import documents, parsed
from gitstore.repository.objects import Blob

TOKEN = "glpat-" + "Zq7Rk2Vn9Xw4Tb6Lp3Hs"  # in the form of a GitLab token, valid nowhere


@pytest.fixture(autouse=True)
def fresh() -> None:
    parsed.forget()


def read(data: bytes) -> parsed.Parsed:
    return parsed.parse(Blob(data).id.hex(), data, "a.yaml")


def test_a_document_is_kept_with_all_that_is_known_of_it() -> None:
    found = read(b"a: 1\n")
    assert found == ({"a": 1}, b'{"a":1}', b"", ())
    assert parsed.cached(Blob(b"a: 1\n").id.hex()) is found
    assert parsed.cached(Blob(b"a: 2\n").id.hex()) is None
    assert read(b"a:   1\n").head is None
    assert [secret.pointer for secret in read(f"k: [{TOKEN}]\n".encode()).secrets] == ["/k/0"]


def test_what_cannot_be_read_is_not_kept() -> None:
    with pytest.raises(documents.DocumentError, match=r"a\.yaml"):
        read(b"[\n")
    assert parsed.cached(Blob(b"[\n").id.hex()) is None


def test_what_was_not_searched_for_secrets_is_searched_when_kept() -> None:
    blob = Blob(documents.dump(TOKEN))
    parsed.remember(blob.id.hex(), TOKEN, b'"x"', head=b"", checked=False)
    found = parsed.cached(blob.id.hex())
    assert found is not None
    assert len(found.secrets) == 1


def test_a_file_is_rewritten_only_where_it_must_be() -> None:
    assert parsed.rewritten(None, {"a": 1}) == b"a: 1\n"
    assert parsed.rewritten(b"# mine\na: 1 # one\n", {"a": 2}) == b"# mine\na: 2 # one\n"
    assert parsed.rewritten(b"a: [\n", {"a": 2}) == b"a: 2\n"
