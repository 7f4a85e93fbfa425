"""Seeded numbers, precision, and notes that do not wait."""

import pytest
import torch

from datafree.core.runtime import Runtime, find_device, find_precision


def test_notes_are_means_since_the_last_drain() -> None:
    runtime = Runtime("cpu")
    for value in (1.0, 2.0, 6.0):
        runtime.note("a", torch.tensor(value))
    assert runtime.drain() == {"a": 3.0}
    assert runtime.drain() == {}


def test_random_numbers_go_on_where_they_were_saved() -> None:
    runtime = Runtime("cpu", seed=3)
    runtime.noise(5)
    state = runtime.state_dict()
    ahead = runtime.noise(5), runtime.uniform(5), torch.rand(3)
    other = Runtime("cpu", seed=8)
    other.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(ahead, (other.noise(5), other.uniform(5), torch.rand(3)), strict=True))


def test_a_device_that_is_not_there_is_refused_in_words() -> None:
    for name in ("cuda:7", "abacus"):
        with pytest.raises(ValueError, match="is not available"):
            find_device(name)


def test_precision_is_fp32_on_a_cpu_and_bf16_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Runtime("cpu").precision == "fp32"
    assert Runtime("cpu", "bf16").precision == "bf16"
    for capability, precision in (((7, 5), "fp32"), ((9, 0), "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, known=capability: known)
        assert find_precision("auto", torch.device("cuda")) == precision


@pytest.mark.parametrize("seed", [1.0, True, "3", None, 2**62, -(2**80)])
def test_a_seed_that_is_no_whole_number_is_refused(seed: object) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        Runtime("cpu", seed=seed)  # type: ignore[arg-type]
