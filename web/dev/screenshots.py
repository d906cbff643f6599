"""Takes the docs' pictures of the page: `python web/dev/screenshots.py URL`, of a server with tiny.

Needs playwright, and a Chromium at /usr/bin/chromium or where the variable CHROMIUM says.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
QUESTION = (
    "Solve the following multiplication: 394294 * 986687. "
    "Give only the result as your final answer."
)
SHOTS = {
    "light": {"viewport": {"width": 1200, "height": 900}},
    "dark": {"viewport": {"width": 1200, "height": 860}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 780}, "device_scale_factor": 1.5},
}


def main(url: str) -> None:
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = playwright.chromium.launch(executable_path=chromium)
        for name, options in SHOTS.items():
            page = browser.new_page(**options)
            page.goto(url)
            expect(page.locator(".chip").first).to_be_visible(timeout=60_000)
            page.get_by_role("button", name="How to think").click()
            page.get_by_label("Seed").fill("7")
            page.get_by_role("button", name="How to think").click()
            page.fill("textarea", QUESTION)
            page.keyboard.press("Control+Enter")
            expect(page.locator(".agreement")).to_be_visible(timeout=60_000)
            expect(page.get_by_role("button", name="Watch again")).to_be_visible()
            if name == "dark":  # in the middle of thinking
                slider = page.get_by_role("slider", name="Show the run as it was")
                slider.fill(str(float(slider.get_attribute("max") or 0) * 0.62))
            page.locator("body").click(position={"x": 3, "y": 3})
            page.wait_for_timeout(400)
            picture = IMAGES / f"page-{name}.png"
            page.screenshot(path=picture, full_page=name != "dark", animations="disabled")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
