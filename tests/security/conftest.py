"""The fixtures of tests/git: a whole server, and clones that people have."""

from git.conftest import admin, clone, place, server

__all__ = ["admin", "clone", "place", "server"]
