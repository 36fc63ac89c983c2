"""The page of a run."""

import dataclasses
import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import msgspec
import pytest
import synthetic_runs
from synthetic_runs import HOSTILE, JOURNEYS, Run, Script, aborted, failing, history, inconclusive, machine_rows, passing

from chaoslab.history.result import (
    AskResult,
    ClockResult,
    FunctionResult,
    Interval,
    OutageResult,
    RestoredResult,
    StartResult,
    StepResult,
)
from chaoslab.history.rows import Note, Probe
from chaoslab.judge.run_record import Record
from chaoslab.report import business
from chaoslab.report.html import render_html
from chaoslab.report.labels import interval_in_words

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
    limits = ["A limit of the runtime, <with> its words."]
    return render_html(run.result, run.experiment, run.stack, Record.of(run.rows), run.facts, limits)


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
        "A limit of the runtime, <with> its words.",
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
    assert "78.40 s +58.40 s fault fire: site.power-loss pangyo: healed, confirmed from outside" in text
    assert "9.10 s steady: checking the steady state" in text


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
    journey = msgspec.structs.replace(
        run.result.journeys["pay.balance"], outages=[OutageResult(20.0, 50.0, 50.0, 2500, ended=False)]
    )
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


def test_which_journeys_went_with_which_fault_is_shown_as_it_was_measured() -> None:
    """Lost with it, down before it, not touched by it, and not known where the fault was not seen to be in effect."""
    run = passing()
    fire = run.result.faults[0]
    clocks = [clock for clock in run.result.clocks if clock.journey != "partner.page"]
    masking = msgspec.structs.replace(next(one for one in clocks if one.journey == "pay.transfer"), masked=["late"])
    open_ended = msgspec.structs.replace(masking, journey="pay.balance", masked=[], high=None, back_s=None, low=20.0)
    others = [one for one in clocks if one.service != "pay"]
    more = [msgspec.structs.replace(fire, id=id_, verified=verified) for id_, verified in (("late", True), ("unseen", False))]
    result = msgspec.structs.replace(run.result, faults=[fire, *more], clocks=[*others, masking, open_ended])
    text = Page(render_html(result, run.experiment, run.stack, Record.of(run.rows))).text
    assert (
        f"pay.transfer back after {interval_in_words(Interval(masking.low, masking.high))} was already down not known" in text
    )
    assert "pay.balance not back within 20.0 s – not known" in text
    assert "partner.page – – not known: the effect of the fault was not seen" in text


def test_nothing_large_is_imported_for_a_page() -> None:
    """A run that has ended waits for its report: the charts cost no numpy and no plotting library."""
    code = "import sys, chaoslab.report.html; sys.exit(bool({'matplotlib', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


def test_a_hundred_thousand_slots_make_a_small_page() -> None:
    """Slots are gathered into cells: a run of 120k slots, a third of them bad at random, still gives a page below 1.5 MB."""
    brown = {name: [(20.0, 90.0, 0.4)] for name in JOURNEYS}
    run = passing()
    rows = history(Script(brown, rate=175))
    assert sum(isinstance(row, Probe) for row in rows) > 120_000
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


def test_starved_seconds_and_who_had_the_machine_are_told() -> None:
    """In words what was late and who had it, below the chart."""
    run = passing()
    source = render_html(run.result, run.experiment, run.stack, Record.of([*run.rows, *machine_rows(starved_s=range(30, 34))]))
    page = Page(source)
    assert not page.wrong
    assert_fetches_nothing(page)
    assert "at 31.0 s: the control's read was 2.10 s late; by: others (" in page.text
    assert "at 34.0 s" in page.text


def test_a_run_without_rows_of_the_machine_has_no_such_strip() -> None:
    """As all runs from before there were any."""
    assert "CPUs in use" not in Page(render(passing())).text


def test_many_starved_seconds_are_told_in_short() -> None:
    """A page is no log."""
    run = passing()
    page = Page(
        render_html(run.result, run.experiment, run.stack, Record.of([*run.rows, *machine_rows(starved_s=range(20, 80))]))
    )
    assert "52 more in history.jsonl" in page.text


def test_the_rate_of_the_probe_is_told_with_its_reason() -> None:
    """An interval is as narrow as the slots are dense: whoever reads it knows why they are no denser."""
    said = "Each journey was probed 50 times a second: set by probe.rate; the objectives need 10."
    assert said in Page(render(passing())).text


