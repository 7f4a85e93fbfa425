"""What a method does before its first round."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from datafree.core.runtime import Runtime
from datafree.engine.folder import RunDir
from datafree.engine.preparation import prepare


def test_a_foreign_log_is_refused_before_the_work_not_after_it(tmp_path: Path) -> None:
    with RunDir(tmp_path / "run", {}) as run:
        run.log.write_text("1000,loss\n1,2\n")
        synthesizer = Mock(preparation=Mock(return_value=(0, 3)))
        with pytest.raises(ValueError, match=r"log\.csv is not the log of a run"):
            prepare(synthesizer, Runtime("cpu"), run, {}, quiet=True)
        synthesizer.prepare.assert_not_called()
