"""Keys and values of run.json and log.csv as a person would write them, keys with their unit."""

_WORDS = {"miou": "mIoU", "cpu": "CPU time", "wall": "wall time"}
_ENDINGS = {
    " s": ", s",
    " mb": " memory, MiB",
    " mIoU": " mIoU, %",
    " mIoU each": " IoU of each class, %",
    " accuracy": " accuracy, %",
    " agreement": " agreement with the teacher, %",
    " right apart": " right where the two differ, %",
    " oracle": " of an evaluated round (oracle), %",
    " class entropy": " entropy of the classes, share of the largest",
    " round entropy": " entropy of a round's classes, share of the largest",
    " round distance": " distance of a round's images, network units",
    " entropy": " entropy, nats",
}


def label(key: str) -> str:
    """`peak_mb` as `peak memory, MiB`."""
    words = "".join(f" {_WORDS.get(word, word)}" for word in key.split("_"))
    for ending, written in _ENDINGS.items():
        if words.endswith(ending):
            words = words.removesuffix(ending) + written
            break
    return words.strip()


def number(value: object, title: str = "") -> str:
    """A number with thousands apart: percent, by its `title`, with two decimals, another float with four digits or more.

    `no value` for None; what is no number is shown as it is.
    """
    if isinstance(value, float) and title.endswith("%"):
        return f"{value:.2f}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e3 <= abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "no value" if value is None else str(value)
