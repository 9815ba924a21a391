from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from training.runtime import keep_freed_memory


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the sizes of the published tables; many minutes on a CPU")


@pytest.fixture(scope="session")
def batch_size(request: pytest.FixtureRequest) -> int:
    return 32 if request.config.getoption("--full") else 8


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    return 5 if request.config.getoption("--full") else 1


@pytest.fixture(scope="session", autouse=True)
def as_training_runs() -> None:
    """Both sides of every comparison allocate as `training` does; without it page faults blur the ratios."""
    keep_freed_memory()


@pytest.fixture
def one_core() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
