"""Every figure of a forecast once more, from the files of a run with pyarrow and plain Python alone."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import yaml

from fedsim.schema import OUTCOMES

DAY_S, MONTH_S, KWH_J, GB = 86_400.0, 30 * 86_400.0, 3.6e6, 1e9
HERE = Path(__file__).parents[2] / "fedsim" / "forecast"
CONSTANTS, PRICES = (yaml.safe_load((HERE / f"{name}.yaml").read_text()) for name in ("constants", "prices"))
GRID = dict(
    line.split(",") for line in (HERE / "grid.csv").read_text().splitlines()[1:] if not line.startswith("#") and line
)
Figure = tuple[tuple[str, str, str], float]
Row = dict[str, Any]


def quantile(values: Sequence[float], fraction: float) -> float:
    """The smallest value at or below which so many lie."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def spread_over(
    rows: Sequence[Row], n: int, start: Callable[[Row], float], end: Callable[[Row], float],
    amount: Callable[[Row], float],
) -> list[float]:  # fmt: skip
    """The amount of each row in each second, a row's evenly over its time."""
    found = [0.0] * n
    for row in rows:
        first, last, whole = start(row), end(row), amount(row)
        if last == first:
            found[min(int(first), n - 1)] += whole
        for second in range(int(first), min(n, math.ceil(last)) if last > first else 0):
            found[second] += whole * (min(last, second + 1) - max(first, second)) / (last - first)
    return found


