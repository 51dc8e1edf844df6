"""The Python of docs/sweeps.md runs as it stands."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs" / "sweeps.md"


def test_the_code_of_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 4
    exec(compile("\n".join(blocks), str(DOCS), "exec"), {})
    assert (tmp_path / "grid.png").is_file() and (tmp_path / "apples.html").is_file()
