"""What must hold of a page in a browser. Each check returns what is wrong, in sentences; nothing: it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Request

Rows = list[list[str]]
QUANTITY = re.compile(r"(-?\d+(?:\.(\d+))?)\s*(ms\b|s\b|%)?")
TOOK = re.compile(r"(\d+) (h|min|s)\b")
BASE = {"ms": 0.001, "s": 1.0, "%": 0.01, "": 1.0}
LEDGER = ("acked", "rejected", "indeterminate", "recovered", "lost", "lost_after_fault", "resurrected", "unexpected")
LEDGER += ("duplicated", "corrupt", "divergent", "stale", "unverified")
ROWS_JS = "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.replace(/\\s+/g, ' ').trim()))"
TREND_JS = "rows => rows.map(row => [row.dataset.trend, [...row.cells].slice(1).map(cell => cell.innerText.trim())])"
OVERLAPS_JS = """svgs => svgs.flatMap(svg => {
  const drawn = svg.getBoundingClientRect();
  const words = [...svg.querySelectorAll('text')].map(text => [text.firstChild.nodeValue, text.getBoundingClientRect()]);
  const outside = words.filter(([, box]) => box.left < drawn.left - 1 || box.right > drawn.right + 1);
  const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
                      && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
  const pairs = words.flatMap(([text, box], at) => words.slice(at + 1).filter(other => over(box, other[1]))
                     .map(other => `the words ${text} and ${other[0]} overlap`));
  return [...outside.map(([text]) => `the words ${text} are cut off`), ...pairs];
})"""


@dataclass
class Watched:
    """A page that is open, what it asked for, and what its console said."""

    page: Page
    asked: list[Request] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.asked.append(request))  # noqa: PLW0108  Playwright marks the function
        self.page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.console.append(f"pageerror: {error}"))

    def open(self, url: str) -> None:
        self.page.goto(url)


def wrong_with(watched: Watched) -> list[str]:
    """All that a page can have wrong whatever is on it."""
    page = watched.page
    found = [f"it asked for {url}" for url in [request.url for request in watched.asked] if url != page.url]
    found += [f"the console says {line}" for line in watched.console]
    widths = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    found += [f"it is {widths[0]} px wide in a window of {widths[1]} px"] if widths[0] > widths[1] else []
    found += page.locator("svg").evaluate_all(OVERLAPS_JS)
    return found


def axe_violations(page: Page) -> list[str]:
    """What axe-core finds, with the elements."""
    violations = Axe().run(page).response["violations"]
    return [f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}" for one in violations]


def shows(text: str, *values: float | None, slack: float = 0.0005) -> bool:
    """Whether the numbers in a text are these, as exactly as it shows them; seconds or shares, None where there is none.

    `slack`: how far a value in `result.json`, which is rounded, may be from what the page was made of.
    """
    found = list(QUANTITY.finditer(text))
    wanted = [value for value in values if value is not None]
    units = [match[3] or next((later[3] for later in found[number:] if later[3]), "") for number, match in enumerate(found)]
    return len(found) == len(wanted) and all(
        abs(float(match[1]) * BASE[unit] - value) <= 0.5001 * 10.0 ** -len(match[2] or "") * BASE[unit] + slack
        for match, unit, value in zip(found, units, wanted, strict=True)
    )


def rows_of(page: Page, region: str) -> Rows:
    """The cells of a table's body, by the id of the heading that names it."""
    return page.locator(f"[aria-labelledby={region}] tbody tr").evaluate_all(ROWS_JS)


def unlike_result(page: Page, result: Mapping[str, Any]) -> list[str]:
    """Where the page of a run says something else than its `result.json`."""
    return list(_unlike_result(page, result))


def _unlike_result(page: Page, result: Mapping[str, Any]) -> Iterator[str]:
    said = page.locator(".verdict strong").inner_text().split()[-1]
    if said != result["verdict"]:
        yield f"the verdict is {said}"
    took = page.locator(".facts div", has_text="took").locator("dd").inner_text()
    if not shows(took, result["duration_s"]):
        yield f"it took {took}"
    yield from _unlike_objectives(rows_of(page, "objectives"), result["objectives"])
    clocks = rows_of(page, "clocks")
    if len(clocks) != len(result["clocks"]):
        yield f"clocks: {len(clocks)} rows for {len(result['clocks'])}"
    for cells, clock in zip(clocks, result["clocks"], strict=False):  # a journey may have several
        keys = {2: "from_s", 3: "first_bad_s", 4: "last_bad_s", 5: "back_s"}
        yield from _unlike("clocks", [cells], keys, {clock["journey"]: clock})
        if not shows(cells[7], *ends_of(clock), clock["starved_s"] or None):
            yield f"clocks: {cells[0]} took {cells[7]}"
    services = page.locator("[aria-labelledby=ledger] thead th").all_inner_texts()
    yield from _unlike_ledger(services, rows_of(page, "ledger"), result["ledger"])
    journeys = {name: in_base(journey) for name, journey in result["journeys"].items()}
    columns = {1: "slots", 2: "bad", 3: "availability", 4: "p50_ms", 5: "p95_ms", 6: "p99_ms"}
    yield from _unlike("journeys", rows_of(page, "journeys"), columns, journeys)
    for cells in rows_of(page, "journeys"):
        outages = result["journeys"].get(cells[0], {}).get("outages", [])
        values = [one[key] for one in outages[:5] for key in ("at_s", *(["low_s"] if one["ended"] else []), "high_s")]
        if not shows(cells[7], *values, len(outages) - 5 if len(outages) > 5 else None):
            yield f"journeys: {cells[0]}: its outages are {outages}, and the page says {cells[7]}"
    faults = {fault["id"]: in_base(fault) for fault in result["faults"]}
    for fault in faults.values():
        fault["effective_s"] = None if fault["effective_s"] is None else fault["effective_s"] - fault["inject_s"]
    columns = {2: "inject_s", 3: "effective_s", 4: "heal_s", 5: "healed_s", 6: "skew_ms"}
    yield from _unlike("faults", rows_of(page, "faults"), columns, faults)


