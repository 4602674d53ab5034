"""The folders in `workspaces/` as the disk has them: which there are, whose each says it is, and what it is called."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from gitstore import documents, names
from gitstore.context import WORKSPACE
from gitstore.errors import Damaged, Invalid
from gitstore.repository.database import TreeCache
from gitstore.repository.disk import Disk
from gitstore.repository.repository import Repository

log = logging.getLogger("gitstore.store")


class Homes:
    """What can be told of the folders without an index, or a workspace in memory. Links are never followed."""

    def __init__(self, disk: Disk, root: Path, trees: TreeCache) -> None:
        self._disk = disk
        self._root = root
        self._trees = trees

    def at(self, folder: str) -> Repository:
        """The repository of a folder, not opened."""
        return Repository(self._disk, str(self._root / folder), self._trees)

    def all(self) -> list[str]:
        """The names of the folders that may be workspaces."""
        with os.scandir(self._root) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            )

    def like(self, folded: str) -> str | None:
        """The name of what is there under this name, ignoring case."""
        return next((name for name in os.listdir(self._root) if names.fold(name) == folded), None)

    def owner(self, folder: str) -> str | None:
        """The id of the workspace, known or not, that a folder says it is."""
        found = self.at(folder).belongs_to()
        return found.lower() if found is not None and names.is_uuid(found) else None

    def whole(self, folder: str) -> bool:
        """Whether a folder has all that a workspace of a store has. Raises Damaged."""
        repository = self.at(folder)
        if self.owner(folder) is None or not os.path.isdir(repository.git):
            return False
        try:
            repository.open()
            return repository.kept["main"] is not None
        finally:
            repository.database.close()

    def identity(self, folder: str, repository: Repository) -> str:
        """The id of the workspace in a folder, which its `main` tells where the folder does not. Raises Damaged."""
        if (owner := self.owner(folder)) is not None:
            return owner
        tree = repository.tree(repository.kept["main"])
        document = documents.load(tree.read(WORKSPACE) or b"", f"{folder}/{WORKSPACE}")
        identity = document.get("id") if isinstance(document, dict) else None
        if not isinstance(identity, str) or not names.is_uuid(identity):
            raise Damaged(f"{folder}/{WORKSPACE} has no id")
        return identity.lower()

    def at_start(self) -> list[str]:
        """The folders to look into at a start; of several with one id, the one comes first that is called as it says.

        One that was renamed to what cannot be a slug, or differs from another only in case, gets its name back.
        """
        found = [folder for folder in self.all() if os.path.isdir(self._root / folder / ".git")]
        owners: dict[str | None, list[str]] = {}
        folds: dict[str, list[str]] = {}
        for folder in found:
            owners.setdefault(self.owner(folder), []).append(folder)
            folds.setdefault(names.fold(folder), []).append(folder)
        first = {
            folder
            for owner, same in owners.items()
            if owner is not None and len(same) > 1
            for folder in same
            if self._says(folder) == folder
        }
        for folder in list(found):
            if _is_slug(folder) and len(folds[names.fold(folder)]) == 1:
                continue
            said = self._says(folder)
            if self.owner(folder) is None or said is None or said == folder or not _is_slug(said):
                continue
            if names.fold(said) in folds or os.path.lexists(self._root / said):
                log.error("workspaces/%s cannot be a slug, and `%s` is another one by now: rename it", folder, said)
                found.remove(folder)
                continue
            log.warning("workspaces/%s cannot be a slug: it is called %s again", folder, said)
            self._disk.rename(str(self._root / folder), str(self._root / said))
            folds[names.fold(folder)].remove(folder)
            folds[names.fold(said)] = [said]
            found[found.index(folder)] = said
        return sorted(found, key=lambda folder: (folder not in first, folder))

    def _says(self, folder: str) -> str | None:
        """The slug in `workspace.yaml` of a folder's `main`; None where that cannot be told."""
        repository = self.at(folder)
        try:
            repository.open()
            tree = repository.tree(repository.kept["main"])
            document = documents.load(tree.read(WORKSPACE) or b"", f"{folder}/{WORKSPACE}")
        except (Damaged, documents.DocumentError, OSError):
            return None
        finally:
            repository.database.close()
        said = document.get("slug") if isinstance(document, dict) else None
        return said if isinstance(said, str) else None


def _is_slug(name: str) -> bool:
    try:
        names.check_slug(name)
    except Invalid:
        return False
    return True
