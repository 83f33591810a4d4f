"""``fedsim data``: what clients would hold. Partitions of tables, their statistics, and how near a proxy comes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fedsim.cli.commands import add_command, door

DATA_HELP = """\
What clients would hold: whose each row of a table is, and what such clients are like.

  fedsim data stats TABLE --client user --label clicked          how many clients, how large, how skewed; a page
  fedsim data partition TABLE OUT --by natural --client user
  fedsim data partition TABLE OUT --by dirichlet --label y --alpha 0.5 --clients 1000
  fedsim data partition TABLE OUT --by iid --clients 1000 --sizes lognormal:1.2
  fedsim data partition TABLE OUT --by proxy --donor DONOR --client user --label y --features age,text
  fedsim data closeness TRUE PROXY --client user --proxy-client client_id --label y --features age,text

A partition is a folder: rows.parquet, the table's rows with a column client_id, and partition.json.
`fedsim run data=table data.path=OUT/rows.parquet data.client=client_id …` trains on it."""


def add_data(commands: Any) -> None:
    """Add the sub-commands."""
    data = commands.add_parser(
        "data",
        help="partition a table into clients, describe clients, hold a proxy against the truth",
        description=DATA_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    _add_partition(inner)
    _add_stats(inner)
    _add_closeness(inner)


def _add_partition(inner: Any) -> None:
    methods = ("natural", "iid", "dirichlet", "skew", "shards", "clusters", "proxy")
    made = add_command(inner, "partition", "say whose each row of a table is, and write it", _partition)
    made.add_argument("table", metavar="TABLE", help="Parquet, CSV, LEAF JSON or npz: a file, folder, pattern, address")
    made.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    made.add_argument("--by", choices=methods, required=True, help="the method; proxy: fitted to a donor")
    made.add_argument("--client", metavar="COLUMN", help="of ids: of the table (natural), of the donor (proxy)")
    made.add_argument("--label", metavar="COLUMN")
    made.add_argument("--features", metavar="COLUMN,…", default="", help="by which rows are alike")
    made.add_argument("--clients", type=int, metavar="N")
    made.add_argument(
        "--sizes", default="equal", metavar="LAW", help="equal, lognormal:SIGMA, zipf:EXPONENT, STATS.json"
    )
    made.add_argument("--alpha", type=float, default=0.5, help="of Dirichlet laws (dirichlet, skew, clusters)")
    made.add_argument("--per-client", type=int, default=2, metavar="N", help="shards of a client")
    made.add_argument("--clusters", type=int, default=20, metavar="N", help="of features (clusters)")
    made.add_argument("--donor", metavar="TABLE", help="a table with ids, or the stats.json of one (proxy)")
    made.add_argument(
        "--every-days", type=float, metavar="D", help="of natural clients each stretch of so many days is one"
    )
    made.add_argument("--time", metavar="COLUMN", help="for --every-days: instants, or numbers")
    made.add_argument("--time-unit", choices=("s", "ms", "us", "ns"), default="s", help="of times that are numbers")
    made.add_argument("--drop", metavar="COLUMN,…", default="", help="left out of what is written: ids to be hidden")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--force", action="store_true", help="replace a folder that holds something")


def _add_stats(inner: Any) -> None:
    stats = add_command(inner, "stats", "what the clients of a table are like: numbers, stats.json and a page", _stats)
    stats.add_argument("table", metavar="TABLE", help="a table with ids, or a folder of `fedsim data partition`")
    stats.add_argument("--client", metavar="COLUMN", default="client_id")
    stats.add_argument("--label", metavar="COLUMN")
    stats.add_argument("--features", metavar="COLUMN,…", default="")
    stats.add_argument("--time", metavar="COLUMN", help="instants, or numbers")
    stats.add_argument("--time-unit", choices=("s", "ms", "us", "ns"), default="s", help="of times that are numbers")
    stats.add_argument("--out", type=Path, metavar="DIR", help="folder for stats.json and stats.html")


def _add_closeness(inner: Any) -> None:
    close = add_command(inner, "closeness", "how near a proxy comes to the truth, beside two real halves", _closeness)
    close.add_argument("true", metavar="TRUE", help="a table with its real ids")
    close.add_argument("proxy", metavar="PROXY", help="the same rows, or others, with the proxy's ids")
    close.add_argument("--client", metavar="COLUMN", required=True, help="of the truth")
    close.add_argument("--proxy-client", metavar="COLUMN", default="client_id")
    close.add_argument("--label", metavar="COLUMN")
    close.add_argument("--features", metavar="COLUMN,…", default="")
    close.add_argument("--seed", type=int, default=0)


def _partition(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.data").partition(arguments)


def _stats(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.data").stats(arguments)


def _closeness(arguments: argparse.Namespace) -> None:
    door("fedsim.cli.data").closeness(arguments)