def ends_of(interval: Mapping[str, Any]) -> tuple[float | None, ...]:
    """What a page says of an interval: both ends, or one where it is zero or open."""
    return (0.0,) if interval["high"] == 0 else (interval["low"], interval["high"])


def in_base(values: Mapping[str, Any]) -> dict[str, Any]:
    """Milliseconds in seconds."""
    return {key: value / 1000 if key.endswith("_ms") and value is not None else value for key, value in values.items()}


def _unlike(region: str, rows: Rows, columns: Mapping[int, str], wanted: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Row by row: `columns` are keys of what is wanted, by their place."""
    if len(rows) != len(wanted):
        yield f"{region}: {len(rows)} rows for {len(wanted)}"
    found = {cells[0]: cells for cells in rows}
    for name, values in wanted.items():
        if (cells := found.get(name)) is None:
            yield f"{region}: {name} is missing"
            continue
        for place, key in columns.items():
            if not shows(cells[place], values[key], slack=0.0005 if key.endswith("_s") else 1e-6):
                yield f"{region}: {name}: {key} is {values[key]}, and the page says {cells[place]}"


def _unlike_objectives(rows: Rows, objectives: list[dict[str, Any]]) -> Iterator[str]:
    if len(rows) != len(objectives):
        yield f"objectives: {len(rows)} rows for {len(objectives)}"
    for cells, one in zip(rows, objectives, strict=False):
        said, measured, badge, why = cells[-4:]  # the first row of a service names it, too
        if not said.endswith(" ".join(one["objective"].split())) or badge.split()[-1] != one["verdict"]:
            yield f"objectives: {one['id']}: {cells}"
        if (measured, why) != (" ".join(one["measured"].split()), " ".join(one["why"].split())):
            yield f"objectives: {one['id']}: measured {measured!r}, why {why!r}"


def _unlike_ledger(services: list[str], rows: Rows, ledger: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    keys = [*LEDGER, "rpo_s"] if ledger else []
    if len(rows) != len(keys):
        yield f"ledger: {len(rows)} rows for {len(keys)}"
    for cells, key in zip(rows, keys, strict=False):
        for service, counts in ledger.items():
            if not shows(text := cells[services.index(service)], counts[key]):
                yield f"ledger: {service}: {key} is {counts[key]}, and the page says {text}"


def unlike_night(page: Page, night: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where the page of a game day says something else than its data, or than the results of its runs, by their cases."""
    return list(_unlike_night(page, night, results))


def _unlike_night(page: Page, night: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if page.locator(".verdict strong").inner_text() != night["verdict"]:
        yield "the verdict is another"
    counts = page.locator("[data-status]").evaluate_all("all => all.map(one => [one.dataset.status, one.innerText])")
    shown = {status: float(QUANTITY.search(text)[1]) for status, text in counts}
    if shown != {status: count for status, count in night["counts"].items() if count}:
        yield f"the counts are {shown}"
    bad = [case["id"] for case in night["cases"] if case["status"] != "as expected"]
    if sorted(page.locator("[data-attention]").evaluate_all("all => all.map(one => one.dataset.attention)")) != sorted(bad):
        yield "it draws attention to other runs"
    for cells, case in zip(rows_of(page, "runs"), night["cases"], strict=True):
        if not cells[1].endswith(case["status"]) or not cells[0].startswith(case["id"]):
            yield f"runs: {case['id']}: {cells}"
        if (
            abs(
                sum(float(number) * {"h": 3600, "min": 60, "s": 1}[unit] for number, unit in TOOK.findall(cells[4]))
                - case["seconds"]
            )
            > 1
        ):
            yield f"runs: {case['id']} took {case['seconds']} s, and the page says {cells[4]}"
        if case["id"] in results and not cells[3].startswith(results[case["id"]]["verdict"]):
            yield f"runs: {case['id']} came to {cells[3]}"
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    trend = {row: cells[0] for row, cells in page.locator("[data-trend]").evaluate_all(TREND_JS)}
    for experiment, result in results.items():
        for service, measured in result["services"].items():
            figures = {"RTO": measured["rto_s"], "failback": measured["failback_s"]}
            for figure, interval in figures.items():
                text = trend.get(f"{experiment} {service} {figure}", "–")
                if not (shows(text, *ends_of(interval)) if interval else text == "–"):
                    yield f"recovery: {experiment} {service} {figure} is {interval}, and the page says {text}"
            text = trend.get(f"{experiment} {service} RPO", "–")
            rpo_s = result["ledger"].get(service, {}).get("rpo_s")
            if not shows(text, rpo_s):
                yield f"recovery: {experiment} {service} RPO is {rpo_s}, and the page says {text}"