@dataclass(frozen=True)
class Again:
    """The figures of one run whose sessions all ended before it did."""

    folder: Path
    countries: tuple[str, ...]  # of the regions, by their number

    @cached_property
    def rows(self) -> list[Row]:
        return ds.dataset(self.folder / "sessions").to_table().to_pylist()

    @cached_property
    def summary(self) -> Row:
        return json.loads((self.folder / "summary.json").read_text())

    @property
    def n(self) -> int:
        return math.ceil(self.summary["simulated_s"])

    def table(self, name: str) -> dict[str, list[Any]]:
        return pq.read_table(self.folder / f"{name}.parquet").to_pydict()

    @cached_property
    def per_second(self) -> dict[str, list[float]]:
        """Each load in each second."""
        n, sent = self.n, [row for row in self.rows if row["upload_bytes"]]
        counted: dict[str, list[float]] = {"updates": [0.0] * n, "assignments": [0.0] * n}
        for row in self.rows:
            counted["assignments"][min(int(row["assigned_at"]), n - 1)] += 1
            if row["upload_end_at"] is not None:
                counted["updates"][min(int(row["upload_end_at"]), n - 1)] += 1

        def begun(row: Row) -> float:
            return float(row["assigned_at"])

        def until(name: str) -> Callable[[Row], float]:
            return lambda row: min(row["end_at"], row[name] if row[name] is not None else math.inf)

        return counted | {
            "connections in a session": spread_over(
                self.rows, n, begun, until("end_at"), lambda row: row["end_at"] - row["assigned_at"]
            ),
            "egress": spread_over(self.rows, n, begun, until("download_end_at"), lambda row: row["download_bytes"]),
            "ingress": spread_over(
                sent, n, lambda row: row["train_end_at"], until("upload_end_at"), lambda row: row["upload_bytes"]
            ),
            "check-ins": self.check_ins(),
        }

    def check_ins(self) -> list[float]:
        week, gauges, n_devices = self.table("eligibility"), self.table("gauges"), self.summary["n_devices"]
        found, at = [], gauges["at"]
        for second in range(self.n):
            row = second // 600
            after = bisect_right(at, second)
            low, high = max(after - 1, 0), min(after, len(at) - 1)
            share = 0.0 if high == low else (second - at[low]) / (at[high] - at[low])
            busy = (1 - share) * gauges["in_flight_mean"][low] + share * gauges["in_flight_mean"][high]
            idle = max(0.0, week["admitted_fraction"][row] * n_devices - busy)
            opened = week["openings_per_device"][row] * n_devices / 600
            found.append(opened + idle / CONSTANTS["check_in_retry_s"])
        return found

    def by_hour(self) -> dict[str, list[float | None]]:
        found: dict[str, list[float | None]] = {}
        for name, values in self.per_second.items():
            hours = [[values[k] for k in range(len(values)) if k // 3600 % 24 == hour] for hour in range(24)]
            found[name] = [mean(hour) if hour else None for hour in hours]
        return found

    def figures(self) -> dict[tuple[str, str, str], float]:
        """All of them by section, quantity and statistic."""
        energy = list(self.of_energy())
        return dict([*self.of_load(), *self.of_work(), *self.of_phones(), *self.of_queue(), *energy, *self.of_money(),
                     *self.of_learning()])  # fmt: skip

    def of_load(self) -> Iterator[Figure]:
        for name, values in self.per_second.items():
            minutes = [mean(values[start : start + 60]) for start in range(0, len(values) - 59, 60)]
            yield ("load", name, "mean"), mean(values)
            yield from ((("load", name, f"p{p}"), quantile(values, p / 100)) for p in (50, 95, 99))
            yield ("load", name, "busiest minute"), max(minutes)
            yield ("load", name, "busiest second"), max(values)

    def of_work(self) -> Iterator[Figure]:
        for number, name in enumerate(OUTCOMES):
            seconds = sum(row["end_at"] - row["assigned_at"] for row in self.rows if row["outcome"] == number)
            yield ("device-hours a day", name.lower(), ""), seconds / 3600 * self.per_day

    @property
    def per_day(self) -> float:
        return DAY_S / float(self.summary["simulated_s"])

    def of_phones(self) -> Iterator[Figure]:
        sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
        for row in self.rows:
            joules = row["download_j"] + row["compute_j"] + row["upload_j"]
            battery = 100 * joules / (CONSTANTS["battery_wh"] * 3600)
            told = (1, row["download_bytes"] + row["upload_bytes"], joules, battery)
            sums[row["device_id"]] = [a + b for a, b in zip(sums[row["device_id"]], told, strict=True)]
        names = ["sessions of a phone", *(f"{name} of a phone and day" for name in ("bytes", "energy", "battery"))]
        for place, name in enumerate(names):
            values = sorted(one[place] * (self.per_day if place else 1) for one in sums.values())
            yield ("phones", name, "mean"), mean(values)
            yield from ((("phones", name, f"p{p}"), quantile(values, p / 100)) for p in (50, 95, 99))
            yield ("phones", name, "worst 1 %"), mean(values[-max(1, round(len(values) / 100)) :])
            yield ("phones", name, "most"), values[-1]

    def of_queue(self) -> Iterator[Figure]:
        came = sorted((row["upload_end_at"], row["upload_bytes"]) for row in self.rows if row["upload_end_at"])
        takes = [CONSTANTS["ingest_report_s"] + n_bytes / CONSTANTS["ingest_bytes_per_s"] for _, n_bytes in came]
        n = next(n for n in range(1, 99) if quantile(self.waits(came, takes, n), 0.99) <= CONSTANTS["wait_p99_s"])
        waited, gaps = self.waits(came, takes, n), [later[0] - at[0] for at, later in pairwise(came)]
        offered = mean(takes) / mean(gaps)
        tail = offered**n / math.factorial(n) / (1 - offered / n)
        erlang_c = tail / (sum(offered**k / math.factorial(k) for k in range(n)) + tail)
        varies = sum(mean([(x - mean(xs)) ** 2 for x in xs]) / mean(xs) ** 2 for xs in (gaps, takes)) / 2
        copies = CONSTANTS["model_copies_per_worker"] * self.summary["model_bytes"]
        told = {
            "workers": n, "utilisation": sum(takes) / (n * max(came[-1][0] - came[0][0], sum(takes) / n)),
            "mean wait": mean(waited),
            "mean wait by Allen and Cunneen": erlang_c * mean(takes) / (n - offered) * varies,
            "p95 wait": quantile(waited, 0.95), "p99 wait": quantile(waited, 0.99), "longest wait": max(waited),
            "memory, in a TEE or not": n * copies,
        }  # fmt: skip
        yield from ((("aggregator", name, ""), float(value)) for name, value in told.items())

    @staticmethod
    def waits(came: Sequence[tuple[float, int]], takes: Sequence[float], n: int) -> list[float]:
        free, waited = [0.0] * n, []
        for (at, _), seconds in zip(came, takes, strict=True):
            worker = min(range(n), key=free.__getitem__)
            start = max(free[worker], at)
            free[worker] = start + seconds
            waited.append(start - at)
        return waited

    def of_energy(self) -> Iterator[Figure]:
        network = {"low": CONSTANTS["network_kwh_per_gb_low"], "high": CONSTANTS["network_kwh_per_gb_high"]}
        parts: dict[str, list[float]] = {}  # kWh, kg
        bounds, by_country = {"low": [0.0, 0.0], "high": [0.0, 0.0]}, defaultdict[str, float](float)
        for row in self.rows:
            country = self.countries[row["region"]]
            kg = float(GRID[country]) / 1000
            for name, kwh in self.of_session(row, CONSTANTS["network_kwh_per_gb"]).items():
                parts[name] = [parts.get(name, [0, 0])[0] + kwh, parts.get(name, [0, 0])[1] + kwh * kg]
                by_country[country] += kwh * kg
            for bound, constant in network.items():
                kwh = sum(self.of_session(row, constant).values())
                bounds[bound] = [bounds[bound][0] + kwh, bounds[bound][1] + kwh * kg]
        server = CONSTANTS["server_w"] * CONSTANTS["n_server_processes"] * CONSTANTS["pue"] / 1000
        server *= self.summary["simulated_s"] / 3600
        parts["servers"] = [server, server * float(GRID[CONSTANTS["server_country"]]) / 1000]
        yield from self.told_of_energy(parts, bounds)
        yield from ((("carbon a day by country", name, ""), kg * self.per_day) for name, kg in by_country.items())

    def of_session(self, row: Row, kwh_per_gb: float) -> dict[str, float]:
        radio = {"training on phones": "compute_j", "download radio": "download_j", "upload radio": "upload_j"}
        moved = {"network down": row["download_bytes"], "network up": row["upload_bytes"]}
        return {name: row[column] / KWH_J for name, column in radio.items()} | {
            name: n_bytes / GB * kwh_per_gb for name, n_bytes in moved.items()
        }

    def told_of_energy(self, parts: dict[str, list[float]], bounds: dict[str, list[float]]) -> Iterator[Figure]:
        for place, section in enumerate(("energy a day", "carbon a day")):
            of = {name: both[place] * self.per_day for name, both in parts.items()}
            yield from (((section, name, ""), value) for name, value in of.items())
            yield (section, "all", ""), sum(of.values())
            for name, word in (("low", "lowest"), ("high", "highest")):
                value = bounds[name][place] * self.per_day + of["servers"]
                yield (section, f"all, network at its {word}", ""), value
        whole = sum(both[0] for both in parts.values())
        shares = {
            "client compute": ("training on phones",), "upload": ("upload radio", "network up"),
            "download": ("download radio", "network down"), "server": ("servers",),
        }  # fmt: skip
        for name, of_share in shares.items():
            yield ("shares of energy", name, ""), sum(parts[part][0] for part in of_share) / whole

    def of_money(self) -> Iterator[Figure]:
        months = float(self.summary["simulated_s"]) / MONTH_S
        egress = sum(row["download_bytes"] for row in self.rows) / GB / months
        assert egress < 10_000, "the first tier"
        n_workers = dict(self.of_queue())["aggregator", "workers", ""]
        checkpoints = CONSTANTS["checkpoints_kept"] * self.summary["model_bytes"]
        names = ("steps", "evals", "gauges", "eligibility")
        files = [*(self.folder / "sessions").iterdir(), *(self.folder / f"{name}.parquet" for name in names)]
        logs = sum(file.stat().st_size for file in files) / months
        workers = n_workers * 30 * 24 * PRICES["worker_per_h"]
        told = {
            "egress": egress * PRICES["egress_tiers"][0]["per_gb"], "workers": workers,
            "TEE surcharge": workers * PRICES["tee_surcharge_fraction"],
            "storage": (checkpoints + logs) / GB * PRICES["storage_per_gb_month"],
        }  # fmt: skip
        yield from ((("money a month", name, ""), value) for name, value in told.items())
        yield ("storage", "checkpoints", ""), checkpoints
        yield ("storage", "logs of a month", ""), logs

    def of_learning(self) -> Iterator[Figure]:
        steps = [row for row in pq.read_table(self.folder / "steps.parquet").to_pylist() if row["is_committed"]]
        yield ("learning", "server steps a day", ""), len(steps) * self.per_day
        yield ("learning", "time of a step", ""), mean([row["closed_at"] - row["started_at"] for row in steps])
