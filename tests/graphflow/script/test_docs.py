"""The Python of docs/scripting.md runs as it stands."""

import re
from pathlib import Path

from ..own_server import TOKEN

PAGE = Path(__file__).parents[3] / "docs" / "scripting.md"


def test_the_page_on_scripting_runs_from_top_to_bottom(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAPHFLOW_CACHE", str(tmp_path / "cache"))
    blocks = re.findall(r"^```python( server)?\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) > 6 and sum(bool(kind) for kind, _ in blocks) == 1
    space = {"__name__": "scripting"}
    for number, (kind, code) in enumerate(blocks):
        if kind:
            code = code.replace("http://127.0.0.1:8188", server.url).replace('token="..."', f'token="{TOKEN}"')
        exec(compile(code, f"block {number}", "exec"), space)
    assert list(Path("fetched").glob("apple*.png")) and list(Path("images").glob("*.png"))
