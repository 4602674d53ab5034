"""The text of documents: what is read of each format, and what hostile ones cannot do. The samples are made here."""

from __future__ import annotations

import io
import json
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitstore.errors import NotFound, StorageFailed
from gitstore.extraction import TEXT_MAX, Extracted, Extraction, form
from gitstore.extraction.child import Child
from gitstore.extraction.extraction import Index
from gitstore.extraction.forms import Form, plain
from gitstore.extraction.looking import Looking
from gitstore.extraction.worker import Result, extract
from gitstore.search import Document, Kind, text_of

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def packed(members: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def pdf(*pages: str, stream: Callable[[bytes], bytes] = zlib.compress) -> bytes:
    """A PDF with one line of Helvetica a page."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(len(pages)))
    parts = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(pages), kids),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]  # fmt: skip
    for n, text in enumerate(pages):
        shown = stream(b"BT /F1 12 Tf 72 700 Td (%s) Tj ET" % text.encode())
        parts += [
            b"<</Type/Page/Parent 2 0 R/Contents %d 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>>>"
            % (5 + 2 * n),
            b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(shown), shown),
        ]  # fmt: skip
    out, places = b"%PDF-1.7\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % at for at in places)
    return out + b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (
        len(parts) + 1, table, len(parts) + 1, len(out),
    )  # fmt: skip


# --- plain text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "data", "text"),
    [
        ("text/plain", "Größe".encode(), "Größe"),
        ("text/plain", "Größe".encode("utf-8-sig"), "Größe"),
        ("text/csv", "a;ö".encode("utf-16"), "a;ö"),
        ("text/csv", "\ufeffa;ö".encode("utf-16-be"), "a;ö"),
        ("text/plain", "\ufeffö".encode("utf-32-le"), "ö"),
        ("text/plain; charset=iso-8859-1", b"Gr\xf6\xdfe", "Größe"),
        ('text/plain; charset="Shift_JIS"', "東京".encode("shift_jis"), "東京"),
        ("text/plain", b"Gr\xf6\xdfe", None),
        ("text/plain; charset=utf-9", b"abc", None),
        ("text/plain; charset=zlib", zlib.compress(b"abc"), None),
        ("text/plain; charset=idna", b"xn--" + b"a" * 80, None),
        ("image/png", b"abc", None),
    ],
)
def test_which_text_it_is(content_type: str, data: bytes, text: str | None) -> None:
    assert text_of(content_type, data) == text


def test_only_the_beginning_of_a_long_text() -> None:
    assert plain("text/plain", b"x" * TEXT_MAX).indexed == "full"
    assert plain("text/plain", b"x" * (TEXT_MAX - 1) + "ö".encode()) == Extracted("x" * (TEXT_MAX - 1), "partial")
    assert plain("text/plain", b"x" * (TEXT_MAX - 1) + b"\xff") == Extracted("", "none")


# --- formats ---------------------------------------------------------------------------------------------------------


def done(name: Form, data: bytes, content_type: str = "") -> tuple[str, str]:
    result = extract(name, content_type, data)
    return result.extracted.text, result.extracted.indexed


def test_what_is_read_of_a_page() -> None:
    page = b"""<!doctype html><html><head><title>A &amp; B</title><meta name=description content="about">
      <meta name=viewport content="width"><style>p {x}</style><script>hidden()</script></head>
      <body><p>one <b>wo</b>rd<p>next<img alt="a cat"></body></html>"""
    assert done("html", page) == ("A & B\nabout\none word\nnext\na cat", "full")
    assert done("html", '<meta charset="latin1"><p>Größe'.encode("latin-1"))[0] == "Größe"
    assert done("html", "<p>Größe".encode("utf-16"))[0] == "Größe"
    assert done("html", b"<p>Gr\xf6\xdfe") == ("", "none")


def test_what_is_read_of_a_notebook() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "x = 1", "outputs": [{"text": "said"}, {"data": {"text/plain": ["42"]}}, 3]},
        None,
    ]
    assert done("notebook", json.dumps({"cells": cells}).encode()) == ("# Title\ntext\nx = 1\nsaid\n42", "full")
    assert done("notebook", b'{"cells": 3}') == done("notebook", b"[]") == done("notebook", b"{") == ("", "none")


def test_what_is_read_of_office_documents() -> None:
    body = f"<w:document {W}><w:body><w:p><w:r><w:t>Hel</w:t></w:r><w:r><w:t>lo</w:t></w:r></w:p><w:p>there</w:p>"
    assert done("office", packed({"word/document.xml": body + "</w:body></w:document>"})) == ("Hello\nthere", "full")
    sheet = packed(
        {
            "xl/workbook.xml": '<workbook><sheets><sheet name="Costs"/></sheets></workbook>',
            "xl/sharedStrings.xml": "<sst><si><t>rent</t></si></sst>",
            "xl/worksheets/sheet1.xml": '<worksheet><row><c t="s"><v>0</v></c><c><v>1234.5</v></c></row></worksheet>',
            "xl/styles.xml": "<s>no</s>",
        }
    )
    assert done("office", sheet) == ("rent\nCosts\n1234.5", "full")
    slides = {f"ppt/slides/slide{n}.xml": f"<sld><p>slide {n}</p></sld>" for n in (10, 9)}
    assert done("office", packed({**slides})) == ("slide 9\nslide 10", "full")
    text = "<office:document-content xmlns:office='o' xmlns:text='t'><text:p>open</text:p></office:document-content>"
    assert done("office", packed({"mimetype": "x", "content.xml": text})) == ("open", "full")


def test_what_is_read_of_a_pdf() -> None:
    assert done("pdf", pdf("first page", "second")) == ("first page\nsecond", "full")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("office", b"PK no archive"),
        ("office", packed({"readme.txt": "x"})),
        ("office", packed({"word/document.xml": "<a><b></a>"})),
        ("office", packed({"word/document.xml": "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>"})),
        ("office", packed({"word/document.xml": "<a>" * 1000})),
        ("pdf", b"%PDF-1.7 nothing"),
        ("notebook", b"[" * 100_000),
    ],
    ids=["no zip", "another zip", "no xml", "entity", "deep", "no pdf", "deep json"],
)
def test_what_cannot_be_read_has_no_text(name: Form, data: bytes) -> None:
    result = extract(name, "", data)
    assert (result.extracted, result.failure is None) == (Extracted("", "none"), False)


def test_an_archive_that_unpacks_to_more_than_there_may_be() -> None:
    bomb = packed({"word/document.xml": b"<a>" + (b"<!--" + b" " * 60_000 + b"-->") * 1_200})
    result = extract("office", "", bomb)
    assert result.extracted == Extracted("", "none")
    assert "unpacks to more" in (result.failure or "")


def test_more_text_than_search_takes() -> None:
    long = packed({"word/document.xml": "<d><p>" + "word " * 100_000 + "</p></d>"})
    text, indexed = done("office", long)
    assert indexed == "partial"
    assert TEXT_MAX - 10 < len(text) <= TEXT_MAX


@pytest.mark.parametrize(
    ("content_type", "name"),
    [
        ("text/HTML; charset=utf-8", "html"), ("application/pdf", "pdf"), (WORD, "office"), ("text/x-rust", "text"),
        ("application/x-ipynb+json", "notebook"), ("application/json", "text"), ("application/zip", None),
    ],
)  # fmt: skip
def test_how_a_type_is_read(content_type: str, name: str | None) -> None:
    assert form(content_type) == name


# --- the child process -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.close()


def test_one_process_reads_many_documents_and_none_that_failed(child: Child) -> None:
    assert child.extract("html", "text/html", b"<p>one").extracted == Extracted("one", "full")
    first = child.pid
    assert child.extract("pdf", "application/pdf", pdf("two")).extracted.text == "two"
    assert child.pid == first
    assert child.extract("pdf", "application/pdf", b"no").failure
    assert child.extract("html", "text/html", b"<p>three").extracted.text == "three"
    assert child.pid != first


def test_a_document_that_unpacks_to_more_than_there_may_be(child: Child) -> None:
    bomb = pdf("x", stream=lambda _: zlib.compress(b"BT (x) Tj ET " * 12_000_000, 1))
    assert len(bomb) < 32 << 20
    assert child.extract("pdf", "application/pdf", bomb).extracted.indexed == "none"
    assert child.extract("html", "text/html", b"<p>after").extracted.text == "after"


def test_a_document_that_takes_too_long_is_broken_off() -> None:
    slow = Child(seconds=0.5)
    try:
        result = slow.extract("html", "text/html", b"<!--" * 5_000_000)
        assert (result.extracted, "0.5 seconds" in (result.failure or "")) == (Extracted("", "none"), True)
        assert slow.pid is None
    finally:
        slow.close()


def test_the_child_sees_no_secret(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITSTORE_SECRET_KEY", "s3cret")
    child.close()
    child.extract("html", "text/html", b"<p>x")
    assert b"s3cret" not in Path(f"/proc/{child.pid}/environ").read_bytes()


# --- what waits ------------------------------------------------------------------------------------------------------


class Memory(Index):
    """An index that is a dictionary."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str, str], Document] = {}

    def put(self, workspace: str, document: Document, /) -> None:
        self.documents[workspace, document.kind, document.id] = document

    def remove(self, workspace: str, kind: Kind, id_: str, /) -> None:
        self.documents.pop((workspace, kind, id_), None)

    def forget(self, workspace: str, /) -> None:
        for key in [key for key in self.documents if key[0] == workspace]:
            del self.documents[key]

    def flush(self) -> None:
        raise StorageFailed("the disk is full")


class Counting(Child):
    """A child that counts, and does it here."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self.before: Callable[[], Any] = lambda: None

    def extract(self, form: Form, content_type: str, data: bytes) -> Result:
        self.read += 1
        self.before()
        return extract(form, content_type, data)


BLOBS = {"aa" * 20: b"<p>alpha", "bb" * 20: b"<p>beta"}
A, B = BLOBS


class Texts:
    """An extraction over `BLOBS`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.index, self.child = folder, Memory(), Counting()
        self.open()

    def open(self) -> None:
        self.texts = Extraction(self.folder / "texts.sqlite", self.index, self.blob, child=self.child)

    def blob(self, workspace: str, blob: str, most: int) -> bytes:
        if workspace == "gone":
            raise NotFound("there is no workspace")
        return BLOBS[blob]

    def put(self, id_: str, blob: str, workspace: str = "w", text: str = "") -> None:
        reader = self.texts.reader(lambda blob, _: BLOBS[blob])
        said = f"{text}{reader('text/html', blob)}"
        self.texts.put(workspace, Document("artifact", id_, f"{id_}.html", said), reader.waiting)

    def text(self, id_: str) -> str | None:
        found = self.index.documents.get(("w", "artifact", id_))
        return found.text if found is not None else None

    def settle(self) -> None:
        self.wait(lambda: self.texts.backlog == 0)

    @staticmethod
    def wait(done: Callable[[], bool]) -> None:
        until = time.monotonic() + 20
        while not done():
            assert time.monotonic() < until
            time.sleep(0.005)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Texts]:
    texts = Texts(tmp_path)
    yield texts
    texts.texts.stop()


