"""Full-text search as derived data, by a process of its own: see `client.Search`; `words` says what a word is."""

from gitstore.errors import Away
from gitstore.search.client import Search
from gitstore.search.documents import KINDS, Document, Hit, Hits, Kind
from gitstore.search.texts import text_of
from gitstore.search.words import fold, snippet, terms, words

__all__ = [
    "KINDS", "Away", "Document", "Hit", "Hits", "Kind", "Search", "fold", "snippet", "terms", "text_of", "words",
]  # fmt: skip
