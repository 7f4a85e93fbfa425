"""Fixtures: a tiny teacher on 8x8 inputs, images to store, and the real data where it is at hand."""

from pathlib import Path

import pytest
import torch
from helpers import SHARED, network, stored_images
from hypothesis import HealthCheck, settings

from datafree import Card, Network, build
from datafree.core.runtime import Runtime
from datafree.data.digits import digits
from datafree.engine.supervised import Training, measured_inputs, train

torch.set_num_threads(1)

# Examples of a property: few and the same in each run of the tests, many and others with `--hypothesis-profile=large`. No
# deadline, since machines differ; folders of a test are shared by its examples.
COMMON = settings(
    deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.register_profile("small", COMMON, max_examples=20, derandomize=True)
settings.register_profile("large", COMMON, max_examples=500)
settings.load_profile("small")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-kill", action="store_true", help="kill every line at every file operation: an hour")


@pytest.fixture
def teacher() -> Network:
    return network(seed=1)


@pytest.fixture
def teacher_file(tmp_path: Path, teacher: Network) -> Path:
    path = tmp_path / "teacher.safetensors"
    teacher.save(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return stored_images(tmp_path)


@pytest.fixture(scope="session")
def taught() -> Network:
    """A small network with batch norm that knows the 8x8 digits."""
    pytest.importorskip("sklearn", reason="scikit-learn's digits teach the teacher of these tests")
    data, _ = digits()
    inputs = measured_inputs(data)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = train(build("small-cnn-half", inputs, 10), data, inputs, Training(epochs=8), Runtime("cpu"))
    return Network(module, Card(architecture="small-cnn-half", classes=10, inputs=inputs))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the real data sets are not on this machine (../shared/data)")
    return SHARED
