"""GET /view and the uploads: what goes out and what comes in."""

from __future__ import annotations

import io
import json
import struct
import unicodedata
import zlib
from urllib.parse import quote

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

BOUNDARY = "----frontier"


def png(size=(8, 6), colour=(200, 30, 30), mode="RGB", kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, kind, **options)
    return file.getvalue()


def form(content=None, filename="up.png", field="image", **fields) -> bytes:
    parts = []
    if content is not None:
        parts.append(
            f'Content-Disposition: form-data; name="{field}"; filename="{filename}"\r\n'
            f"Content-Type: image/png\r\n\r\n".encode()
            + content
        )
    for name, value in fields.items():
        parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode())
    body = b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts)
    return body + f"--{BOUNDARY}--\r\n".encode()


def upload(server, content, filename="up.png", path="/upload/image", **fields):
    body = content if isinstance(content, tuple) else form(content, filename, **fields)
    return server.ask("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})


# -- uploads (7, 11) -------------------------------------------------------------------------------------------------


def test_an_upload_named_in_decomposed_letters_is_kept_under_the_composed_name(server):
    name = unicodedata.normalize("NFD", "Café.png")
    answer = upload(server, png(), name)
    assert answer.status == 200 and answer.json["name"] == "Café.png", answer.body
    assert (server.root / "input" / "Café.png").is_file()


def test_a_picture_is_kept_and_can_be_looked_at(server):
    content = png()
    answer = upload(server, content, "red.png")
    assert answer.status == 200 and answer.json == {"name": "red.png", "subfolder": "", "type": "input"}
    assert (server.root / "input" / "red.png").read_bytes() == content
    shown = server.get("/view?filename=red.png&type=input")
    assert shown.body == content and shown.headers["Content-Type"] == "image/png"
    assert server.get("/view?filename=red.png+%5Binput%5D").body == content


def test_the_same_picture_keeps_its_name_and_another_one_gets_a_new_name(server):
    first, other = png(colour=(1, 2, 3)), png(colour=(3, 2, 1))
    assert upload(server, first, "n.png").json["name"] == "n.png"
    assert upload(server, first, "n.png").json["name"] == "n.png"
    assert upload(server, other, "n.png").json["name"] == "n (1).png"
    assert upload(server, other, "n.png").json["name"] == "n (1).png"
    assert upload(server, other, "n.png", overwrite="true").json["name"] == "n.png"
    assert upload(server, other, "n.png", subfolder="sub", type="input").json == {
        "name": "n.png",
        "subfolder": "sub",
        "type": "input",
    }
    assert server.get("/view?filename=n.png&subfolder=sub&type=input").status == 200


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_kinds_of_pictures_that_are_taken(server, kind):
    ending = {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
    assert upload(server, png(kind=kind), f"kind.{ending}").status == 200


@pytest.mark.parametrize(
    ("content", "filename"),
    [
        (b"", "a.png"),
        (b"not a picture", "a.png"),
        (b"<svg xmlns='x'><script/></svg>", "a.png"),
        (b"%!PS-Adobe", "a.png"),
        (png()[:40], "a.png"),
        (png((50, 50))[:-40], "a.png"),
        (b"\x80\x04K\x01.", "a.pkl"),
        (png(), "a.html"),
        (png(), "a.py"),
        (png(), "a"),
        (png(), ""),
        (png(), "../a.png"),
        (png(), "sub/a.png"),
        (png(), "nul.png"),
        (png(), ".png"),
        (png(), "x" * 300 + ".png"),
    ],
)
def test_attack_7_what_is_no_whole_picture_or_is_not_named_like_one_is_not_kept(server, content, filename):
    before = sorted(path for path in (server.root / "input").rglob("*"))
    answer = upload(server, content, filename)
    assert answer.status == 400, answer.body
    assert sorted(path for path in (server.root / "input").rglob("*")) == before


@pytest.mark.parametrize("subfolder", ["..", "../..", "/tmp", "a/../../b", "C:\\x", "a\0b", "con"])
def test_attack_4_a_subfolder_that_leads_out_is_refused(server, subfolder):
    assert upload(server, png(), subfolder=subfolder).status == 400
    assert server.get(f"/view?filename=a.png&subfolder={quote(subfolder)}").status == 404


def test_attack_4_only_the_three_folders_can_be_named(server):
    assert upload(server, png(), type="models").status == 400
    assert server.get("/view?filename=a.png&type=models").status == 400


def bomb(width, height) -> bytes:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(20_000, 20_000), (1, 1 << 30), (2**31 - 1, 2**31 - 1), (9000, 9000)])
def test_attack_11_a_picture_is_refused_by_its_size_before_it_is_decoded(server, size):
    answer = upload(server, bomb(*size))
    assert answer.status in (400, 413) and answer.problems in (["too_large"], ["not_a_image"])


