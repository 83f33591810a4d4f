"""The evidence of a decision: sections 4 to 11, each from what its stage found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedsim.decide.campaign import Tried, basis_of
from fedsim.decide.decision import Decision
from fedsim.plan.judge import interval
from fedsim.plan.quantities import QUANTITIES
from fedsim.plan.words import amount_of
from fedsim.report.decision_plots import Curve, shares_by_hour
from fedsim.report.decision_plots import learning as drawn_learning
from fedsim.report.exhibit import Exhibit
from fedsim.report.words import metric_name, percent
from fedsim.units import FloatArray

_LOADS = ("updates_per_s", "checkins_per_s", "ingress_bytes_per_s", "egress_bytes_per_s")
_STATISTICS = ("mean", "p95", "p99", "peak_minute")
_SHORT_DAYS = 1.0  # below it figures are in hours


def participants(decision: Decision) -> list[Exhibit]:
    """Criteria from strict to loose: shares of phones by hour, and what is left of the trace set."""
    rows = decision.constraints["criteria"]
    if not rows:
        return [Exhibit("Criteria", "Not looked at.")]
    floor = [each.limit for each in decision.requirements if each.metric == "admitted_fraction.min_hour"]
    svg = shares_by_hour({row["rule"]: row["by_hour"] for row in rows}, need=floor[0] if floor else None)
    table = [
        (
            row["rule"] + (" (used)" if row["rule"] == decision.rule else ""),
            percent(row["values"]["admitted_fraction.mean"]),
            percent(row["values"]["admitted_fraction.min_hour"]),
            percent(row["values"]["never_participating_fraction"]),
        )
        for row in rows
    ]
    used = "None meets the thresholds." if decision.rule is None else "The first that meets the thresholds is used."
    left = [
        (
            row["rule"], *(percent(row["left"][kind]) for kind in ("devices", "sessions", "device_hours")),
            f"{row['sessions_per_device_day']:.2f}",
        )
        for row in decision.constraints["ladder"]
    ]  # fmt: skip
    return [
        Exhibit("Phones that may be asked", f"From strict to loose. {used} Never: of 20,000 phones in four weeks.", svg,
                ("criterion", "mean", "scarcest hour", "never"), table),
        Exhibit("What each criterion leaves of the traces", f"{decision.constraints['n_traces']:,} recorded phones.",
                None, ("criterion", "phones", "windows", "hours", "windows a phone and day"), left, is_wide=True),
    ]  # fmt: skip


def trainable(decision: Decision) -> list[Exhibit]:
    """What a session takes of the phones, by model."""
    if not decision.models:
        return [Exhibit("Models", "Not looked at.")]
    rows = []
    for row in decision.models:
        q = row["quantiles"]
        rows.append(
            (
                row["model"], percent(row["values"]["models.feasible_share"]), percent(row["unknown"]),
                *(percent(row["exceeds"][limit]) for limit in ("ram", "time", "battery")),
                *(_quantile(q, name, "p50", unit) for name, unit in _OF_SESSION),
                *(_quantile(q, name, "p95", unit) for name, unit in _OF_SESSION),
            )
        )  # fmt: skip
    header = (
        "model", "feasible", "unknown", "over RAM", "over time", "over battery",
        *(f"{name}, median" for name in _NAMES), *(f"{name}, 95 %" for name in _NAMES),
    )  # fmt: skip
    limits = ", ".join(f"{name} {value:g}" for name, value in decision.models[0]["limits"].items() if value is not None)
    caption = f"Phones: {decision.models[0]['phones']}. Limits of a session: {limits or 'none'}."
    return [Exhibit("A session on the phones", caption, None, header, rows, is_wide=True)]


_OF_SESSION = (("session_s", "s"), ("train_s", "s"), ("battery_percent", "%"))
_NAMES = ("session", "training", "battery")


def _quantile(quantiles: Mapping[str, Any], name: str, which: str, unit: str) -> str:
    found = quantiles.get(name)
    return "unknown" if found is None or which not in found else f"{found[which]:.3g} {unit}"


def held(decision: Decision) -> list[Exhibit]:
    """How much phones hold, and how unlike they are."""
    data = decision.data
    if data is None:
        return [Exhibit("Data", "Not looked at.")]
    sizes = sorted(data["sizes"].items(), key=lambda each: float(each[0][1:]))
    rows = [
        ("clients", f"{data['n_clients']:,}"),
        ("examples of a client, mean", f"{data['size_mean']:.4g}"),
        *((f"examples of a client, {name}", f"{value:g}") for name, value in sizes),
        ("most examples", f"{data['size_most']:,}"),
        *((f"label {name}", percent(share)) for name, share in list((data["labels"] or {}).items())[:10]),
        ("label ICC", "not defined" if data["label_icc"] is None else f"{data['label_icc']:.3f}"),
    ]
    kind = {
        "natural": "The ids of the data are those of its users.",
        "proxy": "A proxy: compare with `fedsim data closeness` before believing the quality.",
        "synthetic": "A generator: the quality says nothing of yours.",
    }[data["kind"]]
    of_icc = "ICC: share of the labels' variance that lies between clients; 0 is chance."
    caption = f"{kind} {of_icc} By {data['n_looked_at']:,} clients."
    return [Exhibit("Clients", caption, None, ("", ""), rows)]


def learning(decision: Decision) -> list[Exhibit]:
    """Curves of the candidates that were trained, and how they end beside the central model."""
    trained = [each for each in decision.tried if any(fact is not None for fact in each.facts)]
    if not trained:
        return [Exhibit("Training", "No candidate was trained.")]
    metrics = list(dict.fromkeys(name for each in trained for fact in _known(each) for name in fact["curves"]))
    if not metrics:
        return [Exhibit("Training", "The runs train nothing.")]
    asked = [each.metric for each in decision.requirements if each.level == "must" and each.metric in metrics]
    return [*(_curves(trained, name) for name in dict.fromkeys(asked or metrics[:1])), _ends(trained, metrics)]


def _known(tried: Tried) -> list[Mapping[str, Any]]:
    return [each for each in tried.facts if each is not None]


def _curves(trained: Sequence[Tried], metric: str) -> Exhibit:
    longest = max(fact["curves"][metric]["days"][-1] for each in trained for fact in _known(each))
    unit, size = ("hours", 24.0) if longest < _SHORT_DAYS else ("days", 1.0)
    curves = [found for each in trained if (found := _curve(each, metric, size)) is not None]
    central = [fact["central"][metric] for each in trained for fact in _known(each) if metric in fact["central"]]
    mean = sum(central) / len(central) if central else None
    svg = drawn_learning(curves, metric=metric_name(metric), central=mean, unit=unit)
    rows = [(each.label, f"{each.mean[-1]:.4f}", f"{each.days[-1]:.3g} {unit}") for each in curves]
    caption = "Mean over seeds, as far as all of them came, and the range of the seeds."
    return Exhibit(f"Held-out {metric_name(metric)}", caption, svg, ("candidate", "at the end", "after"), rows)


def _curve(tried: Tried, metric: str, size: float) -> Curve | None:
    """Mean and range of the seeds at 100 instants between the latest start and the first end."""
    curves = [each["curves"][metric] for each in _known(tried) if len(each["curves"][metric]["days"]) > 1]
    if not curves:
        return None
    first, last = max(each["days"][0] for each in curves), min(each["days"][-1] for each in curves)
    days = np.linspace(first, last, 100)
    values = np.array([np.interp(days, each["days"], each["value"]) for each in curves])
    return Curve(
        tried.candidate.arm, (days * size).tolist(), values.mean(axis=0).tolist(), values.min(axis=0).tolist(),
        values.max(axis=0).tolist(),
    )  # fmt: skip


def _ends(trained: Sequence[Tried], metrics: Sequence[str]) -> Exhibit:
    rows = []
    for each in trained:
        for name in metrics:
            pairs = [(fact["values"][name], fact["central"][name]) for fact in _known(each) if name in fact["central"]]
            values = np.array([fact["values"][name] for fact in _known(each)])
            difference = np.array([ours - theirs for ours, theirs in pairs])
            rows.append(
                (
                    each.candidate.arm, each.candidate.model, metric_name(name), f"{values.mean():.4f}",
                    f"{np.mean([theirs for _, theirs in pairs]):.4f}" if pairs else "not trained",
                    _with_interval(difference),
                )
            )  # fmt: skip
    header = ("arm", "model", "metric", "federated", "central", "difference, 95 %")
    caption = "At the end of the runs; differences seed by seed, with Student's t interval of 95 %."
    return Exhibit("Beside the central model", caption, None, header, rows, is_wide=True)


def _with_interval(values: FloatArray) -> str:
    """Mean over seeds with its 95 % interval; unknown of none."""
    if not len(values):
        return "unknown"
    low, high = interval(values, 0.95)
    return f"{values.mean():.4f} ({low:.4f} … {high:.4f})" if high > low else f"{values.mean():.4f}"


def _proposal(decision: Decision) -> list[Mapping[str, Any]]:
    return [] if decision.ruling is None else _known(decision.ruling.proposal)


def carried(decision: Decision) -> list[Exhibit]:
    """Loads of servers and links of the proposed candidate."""
    facts = _proposal(decision)
    if not facts:
        return [Exhibit("Loads", "No run of the candidate.")]
    rows = [(name.replace("_per_s", "").replace("_", " "), *(_mean_of(facts, f"{name}.{each}") for each in _STATISTICS))
            for name in _LOADS]  # fmt: skip
    most = decision.spec.aggregator.max_workers
    more = [
        ("aggregator workers", _mean_of(facts, "aggregators") + (f" of {most} at most" if most else "")),
        ("phones in a session, 99 % of seconds", _mean_of(facts, "connections.p99")),
    ]
    header = ("", "mean", "95 % of seconds", "99 % of seconds", "busiest minute")
    caption = "Means over seeds of each run's own figure. `fedsim forecast` on the runs tells more, by hour of day too."
    return [
        Exhibit("Loads", caption, None, header, rows, is_wide=True),
        Exhibit("Servers", "Workers: the fewest with which 99 % of the reports wait no longer than allowed.", None,
                ("", ""), more),
    ]  # fmt: skip


def _mean_of(facts: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [each["values"][name] for each in facts if name in each["values"]]
    if not values:
        return "unknown"
    return amount_of(sum(values) / len(values), QUANTITIES[name].unit)


def money(decision: Decision) -> list[Exhibit]:
    """Of one campaign and of a year."""
    facts, basis = _proposal(decision), basis_of(decision.spec)
    if not facts:
        return [Exhibit("Money", "No run of the candidate.")]
    names = ("usd_per_model", "usd_per_year", "kwh_per_model", "kg_co2e_per_model")
    rows = [(QUANTITIES[name].meaning, _mean_of(facts, name)) for name in names]
    caption = (
        f"Prices of {basis.prices.date}; a campaign every {basis.retrain_days:g} days. Network "
        f"{basis.constants.network_kwh_per_gb:g} kWh/GB ({basis.constants.network_kwh_per_gb_low:g} to "
        f"{basis.constants.network_kwh_per_gb_high:g}): nobody knows it, and it decides much of energy and carbon."
    )
    return [Exhibit("One campaign", caption, None, ("", ""), rows)]


def phones(decision: Decision) -> list[Exhibit]:
    """What it takes from phones."""
    facts = _proposal(decision)
    if not facts:
        return []
    names = (
        "device_hours", "wasted_device_time_fraction", "dropout_fraction", "battery_percent_per_participation.p50",
        "battery_percent_per_participation.p99", "battery_percent_per_device_week.p99", "bytes_per_device_month.p50",
        "bytes_per_device_month.p99", "metered_bytes_fraction",
    )  # fmt: skip
    rows = [(QUANTITIES[name].meaning, _mean_of(facts, name)) for name in names]
    return [
        Exhibit("What it takes from phones", "Of the phones that were asked; means over seeds.", None, ("", ""), rows)
    ]


def fairness(decision: Decision) -> list[Exhibit]:
    """The last model by groups of phones, beside the central one."""
    facts = _proposal(decision)
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for fact in facts:
        for row in fact["groups"]:
            if row["value"] is not None:
                groups.setdefault((row["metric"], row["grouping"], row["group"]), []).append(row)
    if not groups:
        return [Exhibit("Groups", "Not evaluated: fairness.groups names none, or nothing was trained.")]
    first = next(iter(groups))[0]
    rows = []
    for (metric, grouping, group), found in groups.items():
        if metric != first:
            continue
        central = [row["central_value"] for row in found if row["central_value"] is not None]
        values = np.array([row["value"] for row in found])
        rows.append(
            (
                grouping, group, f"{np.mean([row['n_devices'] for row in found]):,.0f}",
                _with_interval(values),
                f"{np.mean(central):.4f}" if central else "not trained",
            )
        )  # fmt: skip
    caption = f"Held-out {metric_name(first)} of the last model, means over seeds with 95 % intervals."
    header = ("respect", "group", "phones drawn", "federated", "central")
    return [Exhibit("Quality by group", caption, None, header, rows, is_wide=True)]


def privacy(decision: Decision) -> list[Exhibit]:
    """A stage that is not there yet, and says so."""
    asked = decision.spec.privacy.get("mechanism", "none")
    return [
        Exhibit("Privacy", f"Not evaluated. The specification asks for: {asked}. Nothing here counts as passed; the "
                "sign-offs below stay open."),
    ]  # fmt: skip
