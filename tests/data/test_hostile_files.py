"""Image files, folders and pipes that would hang or fill the memory: one line, before anything is decoded."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from small_sets import noise, png, refused, write_parquet
from tiny_runs import tiny_net

from offramp import Recipe, UserError, fit
from offramp.data import StreamSplit, open_data
from offramp.data._files import read_regular
from offramp.data._folder import read_image
from offramp.data._pictures import picture
from offramp.data.decoding import UnusableImage
from offramp.data.image_files import ImageReader, find_images

IMAGES = [png(pixels) for pixels in noise(6)]


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def header_of(width, height, *more):
    """A PNG file that says that it is so large, and holds next to nothing."""
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + start
        + b"".join(more)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(12_000, 12_000), (2**27 + 1, 1), (40_000, 40_000), (2**31 - 1, 2**31 - 1)])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(size):
    with pytest.raises(
        UnusableImage, match=r"more than the 134 million pixels that are decoded; make it smaller"
    ):
        picture(header_of(*size))


def test_a_photo_of_a_hundred_million_pixels_is_no_bomb():
    """Pillow warns of it; it is decoded, or here, as there is nothing to decode, found to be cut short."""
    with pytest.raises(UnusableImage, match="cannot decode the image"):
        picture(header_of(11_648, 8_736))


@pytest.mark.parametrize(
    "make", [lambda: header_of(9_000, 9_001), lambda: header_of(8, 9), lambda: header_of(1, 8)]
)
def test_the_size_in_the_header_counts_before_anything_is_decoded(make, tmp_path):
    folder = tmp_path / "set"
    file = write_parquet(folder / "train.parquet", [*IMAGES[:5], make()], [0, 1, 2] * 2)
    write_parquet(folder / "test.parquet", IMAGES, [0, 1, 2] * 2)
    refused([f"{file}, row 5: ", "pixels where others have 8x8"], folder, val_fraction=0)
    (tmp_path / "x.png").write_bytes(make())
    reader = ImageReader((3, 8, 8))
    refused(["x.png: ", "pixels where the net reads 8x8"], tmp_path / "x.png", use=reader.read)


def test_a_long_image_is_not_enlarged_without_end(tmp_path):
    """Its shorter side becomes 256/224 of the square, and the longer one with it."""
    thin = io.BytesIO()
    Image.new("L", (600_000, 1)).save(thin, "PNG")
    (tmp_path / "x.png").write_bytes(thin.getvalue())
    words = ["600000x1 pixels, which are 153600000x256 when they are resized to be cut to 224x224"]
    refused(words, tmp_path / "x.png", use=ImageReader((3, 224, 224), cut=True).read)
    for split in ("train", "test"):
        write_parquet(tmp_path / "set" / f"{split}.parquet", [thin.getvalue()] * 3, [0, 1, 2])
    data = open_data(tmp_path / "set", val_fraction=0, size=224)
    data.train.workers = 0
    refused(words, 1, use=data.train.sample)


@pytest.mark.parametrize("size", [11_586, 10**6, 10**30])
def test_squares_are_of_as_many_pixels_as_images_at_most(tmp_path, size):
    refused(["size=1", "must be at most 11585 pixels"], tmp_path, size=size)


def animation(frames):
    buffer = io.BytesIO()
    first, *others = [Image.fromarray(pixels) for pixels in noise(frames)]
    first.save(buffer, "TIFF", save_all=True, append_images=others)
    return buffer.getvalue()


def test_of_many_frames_the_first_is_decoded(monkeypatch):
    content = animation(50)
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.seek", lambda *_: pytest.fail("another frame"))
    assert np.array_equal(np.asarray(picture(content)), noise(50)[0])


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_chunk_of_text_that_grows_without_end_is_refused(name):
    packed = zlib.compress(bytes(3 * 2**20))
    before = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[name]
    image = io.BytesIO(IMAGES[0])
    content = image.getvalue()
    with pytest.raises(UnusableImage, match=r"cannot decode the image \(.*\); replace or remove it"):
        picture(content[:33] + chunk(name, before + packed) + content[33:])


@pytest.mark.parametrize("cut", [False, True])
def test_a_photo_that_is_cut_off_is_refused(tmp_path, cut):
    """Also one that needs no conversion, which Pillow decodes only when its pixels are asked for."""
    levels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(levels).save(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"photo.jpg: cannot decode the image \(image file is truncated"):
        ImageReader((3, 40, 40), cut=cut).read(path)


def test_a_program_that_draws_an_image_is_not_run():
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"
    with pytest.raises(UnusableImage, match="PostScript, which is not run"):
        picture(script)


@pytest.mark.parametrize("kind", ["ICO", "ICNS", "TGA"])
def test_formats_that_no_image_folder_holds_are_not_read(kind):
    """The header of an icon, and Pillow's bound, let 178 million pixels through."""
    with pytest.raises(UnusableImage, match="in no known format: PNG, JPEG, "):
        picture(stored(Image.new("RGB", (32, 32)), kind))


