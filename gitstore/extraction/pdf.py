"""The text of PDF documents."""

from __future__ import annotations

import io
import logging

from gitstore.extraction.gathering import Gathering, Unreadable


def pdf(_: str, data: bytes, found: Gathering) -> None:
    """The title and the pages in their order. Raises Unreadable, also for one that asks for a password."""
    from pypdf import PdfReader  # here, because it takes a good part of a second
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        document = PdfReader(io.BytesIO(data), strict=False)
        if document.is_encrypted and not document.decrypt(""):
            raise Unreadable("is encrypted")
        title = document.metadata.title if document.metadata is not None else None
        if isinstance(title, str):
            found.add(title + "\n")
        for page in document.pages:
            found.check()
            found.add(page.extract_text() + "\n")
    except PyPdfError as error:
        raise Unreadable(str(error)) from error
