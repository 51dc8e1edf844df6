"""The table of all routes."""

from __future__ import annotations

from ..http.route import Route
from . import (
    describe,
    editor,
    editor_texts,
    extensions,
    files,
    forms,
    health,
    openapi,
    pages,
    prompts,
    queueing,
    socket,
    templates,
    userdata,
    workers,
)

__all__ = ["ROUTES"]

ROUTES: tuple[Route, ...] = (
    *prompts.ROUTES,
    *queueing.ROUTES,
    *workers.ROUTES,
    *socket.ROUTES,
    *files.ROUTES,
    *forms.ROUTES,
    *describe.ROUTES,
    *userdata.ROUTES,
    *editor.ROUTES,
    *editor_texts.ROUTES,
    *extensions.ROUTES,
    *templates.ROUTES,
    *health.ROUTES,
    *openapi.ROUTES,
    *pages.ROUTES,
)
"""Everything that is served, but for the files of the editor, which take all other paths (`pages.STATIC`)."""
