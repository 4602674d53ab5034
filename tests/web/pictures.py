"""Makes the pictures of the documentation again: `PYTHONPATH=tests .venv/bin/python -m web.pictures`.

They are of the store that the browser tests use, in light and at the width of a small laptop; one is of a phone, in the
dark.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from web import story
from web.conftest import CHROMIUM, SESSION, running

W = "/ui/w/platform"
FOLDER = story.ROOT / "docs" / "images"
PAGES = {
    "workspaces": "/ui/",
    "workspace": W,
    "timeline": f"{W}/timeline",
    "key": f"{W}/memory/release-policy",
    "undo": f"{W}/undo?workflow_id={story.WORKFLOW}",
    "artifacts": f"{W}/artifacts?q=canary",
}


def take(page: Page, name: str, path: str) -> None:
    """One picture."""
    page.goto(path)
    target = FOLDER / f"{name}.png"
    page.screenshot(path=target)
    print(f"{target.relative_to(story.ROOT)}: {target.stat().st_size // 1024} KiB")


def main() -> None:
    """All of them."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as driver:
        data = Path(scratch) / "data"
        keys = story.make(data, trap=None)
        with running(data, keys) as site:
            arguments = ["--no-sandbox"] if os.getuid() == 0 else []
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
            session = site.visitor("admin").jar[SESSION]

            def tab(width: int, height: int, scheme: str) -> Page:
                context = browser.new_context(
                    base_url=site.base,
                    viewport={"width": width, "height": height},
                    color_scheme=scheme,  # type: ignore[arg-type]
                )
                context.add_cookies([{"name": SESSION, "value": session, "domain": "127.0.0.1", "path": "/ui"}])
                return context.new_page()

            wide = tab(1000, 760, "light")
            for name, path in PAGES.items():
                take(wide, name, path)
            take(tab(390, 800, "dark"), "phone", f"{W}/timeline")
            browser.close()


if __name__ == "__main__":
    main()
