"""Build the site: `python docs/build.py`, for which `make docs` is short. Warnings are errors.

The pages also lead to sources and results outside of this folder, which the site does not have: those links become plain text.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES, COPY = ROOT / "docs", ROOT / "build" / "docs"
LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+(?:src|benchmarks|tests)[^)]*)\)")


def main() -> int:
    """Copy the pages, and run the site's generator on the copy; returns its exit status."""
    shutil.rmtree(COPY, ignore_errors=True)
    for page in PAGES.rglob("*.md"):
        copy = COPY / page.relative_to(PAGES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(LINK.sub(_plain, page.read_text(encoding="utf-8")), encoding="utf-8")
    return subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=ROOT, check=False).returncode


def _plain(link: re.Match[str]) -> str:
    """The text of a link, and where in the repository it leads."""
    target = link[2].lstrip("./")
    return link[1] if target in link[1] else f"{link[1]} (`{target}`)"


if __name__ == "__main__":
    sys.exit(main())
