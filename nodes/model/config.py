"""The numbers that tell one model of a family from another, read from a header."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Config"]


class Config(Mapping[str, Any]):
    """A frozen, hashable mapping of plain Python (numbers, texts, booleans, None, tuples of these, other Configs).

    `config | {"channels": 9}` is another one. Attributes read as well: `config.channels`.
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, Any] | None = None, **more: Any) -> None:
        found = {**(items or {}), **more}
        self._items = {key: _frozen(found[key]) for key in sorted(found)}
        self._hash = hash(tuple(self._items.items()))

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self._items[key]
        except KeyError:
            raise AttributeError(f"this config has no {key!r}; it has {', '.join(self._items)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __or__(self, other: Mapping[str, Any]) -> Config:
        return Config({**self._items, **other})

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self._items == other._items

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{key}={value!r}' for key, value in self._items.items())})"

    def __reduce__(self) -> Any:
        return Config, (dict(self._items),)

    def identity(self) -> list[Any]:
        """Plain Python that is equal for equal configs: pairs in the order of their names."""
        return [[key, value.identity() if isinstance(value, Config) else value] for key, value in self._items.items()]


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping) and not isinstance(value, Config):
        return Config(value)
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value
