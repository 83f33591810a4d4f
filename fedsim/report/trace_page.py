"""The picture of a trace set as a page: who is eligible when, for how long, with what battery and network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.report import trace_plots as plots
from fedsim.report.exhibit import Exhibit, Page, write_page
from fedsim.report.words import UNKNOWN, duration, large, percent
from fedsim.units import FloatArray, format_duration

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
RELATIVE = "Not drawn: the set has relative clocks, whose hour of day is unknown."
_MAX_NAME = 14  # letters of a device's name in a legend
_QUANTILE_NAMES = {"p5": "5 % below", "p25": "25 % below", "p50": "median", "p75": "75 % below", "p95": "95 % below"}


def write_trace_page(path: Path, portrait: Mapping[str, Any]) -> Path:
    """Write the page of a portrait (:func:`fedsim.traces.statistics.portrait.portrait`) and return its path."""
    overview = portrait["overview"]
    sections = [
        ("When devices are eligible", [_week(portrait)]),
        ("How long, and which devices", [_sessions(portrait), _devices(portrait)]),
        ("Battery", _battery(portrait)),
        ("Network", [_network(portrait)]),
        ("What is recorded", [_channels(overview)]),
    ]
    said = overview["provenance"]
    page = Page(
        kind="fedsim trace set",
        title=f"{said.get('source', 'Traces')}: {portrait['rule']}",
        lead=_lead(portrait),
        tiles=_tiles(portrait),
        sections=sections,
        facts=facts(said, unknown=portrait["unknown_counts_as"]),
    )
    return write_page(path, page)


def facts(provenance: Mapping[str, Any], *, unknown: str) -> list[tuple[str, str]]:
    """Where a trace set is from and what was done to it."""
    named = [(name, provenance.get(name)) for name in ("source", "licence", "importer")]
    files = [f"{file['name']} (sha256 {file['sha256'][:12]}…)" for file in provenance.get("files", [])]
    done = [("done", text) for text in provenance.get("transforms", [])]
    return [
        *((name, str(text)) for name, text in named if text is not None),
        *(("file", text) for text in files),
        *done,
        ("unknown", f"an unknown outcome of a rule counts as {unknown}"),
    ]


def _lead(portrait: Mapping[str, Any]) -> str:
    devices = portrait["devices"]
    ever = percent(1 - devices["n_never"] / devices["n"])
    return (
        f"Devices meet “{portrait['rule']}” {percent(portrait['mean_share'])} of the time; {ever} of them do so at all."
    )


def _tiles(portrait: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    overview, sessions = portrait["overview"], portrait["sessions"]
    n_local = overview["n_local_clocks"]
    median, rate = (None, 0.0) if sessions is None else (sessions["quantiles_s"]["p50"], sessions["per_device_day"])
    return [
        ("Devices", large(overview["n_devices"]), f"{large(n_local)} with local time"),
        ("Device-days", large(overview["device_days"]), f"{large(_n_events(overview))} events"),
        ("Eligible time", percent(portrait["mean_share"]), "of all device-time"),
        ("Never eligible", large(portrait["devices"]["n_never"]), "devices"),
        ("Sessions", f"{rate:.2f}", "per device and day"),
        ("Median session", duration(median), "half of the sessions are shorter"),
    ]


def _n_events(overview: Mapping[str, Any]) -> int:
    return sum(overview["n_events"].values())


def _week(portrait: Mapping[str, Any]) -> Exhibit:
    week, title = portrait["week"], "Eligible share by hour of the week"
    if week is None:
        return Exhibit(title, RELATIVE)
    days = _WEEKDAYS if week["has_weekdays"] else [f"day {n}" for n in range(1, 8)]
    by_hour = np.array(portrait["by_hour"])
    best, worst = int(by_hour.argmax()), int(by_hour.argmin())
    caption = (
        f"Over all days most at {best:02d} h ({percent(by_hour[best])}), fewest at {worst:02d} h "
        f"({percent(by_hour[worst])}). The stronger the shade, the more of the device-time; gray was not recorded."
    )
    if not week["has_weekdays"]:
        caption += " The set has no dates: its days are counted from its first one, the eighth falls on the first."
    rows = [
        [day, *_day_cells(share), f"{n:.1f}"]
        for day, share, n in zip(days, week["share"], week["device_days"], strict=True)
    ]
    header = ("", "mean", "least", "most", "device-days")
    return Exhibit(title, caption, plots.hour_of_week(week["share"], days), header, rows, is_wide=True)


def _day_cells(share: Sequence[float | None]) -> list[str]:
    known = [(value, hour) for hour, value in enumerate(share) if value is not None]
    if not known:
        return [UNKNOWN, "", ""]
    mean = percent(sum(value for value, _ in known) / len(known))
    return [mean, *(f"{percent(value)} at {hour:02d} h" for value, hour in (min(known), max(known)))]


def _sessions(portrait: Mapping[str, Any]) -> Exhibit:
    sessions, title = portrait["sessions"], "Length of sessions"
    if sessions is None:
        return Exhibit(title, "Not drawn: no device ever meets the rule.")
    curve, marks = sessions["curve"], sessions["marks"]
    caption = (
        f"{large(sessions['n'])} sessions. {percent(marks['sessions'][1])} of them last ten minutes or more "
        f"and hold {percent(marks['time'][1])} of the eligible time."
    )
    rows = [(_QUANTILE_NAMES[name], duration(value), "") for name, value in sessions["quantiles_s"].items()]
    columns = zip(marks["seconds"], marks["sessions"], marks["time"], strict=True)
    rows += [(f"{format_duration(length)} or more", percent(n), percent(time)) for length, n, time in columns]
    svg = plots.session_survival(*(np.array(curve[name]) for name in ("seconds", "sessions", "time")))
    return Exhibit(title, caption, svg, ("", "sessions", "of the time"), rows)


def _devices(portrait: Mapping[str, Any]) -> Exhibit:
    devices = portrait["devices"]
    curve = devices["curve"]
    svg = plots.availability_of_devices(
        np.array(curve["devices"]), np.array(curve["share"]), mean=portrait["mean_share"]
    )
    caption = f"{large(devices['n_never'])} of {large(devices['n'])} devices are never eligible."
    rows = [(_QUANTILE_NAMES[name], percent(value)) for name, value in devices["quantiles"].items()]
    rows.append(("mean over device-time", percent(portrait["mean_share"])))
    return Exhibit("Eligible time of each device", caption, svg, ("devices", "of their time"), rows)


def _battery(portrait: Mapping[str, Any]) -> list[Exhibit]:
    battery = portrait["battery"]
    if battery is None:
        return [Exhibit("Battery level", "Not drawn: the set records no battery.")]
    return [_paths(battery["paths"], portrait["overview"]), _band(battery["band"])]


def _paths(paths: Sequence[Mapping[str, Any]], overview: Mapping[str, Any]) -> Exhibit:
    title = "Battery level of a few devices"
    if not paths:
        return Exhibit(title, "Not drawn: no device's level is known most of the time.")
    drawn = [(_device(path["device_id"]), np.array(path["hours"]), _array(path["percent"])) for path in paths]
    slopes = {name: value for name, value in (overview["battery_percent_per_h"] or {}).items() if value is not None}
    levels = [(_QUANTILE_NAMES[name], f"{value:.0f} %") for name, value in overview["battery_percent"].items()]
    rows = [*levels, *((f"mean slope {name}", f"{value:+.1f} %/h") for name, value in slopes.items())]
    caption = "Devices from a low to a high mean level, midnight at each line. Numbers: all devices, weighted by time."
    return Exhibit(title, caption, plots.battery_paths(drawn), ("level", "of known time"), rows)


def _device(name: str) -> str:
    return f"device {name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + '…'}"


def _band(band: Sequence[Sequence[float] | None] | None) -> Exhibit:
    title = "Battery level by hour of day"
    if band is None:
        return Exhibit(title, RELATIVE)
    values = np.array([[np.nan] * 5 if row is None else row for row in band], dtype=np.float64)
    rows = [(f"{hour:02d} h", *(_level(value) for value in values[hour, [0, 2, 4]])) for hour in range(0, 24, 3)]
    caption = "Known levels of all devices at half past each hour."
    return Exhibit(title, caption, plots.battery_by_hour(values), ("", "5 %", "median", "95 %"), rows)


def _level(value: float) -> str:
    return UNKNOWN if np.isnan(value) else f"{value:.0f} %"


def _array(values: Sequence[float | None]) -> FloatArray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _network(portrait: Mapping[str, Any]) -> Exhibit:
    shares, title = portrait["network_by_hour"], "Network by hour of day"
    if shares is None:
        is_recorded = portrait["overview"]["n_events"]["network"] > 0
        return Exhibit(title, RELATIVE if is_recorded else "Not drawn: the set records no network.")
    columns = {name: np.array(values) for name, values in shares.items()}
    hours = (0, 6, 12, 18)
    overall = portrait["overview"]["time_shares"]["network"]
    rows = [
        (name, percent(overall[name]), *(percent(values[hour]) for hour in hours))
        for name, values in columns.items()
        if values.any()
    ]
    header = ("", "all day", *(f"{hour:02d} h" for hour in hours))
    caption = "None is known to be without a network; unknown is not known."
    return Exhibit(title, caption, plots.network_by_hour(columns), header, rows)


def _channels(overview: Mapping[str, Any]) -> Exhibit:
    rows = [
        (name, large(overview["n_events"][name]), ", ".join(f"{word} {percent(n)}" for word, n in said.items() if n))
        for name, said in overview["time_shares"].items()
    ]
    known = [f"{name} of {large(said['n_known'])} devices" for name, said in overview["facts"].items()]
    caption = f"Facts: {', '.join(known)}; {large(overview['n_hardware_classes'])} hardware classes."
    header = ("channel", "events", "share of device-time")
    return Exhibit("Channels and facts", caption, None, header, rows, is_wide=True)