def test_a_document_is_there_at_once_and_its_text_when_it_was_read(kept: Texts) -> None:
    kept.put("one", A, text="said ")
    assert (kept.text("one"), kept.texts.indexed([("text/html", A, 8)])) == ("said ", ["pending"])
    kept.texts.start()
    kept.settle()
    assert (kept.text("one"), kept.texts.indexed([("text/html", A, 8)])) == ("said \nalpha", ["full"])
    kept.put("two", A)
    assert (kept.text("two"), kept.texts.backlog, kept.child.read) == ("alpha", 0, 1)


def test_what_waits_survives_a_restart(kept: Texts) -> None:
    kept.put("one", A)
    kept.texts.stop()
    kept.open()
    assert not kept.texts.opened_empty
    kept.texts.start()
    kept.settle()
    assert kept.text("one") == "alpha"


def test_what_did_not_reach_the_disk_is_put_again(kept: Texts) -> None:
    kept.put("one", A)
    kept.texts.start()
    kept.settle()
    kept.texts.stop()
    kept.index.documents.clear()
    kept.open()
    kept.texts.start()
    kept.settle()
    assert (kept.text("one"), kept.child.read) == ("alpha", 1)
    kept.texts.stop()
    kept.index.flush = lambda: None  # type: ignore[method-assign]
    kept.open()
    kept.texts.start()
    kept.wait(lambda: kept.texts.waiting == 0)


