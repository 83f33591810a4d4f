"""The cost of a task over device classes, for a terminal of 80 columns; never more than a few dozen lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedsim.units import format_bytes, format_count, format_duration

_UNKNOWN = "unknown"
_LIMITS = {"ram": "max_ram_fraction", "time": "max_session_s", "battery": "max_battery_percent"}


def render_costs(told: Mapping[str, Any]) -> RenderableType:
    """The dictionary that ``fedsim cost --json`` writes (without its classes), as text and two tables."""
    summary = told["summary"]
    lines = [*_task_lines(told), *_phones_lines(told, summary)]
    return Group(Text("\n".join(lines)), _quantiles(summary), _named(summary["named"]))


def render_sizes(told: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Several models beside each other, a line for each."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("down", "up", "memory", "train s", "session s", "p5–p95", "batt. %", "within"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in told:
        table.add_row(*_size_row(each))
    summary, task = told[0]["summary"], told[0]["task"]
    limits = ", ".join(f"{name} {told[0]['limits'][key]:g}" for name, key in _LIMITS.items())
    lines = [
        f"models    like {task['model'].removesuffix(' (scaled)')}; FLOPs in proportion to their size, as many layers",
        f"work      {_examples(task)} × {task['epochs']:g} epochs: {task['n_steps']:,} steps of {task['batch_size']}",
        *_classes_lines(told[0]),
        f"limits    {limits}",
        f"figures   medians over {summary['n_sessions']:,} planned sessions",
    ]
    return Group(Text("\n".join(lines)), table, Text("\n".join(_beyond(each) for each in told)))


def _size_row(told: Mapping[str, Any]) -> list[str]:
    task, quantiles = told["task"], told["summary"]["quantiles"]
    session = quantiles["session_s"]
    spread = (
        [_UNKNOWN, ""] if session is None else ["{p50:.3g}".format(**session), "{p5:.3g}–{p95:.3g}".format(**session)]
    )
    return [
        format_bytes(task["download_bytes"]),
        format_bytes(task["upload_bytes"]),
        format_bytes(sum(task["memory_bytes"].values())),
        _or_unknown((quantiles["train_s"] or {}).get("p50"), "{:.3g}".format),
        *spread,
        _or_unknown((quantiles["battery_percent"] or {}).get("p50"), "{:.2g}".format),
        f"{told['summary']['feasible']['yes']:.1%}",
    ]


def _beyond(told: Mapping[str, Any]) -> str:
    """``5.0 MB: beyond ram 2.4%, time 14.7%``."""
    over = [f"{name} {share:.1%}" for name, share in told["summary"]["exceeds"].items() if share]
    return f"{format_bytes(told['task']['download_bytes'])}: beyond {', '.join(over) or 'no limit'}"


def _examples(task: Mapping[str, Any]) -> str:
    n = task["n_examples"] * task["examples_each"]
    return f"{n:,} examples" + (f" ({task['n_examples']:,} of the data)" if task["examples_each"] > 1 else "")


def render_profiles(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Measured steps (rows of :data:`fedsim.schema.PROFILES`) as medians."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("kind", "batch", "steps", "median ms", "fastest ms", "peak memory"):
        table.add_column(column, justify="left" if column == "kind" else "right")

    def key(row: Mapping[str, Any]) -> tuple[str, int]:
        return row["kind"], row["batch_size"]

    for (kind, batch_size), group in groupby(sorted(rows, key=key), key=key):
        steps = list(group)
        times = [1000 * row["step_s"] for row in steps]
        peak = _or_unknown(steps[0]["peak_bytes"], format_bytes)
        table.add_row(kind, str(batch_size), str(len(steps)), f"{median(times):.3g}", f"{min(times):.3g}", peak)
    head = f"{rows[0]['op']} on {rows[0]['device']}, {rows[0]['n_threads']} thread(s)"
    return Group(Text(head), table)


def _task_lines(told: Mapping[str, Any]) -> list[str]:
    task = told["task"]
    memory = ", ".join(f"{name} {format_bytes(size)}" for name, size in task["memory_bytes"].items() if size)
    lines = [
        f"model     {task['model']}, {task['n_parameters']:,} parameters",
        *_work_lines(told),
        f"example   {format_count(task['forward_flops_per_example'])}FLOP forward, "
        f"{format_count(task['training_flops_per_example'])}FLOP with backward, "
        f"{format_bytes(task['lookup_bytes_per_example'])} of embeddings",
        f"memory    {format_bytes(sum(task['memory_bytes'].values()))}: {memory}",
        f"bytes     {format_bytes(task['download_bytes'])} down, {format_bytes(task['upload_bytes'])} up, "
        f"assets {format_bytes(task['assets_bytes'])} once, {format_bytes(task['storage_bytes'])} kept on the phone",
        *_feature_lines(task),
    ]
    if task["not_counted"]:
        lines.append(f"not counted as FLOPs  {_not_counted(task['not_counted'])}")
    return lines


def _work_lines(told: Mapping[str, Any]) -> list[str]:
    """What the median phone works through."""
    task = told["task"]
    return [
        f"work      {_examples(task)} × {task['epochs']:g} epochs: {task['n_steps']:,} steps of "
        f"{task['batch_size']}, {format_count(task['training_flops_per_epoch'])}FLOP an epoch"
    ]


def _feature_lines(task: Mapping[str, Any]) -> list[str]:
    if not any(task["features"].values()):
        return []
    homes = ", ".join(f"{len(names)} {home}" for home, names in task["features"].items())
    line = f"features  {homes}; {task['embedding_rows']:,} embedding rows"
    if task["refreshed_bytes_per_day"]:
        line += f"; assets renewed {format_bytes(task['refreshed_bytes_per_day'])} a day"
    if task["freshness_s"]:
        name, age_s = min(task["freshness_s"].items(), key=lambda item: float(item[1]))
        line += f"; outdated first: {name}, after {format_duration(age_s)}"
    return [line]


def _not_counted(modules: Mapping[str, Mapping[str, float]]) -> str:
    """``LayerNorm (native_layer_norm), Net (relu, sum): 95 numbers an example``."""
    named = ", ".join(f"{module} ({', '.join(operators)})" for module, operators in modules.items())
    total = sum(size for operators in modules.values() for size in operators.values())
    return f"{named}: {format_count(total)} numbers an example"


def _classes_lines(told: Mapping[str, Any]) -> list[str]:
    law = told["compute"]["_target_"].rpartition(".")[2].removesuffix("Compute").lower()
    return [f"phones    {told['summary']['n_classes']:,} classes: {told['phones']}; law {law}"]


def _phones_lines(told: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    feasible = summary["feasible"]
    lines = [
        *_classes_lines(told),
        f"feasible  {feasible['yes']:.1%} of sessions, not {feasible['no']:.1%}, {_UNKNOWN} {feasible['unknown']:.1%}",
    ]
    missing = [_FIGURES[name][0] for name in ("ram_fraction", "session_s") if summary["known"][name] < 1]
    if feasible["unknown"]:
        lines[-1] += f" (within what is known, but not known for all: {', '.join(missing)})"
    over = [
        f"{name} {summary['exceeds'][name]:.1%} (limit {told['limits'][key]:g})"
        for name, key in _LIMITS.items()
        if summary["exceeds"][name]
    ]
    return [*lines, f"why not   {', '.join(over)}"] if over else lines


_FIGURES: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "inference_ms_per_sample": ("bench ms", lambda value: f"{value:.0f}"),
    "download_s": ("down s", lambda value: f"{value:.3g}"),
    "epoch_s": ("epoch s", lambda value: f"{value:.3g}"),
    "train_s": ("train s", lambda value: f"{value:.3g}"),
    "upload_s": ("up s", lambda value: f"{value:.3g}"),
    "session_s": ("session s", lambda value: f"{value:.3g}"),
    "compute_j": ("compute J", lambda value: f"{value:.3g}"),
    "radio_j": ("radio J", lambda value: f"{value:.3g}"),
    "battery_percent": ("batt. %", lambda value: f"{value:.2g}"),
    "ram_fraction": ("RAM", lambda value: f"{value:.1%}"),
}


def _quantiles(summary: Mapping[str, Any]) -> Table:
    """Each figure by itself over the population; from the best to the worst phones of it."""
    quantiles = summary["quantiles"]
    names = next(list(found) for found in quantiles.values() if found is not None)
    table = Table(
        title="quantiles over sessions, each figure by itself",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in ("figure", *names, "known for"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name, (title, form) in _FIGURES.items():
        found = quantiles[name]
        shown = [_UNKNOWN] * len(names) if found is None else [form(found[q]) for q in names]
        table.add_row(title, *shown, f"{summary['known'][name]:.0%}")
    return table


_IN_QUANTILES_ONLY = ("compute_j", "radio_j", "download_s", "epoch_s", "upload_s")


def _named(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Some phones, the quickest first."""
    table = Table(title="some phones", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("model", no_wrap=True, max_width=16)
    table.add_column("share", justify="right", no_wrap=True)
    names = [name for name in _FIGURES if name not in _IN_QUANTILES_ONLY]
    for name in names:
        table.add_column(_FIGURES[name][0], justify="right", no_wrap=True)
    table.add_column("feasible", min_width=8)
    for row in rows:
        figures = [_or_unknown(row[name], _FIGURES[name][1]) for name in names]
        verdict = f"no: {row['exceeds']}" if row["exceeds"] else row["is_feasible"]
        table.add_row(row["model"] or _UNKNOWN, f"{row['share']:.1%}", *figures, verdict)
    return table


def _or_unknown(value: float | None, form: Callable[[float], str]) -> str:
    return _UNKNOWN if value is None else form(value)
