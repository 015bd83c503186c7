"""Images become one array: modes, squashing,
the cache that is made once and again when spoiled, the digest.
"""

import io

import numpy as np
import pytest
from made import box_entry, encoded
from PIL import Image

from focalrepro.data import DatasetError
from focalrepro.data import pixels as pixels_module


def test_squash_is_pillows_antialiased_bilinear_and_whole_images_stay_untouched(made):
    with Image.open(made.images / "002.png") as image:
        expected = np.asarray(image.resize((20, 20), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    np.testing.assert_array_equal(made.load(size=20).images[0], expected)
    (made.images / "002.png").write_bytes(encoded(20, 20, seed=9))
    with Image.open(made.images / "002.png") as image:
        exact = np.asarray(image).transpose(2, 0, 1)
    data = made.load(size=20)
    np.testing.assert_array_equal(data.images[0], exact)
    assert data.sizes[0].tolist() == [40, 60]  # the JSON's size counts, not the file's


@pytest.mark.parametrize(("mode", "kind"), [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("CMYK", "JPEG")])
def test_image_modes_become_rgb(made, mode, kind):
    data = encoded(mode=mode, kind=kind)
    (made.images / "002.png").write_bytes(data)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode
        expected = np.asarray(image.convert("RGB").resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(made.load().images[0], expected.transpose(2, 0, 1))


def test_16_bit_grey_keeps_its_shades(made):
    ramp = np.tile(np.linspace(0, 65535, 20).astype(np.uint16), (20, 1))
    Image.fromarray(ramp).save(made.images / "002.png")
    np.testing.assert_array_equal(made.load().images[0, 0], ramp >> 8)


def test_grey_of_fewer_than_16_bits_is_not_darkened_silently(made):
    ramp = np.tile(np.linspace(0, 16383, 20).astype(np.uint16), (20, 1))
    Image.fromarray(ramp).save(made.images / "002.png")
    with pytest.raises(DatasetError, match=r"002\.png: .*brightest value is 16383 of 65535; save it with 8"):
        made.load()


def test_a_huge_image_is_to_be_cut_not_exported_again(made, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DatasetError, match=r"exceeds limit .*; make it smaller, or cut it into tiles"):
        made.load()


@pytest.mark.parametrize("spoil", [lambda d: d[: len(d) // 2], lambda d: b"no image", lambda d: b""])
def test_a_corrupt_image_is_named_and_leaves_nothing_behind(made, spoil):
    path = made.images / "005.png"
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    with pytest.raises(DatasetError, match=r"images/005\.png: not a whole image"):
        made.load()
    assert not list(made.cache.rglob("*.npy"))
    path.write_bytes(whole)
    assert len(made.load()) == 3


def count_decodes(monkeypatch):
    calls = []
    original = pixels_module.decode
    monkeypatch.setattr(pixels_module, "decode", lambda *a: (calls.append(a[2]), original(*a))[1])
    return calls


def test_images_are_decoded_once_whatever_the_classes(made, monkeypatch):
    calls = count_decodes(monkeypatch)
    first = made.load()
    assert len(calls) == 3
    again, merged = made.load(), made.load(classes="supercategories")
    assert len(calls) == 3 and again.digest == first.digest and merged.digest != first.digest
    assert isinstance(again.images, np.memmap) and not again.images.flags.writeable
    made.load(size=24)
    assert len(calls) == 6
    made.load(size=20)  # both frames are kept
    assert len(calls) == 6


def test_a_spoiled_cache_is_made_again(made, caplog):
    first = made.load()
    expected, (path,) = np.array(first.images), list(made.cache.glob("*/images.npy"))
    path.write_bytes(path.read_bytes()[:1000])
    np.testing.assert_array_equal(made.load().images, expected)
    assert "not a whole array" in caplog.text
    for index in (made.cache / "index").iterdir():
        index.write_text("{ no json")
    assert made.load().digest == first.digest


def test_a_killed_decoding_is_not_taken_for_done(made, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pixels_module, "decode", killed)
    with pytest.raises(KeyboardInterrupt):
        made.load()
    assert not list(made.cache.rglob("*.npy"))
    monkeypatch.undo()
    assert made.load().images.any()


def test_digest_follows_content_and_not_place(made, tmp_path):
    base = made.load().digest
    assert len(base) == 64 and base == made.load(cache=tmp_path / "elsewhere").digest
    digests = {base, made.load(size=21).digest, made.load(limit=2).digest}
    made.value["annotations"][0]["bbox"] = [6, 4, 30, 21]
    digests.add(made.load().digest)
    made.value["annotations"][0] |= {"bbox": [6, 4, 30, 20], "category_id": 17}
    digests.add(made.load().digest)
    made.value["annotations"][0]["category_id"] = 18
    assert made.load().digest == base
    made.value["annotations"].append(box_entry(50, 5, [1, 1, 5, 5], iscrowd=1))
    digests.add(made.load().digest)  # training is the same, evaluation is not
    assert len(digests) == 6
