"""Only images are opened, by their content; what stands beside the pixels does no harm; no bit of them is lost."""

import io
import struct
import zlib

import numpy as np
import pytest
from graphflow_nodes.files.read_image import read_frames
from graphflow_nodes.library.masks import load_image_mask
from PIL import Image

import graphflow as gf


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels, colour_type, *extra, bits=16):
    """Numbers [H,W,C] as a PNG, with more chunks before the pixels."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def tiff(pixels, bits, sample_format, order="<"):
    """Numbers [H,W,C] of so many bits as an uncompressed TIFF 6.0."""
    height, width, channels = pixels.shape
    kind = {1: "u", 2: "i", 3: "f"}[sample_format]
    data = pixels.astype(f"{order}{kind}{bits // 8}").tobytes()
    small = struct.pack(f"{order}{channels}H", *[bits] * channels)
    formats = struct.pack(f"{order}{channels}H", *[sample_format] * channels)
    at = 8 + len(data)

    def entry(tag, kind, count, value):
        inline = (
            struct.pack(order + ("H" if kind == 3 else "I"), value).ljust(4, b"\0") if isinstance(value, int) else value
        )
        return struct.pack(f"{order}HHI", tag, kind, count) + inline.ljust(4, b"\0")

    inline = channels <= 2
    entries = [
        entry(256, 3, 1, width),
        entry(257, 3, 1, height),
        entry(258, 3, channels, small if inline else struct.pack(order + "I", at)),
        entry(259, 3, 1, 1),
        entry(262, 3, 1, 2 if channels == 3 else 1),
        entry(273, 4, 1, 8),
        entry(277, 3, 1, channels),
        entry(278, 4, 1, height),
        entry(279, 4, 1, len(data)),
        entry(339, 3, channels, formats if inline else struct.pack(order + "I", at + 6)),
    ]
    extra = b"" if inline else small + formats
    ifd = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + struct.pack(f"{order}I", 0)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", at + len(extra)) + data + extra + ifd


def read(tmp_path, data, name="a.png"):
    (tmp_path / name).write_bytes(data)
    return read_frames(tmp_path / name, name)


RANDOM = np.random.default_rng(1)


@pytest.mark.parametrize(("channels", "colour_type"), [(3, 2), (4, 6), (2, 4)])
def test_sixteen_bits_of_colour_are_read_as_sixteen_bits(tmp_path, channels, colour_type):
    pixels = RANDOM.integers(0, 65536, (5, 7, channels))
    (frame,) = read(tmp_path, png(pixels, colour_type))
    colours = pixels[..., :3] if channels > 2 else np.repeat(pixels[..., :1], 3, 2)
    assert np.array_equal(np.rint(frame.colours * 65535.0), colours)
    assert (frame.opacity is None) == (channels == 3)
    if channels != 3:
        assert np.array_equal(np.rint(frame.opacity * 65535.0), pixels[..., -1])


def test_a_transparent_colour_of_sixteen_bits_is_compared_whole(tmp_path):
    pixels = np.array([[[1, 2, 3], [1, 2, 4]]])
    (frame,) = read(tmp_path, png(pixels, 2, chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))))
    assert frame.opacity.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_of_colour_in_a_tiff(tmp_path, order):
    pixels = RANDOM.integers(0, 65536, (5, 7, 3))
    (frame,) = read(tmp_path, tiff(pixels, 16, 1, order), "a.tif")
    assert np.array_equal(np.rint(frame.colours * 65535.0), pixels)


@pytest.mark.parametrize(
    ("bits", "sample_format", "white", "order"),
    [
        (16, 1, 65535, "<"),
        (16, 1, 65535, ">"),
        (32, 1, 2**32 - 1, "<"),
        (32, 2, 2**31 - 1, "<"),
        (32, 2, 2**31 - 1, ">"),
        (32, 3, 1.0, "<"),
        (32, 3, 1.0, ">"),
        (16, 2, 32767, "<"),
    ],
)
def test_grey_of_every_depth_is_scaled_to_its_own_white(tmp_path, bits, sample_format, white, order):
    pixels = np.array([0, 0.25, 0.5, 1.0]).reshape(1, 4, 1) * white
    (frame,) = read(tmp_path, tiff(pixels, bits, sample_format, order), "a.tif")
    assert frame.colours[0, :, 0].tolist() == pytest.approx([0, 0.25, 0.5, 1.0], abs=1e-4)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        b"\x89HDF\r\n\x1a\n" + bytes(64),
        b"SIMPLE  =                    T" + bytes(2880),
        b"GRIB" + bytes(64),
        b"%PDF-1.4\n",
        b"<svg></svg>",
        b"\xd7\xcd\xc6\x9a" + bytes(64),
        b"8BPS\0\1" + bytes(64),
    ],
)
def test_what_is_not_an_image_is_not_opened_whatever_its_name(tmp_path, content):
    with pytest.raises(gf.GraphFlowError) as error:
        read(tmp_path, content)
    (problem,) = error.value.problems
    assert problem.code == "unreadable_image" and "not an image in a format that is read" in problem.message


def test_an_image_is_read_by_its_content_not_by_its_name(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (2, 2), (255, 0, 0)).save(file, "WEBP", lossless=True)
    assert read(tmp_path, file.getvalue(), "a.png")[0].colours[0, 0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "texts",
    [
        [chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * (3 << 20)))],
        [chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"a" * (3 << 20)))],
        [chunk(b"tEXt", b"parameters\0" + b"a" * (3 << 20))] * 25,
        [chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"a" * (3 << 20)))],
    ],
)
def test_large_texts_are_passed_over(tmp_path, texts):
    (frame,) = read(tmp_path, png(np.full((2, 2, 3), 255), 2, *texts, bits=8))
    assert (frame.colours == 1.0).all()


def test_a_mask_of_an_image_without_alpha_is_empty_in_its_size(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    mask = load_image_mask(gf.Settings(input_dir=tmp_path), "a.png", "alpha")
    assert mask.shape == (1, 4, 6) and not mask.any()


def test_a_mask_is_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGBA", (4, 4), (shade, 0, 0, 255 - shade)) for shade in (51, 102)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    settings = gf.Settings(input_dir=tmp_path)
    for channel in ("red", "alpha"):
        assert load_image_mask(settings, "a.png", channel).flatten().tolist() == pytest.approx([0.2] * 16)
