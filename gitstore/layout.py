"""Where things are below a data folder, and which format they have."""

from __future__ import annotations

import os
from pathlib import Path

from gitstore import documents
from gitstore.errors import Conflict, Damaged, FormatUnknown, NotFound
from gitstore.repository.disk import Disk

FORMAT = 1


class Layout:
    """Where things are below the data folder."""

    def __init__(self, data: Path) -> None:
        self.root = data
        self.stamp = data / "store.yaml"
        self.lock = data / "store.lock"
        self.workspaces = data / "workspaces"
        self.journal = data / "journal"
        self.derived = data / "derived"
        self.secrets = data / "secrets"
        self.trash = data / "trash"
        self.large = data / "large"
        self.keys = data / "keys.yaml"

    def check(self) -> None:
        """Raises FormatUnknown for a newer format, NotFound for a folder that holds no store, Damaged."""
        try:
            stamp = documents.load(self.stamp.read_bytes(), "store.yaml")
        except FileNotFoundError:
            raise NotFound(f"{self.root} holds no store: store.yaml is missing") from None
        found = stamp.get("format") if isinstance(stamp, dict) else None
        if not isinstance(found, int) or isinstance(found, bool):
            raise Damaged(f"{self.stamp} does not say which format the store has")
        if found > FORMAT:
            raise FormatUnknown(
                f"{self.root} has format {found} and this release knows {FORMAT}: use the release that wrote it"
            )

    def make(self, disk: Disk) -> None:
        """Makes what is missing. A folder that holds other things than a store is left alone (Conflict)."""
        self.root.mkdir(parents=True, exist_ok=True)
        if not self.stamp.exists():
            # What a first start may leave when it is cut short; keys can be made before it.
            ours = {"store.lock", "store.yaml.new", "secrets", "keys.yaml"}
            ours |= {"workspaces", "journal", "derived", "trash", "large"}
            strange = sorted(set(os.listdir(self.root)) - ours)
            if strange and not self.workspaces.is_dir():
                raise Conflict(
                    f"{self.root} is not empty and holds no store (it has `{strange[0]}`): choose another folder"
                )
        for folder in (self.workspaces, self.journal, self.derived, self.trash, self.large):
            if not folder.is_dir():
                disk.mkdir(str(folder))
        if not self.stamp.exists():
            disk.sync_folder(str(self.root.parent))
            disk.overwrite(f"{self.stamp}.new", documents.dump({"format": FORMAT}))
            disk.sync_file(f"{self.stamp}.new")
            disk.rename(f"{self.stamp}.new", str(self.stamp))
            disk.sync_folder(str(self.root))
