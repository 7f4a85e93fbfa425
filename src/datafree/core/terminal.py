"""The only place that prints: nothing in a line can move the cursor, change colours or forge another line."""

import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterator

LONGEST = 4000  # characters of an error; a longer one is cut in its middle

# Characters of these categories are not letters, signs or spaces: controls, direction marks, lone surrogates, line separators.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_SUSPECT = re.compile(r"[^ -~]")


def printable(text: str) -> str:
    r"""`text` as one line in which every control and invisible character is escaped: an escape is written `\x1b`."""
    return _SUSPECT.sub(lambda found: _escaped(found[0]), text)


def show(*lines: str, error: bool = False) -> None:
    """Print each of `lines` as one line, escaped by `printable`, on standard output, or with `error` on standard error.

    All text of this package for the terminal passes here, since a name, a card or a message may come from a foreign file.
    """
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "utf-8"
    for line in lines:
        whole = printable(line)
        half = LONGEST // 2
        short = f"{whole[:half]} ... {whole[-half:]}" if error and len(whole) > LONGEST else whole
        print(short.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Inside, nothing reaches standard error: libraries in C, as libtiff, print there what a file makes them say."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    return character.encode("unicode_escape").decode("ascii")