def test_attack_11_a_picture_that_kills_its_decoder_harms_nobody(server, monkeypatch, tmp_path):
    """Uploads are decoded in a process of their own first; whatever becomes of it, the server answers."""
    from graphflow_server.http import decoding

    for text in (
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "x = bytearray(1 << 40)",
        "print('no json')",
    ):
        program = tmp_path / "decoding.py"
        program.write_text(text)
        monkeypatch.setattr(decoding, "__file__", str(program))
        assert upload(server, png(), "killer.png").problems == ["damaged_image"]
    monkeypatch.undo()
    assert not (server.root / "input" / "killer.png").exists()
    assert upload(server, png(), "killer.png").status == 200


def test_attack_11_frames_count_together_and_texts_that_unpack_to_much_are_refused(serve):
    frames = [Image.effect_noise((64, 64), 50 + index) for index in range(40)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with serve(limits={"image": 64 * 64 * 20}) as server:
        assert upload(server, file.getvalue(), "a.gif").status == 413
        info = PngInfo()
        info.add_text("a", "x" * (80 << 20), zip=True)
        packed = png(pnginfo=info)
        assert len(packed) < 1 << 20
        assert upload(server, packed).status == 400


def test_attack_7_a_file_over_the_cap_is_refused_and_so_is_one_too_many(serve):
    noise = Image.effect_noise((200, 200), 90)
    file = io.BytesIO()
    noise.save(file, "PNG")
    with serve(limits={"upload": 20_000, "upload_total": 1000}) as server:
        assert upload(server, file.getvalue()).status == 413
        small = [png(colour=(index, 0, 0), size=(40, 40)) for index in range(15)]
        statuses = [upload(server, content, f"{index}.png").status for index, content in enumerate(small)]
        assert statuses[0] == 200 and statuses[-1] == 507
        assert sum(path.stat().st_size for path in (server.root / "input").iterdir()) <= 1000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--",
        form(),
        form(png(), field="file"),
        form(png())[:-30],
        b"\0" * 100,
        form(png(), overwrite="maybe" * 100),
        f"--{BOUNDARY}\r\n\r\n".encode() * 50,
    ],
)
def test_a_form_that_is_none_is_refused(server, body):
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    assert 400 <= server.ask("POST", "/upload/image", body, headers).status < 500
    assert 400 <= server.ask("POST", "/upload/mask", body, headers).status < 500


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "application/json", "multipart/form-data; boundary=" + "x" * 200, ""]
)
def test_an_upload_that_is_no_form_is_refused(server, kind):
    assert 400 <= server.ask("POST", "/upload/image", form(png()), {"Content-Type": kind} if kind else {}).status < 500


def test_a_mask_is_the_original_with_the_alpha_of_the_upload(server):
    info = PngInfo()
    info.add_text("prompt", "{}")
    upload(server, png((8, 6), (10, 20, 30), pnginfo=info), "original.png")
    mask = png((8, 6), (0, 0, 0, 77), "RGBA")
    reference = json.dumps({"filename": "original.png", "subfolder": "", "type": "input"})
    answer = upload(server, mask, "masked.png", path="/upload/mask", original_ref=reference)
    assert answer.status == 200 and answer.json["name"] == "masked.png"
    kept = Image.open(server.root / "input" / "masked.png")
    assert kept.getpixel((0, 0)) == (10, 20, 30, 77) and kept.text["prompt"] == "{}"
    for wrong in ("{}", "nonsense", '{"filename": "../x"}', '{"filename": "none.png"}', '{"filename": 5}', "[" * 200):
        refused = upload(server, mask, "masked.png", path="/upload/mask", original_ref=wrong)
        assert refused.status in (400, 404), wrong


