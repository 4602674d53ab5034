"""Full-text search over the content of artifacts, as derived data: see `index.Search`; `words` says what a word is."""

from gitstore.search.index import Search, text_of
from gitstore.search.words import fold, snippet, terms, words

__all__ = ["Search", "fold", "snippet", "terms", "text_of", "words"]
