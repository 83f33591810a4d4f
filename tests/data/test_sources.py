from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedsim.data.sources.digits import Digits
from fedsim.data.sources.kuairand_feed import USER_FIELDS, KuairandFeed
from fedsim.data.sources.mnist_by_writer import MnistByWriter
from fedsim.data.sources.synthetic import SyntheticClicks
from fedsim.errors import InputError

CLICKS = SyntheticClicks(
    n_clients=10**9,
    n_fields=6,
    values_per_field=20,
    examples_median=10.0,
    examples_sigma=0.8,
    max_examples=100,
    bias=-1.0,
    weight_sigma=0.5,
    client_bias_sigma=0.3,
    n_held_out_clients=2_000,
    seed=4,
)


class TestDigits:
    def test_split_and_scale(self) -> None:
        data = Digits(n_clients=30, alpha=0.5, test_fraction=0.25, seed=1)
        everything = data.fetch(np.arange(30))
        assert data.n_clients == 30
        assert data.n_examples(np.arange(30)).min() >= 1
        assert len(everything.y) == 1797 - 449
        assert len(data.held_out()[1]) == 449
        assert everything.x.dtype == np.float32
        assert (everything.x.min(), everything.x.max()) == (0.0, 1.0)
        assert sorted(set(everything.y)) == list(range(10))

    def test_held_out_digits_are_nobodys(self) -> None:
        data = Digits(n_clients=30, alpha=0.5, test_fraction=0.25, seed=1)
        train = {row.tobytes() for row in data.fetch(np.arange(30)).x}
        assert not [row for row in data.held_out()[0] if row.tobytes() in train]

    def test_seed_decides(self) -> None:
        one, same, other = (Digits(n_clients=30, alpha=0.5, test_fraction=0.25, seed=s) for s in (1, 1, 2))
        assert one.sha256() == same.sha256() != other.sha256()

    def test_bad_test_fraction(self) -> None:
        with pytest.raises(InputError, match="test_fraction of the digits: 1"):
            Digits(n_clients=30, alpha=0.5, test_fraction=1, seed=1)


