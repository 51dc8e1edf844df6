"""What README.md shows works as it stands."""

import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]


def test_the_python_of_the_tour_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    (tmp_path / "workflows").symlink_to(ROOT / "workflows")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "readme"}
    for block in blocks:
        block = block.replace("steps=20", "steps=2")
        exec(compile(block, "README.md", "exec"), names)
    assert len(names["result"]["SaveImage"].images) == 4
    with Image.open(tmp_path / "hearts.png") as grid:
        assert grid.width > 3 * 64 and grid.height > 2 * 64
    assert names["blend"].node_type.name == "MyLatentBlend"


def test_the_picture_of_the_demo_carries_its_workflow():
    with Image.open(ROOT / "docs" / "images" / "demo.png") as picture:
        assert "graphflow-scenes" in picture.text["prompt"]


def test_every_link_between_the_documents_leads_somewhere():
    dead = []
    for page in [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "workflows" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                dead.append(f"{page.name}: {target}")
    assert dead == []


def test_every_page_is_reached_from_the_readme_the_map_or_the_site():
    texts = "".join((ROOT / name).read_text() for name in ("README.md", "docs/architecture.md", "mkdocs.yml"))
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in texts] == []
