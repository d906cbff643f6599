"""The page, in a real browser: before a scripted model, slow or hostile, and before our own."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

if importlib.util.find_spec("playwright") is None:
    pytest.skip("drives a browser by playwright, which is not installed", allow_module_level=True)

from playwright.sync_api import Browser, Page, expect

QUESTION = "How many positive divisors does 360 have?"

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@contextmanager
def opened(browser: Browser, url: str, **options: object) -> Iterator[Page]:
    """The page in a fresh browser profile; nothing may fail in it, the security policy included."""
    context = browser.new_context(**options)  # type: ignore[arg-type]
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.goto(url)
    expect(page.locator(".chip").first).to_be_visible(timeout=60_000)
    yield page
    context.close()
    # Chromium itself notes answers such as 429, and connections that fail.
    assert [fault for fault in faults if not fault.startswith("Failed to load resource")] == []


def ask(page: Page, question: str) -> None:
    page.fill("textarea", question)
    page.keyboard.press("Control+Enter")


def finish(page: Page) -> None:
    expect(page.get_by_role("button", name="Think", exact=True)).to_be_visible(timeout=60_000)


def tokens(page: Page) -> list[int]:
    return [
        int(re.sub(r"\D", "", text)) for text in page.locator(".lane .tokens").all_inner_texts()
    ]


def has_written(page: Page, path: int) -> None:
    expect(page.locator(".lane .text").nth(path - 1)).to_have_text(re.compile(".{20}", re.S))


class TestThinking:
    def test_lanes_fill_live_and_say_how_they_ended(self, browser: Browser, scripted: str) -> None:
        with opened(browser, scripted) as page:
            ask(page, QUESTION)
            expect(page.locator(".lane[data-state=thinking]")).to_have_count(8)
            has_written(page, path=8)
            before = tokens(page)
            page.wait_for_timeout(300)
            assert all(now > then for now, then in zip(tokens(page), before, strict=True))
            finish(page)
            expect(page.locator(".lane[data-state=finished-first]")).to_have_count(1)
            expect(page.locator(".lane[data-state=finished]")).to_have_count(1)
            expect(page.locator(".lane[data-state=cut] .state")).to_have_text(["cut"] * 6)
            expect(page.get_by_label("Answer", exact=True)).to_contain_text("Answer: 24")
            expect(page.locator(".agreement")).to_contain_text("Paths 1 and 4 say the same answer")
            total = int(page.locator(".figures dd").first.inner_text().replace(",", ""))
            assert sum(tokens(page)) < total < sum(tokens(page)) + 100
            expect(page.get_by_role("img", name="Path 4 finished first")).to_be_visible()

    @pytest.mark.parametrize("how", ["key", "button"])
    def test_stopping_leaves_what_was_thought(
        self, browser: Browser, scripted: str, how: str
    ) -> None:
        with opened(browser, scripted) as page:
            ask(page, f"A long question: {QUESTION}")
            has_written(page, path=1)
            if how == "key":
                page.keyboard.press("Escape")
            else:
                page.get_by_role("button", name="Stop").click()
            finish(page)
            expect(page.locator(".lane[data-state=stopped]")).to_have_count(8)
            expect(page.locator(".answer-box")).to_contain_text("Stopped before the answer")
            left = tokens(page)
            page.wait_for_timeout(200)
            assert tokens(page) == left
            assert min(left) > 0

    def test_rounds_are_shown_one_at_a_time(self, browser: Browser, scripted: str) -> None:
        with opened(browser, scripted) as page:
            page.get_by_role("button", name="How to think").click()
            page.get_by_label("Rounds").fill("2")
            ask(page, f"A quick one: {QUESTION}")
            finish(page)
            second = page.get_by_role("tab", name="Round 2")
            expect(second).to_have_attribute("aria-selected", "true")
            second.press("ArrowLeft")
            expect(page.get_by_role("tab", name="Round 1")).to_be_focused()
            expect(page.locator(".answer-box h3")).to_have_text("Summary of this round")

    def test_the_slider_shows_an_earlier_moment(self, browser: Browser, scripted: str) -> None:
        with opened(browser, scripted) as page:
            ask(page, QUESTION)
            finish(page)
            whole = tokens(page)
            slider = page.get_by_role("slider", name="Show the run as it was")
            slider.fill(str(float(slider.get_attribute("max") or 0) / 2))
            assert 0 < max(tokens(page)) < min(whole)
            expect(page.locator(".lane[data-state=thinking]")).to_have_count(8)
            slider.press("End")
            assert tokens(page) == whole

    def test_a_lane_follows_its_text_until_the_reader_scrolls_up(
        self, browser: Browser, scripted: str
    ) -> None:
        with opened(browser, scripted) as page:
            ask(page, f"A long question: {QUESTION}")
            expect(page.locator(".lane .text").nth(1)).to_have_text(
                re.compile("(.*prime){16}", re.S), timeout=20_000
            )
            page.locator(".text").first.evaluate("box => { box.scrollTop = 0 }")
            page.wait_for_timeout(600)
            first, second = (
                page.locator(".text")
                .nth(i)
                .evaluate(
                    "box => [box.scrollTop, box.scrollHeight - box.scrollTop - box.clientHeight]"
                )
                for i in (0, 1)
            )
            assert first[0] == 0
            assert second[1] < 24


class TestTrouble:
    def test_a_busy_server_is_asked_again_when_it_says_so(
        self, browser: Browser, scripted: str
    ) -> None:
        with opened(browser, scripted) as page:
            ask(page, "busy?")
            expect(page.locator(".trouble")).to_contain_text("hands full with other questions")
            again = page.get_by_role("button", name="Try again")
            expect(again).to_be_disabled()
            expect(again).to_be_enabled(timeout=4000)

    @pytest.mark.parametrize(
        ("question", "words"),
        [
            ("refused?", "paths should be 1 to 16; got 99"),
            ("it breaks", "The engine ran out of memory."),
            ("it vanishes", "The connection broke before the answer was complete."),
        ],
    )
    def test_what_went_wrong_is_said_in_words(
        self, browser: Browser, scripted: str, question: str, words: str
    ) -> None:
        with opened(browser, scripted) as page:
            ask(page, question)
            expect(page.locator(".trouble")).to_contain_text(words)
            expect(page.locator("p[role=status]")).to_contain_text(words)
            finish(page)

    def test_a_server_that_is_away_is_found_again(self, browser: Browser, scripted: str) -> None:
        with opened(browser, scripted) as page:
            page.route("**/v1/**", lambda route: route.abort())
            ask(page, "quick?")
            expect(page.locator(".trouble")).to_contain_text("The server does not answer")
            page.unroute_all()
            page.get_by_role("button", name="Try again").click()
            expect(page.locator(".agreement")).to_be_visible(timeout=30_000)
            expect(page.locator(".trouble")).to_have_count(0)

    def test_a_key_is_asked_for_and_kept_in_the_tab_only(
        self, browser: Browser, locked: str
    ) -> None:
        page = browser.new_page()
        page.goto(locked)
        page.get_by_label("Key", exact=True).fill("a wrong one")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_text("The server does not know this key")).to_be_visible()
        page.get_by_label("Key", exact=True).fill("sesame")
        page.keyboard.press("Enter")
        expect(page.locator(".chip").first).to_be_visible()
        assert "sesame" not in page.evaluate("JSON.stringify(localStorage)")
        assert "sesame" in page.evaluate("JSON.stringify(sessionStorage)")
        page.close()

    @pytest.mark.parametrize("paths", [1, 8])
    def test_what_a_model_writes_never_becomes_html(
        self, browser: Browser, scripted: str, paths: int
    ) -> None:
        with opened(browser, scripted) as page:
            page.get_by_role("slider", name="Paths").fill(str(paths))
            ask(page, "A quick hostile question")
            finish(page)
            assert page.title() == "ParaThinker"
            expect(page.locator(".run :is(img, script, b)")).to_have_count(0)
            expect(page.locator(".prose")).to_contain_text(
                '<script>document.title="owned"</script>'
            )
            expect(page.locator(".lane .text").first).to_contain_text("<img src=x onerror=")

    def test_formulas_and_markdown_are_set(self, browser: Browser, scripted: str) -> None:
        with opened(browser, scripted) as page:
            ask(page, "A quick question with formulas")
            finish(page)
            expect(page.locator('.prose math[display="block"]')).to_have_count(2)
            expect(page.locator(".prose strong")).to_have_text("square")
            expect(page.locator(".prose")).to_contain_text("It costs $5 or $6")
            expect(page.locator(".prose img, .prose [style], .prose [href]")).to_have_count(0)


CONTRAST = """
selector => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => {
    context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return light(colour);
    }
  };
  return [...document.querySelectorAll(selector)].map(element => {
    const [a, b] = [light(rgb(getComputedStyle(element).color)), behind(element)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
}
"""


class TestLooks:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_the_systems_colours_hold_until_one_chooses(
        self, browser: Browser, scripted: str, scheme: str
    ) -> None:
        other = {"light": "dark", "dark": "light"}[scheme]
        with opened(browser, scripted, color_scheme=scheme) as page:
            expect(page.locator("html")).to_have_attribute("data-theme", scheme)
            page.get_by_role("button", name=f"Switch to {other}").click()
            page.reload()
            expect(page.locator("html")).to_have_attribute("data-theme", other)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_all_text_can_be_read(self, browser: Browser, scripted: str, scheme: str) -> None:
        with opened(browser, scripted, color_scheme=scheme) as page:
            page.get_by_role("slider", name="Paths").fill("16")
            ask(page, f"A quick one: {QUESTION}")
            finish(page)
            expect(page.locator(".lane .same").first).to_be_visible()
            text = (
                ".number, .state, .tokens, .text, .same, .answer, .prose, .agreement, dt, dd, .chip"
            )
            assert min(page.evaluate(CONTRAST, f"{text}, .quiet, .main, textarea")) >= 4.5

    @pytest.mark.parametrize("paths", [1, 8, 16])
    def test_a_screen_of_360_pixels_needs_no_scrolling_sideways(
        self, browser: Browser, scripted: str, paths: int
    ) -> None:
        narrow = {"width": 360, "height": 720}
        with opened(browser, scripted, viewport=narrow, has_touch=True) as page:
            wide = "document.documentElement.scrollWidth"
            assert page.evaluate(wide) == 360
            page.get_by_role("slider", name="Paths").fill(str(paths))
            page.get_by_role("button", name="How to think").click()
            ask(page, f"A quick question with formulas, {'long ' * 20}{'x' * 200}")
            finish(page)
            page.get_by_role("button", name="Show path 1 wide").click()
            assert page.evaluate(wide) == 360
            page.get_by_role("button", name="History").click()
            expect(page.get_by_role("dialog")).to_be_visible()
            assert page.evaluate(wide) == 360


class TestWithoutEyesOrMouse:
    def test_the_keyboard_is_enough(self, browser: Browser, scripted: str) -> None:
        with opened(browser, scripted) as page:
            for name in ("History", "Switch to dark", "Question"):
                page.keyboard.press("Tab")
                expect(page.locator(":focus-visible")).to_have_accessible_name(re.compile(name))
            page.keyboard.type(QUESTION)
            page.keyboard.press("Tab")
            page.keyboard.press("ArrowLeft")
            expect(page.locator(".paths output")).to_have_text("7")
            page.keyboard.press("Shift+Tab")
            page.keyboard.press("Control+Enter")
            expect(page.locator(".lane")).to_have_count(7)
            page.keyboard.press("Escape")
            finish(page)
            for _ in range(12):
                page.keyboard.press("Tab")
                if page.locator(".lane .text:focus-visible").count():
                    break
            expect(page.locator(":focus-visible")).to_have_accessible_name("What path 1 wrote")

    def test_a_screen_reader_hears_three_announcements(
        self, browser: Browser, scripted: str
    ) -> None:
        with opened(browser, scripted) as page:
            page.evaluate(
                """() => {
                  window.heard = [];
                  const region = document.querySelector('[role=status]');
                  new MutationObserver(() => heard.push(region.textContent.trim()))
                    .observe(region, {childList: true, characterData: true, subtree: true});
                }"""
            )
            ask(page, QUESTION)
            finish(page)
            asked, first, answer = page.evaluate("heard")
            assert asked == "Asked. 8 paths are thinking."
            assert first.startswith("Path 4 finished first, after 9")
            assert answer.startswith("The answer: 360 is")
            assert answer.endswith("Answer: 24 2 of 8 paths say the same answer.")
            expect(page.get_by_role("region", name="Path 4, finished first")).to_be_visible()


class TestHistory:
    def test_answers_survive_a_reload_until_they_are_deleted(
        self, browser: Browser, scripted: str
    ) -> None:
        with opened(browser, scripted) as page:
            for number in (1, 2, 3):
                ask(page, f"A quick question, number {number}")
                finish(page)
            thought = page.locator(".lane .text").first.inner_text()
            page.reload()
            history = page.get_by_role("button", name="History 3")
            history.click()
            page.get_by_role("button", name="A quick question, number 3").first.click()
            expect(page.locator(".lane .text").first).to_have_text(thought, use_inner_text=True)
            expect(page.locator(".agreement")).to_contain_text("Paths 1 and 4 say the same answer")
            expect(page.locator("textarea")).to_have_value("A quick question, number 3")
            history.click()
            page.get_by_role("button", name="Delete: A quick question, number 2").click()
            expect(page.locator(".history li .question")).to_have_text(
                [
                    "A quick question, number 3",
                    "A quick question, number 1",
                ]
            )
            page.get_by_role("button", name="Delete all").click()
            assert page.evaluate("Object.keys(localStorage)") == []


class TestEmbeddedModel:
    def test_it_multiplies_before_ones_eyes(self, browser: Browser, served: str) -> None:
        with opened(browser, served) as page:
            page.locator(".chip").first.click()
            page.get_by_role("button", name="Think", exact=True).click()
            expect(page.locator(".prose")).to_contain_text(re.compile(r"Answer: \d+"))
            finish(page)
            expect(page.locator(".lane[data-state=finished-first]")).to_have_count(1)
            expect(page.locator(".lane")).to_have_count(8)
            assert min(tokens(page)) > 100
            expect(page.locator(".figures")).to_contain_text("of thought")

    def test_rounds_paths_and_seed_reach_it(self, browser: Browser, served: str) -> None:
        with opened(browser, served) as page:
            page.get_by_role("slider", name="Paths").fill("3")
            page.get_by_role("button", name="How to think").click()
            page.get_by_label("Seed").fill("7")
            page.get_by_label("Rounds").fill("2")
            page.get_by_label("Tokens a path").fill("20")
            texts = []
            for _ in range(2):
                ask(page, "What is 12 * 34?")
                finish(page)
                expect(page.get_by_role("tab")).to_have_count(2)
                expect(page.locator(".lane[data-state=out-of-tokens]")).to_have_count(3)
                texts.append(page.locator(".lane .text").all_inner_texts())
            assert texts[0] == texts[1]
            assert tokens(page) == [21, 21, 21]  # `<think i>` and 20 more

    def test_a_question_is_stopped_and_the_next_one_answered(
        self, browser: Browser, served: str
    ) -> None:
        with opened(browser, served) as page:
            page.get_by_role("slider", name="Paths").fill("16")
            page.get_by_role("button", name="How to think").click()
            page.get_by_label("Rounds").fill("4")
            ask(page, "What is 12345 * 67890?")
            expect(page.locator(".lane .text").first).to_have_text(re.compile(r"\d"))
            page.keyboard.press("Escape")
            finish(page)
            expect(page.locator("p[role=status]")).to_have_text("Stopped.")
            page.get_by_label("Rounds").fill("1")
            ask(page, "What is 12 * 34?")
            finish(page)
            expect(page.locator(".prose")).to_contain_text("Answer")

    def test_what_it_cannot_do_is_said_in_the_servers_words(
        self, browser: Browser, served: str
    ) -> None:
        with opened(browser, served) as page:
            ask(page, "many words " * 900)
            expect(page.locator(".trouble")).to_contain_text("token")
