"""Images: Pillow's filters to the last level, the published processors' steps, errors."""

import json
from pathlib import Path

from tests.golden.make_images import PROCESSORS, SIZES, image
from tinygrad_notes.images import Preprocessing, centre_crop, resize, whole_size

import numpy as np
import pytest

GOLDEN = json.loads((Path(__file__).parent / "golden" / "images.json").read_text())


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_resize_is_pillows_to_the_last_level(before, after, filter):
    expected = np.array(GOLDEN["resized"][f"{before} {after} {filter}"]).reshape(*after, 3)
    found = resize(image(before), after, filter)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("case", range(len(PROCESSORS)))
def test_processors_are_the_published_ones(case):
    golden = GOLDEN["processed"][case]
    found = Preprocessing.from_published(golden["config"])([image(golden["size"])])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array(golden["pixels"]).reshape(golden["shape"]), rtol=1e-6, atol=1e-6)


def test_a_resize_keeps_what_every_mean_keeps():
    flat = np.full((7, 9, 3), 200, np.uint8)
    ramp = np.repeat(np.arange(0, 240, 10, dtype=np.uint8)[None, :, None], 5, axis=0)
    for filter in ("bilinear", "bicubic"):
        assert np.array_equal(resize(flat, (3, 20), filter), np.full((3, 20, 3), 200))
        assert np.array_equal(resize(ramp, ramp.shape[:2], filter), ramp)
        halved = resize(ramp, (5, 12), filter)[0, 2:-2, 0]
        assert np.all(np.abs(halved - np.arange(5, 240, 20)[2:-2]) <= 1)
    checks = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (8, 8))[:, :, None]
    assert np.all(np.abs(resize(checks, (4, 4)).astype(int) - 128) < 12)  # antialiased: grey, not a pattern of its own
    assert np.array_equal(resize(checks[::-1], (4, 7)), resize(checks, (4, 7))[::-1])


def test_bicubic_overshoots_and_is_clipped():
    edge = np.repeat(np.array([0, 0, 0, 0, 255, 255, 255, 255], np.uint8)[None, :, None], 2, axis=0)
    assert resize(edge, (2, 16)).min() == 0
    assert resize(edge, (2, 16)).max() == 255
    soft = np.repeat(np.array([50, 50, 50, 200, 200, 200], np.uint8)[None, :, None], 2, axis=0)
    row = resize(soft, (2, 12))[0, :, 0]
    assert row.min() < 50
    assert row.max() > 200


def test_the_middle_is_cut_out_and_surrounded_with_zeros():
    x = np.arange(1, 31, dtype=np.uint8).reshape(5, 6, 1)
    assert np.array_equal(centre_crop(x, (3, 2)), x[1:4, 2:4])
    assert np.array_equal(centre_crop(x, (2, 3))[:, :, 0], x[1:3, 1:4, 0])  # where there is no middle, the earlier one
    larger = centre_crop(x, (8, 4))
    assert larger.shape == (8, 4, 1)
    assert np.array_equal(larger[2:7], x[:, 1:5])
    assert np.all(larger[[0, 1, 7]] == 0)


def test_the_shorter_side_is_given_and_the_longer_rounded_down():
    assert whole_size(480, 640, 224) == (224, 298)
    assert whole_size(640, 427, 224) == (335, 224)
    assert whole_size(300, 300, 224) == (224, 224)


def test_presets_and_several_images_of_several_sizes():
    images = [image((30, 40)), image((55, 21)), np.full((24, 24), 128, np.uint8)]
    for ready in (Preprocessing.clip(16)(images), Preprocessing.vit(16)(images)):
        assert ready.shape == (3, 3, 16, 16)
        assert np.all(np.ptp(ready[2], axis=(1, 2)) == 0)
    np.testing.assert_allclose(Preprocessing.vit(16)(images)[2], 128 / 127.5 - 1, atol=1e-6)
    expected = (128 / 255 - np.array([0.48145466, 0.4578275, 0.40821073])) / [0.26862954, 0.26130258, 0.27577711]
    np.testing.assert_allclose(Preprocessing.clip(16)(images)[2, :, 0, 0], expected, rtol=1e-5)
    batch = np.stack([image((30, 40))] * 2)
    assert np.array_equal(Preprocessing.clip(16)(batch)[1], Preprocessing.clip(16)(images)[0])


def test_older_files_give_a_number_for_a_size():
    vit = Preprocessing.from_published({"feature_extractor_type": "ViTFeatureExtractor", "size": 12, "resample": 2})
    assert vit.size == (12, 12)
    assert vit.mean == (0.5, 0.5, 0.5)
    clip = Preprocessing.from_published({"feature_extractor_type": "CLIPFeatureExtractor", "size": 12, "crop_size": 10})
    assert (clip.size, clip.crop, clip.filter) == (12, (10, 10), "bicubic")
    assert Preprocessing.from_published({"image_processor_type": "CLIPImageProcessorFast"}) == Preprocessing.clip()


def test_bad_input_is_one_line_that_names_the_value_and_the_limit():
    ready = Preprocessing.clip(16)
    for wrong in (np.zeros((8, 8, 3)), np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"an image is \w+ \(.*\), expected uint8 \(H, W, 3\) or grey \(H, W\)"):
            ready([wrong])
    with pytest.raises(ValueError, match=r"images come out as \[\(3, 8, 9\), \(3, 9, 8\)\], expected one shape"):
        Preprocessing(None)([image((8, 9)), image((9, 8))])
    with pytest.raises(ValueError, match="images come out as none"):
        ready([])
    with pytest.raises(ValueError, match="the processor is BlipImageProcessor, expected ViTImageProcessor or CLIPImageProcessor"):
        Preprocessing.from_published({"image_processor_type": "BlipImageProcessor"})
    with pytest.raises(ValueError, match="resample is 1, expected 2"):
        Preprocessing.from_published({"image_processor_type": "ViTImageProcessor", "resample": 1})
    with pytest.raises(ValueError, match=r"size is .'longest_edge': 3., expected height and width"):
        Preprocessing.from_published({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 3}})
    with pytest.raises(ValueError, match="filter='nearest', expected one of 'bilinear', 'bicubic'"):
        resize(image((4, 4)), (2, 2), "nearest")
    with pytest.raises(ValueError, match=r"resize: image is float64 \(4, 4, 3\), size is \(2, 2\)"):
        resize(np.zeros((4, 4, 3)), (2, 2))
