"""Take the screenshots of the studio for the documentation, with the default checkpoint in a headless Chromium.

    python docs/screenshots.py

It needs `pip install '.[dev]'` and Chromium. Run it again when the page changes, and look at the pictures.
"""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from lamp_hf.studio import launch

FOLDER = Path(__file__).resolve().parent / "screenshots"
DESKTOP, PHONE = (1240, 900), (390, 844)
COLORS = 128
PATIENCE_MS = 300_000


def main() -> None:
    """Write all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER, help="folder of the pictures")
    parser.add_argument("--all", action="store_true", help="all parts of the page, at both widths, to look at")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    studio = launch(device="cpu", port=None, block=False)
    try:
        with opened(studio.blocks.local_url, DESKTOP) as page:
            variations(page, "a person waves with both hands")
            shoot(page, options.output / "studio-variations.png")
            edit(page)
            page.locator("#work").scroll_into_view_if_needed()
            page.evaluate("document.querySelector('#work').scrollIntoView()")
            shoot(page, options.output / "studio-edit.png")
            if options.all:
                others(page, options.output)
        if options.all:
            with opened(studio.blocks.local_url, PHONE) as page:
                shoot(page, options.output / "phone-start.png")
                variations(page, "a person plays the guitar")
                page.get_by_role("button", name="Keep 1").click()
                page.locator("#status", has_text="is below").wait_for()
                shoot(page, options.output / "phone-all.png", full_page=True)
    finally:
        studio.close()
    for path in sorted(options.output.glob("*.png")):
        print(f"{path.name}: {path.stat().st_size:,} bytes")


@contextmanager
def opened(url: str, size: tuple[int, int]) -> Iterator[Any]:
    """Open the studio in a window of a size."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as started:
        arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = started.chromium.launch(executable_path=executable, args=arguments)
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
        page.set_default_timeout(PATIENCE_MS)
        page.goto(url)
        page.get_by_label("What does the person do?").wait_for()
        yield page
        browser.close()


def variations(page: Any, text: str) -> None:
    """Generate variations, and move their player to the middle of a gesture."""
    page.get_by_label("What does the person do?").fill(text)
    page.get_by_role("button", name="Seed, guidance and more").click()
    page.get_by_label("Seed", exact=True).fill("1")
    page.get_by_role("button", name="Seed, guidance and more").click()
    page.get_by_role("button", name="Make four variations").click()
    page.locator("#status", has_text="variations in").wait_for()
    seek(page, "#takes", 1.2)


def edit(page: Any) -> None:
    """Keep a variation and choose a span."""
    page.get_by_role("button", name="Keep 2").click()
    page.locator("#status", has_text="is below").wait_for()
    page.get_by_label("What happens there?").fill("the person bows")
    seek(page, "#motion", 1.5)


def others(page: Any, folder: Path) -> None:
    """Show the other parts of the page."""
    page.get_by_role("tab", name="Character").click()
    page.get_by_label("Character", exact=True).click()
    page.get_by_role("option", name="mixamo").click()
    page.locator("#figure canvas").wait_for()
    page.wait_for_timeout(4000)
    shoot(page, folder / "character.png")
    page.get_by_role("tab", name="Download").click()
    shoot(page, folder / "download.png")
    page.get_by_role("tab", name="Storyboard").click()
    page.get_by_role("button", name="Make the storyboard").click()
    page.locator("#status", has_text="storyboard is ready").wait_for()
    shoot(page, folder / "storyboard.png", full_page=True)
    page.get_by_role("tab", name="Your file").click()
    shoot(page, folder / "file.png")


def seek(page: Any, place: str, seconds: float) -> None:
    """Move a player to a time."""
    scrub = page.frame_locator(f"{place} iframe").locator("#scrub")
    scrub.evaluate("(range, time) => { range.value = time; range.dispatchEvent(new Event('input')); }", seconds)
    page.wait_for_timeout(1500)


def shoot(page: Any, path: Path, *, full_page: bool = False) -> None:
    """Write what the window shows, with a palette, in a third of the bytes."""
    page.screenshot(path=path, full_page=full_page)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
