"""Keys of the records, as a person reads them."""

import pytest

from datafree.reports.labels import label


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("peak_mb", "peak memory, MiB"),
        ("cpu_s", "CPU time, s"),
        ("target_entropy", "target entropy, nats"),
        ("class_entropy", "entropy of the classes, share of the largest"),
        ("round_entropy", "entropy of a round's classes, share of the largest"),
        ("round_distance", "distance of a round's images, network units"),
    ],
)
def test_keys_become_words_with_their_unit(key: str, written: str) -> None:
    assert label(key) == written
