"""The pictures of a report, drawn by matplotlib as small inline SVG whose colours are the page's own variables.

matplotlib takes a second to import, so nothing here does so before it is asked; `warm_up` asks early, beside a run.
Instants are seconds of the run. Pictures share their margins, so that the same instant stands at the same place in each.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chaoslab.report.cells import Lane, Latencies, Use
from chaoslab.report.words import interval_in_words, one_line
from chaoslab.result import FaultResult, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib wants real colours and the page wants variables: each of these stands for one and is exchanged in the end.
_NAMES = ("ink", "quiet", "grid", "good", "bad", "fault", "heal", "line", "paper")
INK, QUIET, GRID, GOOD, BAD, FAULT, HEAL, LINE, PAPER = (f"#0102{number:02x}" for number in range(len(_NAMES)))
_DPI = 72  # one unit of the SVG is one pixel of the page
_WIDTH_PX, _LEFT_PX, _RIGHT_PX = 1000, 124, 24
_LANE_PX, _HEAD_PX, _PANEL_PX, _GAP_PX, _AXIS_PX = 19, 27, 66, 16, 38
_BAD_HEIGHT_MIN = 0.3  # a single bad slot must not vanish
_LETTER_PX = 6.2
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "chaoslab",
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.size": 11,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": QUIET,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "hatch.linewidth": 1.0,
}


@dataclass(frozen=True)
class Band:
    """A phase of the run, for the strip on top."""

    name: str
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class Mark:
    """An interval above a service's lanes: from what it counts (`begin_s`), and how it ended.

    With `drawn` false it stands there in words alone: after several faults a worst interval has no one place.
    """

    service: str
    name: str
    begin_s: float
    interval: Interval
    drawn: bool = True


@dataclass(frozen=True)
class Loads:
    """Locust, second by second."""

    at_s: list[float]
    rps: list[float]
    failures: list[float]


def warm_up() -> None:
    """Import matplotlib and read its fonts, so that the report after a run need not wait. May run in a thread.

    Raises ImportError when the `report` extra is not installed, as does all drawing.
    """
    lane = Lane("warm", "up", 0.0, 1.0, 0.5, [0.0, 1.0])
    timeline([lane], [], [], [])
    machine(Use([0.0, 1.0], {"warm": [1.0]}, [], 1.0), [lane], [])
    load_and_latency(Loads([0.0, 1.0], [1.0, 1.0], [0.0, 1.0]), [Latencies("up", [0.5], [1.0], [2.0])], [lane], [])


def timeline(lanes: Sequence[Lane], bands: Sequence[Band], faults: Sequence[FaultResult], marks: Sequence[Mark]) -> str:
    """Phases and faults on top; below, for each service, its intervals and one strip of good and bad slots a journey."""
    services = list(dict.fromkeys(lane.service for lane in lanes))
    head_px = _HEAD_PX * (bool(bands) + len(faults)) + _GAP_PX // 2
    body_px = head_px + len(services) * (_HEAD_PX + _GAP_PX // 2) + len(lanes) * _LANE_PX + 4
    with _style():
        figure = _figure(body_px + _AXIS_PX)
        axes = _axes(figure, 0, body_px, _limits(lanes))
        axes.set_ylim(body_px, 0)  # one unit is one pixel, counted from the top
        axes.set_yticks([])
        _shade(axes, faults)
        _draw_head(axes, bands, faults)
        y = float(head_px)
        for service in services:
            _draw_marks(axes, y, service, [mark for mark in marks if mark.service == service])
            y += _HEAD_PX
            for lane in (lane for lane in lanes if lane.service == service):
                _draw_lane(axes, y, lane)
                y += _LANE_PX
            y += _GAP_PX // 2
        return _svg(figure)


def machine(use: Use, lanes: Sequence[Lane], faults: Sequence[FaultResult]) -> str:
    """Under the journeys: the seconds in which the machine was starved, then a strip for each owner of its processors."""
    body_px = _HEAD_PX + (1 + len(use.busy)) * _LANE_PX + 4
    with _style():
        figure = _figure(body_px + _AXIS_PX)
        axes = _axes(figure, 0, body_px, _limits(lanes))
        axes.set_ylim(body_px, 0)
        axes.set_yticks([])
        _shade(axes, faults)
        _label(axes, _HEAD_PX / 2 + 3, "the machine", bold=True)
        axes.text(
            axes.get_xlim()[0], _HEAD_PX / 2 + 3, f"full height: {use.peak:.1f} processors", va="center_baseline", fontsize=10.5
        )
        _label(axes, _HEAD_PX + _LANE_PX / 2, "control")
        _draw_starved(axes, use, body_px)
        for number, (owner, busy) in enumerate(use.busy.items(), 1):
            _draw_owner(axes, _HEAD_PX + number * _LANE_PX, owner, use, busy)
        return _svg(figure)


def _draw_starved(axes: Axes, use: Use, bottom: float) -> None:
    """The control was in time, or it was not, which goes through all strips."""
    top, height = _HEAD_PX + 2, _LANE_PX - 4
    axes.barh(top + height / 2, use.edges[-1] - use.edges[0], height=height, left=use.edges[0], color=GOOD, zorder=2)
    for begin_s, end_s in use.starved:
        axes.barh(top + height / 2, end_s - begin_s, height=height, left=begin_s, color=BAD, linewidth=0, zorder=3)
        middle = (top + height + bottom) / 2
        axes.barh(middle, end_s - begin_s, height=bottom - top - height, left=begin_s, color=BAD, alpha=0.16, zorder=1)


def _draw_owner(axes: Axes, top: float, owner: str, use: Use, busy: Sequence[float]) -> None:
    bottom, height = top + _LANE_PX - 2, _LANE_PX - 4
    _label(axes, top + _LANE_PX / 2, owner)
    heights = [bottom - height * used / (use.peak or 1.0) for used in busy]
    axes.stairs(heights, use.edges, baseline=bottom, fill=True, color=LINE, linewidth=0, zorder=3)
    axes.plot([use.edges[0], use.edges[-1]], [bottom, bottom], color=GRID, linewidth=0.8, zorder=2)


def load_and_latency(loads: Loads, latencies: Sequence[Latencies], lanes: Sequence[Lane], faults: Sequence[FaultResult]) -> str:
    """Requests and failures a second; below, for each service, the band from p50 to p95 of its good slots."""
    panels = len(latencies) + bool(loads.at_s)
    with _style():
        figure = _figure(panels * (_PANEL_PX + _GAP_PX) + _AXIS_PX)
        tops = iter(range(_GAP_PX, panels * (_PANEL_PX + _GAP_PX), _PANEL_PX + _GAP_PX))
        drawn = [_axes(figure, top, _PANEL_PX, _limits(lanes)) for top in tops]
        if loads.at_s:
            _draw_load(drawn[0], loads)
        for axes, service in zip(drawn[bool(loads.at_s) :], latencies, strict=True):
            _draw_latency(axes, service, _decades(latencies))
        for axes in drawn:
            _shade(axes, faults)
        for axes in drawn[:-1]:
            axes.tick_params(labelbottom=False)
            axes.set_xlabel("")
        return _svg(figure)


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Our settings while we draw. Names in scripts that matplotlib's own font lacks are no news: the browser has fonts."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its news of font caches would land in the live view
    import matplotlib as mpl  # noqa: PLC0415 -- heavy, and an extra

    with mpl.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def _figure(height_px: int) -> Figure:
    from matplotlib.figure import Figure  # noqa: PLC0415 -- heavy, and an extra

    return Figure(figsize=(_WIDTH_PX / _DPI, height_px / _DPI), dpi=_DPI, facecolor="none")


def _axes(figure: Figure, top_px: float, height_px: float, limits: tuple[float, float]) -> Axes:
    total_px = figure.get_figheight() * _DPI
    width_px = _WIDTH_PX - _LEFT_PX - _RIGHT_PX
    bottom_px = total_px - top_px - height_px
    axes = figure.add_axes(
        (_LEFT_PX / _WIDTH_PX, bottom_px / total_px, width_px / _WIDTH_PX, height_px / total_px)  # shares of the figure
    )
    axes.set_xlim(*limits)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=3, width=0.8, labelsize=10.5)
    axes.set_xlabel("seconds of the run", fontsize=10.5, loc="right")
    return axes


def _limits(lanes: Sequence[Lane]) -> tuple[float, float]:
    begin_s, end_s = min(lane.begin_s for lane in lanes), max(lane.end_s for lane in lanes)
    return begin_s, max(end_s, begin_s + 1.0)


def _shade(axes: Axes, faults: Sequence[FaultResult]) -> None:
    """While a fault is in force, and while it is being healed; a line where it began."""
    for fault in faults:
        end_s = axes.get_xlim()[1] if fault.heal_s is None else fault.heal_s
        axes.axvspan(fault.inject_s, end_s, facecolor=FAULT, alpha=0.10, linewidth=0, zorder=0)
        axes.axvline(fault.inject_s, color=FAULT, linewidth=1.2, zorder=1)
        if fault.heal_s is not None:
            axes.axvline(fault.heal_s, color=HEAL, linewidth=1.2, zorder=1)
            axes.axvspan(end_s, fault.healed_s or axes.get_xlim()[1], facecolor=HEAL, alpha=0.10, linewidth=0, zorder=0)


def _draw_head(axes: Axes, bands: Sequence[Band], faults: Sequence[FaultResult]) -> None:
    middle = _HEAD_PX / 2
    if bands:
        _label(axes, middle, "phase", quiet=True)
        for band in bands:
            _bar(axes, middle, band.begin_s, band.end_s, band.name, facecolor=GRID, alpha=0.55)
        middle += _HEAD_PX
    for fault in faults:
        end_s = axes.get_xlim()[1] if fault.heal_s is None else fault.heal_s
        _label(axes, middle, fault.id, quiet=True)
        _bar(axes, middle, fault.inject_s, end_s, one_line(f"{fault.name} {fault.target}"), facecolor=FAULT, alpha=0.45)
        if fault.heal_s is not None:
            healed_s = fault.healed_s or axes.get_xlim()[1]
            _bar(axes, middle, end_s, healed_s, "healing", facecolor=HEAL, alpha=0.35, hatch="////", edgecolor=PAPER)
        middle += _HEAD_PX


def _bar(axes: Axes, middle: float, begin_s: float, end_s: float, text: str, **look: Any) -> None:
    """A bar as high as a lane, with its text in it where it fits."""
    begin_s, end_s = max(begin_s, axes.get_xlim()[0]), min(end_s, axes.get_xlim()[1])
    if end_s <= begin_s:
        return
    gap_s = 1.5 / _px_per_s(axes)  # so that neighbours can be told apart
    axes.barh(middle, end_s - begin_s - gap_s, height=_LANE_PX - 2, left=begin_s, linewidth=0, zorder=2, **look)
    if len(text) * _LETTER_PX + 10 <= _px(axes, end_s) - _px(axes, begin_s):
        offset_s = 5 / _px_per_s(axes)
        axes.text(begin_s + offset_s, middle, text, va="center_baseline", fontsize=10.5, zorder=6)


def _draw_marks(axes: Axes, top: float, service: str, marks: Sequence[Mark]) -> None:
    """`|-----[=]` from the fault to the recovery, the thick end as long as what is not known; a diamond at the objective."""
    _label(axes, top + _HEAD_PX / 2 + 3, service, bold=True)
    level, free_px = top + _HEAD_PX - 6, 0.0
    ordered = sorted(marks, key=lambda mark: mark.begin_s)
    for number, mark in enumerate(ordered):
        if mark.drawn:
            until_s = ordered[number + 1].begin_s if number + 1 < len(ordered) else axes.get_xlim()[1]
            _draw_mark(axes, level, mark, until_s)
        free_px = _above(axes, level, mark, free_px)


def _draw_mark(axes: Axes, level: float, mark: Mark, until_s: float) -> None:
    high = mark.interval.high
    end_s = axes.get_xlim()[1] if high is None else mark.begin_s + high
    style = ":" if high is None else "-"
    axes.plot([mark.begin_s, end_s], [level, level], color=INK, linewidth=1.1, linestyle=style, zorder=3)
    axes.plot([mark.begin_s], [level], marker="|", markersize=8, color=INK, zorder=3)
    if high is not None:
        axes.plot(
            [mark.begin_s + mark.interval.low, end_s], [level, level], color=INK, linewidth=5, solid_capstyle="butt", zorder=4
        )
    _draw_limit(axes, level, mark, until_s)


def _draw_limit(axes: Axes, middle: float, mark: Mark, until_s: float) -> None:
    """The objective, but for one that lies beyond the next mark, to which it would seem to belong."""
    objective = mark.interval.objective
    if objective and mark.begin_s + objective <= until_s:
        look: dict[str, Any] = {"marker": "D", "markersize": 5.5, "markerfacecolor": PAPER, "markeredgecolor": INK}
        axes.plot([mark.begin_s + objective], [middle], markeredgewidth=1.2, zorder=5, **look)


def _above(axes: Axes, level: float, mark: Mark, free_px: float) -> float:
    """An interval in words, above its line but right of `free_px` and within the picture; returns where the words end."""
    words = f"{mark.name} {interval_in_words(mark.interval)}"
    width_px = len(words) * _LETTER_PX
    at_px = min(_px(axes, mark.begin_s) + 5, _px(axes, axes.get_xlim()[1]) - width_px)
    at_px = max(at_px, free_px)
    axes.text(axes.get_xlim()[0] + at_px / _px_per_s(axes), level - 4, words, va="baseline", fontsize=10.5, zorder=5)
    return at_px + width_px + 8


def _draw_lane(axes: Axes, top: float, lane: Lane) -> None:
    bottom, height = top + _LANE_PX - 2, _LANE_PX - 4
    _label(axes, top + _LANE_PX / 2, lane.journey)
    edges, shares = lane.steps()
    heights = [bottom - height * max(share, _BAD_HEIGHT_MIN) if share else bottom for share in shares]
    axes.barh(bottom - height / 2, lane.end_s - lane.begin_s, height=height, left=lane.begin_s, color=GOOD, zorder=2)
    axes.stairs(heights, edges, baseline=bottom, fill=True, color=BAD, linewidth=0, zorder=3)


def _draw_load(axes: Axes, loads: Loads) -> None:
    axes.plot(loads.at_s, loads.rps, color=LINE, linewidth=1.5, zorder=3)
    axes.fill_between(loads.at_s, loads.failures, step=None, color=BAD, linewidth=0, alpha=0.8, zorder=2)
    axes.set_ylim(0, max(loads.rps) * 1.12 + 1)
    axes.locator_params(axis="y", nbins=3)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    _title(axes, "load", "requests/s", "failed, filled")


def _draw_latency(axes: Axes, service: Latencies, decades: tuple[float, float]) -> None:
    p50, p95 = ([math.nan if value is None else value for value in values] for values in (service.p50_ms, service.p95_ms))
    axes.set_yscale("log")
    axes.set_ylim(*decades)
    axes.fill_between(service.at_s, p50, p95, color=LINE, alpha=0.22, linewidth=0, zorder=2)
    axes.plot(service.at_s, p95, color=LINE, linewidth=1.3, zorder=3)
    axes.plot(service.at_s, p50, color=LINE, linewidth=0.9, linestyle=(0, (2, 1.5)), zorder=3)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    _title(axes, service.service, "latency, ms", "p95 and p50")


def _decades(latencies: Sequence[Latencies]) -> tuple[float, float]:
    """One scale for all services: whole powers of ten around everything that was measured."""
    values = [value for service in latencies for value in (*service.p50_ms, *service.p95_ms) if value]
    low, high = min(values, default=1.0), max(values, default=10.0)
    return 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high * 1.01))


def _title(axes: Axes, *lines: str) -> None:
    """What a panel shows, left of its scale."""
    for number, line in enumerate(lines):
        look: dict[str, Any] = {"fontsize": 11.5, "weight": "bold"} if not number else {"fontsize": 10, "color": QUIET}
        at_px = (-_LEFT_PX, _PANEL_PX - 10 - 15 * number)
        axes.annotate(_short(line), at_px, xycoords="axes pixels", annotation_clip=False, **look)


def _label(axes: Axes, middle: float, text: str, *, bold: bool = False, quiet: bool = False) -> None:
    look: dict[str, Any] = {"weight": "bold", "fontsize": 11.5} if bold else {"fontsize": 10.5}
    look["color"] = QUIET if quiet else INK
    begin_s = axes.get_xlim()[0] - (_LEFT_PX - (0 if bold or quiet else 10)) / _px_per_s(axes)
    axes.text(begin_s, middle, _short(text), va="center_baseline", **look)


def _short(text: str) -> str:
    room = int(_LEFT_PX / _LETTER_PX) - 2
    text = one_line(text)
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _px_per_s(axes: Axes) -> float:
    begin_s, end_s = axes.get_xlim()
    return (_WIDTH_PX - _LEFT_PX - _RIGHT_PX) / float(end_s - begin_s)


def _px(axes: Axes, at_s: float) -> float:
    return (at_s - float(axes.get_xlim()[0])) * _px_per_s(axes)


def _svg(figure: Figure) -> str:
    """The drawing alone: no prologue, no metadata, no namespaces that an HTML page does without; colours as variables."""
    sink = io.StringIO()
    figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    raw = sink.getvalue()
    drawing = re.sub(r' xmlns(:xlink)?="[^"]*"', "", raw[raw.index("<svg") :], count=2)
    drawing = drawing.replace("<svg ", '<svg aria-hidden="true" ', 1)
    for number, name in enumerate(_NAMES):
        drawing = drawing.replace(f"#0102{number:02x}", f"var(--{name})")
    return drawing
