"""Files of runs: looking at them, whole or a part, and bringing images, videos and sounds in."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import quote

from aiohttp import BodyPartReader, web
from aiohttp.http import HttpProcessingError

from graphflow import Problem

from ..http import strict_json
from ..http.answers import answer
from ..http.bodies import checked, read_query
from ..http.budget import BUDGET
from ..http.images import ENDINGS, INLINE, alone, check_apart, decode, encode, format_of, with_alpha_of
from ..http.paths import BadName, composed, entries, open_file, segments, write_file
from ..http.policies import READ, UPLOAD
from ..http.refusal import RequestRefused
from ..http.route import Route
from ..http.sounds import ENDINGS as SOUND_ENDINGS
from ..http.sounds import is_sound, sound_type
from ..http.videos import ENDINGS as VIDEO_ENDINGS
from ..http.videos import is_video, video_type
from ..options import RequestLimits
from ..protocol.requests import FileRef, ImageUpload, MaskUpload, ViewQuery
from ..protocol.words import FolderName
from ..state import STATE, ServerState

__all__ = ["FOLDERS", "ROUTES", "attachment", "folder", "read_form", "send_file"]

Form = TypeVar("Form", bound=ImageUpload)
CHUNK = 1 << 18
ANNOTATED = re.compile(r"(.*) ?\[(input|output|temp)\]")
FOLDERS: Mapping[str, FolderName] = {"input": "input", "output": "output", "temp": "temp"}
MISSING = Problem("no_file", "there is no such file")


def folder(state: ServerState, kind: FolderName) -> Path:
    settings = state.engine.settings
    return {"output": settings.output_dir, "input": settings.input_dir, "temp": settings.temp_dir}[kind]


async def view(request: web.Request) -> web.StreamResponse:
    state = request.app[STATE]
    query = read_query(request, ViewQuery)
    name, kind = query.filename, query.type
    if found := ANNOTATED.fullmatch(name):
        name, kind = found[1].rstrip(), FOLDERS[found[2]]
    full = f"{query.subfolder}/{name}" if query.subfolder else name
    file = await _open(folder(state, kind), full)
    if query.preview is None and query.channel in (None, "rgba"):
        return await send_file(request, file, Path(name).name)
    try:
        body, media = await asyncio.to_thread(_converted, file, query, state.options.limits)
    finally:
        file.close()
    return web.Response(body=body, content_type=media)


async def _open(root: Path, name: str) -> BinaryIO:
    try:
        return await asyncio.to_thread(open_file, root, name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise RequestRefused(404, MISSING) from None


def _converted(file: BinaryIO, query: ViewQuery, limits: RequestLimits) -> tuple[bytes, str]:
    image = decode(file.read(limits.upload + 1), limits)
    kind, quality = "PNG", 90
    if query.channel == "rgb":
        image = image.convert("RGB")
    elif query.channel == "a":
        image = alone(image.convert("RGBA").getchannel("A"))
    if query.preview is not None:
        name, _, number = query.preview.partition(";")
        kind = "JPEG" if name == "jpeg" else "WEBP"
        quality = min(100, max(1, int(number))) if number else 90
        image = image.convert("RGB" if kind == "JPEG" else "RGBA")
    return encode(image, kind, **({} if kind == "PNG" else {"quality": quality})), INLINE[kind]


async def send_file(request: web.Request, file: BinaryIO, name: str, media: str | None = None) -> web.StreamResponse:
    """An open file, in pieces. Shown in place only if its bytes are an image, a video or a sound that browsers know.
    Else it is saved.

    media: the type of a file whose name decides what it is, and which browsers only show as text.
    """
    try:
        state = os.fstat(file.fileno())
        tag = f'"{state.st_ino:x}-{state.st_mtime_ns:x}-{state.st_size:x}"'
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        if media is None:
            media = await asyncio.to_thread(_media, file)
        headers["Content-Disposition"] = attachment(name, inline=media is not None)
        headers["Accept-Ranges"] = "bytes"
        begin, end = _range(request, tag, state.st_size)
        if begin >= end and state.st_size:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{state.st_size}"})
        is_part = (begin, end) != (0, state.st_size)
        if is_part:
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{state.st_size}"
        response = web.StreamResponse(status=206 if is_part else 200, headers=headers)
        response.content_type = media or "application/octet-stream"
        response.content_length = end - begin
        await response.prepare(request)
        if request.method != "HEAD":
            left = end - begin
            file.seek(begin)
            while left > 0 and (part := await asyncio.to_thread(file.read, min(CHUNK, left))):
                left -= len(part)
                await response.write(part)
        await response.write_eof()
        return response
    finally:
        file.close()


def _media(file: BinaryIO) -> str | None:
    """The type of a file that browsers show, by its bytes."""
    return INLINE.get(format_of(file) or "") or video_type(file) or sound_type(file)


def _range(request: web.Request, tag: str, size: int) -> tuple[int, int]:
    """The bytes that are asked for (RFC 9110, 14): a player jumps so in a video. All of them where the header asks for
    several parts or cannot be read, or for a part of what the file was; begin >= end where there are none."""
    if request.headers.get("If-Range", tag) != tag:
        return 0, size
    try:
        wanted = request.http_range
    except ValueError:
        return 0, size
    begin, end = wanted.start, wanted.stop
    if begin is None:
        return 0, size
    if begin < 0:
        return max(0, size + begin), size
    return begin, size if end is None else min(end, size)


def attachment(name: str, inline: bool = False) -> str:
    """A Content-Disposition by RFC 6266: a plain name for old programs, and the true one."""
    plain = re.sub(r"[^ !#$&+.\w~-]", "_", name, flags=re.ASCII)
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


# -- uploads ---------------------------------------------------------------------------------------------------------


async def upload_image(request: web.Request) -> web.Response:
    """An image, a video or a sound for the input folder; the same file again keeps its name, another of that name gets
    a new one."""
    state = request.app[STATE]
    data, fields = await read_form(request, state.options.limits)
    form = _form_model(ImageUpload, fields)
    ending = Path(form.filename).suffix.lower()
    if ending in VIDEO_ENDINGS:
        if not is_video(data, ending):
            raise _another_kind("video", ending, "MP4, MOV, MKV, WebM or AVI")
    elif ending in SOUND_ENDINGS:
        if not is_sound(data, ending):
            raise _another_kind("sound", ending, "WAV, MP3, FLAC, Ogg, Opus, M4A, AAC or AIFF")
    else:
        async with state.decoders:
            await check_apart(data, state.options.limits)
    return await _keep(state, data, form, (*ENDINGS, *VIDEO_ENDINGS, *SOUND_ENDINGS))


def _another_kind(kind: str, ending: str, formats: str) -> RequestRefused:
    found = f"the file does not begin as a {kind} named {ending} does"
    hint = f"send it under the ending of its format: {formats}"
    return RequestRefused(400, Problem(f"not_a_{kind}", found, input="image", hint=hint))


async def upload_mask(request: web.Request) -> web.Response:
    """A painted mask: kept is the image it was painted on, with the upload's alpha."""
    state = request.app[STATE]
    limits = state.options.limits
    data, fields = await read_form(request, limits)
    form = _form_model(MaskUpload, fields)
    async with state.decoders:
        await check_apart(data, limits)
    reference = form.original_ref
    name = f"{reference.subfolder}/{reference.filename}" if reference.subfolder else reference.filename
    file = await _open(folder(state, reference.type), name)

    def combine() -> bytes:
        with file:
            original = decode(file.read(limits.upload + 1), limits)
        return with_alpha_of(original, decode(data, limits))

    combined = await asyncio.to_thread(combine)
    return await _keep(state, combined, form, ENDINGS)


