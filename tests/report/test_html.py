"""The page of a run."""

import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
import synthetic_runs
from synthetic_runs import JOURNEYS, Run, Script, aborted, failing, history, inconclusive, passing

from chaoslab.events import Load, Machine, Note, Probe
from chaoslab.record import Record
from chaoslab.report import html
from chaoslab.report.html import render_html
from chaoslab.result import ClockResult, Outage

HOSTILE = "</svg></style><script src=//evil.example/x.js>alert(1)</script>$\\frac\x1b[2J\x00'\"&{{7*7}}"
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, text, and whether every element is closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def render(run: Run) -> str:
    return render_html(run.result, run.experiment, run.stack, Record.of(run.rows), run.facts)


@pytest.fixture(scope="module", params=[passing, failing, inconclusive, aborted], ids=lambda make: make.__name__)
def page(request: pytest.FixtureRequest) -> Page:
    return Page(render(request.param()))


def assert_fetches_nothing(page: Page) -> None:
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "audio", "video", "source"}
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "href", "action") and (name != "xlink:href" or (value or "").startswith("#"))
            assert not re.search(r"https?:|//|@import|url\((?!#)", value or ""), (name, value)


def test_a_page_is_whole_and_fetches_nothing(page: Page) -> None:
    """Every element is closed in order; no script, no reference to anything outside; a policy that would forbid both."""
    assert not page.wrong
    assert not page.open
    assert_fetches_nothing(page)
    policies = [attributes.get("content") for _, attributes in page.tags if attributes.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


def test_the_style_sheet_fetches_nothing_and_knows_paper_and_night() -> None:
    """One inline style sheet, for light, dark and paper."""
    styles = "".join(re.findall(r"<style[^>]*>(.*?)</style>", render(aborted()), re.DOTALL))
    assert "@media print" in styles
    assert "prefers-color-scheme: dark" in styles
    assert not re.search(r"@import|https?:|url\(", styles)


def test_a_failed_run_says_what_failed_and_why() -> None:
    """Verdict, reasons, intervals, findings, what is left behind and the limits are all on the page, in words."""
    text = Page(render(failing())).text
    for wanted in (
        "fail — An objective was missed.",
        "pay was not back before the heal: down for at least 50.0 s, allowed are 45 s",
        "process 4711 (postgres) in /tmp/chaoslab-x",
        "22.7..22.8 s",
        "pay.transfer-w1-528",
        "SIGKILL ends processes, not the kernel: the page cache survives",
        "The links were relays",
        "chaoslab run idc-fire --runtime embedded",
        "RTO at least 59.7 s",
        "postgresql 16.14",
        "no answer within 2 s",
        "exit code 6",
    ):
        assert wanted in text, wanted
    finding = re.search(r"lost</th>.*?</tr>", render(failing()), re.DOTALL)
    assert finding
    assert finding.group().count("finding") == 1


def test_events_count_from_the_run_and_from_the_fault() -> None:
    """The healing of a fault that began 20 s into the run is told at both distances."""
    text = Page(render(passing())).text
    assert "78.40 s +58.40 s fault fire: site.power-loss pangyo: healed, seen from outside" in text
    assert "9.10 s steady: proving the steady state" in text


def test_a_run_without_a_fault_says_so() -> None:
    """Nothing was injected, so there is no table of faults, of ledgers or of journeys, and no empty picture."""
    page = Page(render(inconclusive()))
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert not ids & {"faults", "ledger", "journeys"}
    assert {"objectives", "timeline", "conditions", "events", "limits"} <= ids
    assert "nothing was injected" in page.text


def test_a_history_without_slots_still_makes_a_page() -> None:
    """A run that died while booting has neither slots nor objectives nor an anchor."""
    run = aborted()
    result = msgspec.structs.replace(run.result, services={}, journeys={}, objectives=[], faults=[], verdict="error")
    text = Page(render_html(result, run.experiment, run.stack, Record.of([]))).text
    assert "Nothing was probed in this run." in text
    assert "No objective was judged" in text


def _poisoned() -> Run:
    """Every string that a stack, a file or a tool may choose is hostile."""
    run = failing()
    journeys = {HOSTILE: JOURNEYS["auth.login"], "ㅎ한국어": JOURNEYS["auth.check"]}
    rows = [
        msgspec.structs.replace(row, error=HOSTILE, service=HOSTILE) if isinstance(row, Probe) and not row.good else row
        for row in history(Script({HOSTILE: [(20, 30, 1.0)]}, until_s=40, journeys=journeys))
    ]
    rows.append(Note(t_ns=rows[-1].t_ns, level="error", text=HOSTILE))
    result = run.result
    services = {HOSTILE: result.services["pay"]}
    objectives = [
        msgspec.structs.replace(result.objectives[2], id=f"{HOSTILE}.rto", measured=HOSTILE, objective=HOSTILE, why=HOSTILE)
    ]
    fault = msgspec.structs.replace(result.faults[0], id=HOSTILE, name=HOSTILE, target=HOSTILE)
    ledger = {HOSTILE: msgspec.structs.replace(result.ledger["pay"], examples={"lost": [HOSTILE]})}
    poisoned = msgspec.structs.replace(
        result,
        services=services,
        objectives=objectives,
        faults=[fault],
        ledger=ledger,
        reasons=[HOSTILE],
        warnings=[HOSTILE],
        left_behind=[HOSTILE],
        versions={HOSTILE: HOSTILE},
        journeys={HOSTILE: result.journeys["pay.transfer"]},
    )
    experiment = synthetic_runs.experiment(title=HOSTILE, hypothesis=HOSTILE)
    return Run(poisoned, rows, experiment, run.stack, {"host": {HOSTILE: HOSTILE}, "command": ["chaoslab", "run", HOSTILE]})


def test_hostile_strings_stay_text() -> None:
    """Whatever an answer, an id or a title holds, it adds no element, no attribute and no control code to the page."""
    source = render(_poisoned())
    page = Page(source)
    assert not page.wrong
    assert_fetches_nothing(page)
    assert "\x1b" not in source
    assert "\x00" not in source
    assert page.text.count("alert(1)") > 15  # it is shown, as text
    assert "{{7*7}}" in page.text


def test_an_outage_that_did_not_end_is_not_given_an_end() -> None:
    """What was still bad when we stopped looking is told as such."""
    run = failing()
    journey = msgspec.structs.replace(run.result.journeys["pay.balance"], outages=[Outage(20.0, 50.0, 50.0, 2500, ended=False)])
    result = msgspec.structs.replace(run.result, journeys={"pay.balance": journey})
    assert "at 20.0: not over after 50.0 s" in Page(render_html(result, run.experiment, run.stack, Record.of(run.rows))).text


def test_each_clock_is_shown_with_what_it_counts_from_and_what_was_masked() -> None:
    """From which event, to which slot, which faults came meanwhile, and what it came to; in the table and in the picture."""
    run = passing()
    clock = ClockResult(
        journey="pay.balance", service="pay", cause="again", event="heal", kind="rto", from_s=50.0, first_bad_s=50.5,
        last_bad_s=59.98, back_s=60.03, low=9.5, high=10.03, end="recovered", masked=["slow"], objective=45.0, verdict="pass",
    )  # fmt: skip
    result = msgspec.structs.replace(run.result, clocks=[*run.result.clocks, clock])
    text = Page(render_html(result, run.experiment, run.stack, Record.of(run.rows))).text
    assert "heal again; masked: slow 50.00 s 50.50 s 59.98 s 60.03 s recovery 9.5 to 10.0 s RTO 45.0 s" in text
    assert "RTO 9.5 to 10.0 s" in text
    assert "RTO 22.7 to 22.8 s" in text


def test_without_matplotlib_the_page_has_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures are an extra: without it the page says how to get them and keeps everything else."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run = failing()
    page = Page(render(run))
    assert "pip install 'chaoslab[report]'" in page.text
    assert "svg" not in {tag for tag, _ in page.tags}
    assert "2960" in page.text
    html.warm_up()  # and warming up does not mind


def test_nothing_imports_matplotlib_before_it_is_asked() -> None:
    """The command line stays quick: the page's module alone costs no matplotlib."""
    code = "import sys, chaoslab.report.html; sys.exit('matplotlib' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


def test_a_hundred_thousand_slots_make_a_small_page() -> None:
    """Slots are gathered into cells: a run of 120k slots, a third of them bad at random, still gives a page below 1.5 MB."""
    brown = {name: [(20.0, 90.0, 0.4)] for name in JOURNEYS}
    run = passing()
    rows = history(Script(brown, rate=175))
    assert sum(isinstance(row, Probe) for row in rows) > 120_000
    html.warm_up()
    begin = time.perf_counter()
    source = render_html(run.result, run.experiment, run.stack, Record.of(rows))
    took_s = time.perf_counter() - begin
    assert len(source.encode()) < 1_500_000
    assert took_s < 10, "an order of magnitude above what it should take: something became quadratic"


def test_a_long_run_has_no_more_cells_than_pixels() -> None:
    """The picture of an hour is no larger than that of a minute."""
    journeys = {"auth.check": JOURNEYS["auth.check"]}
    rows = history(Script({"auth.check": [(20.0, 3500.0, 0.5)]}, until_s=3600.0, rate=4, journeys=journeys))
    rows += machine_rows(until_s=3600)
    run = passing()
    assert len(render_html(run.result, run.experiment, run.stack, Record.of(rows)).encode()) < 1_500_000


def machine_rows(*, starved_s: range = range(0), until_s: int = 90) -> list[Machine]:
    """One a second; `starved_s` while others, with a hostile name, have everything."""
    quiet = {"pangyo": 0.3, "anyang": 0.3, "outside": 0.1, "load": 0.1, "harness": 0.2, "others": 0.1}
    return [
        Machine(
            t_ns=synthetic_runs.at(second + 1),
            begin_ns=synthetic_runs.at(second),
            busy=quiet | ({"others": 1.0} if second in starved_s else {}),
            starved=second in starved_s,
            late=["read"] if second in starved_s else [],
            why="the control's read was 2.10 s late" if second in starved_s else "",
            top=[f"{HOSTILE} (4711) 0.90"],
        )
        for second in range(until_s)
    ]


def test_starved_seconds_and_who_had_the_machine_are_drawn_and_told() -> None:
    """A strip for each owner, the starved seconds across all, and in words what was late and who had it."""
    run = passing()
    source = render_html(run.result, run.experiment, run.stack, Record.of([*run.rows, *machine_rows(starved_s=range(30, 34))]))
    page = Page(source)
    assert not page.wrong
    assert_fetches_nothing(page)
    drawn = source[source.rindex("<svg", 0, source.index(">the machine<")) : source.index("Who had the processors")]
    assert all(f">{owner}<" in drawn for owner in ("control", "pangyo", "anyang", "outside", "load", "harness", "others"))
    assert drawn.count("fill: var(--bad)") == 8
    assert "at 31.0 s: the control's read was 2.10 s late; by: others (" in page.text
    assert "at 34.0 s" in page.text


def test_a_run_without_rows_of_the_machine_has_no_such_strip() -> None:
    """As all runs from before there were any."""
    assert "Who had the processors" not in Page(render(passing())).text


def test_many_starved_seconds_are_told_in_short() -> None:
    """A page is no log."""
    run = passing()
    page = Page(
        render_html(run.result, run.experiment, run.stack, Record.of([*run.rows, *machine_rows(starved_s=range(20, 80))]))
    )
    assert "52 more in history.jsonl" in page.text


def _bad_heights_px(rows: list[Any]) -> list[float]:
    """How high the marks of bad slots rise, lane by lane, in the picture of these rows."""
    run = passing()
    source = render_html(run.result, run.experiment, run.stack, Record.of(rows))
    paths = re.findall(r'<path d="([^"]+)"[^>]*style="fill: var\(--bad\)', source)
    points = [[float(y) for _, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)] for path in paths]
    return [max(heights) - min(heights) for heights in points]


def test_the_timeline_shows_a_single_bad_slot() -> None:
    """One bad slot in thousands rises at least a quarter of its lane; where all are good nothing rises."""
    good = [row for row in history(Script({}), fault=False) if not isinstance(row, Load)]
    spoilt: list[Any] = list(good)
    place = next(number for number, row in enumerate(good) if isinstance(row, Probe) and row.due_ns > synthetic_runs.at(50))
    spoilt[place] = msgspec.structs.replace(spoilt[place], good=False)
    assert max(_bad_heights_px(good)) == 0
    assert [height > 3 for height in _bad_heights_px(spoilt)].count(True) == 1


def test_the_rate_of_the_probe_is_told_with_its_reason() -> None:
    """An interval is as narrow as the slots are dense: whoever reads it knows why they are no denser."""
    said = "The prober asked each journey 50 times a second: asked for with probe.rate; the objectives need 10."
    assert said in Page(render(passing())).text
