"""Sentences of the web editor that this server words itself, by the editor's way for translations of node packs.

Where a workflow has node types that the server lacks, the editor advises a newer ComfyUI and its manager. Neither would
change anything here.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..http.answers import answer
from ..http.policies import READ
from ..http.route import Route

__all__ = ["ROUTES"]

LANGUAGES = ("en", "zh", "zh-TW", "ru", "ja", "ko", "fr", "es", "ar", "tr", "pt-BR", "fa")
"""Of the editor. English for all of them: advice that is right, in place of advice in one's own language that is
not."""
WHERE = "The page /supported of this server lists those that it has; so does the menu: Help, Node types."
NOT_ALL = f"GraphFlow has not all node types of ComfyUI, and a newer version would not bring them. {WHERE}"
TEXTS: dict[str, Any] = {
    "loadWorkflowWarning": {
        "newerVersionRequired": NOT_ALL,
        "newerVersionRequiredGeneric": NOT_ALL,
        "coreNodesFromVersion": "Missing here, of ComfyUI {version}:",
    },
    "rightSidePanel": {
        "missingNodePacks": {
            "title": "Missing node types",
            "unknownPack": "Of no pack that is known",
            "ossManagerDisabledHint": "Node packs are folders: start the server with graphflow serve --nodes FOLDER. "
            + WHERE,
        }
    },
    "errorCatalog": {
        "missingErrors": {
            "missing_node": {
                "displayMessageOss": "This GraphFlow server has no node types of these names.",
                "toastTitleOneOss": "GraphFlow has no node type {nodeType}",
                "toastTitleManyOss": "GraphFlow has no node types of these names",
                "toastMessageOneOss": WHERE,
                "toastMessageManyOss": "{count} nodes are of types that are missing. " + WHERE,
            }
        }
    },
}


async def translations(_: web.Request) -> web.Response:
    """Language -> texts by their names in the editor."""
    return answer(dict.fromkeys(LANGUAGES, TEXTS))


ROUTES = (Route("GET", "/i18n", translations, READ, "Sentences of the web editor", answer=dict[str, Any]),)