class TestSyntheticClicks:
    def test_client_data_depends_on_the_client_alone(self) -> None:
        company = CLICKS.fetch(np.array([7, 999_999_999, 7]))
        alone = CLICKS.fetch(np.array([999_999_999]))
        middle = slice(company.offsets[1], company.offsets[2])
        assert (company.x[middle] == alone.x).all()
        assert (company.y[middle] == alone.y).all()
        assert (company.x[: company.offsets[1]] == company.x[company.offsets[2] :]).all()

    def test_sizes(self) -> None:
        ids = np.arange(20_000)
        sizes = CLICKS.n_examples(ids)
        assert (sizes == CLICKS.fetch(ids).n_examples).all()
        assert (np.median(sizes), sizes.min(), sizes.max()) == (10, 1, 100)
        assert np.std(np.log(sizes[sizes < 100])) == pytest.approx(0.8, abs=0.05)

    def test_fields_lie_in_one_table_and_popular_values_are_frequent(self) -> None:
        x = CLICKS.fetch(np.arange(3_000)).x
        assert (x // 20 == np.arange(6)).all()
        assert CLICKS.n_values == 120
        frequency = np.bincount(x[:, 5] - 100, minlength=20) / len(x)
        assert frequency[0] == pytest.approx((1 / 20) ** 0.5, abs=0.02)  # P(20 u² < 1)
        assert frequency[19] > 0.02

    def test_first_half_of_the_fields_belongs_to_the_client(self) -> None:
        examples = CLICKS.fetch(np.array([12]))
        assert len(examples.y) > 3
        assert (examples.x[:, :3] == examples.x[0, :3]).all()
        assert len(np.unique(examples.x[:, 3:], axis=0)) > 1

    def test_clicks_follow_the_hidden_logistic_model(self) -> None:
        plain = replace(CLICKS, weight_sigma=0.0, client_bias_sigma=0.0)
        assert plain.fetch(np.arange(20_000)).y.mean() == pytest.approx(1 / (1 + np.exp(1.0)), abs=0.005)
        examples = CLICKS.fetch(np.arange(20_000))
        rates = [examples.y[examples.x[:, 5] == value].mean() for value in range(100, 120)]
        assert np.std(rates) > 0.05

    def test_held_out_clients_take_no_part(self) -> None:
        few = replace(CLICKS, n_clients=50, n_held_out_clients=5)
        x, y = few.held_out()
        beyond = replace(CLICKS, n_clients=55).fetch(np.arange(50, 55))
        assert (x == beyond.x).all()
        assert (y == beyond.y).all()
        with pytest.raises(InputError, match="no such client: 50"):
            few.fetch(np.array([50]))

    def test_hash_is_of_the_parameters(self) -> None:
        assert CLICKS.sha256() == replace(CLICKS).sha256() != replace(CLICKS, bias=-1.1).sha256()

    @pytest.mark.parametrize(("name", "value"), [("n_clients", 0), ("examples_median", -1.0), ("weight_sigma", -0.1)])
    def test_bad_parameters(self, name: str, value: float) -> None:
        with pytest.raises(InputError, match=f"{name} of the synthetic clicks"):
            replace(CLICKS, **{name: value})


def write_digits(path: Path, **changes: Any) -> Path:
    arrays = {
        "images": np.arange(4 * 784, dtype=np.uint32).reshape(4, 28, 28).astype(np.uint8),
        "label": np.array([1, 2, 3, 4], dtype=np.uint8),
        "writer": np.array([9, 5, 9, 7], dtype=np.int16),
        "is_test": np.array([False, False, False, True]),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


class TestMnistByWriter:
    def test_writers_are_clients_and_pixels_are_scaled(self, tmp_path: Path) -> None:
        data = MnistByWriter(write_digits(tmp_path / "digits.npz"))
        assert data.n_clients == 2
        examples = data.fetch(np.array([1, 0]))
        assert examples.y.tolist() == [1, 3, 2]
        assert examples.x.dtype == np.float32
        assert examples.x[0, 0, :3] == pytest.approx([0, 1 / 255, 2 / 255])
        assert data.held_out()[1].tolist() == [4]
        assert data.held_out()[0].max() == 1.0

    def test_missing_file_says_what_is_expected(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"mnist_by_writer\.npz: MNIST images with the writer labels of QMNIST"):
            MnistByWriter(tmp_path / "none.npz")

    def test_corrupt_file(self, tmp_path: Path) -> None:
        for content in (b"no zip", b"", b"PK\x03\x04 and nothing"):
            (tmp_path / "bad.npz").write_bytes(content)
            with pytest.raises(InputError, match="not a readable npz file"):
                MnistByWriter(tmp_path / "bad.npz")

    def test_a_pickle_is_not_loaded(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not a readable npz file"):
            MnistByWriter(write_digits(tmp_path / "bad.npz", label=np.array([{}], dtype=object)))

    def test_missing_array(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="array not found: 'writer'"):
            MnistByWriter(write_digits(tmp_path / "digits.npz", writer=None))

    @pytest.mark.slow
    def test_real_set(self, shared_data: Path) -> None:
        data = MnistByWriter(shared_data / "datasets" / "mnist_by_writer" / "mnist_by_writer.npz")
        sizes = data.n_examples(np.arange(data.n_clients))
        assert (data.n_clients, sizes.sum(), sizes.min(), sizes.max()) == (539, 60_000, 19, 131)
        assert data.held_out()[0].shape == (10_000, 28, 28)


def write_feed(folder: Path, **columns: Any) -> Path:
    """Three users, two videos, five impressions, the last one after 2022-05-04."""
    impressions = {
        "user_id": [3, 1, 3, 1, 2],
        "video_id": [8, 8, 9, 9, 8],
        "date": [20220503, 20220503, 20220504, 20220504, 20220505],
        "hourmin": [100, 100, 100, 2300, 900],
        "tab": [1, 1, 1, 0, 5],
        "duration_ms": [8000, 8000, 16000, 16000, 8000],
        "is_click": [1, 0, 1, 0, 1],
    } | columns
    users = {"user_id": [1, 2, 3]} | {name: [0, 0, 0] for name in USER_FIELDS} | {"onehot_feat4": [1.0, None, 2.0]}
    videos = {
        "video_id": [8, 9],
        "author_id": [50, 60],
        "video_type": ["NORMAL", "AD"],
        "upload_dt": ["2022-05-01", "2022-05-02"],
        "upload_type": ["Web", "Web"],
        "music_type": [9.0, 9.0],
        "tag": ["1", "2"],
    }
    for name, table in {"impressions": impressions, "users": users, "videos": videos}.items():
        pd.DataFrame(table).to_parquet(folder / f"{name}.parquet")
    return folder


class TestKuairandFeed:
    # tab 1+2, hour 1+2, weekday 1+2, duration 1+2, age 1+1, 25 user fields 1+1 (onehot_feat4: 1+2),
    # video_type 1+2, upload_type 1+1, music_type 1+1, tag 1+2
    N_VALUES = 3 + 3 + 3 + 3 + 2 + 24 * 2 + 3 + 3 + 2 + 2 + 3

    def feed(self, folder: Path, **options: Any) -> KuairandFeed:
        return KuairandFeed(folder, **{"train_until": 20220504} | options)

    def test_users_with_training_rows_are_clients(self, tmp_path: Path) -> None:
        data = self.feed(write_feed(tmp_path))
        assert data.n_clients == 2
        assert data.fetch(np.array([1, 0])).y.tolist() == [1, 1, 0, 0]
        assert data.held_out()[1].tolist() == [1]

    def test_every_field_has_its_range_and_unseen_values_its_first_id(self, tmp_path: Path) -> None:
        data = self.feed(write_feed(tmp_path))
        x, held_out = data.fetch(np.array([0, 1])).x, data.held_out()[0]
        tab, hour = 0, 1
        assert x[:, tab].tolist() == [2, 1, 2, 2]  # ids 0 … 2, 0 for values not seen in training
        assert held_out[0, tab] == 0
        assert x[:, hour].tolist() == [4, 5, 4, 4]
        assert held_out[0, hour] == 3
        assert x.max() == self.N_VALUES - 1
        missing = 5 + 7 + 4  # user 2 has no onehot_feat4
        assert held_out[0, missing] == x[:, missing].min() - 1

    def test_ids_are_added_as_fields(self, tmp_path: Path) -> None:
        more = self.feed(write_feed(tmp_path), with_ids=["video_id", "author_id", "user_id"])
        assert more.sizes == {"n_values": self.N_VALUES + 9, "n_fields": 37}
        x = more.fetch(np.array([0, 1])).x
        assert (x[:, -3:] - self.N_VALUES).tolist() == [[1, 4, 7], [2, 5, 7], [1, 4, 8], [2, 5, 8]]
        assert (more.held_out()[0][0, -3:] - self.N_VALUES).tolist() == [1, 4, 6]

    def test_outcomes_are_no_inputs(self, tmp_path: Path) -> None:
        before = self.feed(write_feed(tmp_path)).fetch(np.array([0, 1])).x
        after = self.feed(write_feed(tmp_path, play_time_ms=[9, 8, 7, 6, 5], is_click=[0, 0, 0, 0, 0]))
        assert (after.fetch(np.array([0, 1])).x == before).all()

    def test_later_impressions_of_clients_and_of_others(self, tmp_path: Path) -> None:
        found = self.feed(write_feed(tmp_path), train_until=20220503)
        assert found.held_out_clients is not None
        assert found.held_out_clients.tolist() == [1, 0, -1]  # users 3 and 1 train, user 2 does not

    def test_bad_options(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="with_ids of kuairand_feed: 'is_like'"):
            self.feed(write_feed(tmp_path), with_ids=["is_like"])
        for day in (20220502, 20220505):
            with pytest.raises(
                InputError, match=r"train_until of kuairand_feed: .*20220503 to the day before 20220505"
            ):
                self.feed(write_feed(tmp_path), train_until=day)

    def test_missing_and_bad_files(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"KuaiRand-Pure folder with impressions\.parquet.* not found"):
            self.feed(tmp_path / "none")
        write_feed(tmp_path)
        (tmp_path / "users.parquet").write_bytes(b"no parquet")
        with pytest.raises(InputError, match=r"cannot be read .*users\.parquet"):
            self.feed(tmp_path)
        pd.DataFrame({"user_id": [1]}).to_parquet(tmp_path / "users.parquet")
        with pytest.raises(InputError, match=r"cannot be read .*users\.parquet"):
            self.feed(tmp_path)

    @pytest.mark.slow
    def test_real_set(self, shared_data: Path) -> None:
        data = KuairandFeed(shared_data / "datasets" / "kuairand_feed")
        assert data.sizes == {"n_values": 2373, "n_fields": 34}
        train = data.fetch(np.arange(data.n_clients))
        assert data.n_clients == 24_076
        assert train.x.shape == (166_932, 34)
        assert data.held_out()[0].shape == (55_512, 34)
        assert data.held_out()[1].mean() == pytest.approx(0.443, abs=0.001)
