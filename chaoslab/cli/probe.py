"""`chaoslab probe URL…`: the prober alone, to run during a real drill."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click
import msgspec

from chaoslab.clock import NS_PER_S, SYSTEM, utc_now
from chaoslab.errors import ExitCode
from chaoslab.judge.outages import Outage
from chaoslab.probe.endpoint import Endpoint
from chaoslab.probe.standalone import Asked, Change, Findings, UrlFindings, probe_urls
from chaoslab.units import parse_duration_s

_UNRELIABLE = "more than 1 % of the slots were sent late: this machine stalled, and the measurements cannot be relied on"


class _Duration(click.ParamType[float]):
    """A duration such as 500ms; its value is seconds, above 0."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration_s(value)
        except ValueError as wrong:
            self.fail(str(wrong), param, ctx)
        if seconds <= 0:
            self.fail(f"{value!r} is not longer than 0", param, ctx)
        return seconds


@click.command("probe")
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("--rate", type=click.FloatRange(0, 1000, min_open=True), default=50.0, show_default=True, help="Slots a second.")
@click.option("--for", "for_s", type=_Duration(), default=None, help="How long; without it, until Ctrl-C.")
@click.option("--within", "within_s", type=_Duration(), default="500ms", show_default=True, help="Time limit of a good answer.")
@click.option("--timeout", "timeout_s", type=_Duration(), default="1s", show_default=True, help="Give up on a slot after this.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end; progress goes to stderr.")
def probe_command(
    urls: tuple[str, ...], rate: float, for_s: float | None, within_s: float, timeout_s: float, as_json: bool
) -> None:
    """Watch URLs (http://, https://, tcp://host:port) and measure every outage as an interval.

    A slot is sent every 1/RATE seconds, whether or not the ones before it were answered; half of them use new connections.
    An answer is good if its status is 200 to 399 and it is in time. Redirects are not followed. As in a run, an outage ends at
    the first of 25 good slots in a row that last half a second or more. A slot that is sent more than one period late is
    skewed; if more than 1 % are, this machine itself stalled, and the measurements cannot be relied on.

    Exit codes: 0 no outage, 1 at least one, 2 wrong command line, 3 the prober itself could not keep time.
    """
    for url in urls:
        Endpoint.parse(url)  # a wrong URL is an error before anything is printed
    anchor = _Anchor(utc_now(), SYSTEM.now_ns())
    period = f"for {for_s:g} s" if for_s is not None else "until Ctrl-C"
    click.echo(f"probing {', '.join(urls)}: {rate:g} slots a second {period}", err=as_json)

    def print_change(change: Change) -> None:
        when_ns = change.outage.good_after_ns if change.event == "ended" else change.outage.first_bad_ns
        at = anchor.wall(when_ns or change.outage.first_bad_ns).astimezone()
        what = f"DOWN  {change.error}" if change.event == "began" else f"UP    after {_interval(change.outage)}"
        click.echo(f"{at:%H:%M:%S.%f}"[:-3] + f"  {change.url}  {what}", err=as_json)

    found = probe_urls(list(dict.fromkeys(urls)), Asked(rate, for_s, within_s, timeout_s), print_change)
    if not found.trustworthy:
        click.echo(_UNRELIABLE, err=True)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(as_object(found, anchor)), indent=2).decode())
    else:
        for watched in found.urls:
            share = 100 * watched.good / watched.slots if watched.slots else 0.0
            click.echo(f"\n{watched.url}: {watched.slots} slots, {watched.good} good ({share:.2f} %), {watched.skewed} skewed")
            for number, (outage, error) in enumerate(zip(watched.outages, watched.errors, strict=True), 1):
                at = anchor.wall(outage.first_bad_ns).astimezone()
                click.echo(f"  outage {number}: {at:%H:%M:%S}  {_interval(outage)}  {outage.slots} bad slots  {error}")
            if watched.slots and not watched.outages:
                click.echo("  no outage")
    if not found.slots or not found.trustworthy:
        code = ExitCode.INCONCLUSIVE
    else:
        code = ExitCode.FAIL if any(url.outages for url in found.urls) else ExitCode.PASS
    click.get_current_context().exit(code)


class _Anchor:
    """Converts monotonic instants to wall-clock time."""

    def __init__(self, wall: datetime, at_ns: int) -> None:
        self._wall, self._at_ns = wall, at_ns

    def wall(self, at_ns: int) -> datetime:
        return self._wall + timedelta(seconds=(at_ns - self._at_ns) / NS_PER_S)


def as_object(found: Findings, anchor: _Anchor) -> dict[str, Any]:
    """Sums over all URLs; with several, also the figures of each. `at` is seconds since the first slot was due.

    `reliable` is False if more than 1 % of the slots were sent late (`skewed`).
    """
    whole = {"slots": found.slots, "good": found.good, "skewed": found.skewed, "reliable": found.trustworthy}
    several = len(found.urls) > 1
    listed = [
        {"url": watched.url, **outage} if several else outage
        for watched in found.urls
        for outage in _outage_objects(watched, found.t0_ns, anchor)
    ]
    whole["outages"] = sorted(listed, key=lambda outage: float(outage["at"]))  # type: ignore[assignment]
    if several:
        whole["urls"] = {  # type: ignore[assignment]
            watched.url: {
                **{"slots": watched.slots, "good": watched.good, "skewed": watched.skewed},
                "outages": _outage_objects(watched, found.t0_ns, anchor),
            }
            for watched in found.urls
        }
    return whole


def _outage_objects(watched: UrlFindings, t0_ns: int, anchor: _Anchor) -> list[dict[str, Any]]:
    return [
        {
            "at": round((outage.first_bad_ns - t0_ns) / NS_PER_S, 6),
            "low_s": round(outage.low_s, 6),
            "high_s": None if outage.high_s is None else round(outage.high_s, 6),
            "slots": outage.slots,
            "at_utc": anchor.wall(outage.first_bad_ns).isoformat(timespec="milliseconds"),
            "error": error,
        }
        for outage, error in zip(watched.outages, watched.errors, strict=True)
    ]


def _interval(outage: Outage) -> str:
    if outage.high_s is not None:
        return f"{outage.low_s:.3f} to {outage.high_s:.3f} s"
    side = "had begun before the first slot" if outage.good_before_ns is None else "had not ended at the last slot"
    return f"at least {outage.low_s:.3f} s ({side})"
