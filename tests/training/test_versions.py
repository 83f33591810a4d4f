import pytest
import torch

from fedsim.errors import SimulationError
from fedsim.training.versions import Versions


def test_newest_versions_are_kept() -> None:
    versions = Versions(torch.tensor([0.0]), max_kept=3)
    for value in (1.0, 2.0, 3.0):
        versions.add(torch.tensor([value]))
    assert versions.newest_version == 3
    assert versions.newest.item() == 3.0
    assert [versions.get(v).item() for v in (1, 2, 3)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("version", [0, 4, -1])
def test_dropped_and_future_versions_are_errors(version: int) -> None:
    versions = Versions(torch.tensor([0.0]), max_kept=3)
    for value in (1.0, 2.0, 3.0):
        versions.add(torch.tensor([value]))
    with pytest.raises(SimulationError, match=f"model version {version} is not kept: only 1 to 3 are"):
        versions.get(version)
