"""Short-video impressions with clicks: each user of the feed is a client (KuaiRand-Pure, Gao et al. CIKM 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa

from fedsim.data.clients import ArrayClients, place_among
from fedsim.data.partition import natural
from fedsim.errors import InputError
from fedsim.files import existing
from fedsim.ranges import Range
from fedsim.units import IntArray

DESCRIBED = (
    "KuaiRand-Pure folder with impressions.parquet, users.parquet and videos.parquet"
    " (Gao et al., CIKM 2022; kuairand.com)"
)
ID_FIELDS = ("video_id", "author_id", "user_id")
USER_FIELDS = (
    "user_active_degree",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
    *(f"onehot_feat{i}" for i in range(18)),
)
VIDEO_FIELDS = ("author_id", "video_type", "upload_dt", "upload_type", "music_type", "tag")
# What is known before the video is shown. The outcomes of an impression (play_time_ms, long_view,
# is_like, …) are never read: is_click itself is computed from the play time.
IMPRESSION_FIELDS = ("user_id", "video_id", "date", "hourmin", "tab", "duration_ms")
LABEL = "is_click"


class KuairandFeed(ArrayClients):
    """Impressions as x int64[., n_fields] of ids in one table, y = is_click; client = user with training rows.

    Training rows are those up to the day ``train_until`` (yyyymmdd), later ones are held out. Fields
    are context (tab, hour, weekday, duration in half octaves), the user's features and the video's
    features, and those of ``with_ids`` (of video_id, author_id, user_id). Every field owns a range of
    the table: its first id stands for values that no training row has. ``sizes`` has the length of
    that table, which the model's embedding has to share. Raises :class:`InputError` for a missing file or column.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        train_until: Annotated[int, Range(0, 99_999_999)] = 20220504,
        with_ids: Sequence[str] = (),
    ) -> None:
        unknown = [name for name in with_ids if name not in ID_FIELDS]
        if unknown:
            raise InputError("with_ids of kuairand_feed", value=unknown[0], allowed=", ".join(ID_FIELDS))
        rows = _impressions(existing(path, DESCRIBED))
        is_train = rows["date"].to_numpy() <= train_until
        if is_train.all() or not is_train.any():
            allowed = f"{rows['date'].min()} to the day before {rows['date'].max()}"
            raise InputError("train_until of kuairand_feed", value=train_until, allowed=allowed)
        x, self.n_values = _table_ids(_fields(rows, with_ids), is_train)
        y = rows[LABEL].to_numpy(np.int64)
        train, test = np.flatnonzero(is_train), np.flatnonzero(~is_train)
        order, offsets = natural(rows["user_id"].to_numpy()[train])
        self.keys = np.unique(rows["user_id"].to_numpy()[train])  # the user of each client
        super().__init__(
            x, y, order=train[order], offsets=offsets, held_out=(x[test], y[test]),
            held_out_clients=place_among(self.keys, rows["user_id"].to_numpy()[test]),
            sizes={"n_values": self.n_values, "n_fields": x.shape[1]},
        )  # fmt: skip


def _impressions(folder: Path) -> pd.DataFrame:
    """All impressions with the features of their user and video; ``author_id`` comes from the video."""
    rows = _read(folder / "impressions.parquet", [*IMPRESSION_FIELDS, LABEL])
    users = _read(folder / "users.parquet", ["user_id", *USER_FIELDS])
    videos = _read(folder / "videos.parquet", ["video_id", *VIDEO_FIELDS])
    return rows.merge(users, how="left", on="user_id").merge(videos, how="left", on="video_id")


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        return pd.read_parquet(existing(path, DESCRIBED), columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", where=path) from error


def _fields(rows: pd.DataFrame, with_ids: Sequence[str]) -> dict[str, IntArray]:
    """Each field as small codes ``int64[n]``, -1 where the value is missing."""
    day = pd.to_datetime(rows["date"].astype(str), format="%Y%m%d")
    age = (day - pd.to_datetime(rows["upload_dt"])).dt.days
    duration = np.round(2 * np.log2(rows["duration_ms"].clip(lower=1)))
    context = {
        "tab": rows["tab"],
        "hour": rows["hourmin"] // 100,
        "weekday": day.dt.day_of_week,
        "duration": duration,
        "age_days": age,
    }
    features = {
        name: rows[name] for name in (*USER_FIELDS, *(v for v in VIDEO_FIELDS if v not in ("author_id", "upload_dt")))
    }
    ids = {name: rows[name] for name in with_ids}
    columns = context | features | ids
    return {name: pd.factorize(column, sort=True)[0].astype(np.int64) for name, column in columns.items()}


def _table_ids(fields: dict[str, IntArray], is_train: np.ndarray) -> tuple[IntArray, int]:
    """Ids in one table ``int64[n, n_fields]`` and the table's length; unseen in training → the field's first id."""
    x = np.empty((len(is_train), len(fields)), dtype=np.int64)
    first = 0
    for column, codes in enumerate(fields.values()):
        seen = np.unique(codes[is_train & (codes >= 0)])
        place = np.searchsorted(seen, codes)
        is_seen = seen[np.minimum(place, len(seen) - 1)] == codes
        x[:, column] = first + np.where(is_seen, place + 1, 0)
        first += len(seen) + 1
    return x, first