def test_a_text_never_comes_after_what_took_its_place(kept: Texts) -> None:
    for id_ in ("replaced", "removed", "plain"):
        kept.put(id_, A)
    kept.put("elsewhere", A, workspace="other")

    def meanwhile() -> None:
        kept.child.before = lambda: None
        kept.put("replaced", B)
        kept.texts.remove("w", "artifact", "removed")
        kept.texts.put("w", Document("artifact", "plain", "a.txt", "words"), None)
        kept.texts.forget("other")

    kept.child.before = meanwhile
    kept.texts.start()
    kept.settle()
    assert [kept.text(id_) for id_ in ("replaced", "removed", "plain")] == ["beta", None, "words"]
    assert {key[0] for key in kept.index.documents} == {"w"}


def test_an_error_nobody_thought_of_does_not_end_it(kept: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitstore.extraction.extraction._RETRY", 0.01)
    wrong = [RuntimeError("nobody thought of it")]

    def once() -> None:
        if wrong:
            raise wrong.pop()

    kept.child.before = once
    kept.put("one", A)
    kept.texts.start()
    kept.settle()
    assert (kept.text("one"), kept.child.read) == ("alpha", 2)


def test_another_charset_makes_another_text_of_the_same_bytes(kept: Texts) -> None:
    said = "text/html; charset="
    for id_, content_type in (("utf-16", f"{said}utf-16"), ("plain", "text/html"), ("latin", f'{said}"ISO-8859-1"')):
        reader = kept.texts.reader(lambda blob, _: BLOBS[blob])
        text = reader(content_type, A)
        kept.texts.put("w", Document("artifact", id_, id_, text), reader.waiting)
    kept.texts.start()
    kept.settle()
    assert (kept.text("plain"), kept.text("latin")) == ("alpha", "alpha")
    assert kept.text("utf-16") != "alpha"
    looking = Looking(kept.folder / "texts.sqlite")
    assert looking.texts("text/html", A, lambda *_: b"") >= {"alpha"}
    assert kept.texts.of("text/plain; charset=utf-16", B, lambda *_: b"abc").indexed == "none"
    assert kept.texts.indexed([("text/plain; charset=utf-16", B, 3), ("text/plain", B, 3)]) == ["none", "full"]


def test_nothing_waits_for_a_workspace_that_is_gone(kept: Texts) -> None:
    kept.put("one", A, workspace="gone")
    kept.put("two", B)
    kept.texts.start()
    kept.settle()
    assert (kept.text("two"), kept.child.read) == ("beta", 1)


def test_how_far_a_text_is_indexed(kept: Texts) -> None:
    assert kept.texts.indexed([("text/plain", A, 10)]) == ["full"]
    assert kept.texts.indexed([("text/plain", A, TEXT_MAX + 1)]) == ["partial"]
    assert kept.texts.indexed([("image/png", A, 10)]) == ["none"]
    assert kept.texts.of("text/plain", B, lambda *_: b"\xff").indexed == "none"
    assert kept.texts.indexed([("text/plain", B, 10)]) == ["none"]
    # The same bytes are known in another form already.
    kept.put("page", A)
    kept.texts.start()
    kept.settle()
    assert kept.texts.of("text/plain", A, lambda *_: b"\xff").indexed == "none"
    assert kept.texts.indexed([("text/html", A, 10), ("text/plain", A, 10)]) == ["full", "none"]