async def read_form(request: web.Request, limits: RequestLimits, name: str = "image") -> tuple[bytes, dict[str, str]]:
    """The file of a multipart form, which is its part `name`, and its other fields with the file's own name as
    `filename`; each up to its limit, in time."""
    if request.content_type != "multipart/form-data":
        raise RequestRefused(
            415, Problem("wrong_content_type", f"found {request.content_type}, expected multipart/form-data")
        )
    size = request.content_length
    if size is not None and size > limits.upload + (1 << 16):
        raise _too_large(limits)
    seconds = limits.read_seconds * (1 + (size or limits.upload) / (1 << 20))
    data: bytes | None = None
    fields: dict[str, str] = {}
    try:
        async with asyncio.timeout(seconds):
            reader = await request.multipart()
            while (part := await reader.next()) is not None:
                if not isinstance(part, BodyPartReader) or len(fields) > 16:
                    raise RequestRefused(400, Problem("bad_form", "the form has parts in parts, or too many parts"))
                content = await _part(request, part, limits)
                if part.name == name:
                    if data is not None:
                        raise RequestRefused(400, Problem("bad_form", "the form has two files", input=name))
                    data, fields["filename"] = content, part.filename or ""
                elif part.name:
                    fields[part.name] = content[: 1 << 16].decode("utf-8")
    except TimeoutError:
        raise RequestRefused(408, Problem("too_slow", f"the file did not come within {seconds:.0f} seconds")) from None
    except (ValueError, AssertionError, LookupError, RuntimeError, HttpProcessingError) as error:
        raise RequestRefused(400, Problem("bad_form", f"the form cannot be read: {error}"[:200])) from None
    if data is None:
        raise RequestRefused(400, Problem("no_image", "the form has no file", input=name))
    return data, fields


