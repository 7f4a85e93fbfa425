"""The page of a run in a real browser: it fits a narrow screen, loads nothing, complains of nothing, in light and dark."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import TINY, network

from datafree import DFAD, Plan, Recipe, distill
from datafree.api import estimate as estimating
from datafree.api import run as running

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NARROW = 360  # pixels
# A page that shows the run's page in a narrow frame, and says what it finds there.
FRAME = """<iframe id="frame" src="run/report.html" style="width: {width}px; height: 800px; border: 0"></iframe>
<pre id="found"></pre>
<script>
window.onload = () => {{
  const inside = document.getElementById("frame").contentDocument;
  const pictures = [...inside.images];
  document.getElementById("found").textContent = JSON.stringify({{
    width: inside.documentElement.scrollWidth,
    height: inside.documentElement.scrollHeight,
    broken: pictures.filter((image) => !image.naturalWidth).length,
    unnamed: [...inside.querySelectorAll("img:not([alt]), svg:not([aria-label])")].length,
    asked: frame.contentWindow.performance.getEntriesByType("resource").filter((e) => !e.name.startsWith("data:")).length,
    ink: frame.contentWindow.getComputedStyle(inside.body).color,
  }});
}};
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run, which has an estimate."""
    if BROWSER is None:
        pytest.skip("no chromium or chrome is on this machine's path")
    folder = tmp_path_factory.mktemp("page")
    plan = Plan(rounds=4, steps=1, batch=4, log_every=1, grid_every=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "LEAST", 0.0)
        patch.setattr(running, "SHARE", 1e3)
        patch.setattr(estimating, "FEWEST", 10)
        patch.setattr(estimating, "MOST", 10)
        recipe = Recipe(DFAD(latent={"size": 4, "width": 8}, batch=4), plan, "a test")
        distill(network(1), TINY, recipe=recipe, out=folder / "run", quiet=True, device="cpu")
    (folder / "frame.html").write_text(FRAME.format(width=NARROW))
    return folder


def seen(folder: Path, *flags: str) -> tuple[dict[str, object], str]:
    """What the frame finds, and what the browser writes on its console."""
    assert BROWSER is not None
    line = [
        BROWSER,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
    ]
    line += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=2000", "--dump-dom", *flags]
    done = subprocess.run([*line, f"file://{folder / 'frame.html'}"], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout)
    assert found, done.stdout[-500:]
    return json.loads(found[1]), done.stderr


def test_the_page_fits_a_narrow_screen_and_needs_nothing(folder: Path) -> None:
    found, console = seen(folder)
    assert int(str(found["width"])) <= NARROW, "nothing sticks out to the side"
    assert 800 < int(str(found["height"])) < 20_000
    assert (found["broken"], found["unnamed"], found["asked"]) == (0, 0, 0)
    assert "CONSOLE" not in console
    assert (folder / "run" / "report.html").stat().st_size < 2 * 10**6


def test_it_is_dark_where_a_person_wants_it_dark(folder: Path) -> None:
    inks = [seen(folder, f"--blink-settings=preferredColorScheme={scheme}")[0]["ink"] for scheme in (0, 1)]
    assert inks[0] != inks[1]