def stored(image, kind, **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


@pytest.mark.parametrize(("tile", "size"), [((16_000, 16_000), (64, 64)), ((16, 2**20), (2**20, 1))])
def test_tiles_of_a_tiff_file_count_as_a_whole(tile, size):
    with pytest.raises(UnusableImage, match=r"x\d+ pixels: more than the 134 million"):
        picture(tiled(tile, size))
    assert picture(tiled((32, 48), (20, 64))).size == (20, 64)


def tiled(tile, size):
    """A gray TIFF file of tiles that are all the same."""
    data = zlib.compress(bytes(tile[0] * tile[1] if max(tile) < 100 else 1))
    count = -(-size[0] // tile[0]) * -(-size[1] // tile[1])
    tags = {256: size[0], 257: size[1], 258: 8, 259: 8, 262: 1, 277: 1, 322: tile[0], 323: tile[1]}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    places = [(324, [start + 8 * count] * count), (325, [len(data)] * count)]
    for number, (tag, values) in enumerate(places):
        entries.append(
            struct.pack("<HHII", tag, 4, count, start + 4 * count * number if count > 1 else values[0])
        )
    lists = b"".join(struct.pack(f"<{count}I", *values) for _, values in places)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + lists + data


def test_a_jpeg_file_passes_over_its_pixels_a_bounded_number_of_times():
    """A hundred kilobytes may hold thousands of scans, each of which takes as long as an image."""
    photo = stored(Image.fromarray(noise(1, size=(16, 16))[0]), "JPEG", progressive=True)
    last = photo.rindex(b"\xff\xda")
    assert picture(photo[:-2] + photo[last:-2] * 50 + photo[-2:]).size == (16, 16)
    assert picture(photo + photo[last:-2] * 200).size == (16, 16)  # as a film behind a telephone's photo
    for between in (b"", b"\xff", b"\xff\x01", b"\xff\xd0"):
        with pytest.raises(UnusableImage, match="more than 100 times"):
            picture(photo[:-2] + (between + photo[last:-2]) * 100 + photo[-2:])


def test_a_picture_object_that_fails_when_it_is_read():
    """Such as a data set gives whose files Pillow has opened and not read."""
    opened = [
        (Image.open(io.BytesIO(content)), i % 2) for i, content in enumerate([*IMAGES[:3], IMAGES[3][:-40]])
    ]
    refused(["sample 3: cannot read the image (", "mend or remove it"], opened, val_fraction=0)


def test_a_picture_object_of_no_pixels_or_too_many():
    with pytest.raises(UnusableImage, match="no pixels"):
        picture(Image.new("RGB", (0, 8)))
    with pytest.warns(Image.DecompressionBombWarning):
        large = Image.open(io.BytesIO(header_of(12_000, 12_000)))
    with pytest.raises(UnusableImage, match="more than the 134 million"):
        picture(large)
    refused(["sample 0: cannot read the image (12000x12000 pixels: more than"], [(large, 0), (large, 1)])


@pytest.fixture
def pipes(tmp_path):
    """What is no regular file, by name."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "link.png").symlink_to("pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    return tmp_path


@pytest.mark.parametrize("name", ["pipe.png", "zero.png", "link.png", "loop.png"])
def test_only_regular_files_are_images(image_folder, pipes, name):
    refused([f"{name}: cannot read the image ("], pipes / name, use=ImageReader((3, 8, 8)).read)
    folder = image_folder({"train": 3, "test": 1})
    (pipes / name).rename(folder / "train" / "dog" / name)
    refused([f"{name}: cannot read the image (", "replace or remove it"], folder)


@pytest.mark.parametrize("map_of", ["image", "label", "depth", "normal"])
def test_only_regular_files_are_maps(tmp_path, map_of):
    arrays = {"image": np.zeros((3, 8, 8), np.float32), "label": np.zeros((8, 8)), "depth": np.ones((8, 8)),
              "normal": np.full((3, 8, 8), 3**-0.5)}  # fmt: skip
    for split in ("train", "val"):
        for name, array in arrays.items():
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            np.save(folder / "0.npy", array)
            np.save(folder / "1.npy", array)
    pipe = tmp_path / "train" / map_of / "0.npy"
    pipe.unlink()
    os.mkfifo(pipe)
    refused([f"{pipe}: cannot read it (it is a pipe, not a file"], tmp_path)


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="more than 1 GiB"):
        read_regular(tmp_path / "x.png")


def test_folders_that_lead_back_into_themselves_end(image_folder):
    folder = image_folder({"train": 2, "test": 1})
    for name, target in (("again", "."), ("up", ".."), ("all", "/")):
        (folder / "train" / "cat" / name).symlink_to(target)
    data = open_data(folder, val_fraction=0)
    assert len(data.train) == 4
    assert len(find_images([folder / "train" / "cat"])) == 2


def test_a_folder_of_any_depth_is_walked(image_folder):
    folder = image_folder({"train": 2, "test": 1})
    deep = folder / "train" / "cat"
    try:
        for _ in range(1200):
            deep = deep / "d"
            deep.mkdir()
        (deep / "x.png").write_bytes(IMAGES[0])
        assert len(open_data(folder, val_fraction=0).train) == 5
    finally:  # what removes temporary folders is not made for such depths
        (deep / "x.png").unlink(missing_ok=True)
        while deep.name == "d":
            deep.rmdir()
            deep = deep.parent


def test_many_empty_folders_are_looked_at_once(image_folder):
    folder = image_folder({"train": 2, "test": 1})
    for number in range(3000):
        (folder / "train" / "cat" / str(number)).mkdir()
    assert len(open_data(folder, val_fraction=0).train) == 4


def test_a_folder_that_cannot_be_listed(image_folder, monkeypatch):
    folder = image_folder({"train": 2, "test": 1})

    def no_list(path):
        raise PermissionError(13, "Permission denied", str(path))

    (folder / "train" / "cat" / "locked").mkdir()
    walk = type(folder).iterdir
    monkeypatch.setattr(
        type(folder), "iterdir", lambda path: no_list(path) if path.name == "locked" else walk(path)
    )
    refused(["locked: cannot list the folder (Permission denied)"], folder)


@pytest.mark.parametrize("name", [b"a\xffb", b"a\nb", b"a\x1bb"])
def test_class_folders_have_names_that_can_be_written(image_folder, name):
    folder = image_folder({"train": 2, "test": 1})
    os.rename(folder / "train" / "cat", os.fsencode(folder / "train") + b"/" + name)
    refused(["class folder 0 is called 'a", "cannot be printed"], folder)


@pytest.mark.parametrize(
    "place",
    ["a\0b", "x" * 300, "x/" * 3000, "~nosuchuser/set", "\ud800/x", "./" + "y" * 5000],
    ids=["null", "long name", "long path", "no user", "surrogate", "very long"],
)
def test_paths_that_no_folder_can_have(place):
    refused(["'"], place)
    with pytest.raises(UserError):
        find_images([place])


def test_a_file_removed_between_opening_and_reading(image_folder):
    folder = image_folder({"train": 3, "test": 1}, sizes=((8, 8), (9, 12)))
    data = open_data(folder, val_fraction=0, size=8)
    (folder / "train" / "cat" / "1.png").unlink()
    (folder / "train" / "dog" / "1.png").write_bytes(IMAGES[0][:60])
    for workers in (0, 1):
        data.train.workers = workers
        refused(["cat/1.png: cannot read the image (No such file"], 6, use=data.train.sample)


def test_a_set_that_changes_ends_its_run_at_a_checkpoint(image_folder, tmp_path, monkeypatch):
    """It goes on to the same bits when the file is back."""
    folder = image_folder({"train": 6, "test": 2})
    recipe = Recipe(epochs=2, batch_size=4, augment="none", size=8, val_fraction=0, checkpoint_every=1)
    monkeypatch.setattr(StreamSplit, "workers", 0)
    undisturbed = fit(tiny_net(classes=2), folder, "joint", recipe, tmp_path / "whole", quiet=True)
    file, reads = folder / "train" / "dog" / "3.png", []

    def read(path, location):
        reads.append(path)
        if len(reads) == 28:  # in the second epoch
            file.rename(tmp_path / "away")
        return read_image(path, location)

    with monkeypatch.context() as changing:
        changing.setattr("offramp.data._folder.read_image", read)
        arguments = (tiny_net(classes=2), folder, "joint", recipe, tmp_path / "run")
        refused([f"{file}: cannot read the image (No such file"], *arguments, quiet=True, use=fit)
    assert not (tmp_path / "run" / "result.json").exists()
    (tmp_path / "away").rename(file)
    run = fit(tiny_net(classes=2), folder, "joint", recipe, tmp_path / "run", resume=True, quiet=True)
    for name, weight in undisturbed.net.state_dict().items():
        assert torch.equal(run.net.state_dict()[name], weight)


def test_a_tokenizer_of_pipes_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "tokenizer.json")
    refused(["tokenizer.json is a pipe, not a file; remove it"], tmp_path, tokenizer=tmp_path)
