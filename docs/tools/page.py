"""Pictures of the page that `stop serve` shows: a real server, a real browser, the bundled clips."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from PIL import Image  # noqa: E402

from served import browser, opened, served  # noqa: E402
from stopcli.tasks.samples import copy_samples  # noqa: E402

COLORS = 128  # of a picture: small files


def shoot(page, file: Path) -> None:
    """Write what a page shows as a small PNG."""
    page.wait_for_timeout(1200)  # the moments play
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(COLORS).save(file, optimize=True)


def draw(folder: Path) -> None:
    """Write the pictures: a search, and a moment that is looked at, in the dark."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        list(copy_samples(home / "samples"))
        options = ("--model", "mini", "--table", home / "labels.csv")
        with served("samples", *options, home=home / "home", cwd=home) as server, browser() as made:
            server.indexed()
            for label in ("goes up", "goes down", "turns"):
                server.json("POST", "/api/labels", {"name": label})
            found = server.json("POST", "/api/search", {"query": "a", "top_k": 8})["moments"]
            names = {"rocket": "goes up", "owl": "goes down", "guitar": "turns"}
            answers = {m["id"]: label for m in found for name, label in names.items() if name in m["path"]}
            server.json("POST", "/api/judge", {"answers": answers})
            size = {"width": 1180, "height": 640}
            with opened(made, server) as page:
                page.set_viewport_size(size)
                page.fill("#query", "a dog moving left")
                page.press("#query", "Enter")
                page.wait_for_function("() => document.querySelector('.card').ariaLabel.startsWith('a-dog')")
                shoot(page, folder / "page.png")
            with opened(made, server, color_scheme="dark") as page:
                page.set_viewport_size({"width": 1180, "height": 900})
                page.locator(".card[aria-label^='a-ghost']").first.focus()
                page.keyboard.press("Enter")
                page.wait_for_function("() => document.querySelector('#look video')?.readyState >= 2")
                page.keyboard.press("k")
                page.click("[data-do=explain]")
                page.wait_for_selector(".explained .frames svg")
                shoot(page, folder / "page-look.png")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