def test_the_business_reads_what_became_of_each_function() -> None:
    """One table in plain words, and none in the report of a run that was stored before there was one."""
    run = passing()
    functions = {
        "talk.send": FunctionResult(
            service="talk", title="Send a message", mode="allowed", disrupted_s=50.0, away_s=49.5, away_after_s=3.0,
            lost=0, used=True, failback_s=30.0, kept="kept",
        ),
        "talk.read": FunctionResult(
            service="talk", title="talk.read", mode="required", disrupted_s=50.0, away_s=2.0, away_after_s=0.0, rto_s=15.0,
            failback_s=30.0, kept="broken",
        ),
        "pay.transfer": FunctionResult(
            service="pay", title="Transfer money", mode="queued", disrupted_s=50.0, away_s=0.0, away_after_s=0.0, later_s=47.0,
            later=470, later_lost=3, lost=4, used=True, rto_s=15.0, kept="broken",
        ),
        "pay.balance": FunctionResult(
            service="pay", title=HOSTILE, mode="allowed", disrupted_s=50.0, away_s=0.0, away_after_s=0.0, used=False,
        ),
    }  # fmt: skip
    whole = render(replace(run, result=msgspec.structs.replace(run.result, functions=functions)))
    section = re.search(r'<section class="page">.*?</section>', whole, re.DOTALL)
    assert section
    text = Page(section.group()).text
    for sentence in (
        "the disruption lasted 50 s: no power in pangyo.",
        "Did not work at all during the disruption. After the disruption did not work for 3 s.",
        "May be unavailable during a disruption; back within 30 s after it.",
        "Did not work for 2 s.",
        "Back within 15 s during a disruption and within 30 s after it.",
        "For 47 s took requests to be carried out later (470): 3 of them never were. Lost 1 confirmed entry.",
        "During a disruption takes requests again within 15 s, to be carried out later; carries out all of them.",
        "Worked throughout. Could have used its degraded mode, but did not need to",
    ):
        assert sentence in text, sentence
    for jargon in ("RTO", "RPO", "p95", "slot", "ledger", "journey"):
        assert jargon not in text
    assert "For the business" not in Page(render(run)).text


def test_the_business_reads_of_a_planned_change() -> None:
    """Known bad: nothing was disrupted, and a function did not work for two seconds."""
    move = StepResult(id="move", kind="bring_about", status="done")
    function = FunctionResult(
        service="pay", title="Transfer money", mode="required", disrupted_s=0.0, away_s=0.0, away_after_s=2.0,
        failback_s=60.0, kept="kept",
    )  # fmt: skip
    result = msgspec.structs.replace(passing().result, faults=[], steps=[move], functions={"pay.transfer": function})
    assert business.disruption(result) == "In this rehearsal a planned change was made while users were served."
    (told,) = business.told(result).values()
    assert (told.happened, told.promised) == ("Did not work for 2 s.", "Back within 1 min after it.")


def test_the_return_after_a_heal_is_shown_in_order() -> None:
    """Services, replicas, and failed connections; nothing of that without such an objective."""
    run = failing()
    back = {"fault": "anyang", "from_s": 30.0, "low": 20.0, "high": 24.0, "objective": 45.0, "verdict": "pass"}
    asked = [("pay", "pg:5432", 9, 31.0), ("<auth>", "talk:8080", 7, 33.0), ("pay", "auth:8080", 2, 30.0)]
    result = msgspec.structs.replace(
        run.result,
        restored=[RestoredResult(service="partner", back_s=50.0, **back), RestoredResult(service="pay", back_s=None, **back)],
        starts=[
            StartResult(replica="etcd-anyang", service="etcd", fault="anyang", from_s=30.0, after_s=4.2),
            StartResult(replica="pg-anyang", service="pg", fault="anyang", from_s=30.0, after_s=None),
        ],
        unanswered=[AskResult(client=who, target=whom, times=n, first_s=at, last_s=52.0) for who, whom, n, at in asked],
    )
    page = Page(render(dataclasses.replace(run, result=result)))
    assert page.wrong == page.open == []
    for words in ("anyang, at 30.0 s partner at 50.0 s 20.0 to 24.0 s", "pay never", "etcd-anyang etcd after 4.2 s"):
        assert words in page.text
    assert "pg-anyang pg never" in page.text
    assert "<auth> at 33.0 s at 52.0 s talk:8080 7 × pay at 30.0 s at 52.0 s pg:5432 9 ×, auth:8080 2 ×" in page.text
    other = Page(render(run)).text
    for heading in ("Order of recovery", "Start order of replicas", "Failed connections between replicas"):
        assert heading in page.text
        assert heading not in other


def test_who_decided_and_when_is_told_and_what_is_not_known_has_no_figures() -> None:
    """By the stack or by people; what was only declared stands apart."""
    run = passing()
    decisions, writers = synthetic_runs.decided()
    page = Page(render(replace(run, result=msgspec.structs.replace(run.result, decisions=decisions, writers=writers))))
    assert "pay inject fire, pay.transfer the stack 19.84 s 0.20 s 1.90 s 1.14 s 23.08 s 0.21 s" in page.text
    assert "talk inject fire, talk.send hand 19.84 s 0.20 s 1.90 s 1.14 s 623.08 s 600.0 s of it declared 0.21 s" in page.text
    assert "auth inject fire, auth.login no split: decided was not seen 4.50 s –" in page.text
    assert "Who decides, and when" not in Page(render(run)).text
    assert not page.wrong
