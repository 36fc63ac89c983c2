"""The pages of a game day and of its runs, as people see them: a real game day on the mini stack, in a real browser.

`chaoslab gameday` is the only thing that makes these pages here. What each check catches is at the end.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from checks import Watched, axe_violations, unlike_night, unlike_result, wrong_with
from mini_stack import assert_nothing_left
from night import EXPECTED, Played, case, night_of, play
from playwright.sync_api import Browser, Page, sync_playwright

from chaoslab.gameday import pages
from chaoslab.gameday.tally import Proof, Status

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

LOOKS: dict[str, dict[str, Any]] = {
    "wide": {"viewport": {"width": 1280, "height": 900}},
    "narrow": {"viewport": {"width": 360, "height": 800}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "paper": {"viewport": {"width": 688, "height": 1000}},  # A4 without its margins
}
PAGES = ("night", "calm", "missed", "unsettled")  # `late` is like `missed`
OUTCOMES: tuple[Status, ...] = ("as expected", "not as expected", "inconclusive", "broken")
POLICY = '<meta http-equiv="Content-Security-Policy"'
Opener = Callable[..., Watched]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One night for all of these tests."""
    return play(tmp_path_factory.mktemp("night"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Without a browser the tests are skipped, unless CHAOSLAB_REQUIRE_BROWSER says that none may be."""
    names = (os.environ.get("CHAOSLAB_BROWSER", ""), "chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        missing = "no browser here: apt-get install chromium, or name one with CHAOSLAB_BROWSER"
        if os.environ.get("CHAOSLAB_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:  # Chromium has no sandbox for root
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.getuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture
def look_at(chromium: Browser) -> Iterator[Opener]:
    """Opens a file as it looks wide, narrow, dark or on paper; what it asks for outside of the disk gets no answer."""
    contexts = []

    def look_at(file: Path, look: str = "wide") -> Watched:
        contexts.append(context := chromium.new_context(**LOOKS[look]))
        context.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
        watched = Watched(context.new_page())
        watched.page.emulate_media(media="print" if look == "paper" else "screen")
        watched.open(file.as_uri())
        return watched

    yield look_at
    for context in contexts:
        context.close()


def file_of(played: Played, name: str) -> Path:
    """The page of the game day, or that of a run, by its case."""
    reports = {one["id"]: one["report"] for one in played.night["cases"]}
    return played.folder / (pages.INDEX if name == "night" else reports[name])


def test_the_program_runs_a_night(played: Played) -> None:
    """One run passes, a known-bad fails as stated, one fails, one is inconclusive, and one does not fit into the budget."""
    assert {one["id"]: one["status"] for one in played.night["cases"]} == EXPECTED, played.err
    assert (played.code, played.night["verdict"]) == (1, "fail")
    for one in played.night["cases"]:
        if one["report"]:
            assert_nothing_left((played.folder / one["report"]).parent.resolve())


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_sound(played: Played, look_at: Opener, name: str, look: str) -> None:
    """It fits the window, no words overlap, the console is empty, nothing from outside, and axe-core has no complaint."""
    watched = look_at(file_of(played, name), look)
    assert wrong_with(watched) == []
    assert axe_violations(watched.page) == []


@pytest.mark.parametrize("name", [name for name, status in EXPECTED.items() if status != "not run"])
def test_the_numbers_of_a_run_are_those_of_its_result(played: Played, look_at: Opener, name: str) -> None:
    assert unlike_result(look_at(file_of(played, name)).page, played.result(name)) == []


def results_of(played: Played) -> dict[str, dict[str, Any]]:
    return {one["id"]: played.result(one["id"]) for one in played.night["cases"] if one["report"]}


def test_the_numbers_of_a_night_are_those_of_its_results(played: Played, look_at: Opener) -> None:
    assert unlike_night(look_at(file_of(played, "night")).page, played.night, results_of(played)) == []


def test_a_night_tells_of_the_nights_before(played: Played, look_at: Opener) -> None:
    """What changed, since when an objective is not proven, and the figures of every game day."""
    page = look_at(file_of(played, "night")).page
    text = " ".join(page.locator("body").inner_text().split())
    assert "missed: not as expected (1 of 2 as expected) → not as expected" in text
    assert "drill: new → not run" in text
    assert page.locator('[data-proof="missed 9 days ago"]').inner_text().endswith("RPO of app, RTO of app")
    assert "failback of app" in page.locator('[data-proof="missed never"]').inner_text()
    assert "RTO of app" in page.locator('[data-proof="calm this game day"]').inner_text()
    assert "late" not in page.locator("[aria-labelledby=proofs]").inner_text()  # a known-bad proves nothing of a stack
    page.locator("[data-experiment=calm] summary").click()
    cells = page.locator('[data-trend="calm app failback"] td').all_inner_texts()
    assert cells[-2:] == ["at least 8.0 s", "at least 8.0 s"]


@pytest.mark.parametrize("look", ["narrow", "paper"])
def test_a_crowded_night_is_sound(look_at: Opener, tmp_path: Path, look: str) -> None:
    """Many runs, most of them repeated, long names and reasons, and two weeks before it; `k of n` for what was repeated."""
    names = [f"the-{number}-experiment-of-a-suite-with-long-names" for number in range(12)]
    cases = [case(name, status, 1.0, repeat=repeat) for name in names for repeat, status in enumerate(OUTCOMES, 1)]
    cases = [msgspec.structs.replace(one, why=f"{'word ' * 50}{'x' * 200}") for one in cases]
    before = [night_of(f"2026-11-{day:02}T02:00:00+00:00", cases) for day in range(1, 15)]
    proofs = [Proof(experiment=name, objective="app.rto", last_proven=before[5].started_at) for name in names]
    night = night_of("2026-11-15T02:00:00+00:00", cases, proofs=proofs)
    (tmp_path / "page.html").write_bytes(pages.render(night, before)[pages.INDEX])
    watched = look_at(tmp_path / "page.html", look)
    assert wrong_with(watched) == []
    assert axe_violations(watched.page) == []
    repeated = watched.page.locator(f'[data-repeated="{names[0]}"]').inner_text()
    assert repeated.endswith("not as expected (1 of 4 as expected)")


def test_a_night_leads_to_each_report(played: Played, look_at: Opener) -> None:
    page = look_at(file_of(played, "night")).page
    for one in played.night["cases"]:
        links = page.locator(f'[data-case="{one["id"]}"] a')
        assert links.count() == (one["status"] != "not run")
        if links.count():
            links.click()
            assert page.locator(".facts dd").first.inner_text() == one["experiment"]
            page.go_back()


def test_a_page_can_be_printed(played: Played, look_at: Opener) -> None:
    """As PDF, on a few pages."""
    for name in PAGES:
        pdf = look_at(file_of(played, name)).page.pdf(format="A4", prefer_css_page_size=True)
        assert pdf.startswith(b"%PDF")
        assert 1 <= pdf.count(b"/Type /Page\n") <= 6, name


# --- known bad: a page with one thing wrong, and what the checks say of it ------------------------------------------------

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
SPOILT = {
    "an image from outside": ("<img alt='' src='http://192.0.2.1/x.png'>", "it asked for http://192.0.2.1/x.png"),
    "a script that fails": ("<script>throw Error('broken')</script>", "the console says pageerror: broken"),
    "a warning": ("<script>console.warn('old')</script>", "the console says warning: old"),
    "too wide": ("<p style='width: 1400px'>wide</p>", "px wide in a window of"),
    "words over words": ("<svg viewBox='0 0 99 9'><text y='9'>one</text><text y='9'>two</text></svg>", "words one and two"),
    "words cut off": ("<svg viewBox='0 0 9 9' width='9'><text y='9'>a long sentence</text></svg>", "are cut off"),
    "pale words": ("<p style='color: #bbb'>pale</p>", "color-contrast"),
    "an image without words": (f"<img src='{PIXEL}'>", "image-alt"),
    "a heading without words": ("<h2></h2>", "empty-heading"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_wrong_with_a_page_is_seen(tmp_path: Path, look_at: Opener, name: str) -> None:
    """On an otherwise sound page without a policy."""
    added, said = SPOILT[name]
    colours = "background: white; color: black"
    (tmp_path / "page.html").write_text(
        f"<!doctype html><html lang=en><title>t</title><body style='{colours}'><main><h1>page</h1>{added}</main></body></html>"
    )
    watched = look_at(tmp_path / "page.html")
    assert said in " ".join([*wrong_with(watched), *axe_violations(watched.page)])


def test_the_policy_stops_a_request(played: Played, look_at: Opener, tmp_path: Path) -> None:
    """What got into a page all the same is stopped before it leaves the browser; the console says so."""
    source = file_of(played, "calm").read_text()
    assert POLICY in source
    (tmp_path / "page.html").write_text(source.replace("</main>", "<img alt='' src='http://192.0.2.1/x.png'></main>"))
    watched = look_at(tmp_path / "page.html")
    assert "Content Security Policy" in " ".join(wrong_with(watched))
    assert [request.failure for request in watched.asked if request.url.startswith("http")] == ["csp"]


ALTER_JS = "cell => { cell.innerText = cell.innerText.replace(/\\d/, digit => (+digit + 1) % 10) }"


def altered(page: Page, selector: str) -> None:
    """The first digit in the first of these that has one."""
    page.locator(selector).filter(has_text=re.compile(r"\d")).first.evaluate(ALTER_JS)


@pytest.mark.parametrize(
    "selector",
    [
        ".facts div:has(dt:text-is('took')) dd",
        *(f"[aria-labelledby={region}] tbody td" for region in ("objectives", "clocks", "ledger", "journeys", "faults")),
        "[aria-labelledby=clocks] tbody td:nth-child(8)",
        "[aria-labelledby=ledger] tbody tr:last-child td",
        "[aria-labelledby=journeys] tbody td:nth-child(5)",
        "[aria-labelledby=journeys] tbody td:nth-child(8)",
    ],
)
def test_an_altered_number_of_a_run_is_seen(played: Played, look_at: Opener, selector: str) -> None:
    page = look_at(file_of(played, "calm")).page
    altered(page, selector)
    assert unlike_result(page, played.result("calm")) != []


@pytest.mark.parametrize(
    "selector",
    [
        "[data-status]",
        "[data-case=calm] .number",
        *(f"[data-trend='calm app {figure}'] td:nth-child(2)" for figure in ("RTO", "RPO", "failback")),
    ],
)
def test_an_altered_number_of_a_night_is_seen(played: Played, look_at: Opener, selector: str) -> None:
    page = look_at(file_of(played, "night")).page
    altered(page, selector)
    assert unlike_night(page, played.night, results_of(played)) != []
