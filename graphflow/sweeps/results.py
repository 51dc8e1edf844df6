"""The results of a sweep, one for each variant, and ways to look at all of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..document.workflow import Place
from ..look.show import image_tag
from ..problem import Problem, UnknownName, did_you_mean
from ..results import SavedImage
from .axes import VariantList
from .variant import VariantResult

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Results"]


@dataclass(slots=True, repr=False)
class Results(Sequence[VariantResult]):
    """The results of all variants, in the order of the sweep."""

    variants: VariantList
    items: list[VariantResult]
    ran: Mapping[str, int] = field(default_factory=dict)
    """Node -> how many times it was computed: less often than there are variants where they have it in common."""
    seconds: float = 0.0
    timings: Mapping[str, float] = field(default_factory=dict)
    """Node -> seconds that it took, over all variants."""

    def where(self, **values: Any) -> Results:
        """The variants with these values: `results.where(seed=1)`, or `where(**{"KSampler.seed": 1})`. Raises
        UnknownName."""
        items = [item for item in self.items if all(item.values[name] == value for name, value in values.items())]
        return Results(self.variants, items, self.ran, self.seconds, self.timings)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[VariantResult]:
        return iter(self.items)

    def __repr__(self) -> str:
        failed = f", {len(self.failed)} failed" if self.failed else ""
        count = len(self.items)
        return f"<Results: {count} variant{'' if count == 1 else 's'}{failed}, {self.seconds:.2f} s>"

    @property
    def failed(self) -> list[VariantResult]:
        return [item for item in self.items if item.failed]

    @property
    def images(self) -> list[SavedImage]:
        return [image for item in self.items for image in item.images]

    @property
    def paths(self) -> list[Path]:
        """All files that the variants have written, images among them."""
        return [path for item in self.items for path in item.paths]

    def rows(self) -> list[dict[str, Any]]:
        """For each variant its values under short names, `images` (paths) and `error` ("" where it worked)."""
        names = self.variants.names
        return [
            {
                "variant": item.index,
                **{names[place]: value for place, value in item.values.items()},
                "images": [str(image.path) for image in item.images],
                "error": "; ".join(" ".join(str(problem).split()) for problem in item.problems),
            }
            for item in self.items
        ]

    def table(self) -> Any:
        """`rows()`, as a pandas DataFrame where pandas is installed."""
        if find_spec("pandas") is None:
            return self.rows()
        return import_module("pandas").DataFrame(self.rows())

    def to_csv(self, path: str | Path) -> None:
        """Write `rows()` as CSV; several images of a variant are joined with `;`."""
        rows = [{**row, "images": ";".join(row["images"])} for row in self.rows()]
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["variant", *self.variants.names.values(), "images", "error"])
            writer.writeheader()
            writer.writerows(rows)

    def _repr_html_(self) -> str:
        """For a notebook: the grid, and the problems of what failed."""
        line = f"<div>{escape(repr(self)[1:-1])}</div>"
        failed = "".join(
            f"<div>variant {item.index}: {escape(str(problem))}</div>"
            for item in self.failed
            for problem in item.problems
        )
        return (image_tag(_png(self.grid()), repr(self)) if self.images else "") + line + failed

    def grid(
        self,
        rows: str | Place | None = None,
        cols: str | Place | None = None,
        *,
        cell: int = 256,
        title: str | None = None,
    ) -> Image:
        """One image of all, labelled, under a title: `rows` and `cols` name the inputs that change from row to row and
        from column to column; what else varies lies side by side in a cell. Where neither is named, the longest two
        axes are taken.

        `cell` is the length in pixels that the longer side of each image has at most.
        """
        from .grid import draw_grid

        places = self._place(rows), self._place(cols)
        return draw_grid(self.items, self.variants, rows=places[0], cols=places[1], cell=cell, title=title)

    def html(self, path: str | Path, *, title: str = "Sweep", side: int = 512) -> None:
        """Write one page with all images in it, their parameters, and ways to filter and sort; it needs no network.

        The images in it are at most `side` pixels long; each is a link to the file itself.
        """
        from .page import write_page

        write_page(self.items, self.variants, Path(path), title=title, side=side, seconds=self.seconds)

    def _place(self, name: str | Place | None) -> Place | None:
        if name is None or isinstance(name, Place):
            return name
        for place, short in self.variants.names.items():
            if short == name:
                return place
        if "." not in name:
            hint = did_you_mean(name, self.variants.names.values())
            raise UnknownName([Problem("not_varied", f"{name} does not vary in this sweep", hint=hint)])
        return self.variants.workflow.place(name)


def _png(image: Image) -> bytes:
    file = BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()
