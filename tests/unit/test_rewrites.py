from __future__ import annotations

from pathlib import Path

from test_store import WHO, git, make, published, put

from gitstore import rewrites
from gitstore.joining import settle_rewrite
from gitstore.repository.objects import Oid
from gitstore.restoring import restore
from gitstore.store import Store


def test_a_rewrite_that_is_settled_stays_so_whatever_is_restored_later(tmp_path: Path) -> None:
    with Store.open(tmp_path / "data") as store:
        one = make(store, "alpha", memory={"a": 1})
        put(store, one, b=2)
        published(store, one)
        git(store, "alpha", "reset", "-q", "--hard", "HEAD~1")
        published(store, one)
        found = store.load(one)

        def standing() -> list[str]:
            return [problem.kind for problem in rewrites.standing(store.history, found.repository, one)]

        assert standing() == ["rewrite"]
        joined = store.history.find_commit(one, found.visible.problems[0].id)
        assert joined is not None
        settle_rewrite(found, Oid(bytes.fromhex(joined)), WHO, restore=True).result()
        assert standing() == []
        first = put(store, one, c=0).main.head or ""
        for number in range(1, 53):
            second = put(store, one, c=number).main.head or ""
            for commit in (first, second):
                restore(store, one, commit, WHO).result()
        assert standing() == []