# -- looking at files (4, 6) -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outputs(server):
    folder = server.root / "output"
    folder.mkdir(exist_ok=True)
    files = {
        "true.png": png(),
        "page.html": b"<script>alert(1)</script>",
        "page.png": b"<html><script>alert(1)</script>",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "x.js": b"alert(1)",
        "x.xhtml": b"<html xmlns='http://www.w3.org/1999/xhtml'/>",
        "data.json": b"{}",
        "wrong.jpg": png(),
        "a;b.png": png(),
        "ä ö.png": png(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return files


@pytest.mark.parametrize("name", ["page.html", "page.png", "drawing.svg", "x.js", "x.xhtml", "data.json"])
def test_attack_6_what_is_no_picture_is_never_shown_in_place(server, outputs, name):
    answer = server.get(f"/view?filename={name}")
    assert answer.status == 200 and answer.body == outputs[name]
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert (
        answer.headers["X-Content-Type-Options"] == "nosniff" and "sandbox" in answer.headers["Content-Security-Policy"]
    )


def test_attack_6_the_kind_of_a_picture_is_that_of_its_bytes(server, outputs):
    answer = server.get("/view?filename=wrong.jpg")
    assert answer.headers["Content-Type"] == "image/png" and answer.headers["Content-Disposition"].startswith("inline;")


@pytest.mark.parametrize(
    "content, media",
    [
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video/mp4"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm", "video/webm"),
        (b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska", "application/octet-stream"),
        (b"<html>ftypisom webm", "application/octet-stream"),
    ],
)
def test_a_video_is_played_in_place_by_what_its_bytes_are(server, outputs, content, media):
    """Of a kind that browsers play; a page that is named like a video is only saved."""
    (server.root / "output" / "x.mp4").write_bytes(content)
    answer = server.get("/view?filename=x.mp4")
    assert answer.status == 200 and answer.body == content and answer.headers["Content-Type"] == media
    is_played = media.startswith("video/")
    assert answer.headers["Content-Disposition"].startswith("inline;" if is_played else "attachment;")


def test_attack_6_a_file_name_cannot_break_out_of_its_header(server, outputs):
    strange = server.get("/view?filename=" + quote("a;b.png")).headers["Content-Disposition"]
    assert strange == "inline; filename=\"a_b.png\"; filename*=UTF-8''a%3Bb.png"
    foreign = server.get("/view?filename=" + quote("ä ö.png")).headers["Content-Disposition"]
    assert foreign == "inline; filename=\"_ _.png\"; filename*=UTF-8''%C3%A4%20%C3%B6.png"


@pytest.mark.parametrize(
    "name",
    [
        "../state/queue.sqlite",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "%2e%2e/x",
        "a%00b",
        ".graphflow/x",
        "missing.png",
        "con",
        "true.png/",
        "true.png/x",
        "%ff%fe",
    ],
)
def test_attack_4_outside_and_missing_are_told_in_the_same_words(server, outputs, name):
    answer = server.get(f"/view?filename={name}")
    assert answer.status == 404
    assert answer.body == server.get("/view?filename=nothing-of-that-name.png").body


def test_attack_5_a_link_in_the_output_folder_is_not_served(server, outputs):
    link = server.root / "output" / "link.png"
    link.symlink_to("/etc/hostname")
    assert server.get("/view?filename=link.png").status == 404


def test_a_picture_is_converted_on_request(server, outputs):
    folder = server.root / "output"
    Image.new("RGBA", (8, 8), (10, 20, 30, 40)).save(folder / "alpha.png")
    for query, kind, mode in (
        ("preview=webp", "WEBP", "RGBA"),
        ("preview=webp;50", "WEBP", "RGBA"),
        ("preview=jpeg", "JPEG", "RGB"),
        ("channel=rgb", "PNG", "RGB"),
        ("channel=a", "PNG", "RGBA"),
        ("channel=rgba", "PNG", "RGBA"),
    ):
        answer = server.get(f"/view?filename=alpha.png&{query}")
        with Image.open(io.BytesIO(answer.body)) as image:
            assert (image.format, image.mode) == (kind, mode), query
    for query in ("preview=bmp", "preview=webp;9999", "channel=x", "preview=" + "x" * 5000):
        assert server.get(f"/view?filename=alpha.png&{query}").status == 400
    assert server.get("/view?filename=page.html&preview=webp").status == 400


def test_the_mask_of_a_picture_comes_in_the_alpha_channel_where_the_mask_editor_reads_it(server, outputs):
    painted = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    painted.putpixel((1, 0), (10, 20, 30, 0))
    painted.save(server.root / "output" / "painted.png")
    with Image.open(io.BytesIO(server.get("/view?filename=painted.png&channel=a").body)) as mask:
        assert mask.mode == "RGBA" and [mask.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 0, 255), (0, 0, 0, 0)]


def test_a_file_that_has_not_changed_is_not_sent_again(server, outputs):
    first = server.get("/view?filename=true.png")
    again = server.get("/view?filename=true.png", If_None_Match=first.headers["ETag"])
    assert again.status == 304 and again.body == b""
    head = server.ask("HEAD", "/view?filename=true.png")
    assert head.status == 200 and head.body == b""