async def _part(request: web.Request, part: BodyPartReader, limits: RequestLimits) -> bytes:
    parts, size = [], 0
    while chunk := await part.read_chunk(CHUNK):
        size += len(chunk)
        if size > limits.upload:
            raise _too_large(limits)
        request.app[BUDGET].take(request, len(chunk))
        parts.append(chunk)
    return b"".join(parts)


def _too_large(limits: RequestLimits) -> RequestRefused:
    return RequestRefused(413, Problem("too_large", f"the file is larger than {limits.upload} bytes"))


def _form_model(model: type[Form], fields: dict[str, str]) -> Form:
    found: dict[str, object] = dict(fields)
    if isinstance(found.get("original_ref"), str):
        try:
            found["original_ref"] = strict_json.loads(str(found["original_ref"]).encode("utf-8"))
        except ValueError as error:
            raise RequestRefused(400, Problem("bad_form", str(error), input="original_ref")) from None
    return checked(model, found, "form")


async def _keep(state: ServerState, data: bytes, form: ImageUpload, endings: tuple[str, ...]) -> web.Response:
    root = folder(state, form.type)
    name, subfolder, overwrite = composed(form.filename), composed(form.subfolder), form.overwrite in ("true", "1")
    try:
        if not segments(name) or "/" in name or not name.lower().endswith(endings):
            raise BadName("a file is named like what it is: " + ", ".join(endings))
        segments(subfolder)
        async with state.uploading:
            name = await asyncio.to_thread(_store, root, subfolder, name, data, overwrite, state.options.limits)
    except BadName as error:
        raise RequestRefused(400, Problem("bad_name", str(error), input="image")) from None
    return answer(FileRef(filename=name, subfolder=subfolder, type=form.type).uploaded())


def _store(root: Path, subfolder: str, name: str, data: bytes, overwrite: bool, limits: RequestLimits) -> str:
    """The name under which the image now lies. A name that is taken gets ` (1)`, ` (2)` ..."""
    root.mkdir(parents=True, exist_ok=True)
    total = sum(item.st_size for _, item in entries(root, recurse=True))
    if total + len(data) > limits.upload_total:
        raise RequestRefused(
            507,
            Problem(
                "no_space",
                f"the folder would grow over {limits.upload_total} bytes",
                hint="remove files from the input folder",
            ),
        )
    digest = hashlib.sha256(data).digest()
    stem, dot, ending = name.rpartition(".")
    candidate, number = name, 0
    while True:
        full = f"{subfolder}/{candidate}" if subfolder else candidate
        try:
            write_file(root, full, data, overwrite)
            return candidate
        except IsADirectoryError:
            if overwrite:
                raise BadName(f"{candidate!r} is the name of a folder") from None
        except FileExistsError:
            with suppress(FileNotFoundError), open_file(root, full) as file:
                if hashlib.file_digest(file, "sha256").digest() == digest:
                    return candidate
        number += 1
        candidate = f"{stem} ({number}){dot}{ending}"


ROUTES = (
    Route("GET", "/view", view, READ, "A file of a run", query=ViewQuery, produces="*/*", statuses=(200, 206, 304)),
    Route(
        "POST",
        "/upload/image",
        upload_image,
        UPLOAD,
        "Bring an image, a video or a sound in",
        body=ImageUpload,
        media="multipart/form-data",
        answer=dict[str, str],
    ),
    Route(
        "POST",
        "/upload/mask",
        upload_mask,
        UPLOAD,
        "Bring a mask for an image in",
        body=MaskUpload,
        media="multipart/form-data",
        answer=dict[str, str],
    ),
)
