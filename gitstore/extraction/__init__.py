"""The text in documents that are not text: see `extraction.Extraction`; a child process reads them, within limits."""

from gitstore.extraction.extraction import Extraction, Read, Reader
from gitstore.extraction.forms import TEXT_MAX, Extracted, Indexed, form
from gitstore.extraction.kept import Waiting

__all__ = ["TEXT_MAX", "Extracted", "Extraction", "Indexed", "Read", "Reader", "Waiting", "form"]
