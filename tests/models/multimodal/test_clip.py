"""CLIP at toy size: gradients, the two directions of the loss, the scale, causality, the end token, zero-shot, published names, errors."""

import json
import math
from pathlib import Path

import tinygrad_notes as tn
from models.multimodal import clip
from tests.golden.vit_clip_settings import ours, summary, waves
from tests.models.refill import flattened, refilled
from tinygrad_notes import check, optim, saving
from tinygrad_notes import functional as F

import numpy as np
import pytest

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "vit_clip.json").read_text())["results"]
IMAGES = np.random.default_rng(0).normal(size=(3, 1, 8, 8))
IDS = np.array([[9, 1, 4, 10, 0], [9, 10, 0, 0, 0], [9, 5, 2, 6, 10]])  # start, words, end, padding


def tiny(dtype=np.float64, seed=0, **changes):
    return clip.CLIP(clip.Config.tiny(dtype=dtype, **changes), np.random.default_rng(seed))


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_the_gradient_of_the_whole_loss(activation):
    model = tiny(vision=clip.Encoder(8, 1, 2, 12, activation), text=clip.Encoder(6, 1, 2, 8, activation))
    flat = flattened(model, np.random.default_rng(1))
    check.check_grads(lambda flat: clip.loss(refilled(model, flat), IMAGES, IDS), flat, order=1)


def test_overfits_one_batch():
    model = tiny(np.float32)
    params = tn.parameters(model)
    optimizer = optim.Adam(params, lr=3e-3)
    images = IMAGES.astype(np.float32)
    first = clip.loss(model, images, IDS).item()
    for _ in range(150):
        loss = clip.loss(model, images, IDS)
        optimizer.step(tn.gradients(loss, params, unused="raise"))
    assert loss.item() < 0.05 * first
    assert np.array_equal(np.argmax(model(images, IDS).value, axis=1), [0, 1, 2])


def test_a_model_that_knows_nothing_has_the_loss_ln_of_the_batch():
    """Equal vectors for all texts: every column of the logits is the same, so each direction guesses among B."""
    model = tiny()
    model.text_projection.weight = tn.Tensor(np.zeros_like(model.text_projection.weight.value))
    assert clip.loss(model, IMAGES, IDS).item() == pytest.approx(math.log(3), rel=1e-12)


def test_both_directions_over_all_wrong_pairs():
    """2 (B^2 - B) wrong pairs: the gradient of the loss reaches every entry of the logits, from its row and from its column."""
    model = tiny()
    logits = model(IMAGES, IDS).value
    rows = -np.mean(np.diag(F.log_softmax(logits, axis=1)))
    columns = -np.mean(np.diag(F.log_softmax(logits, axis=0)))
    assert abs(rows - columns) > 1e-3
    assert clip.loss(model, IMAGES, IDS).item() == pytest.approx((rows + columns) / 2, rel=1e-12)


def test_pairs_may_come_in_any_order_and_swapping_the_sides_transposes():
    model = tn.frozen(tiny())
    order = [2, 0, 1]
    assert clip.loss(model, IMAGES[order], IDS[order]) == pytest.approx(clip.loss(model, IMAGES, IDS), rel=1e-12)
    np.testing.assert_allclose(model(IMAGES[order], IDS), model(IMAGES, IDS)[order], atol=1e-12)


def test_the_scale_multiplies_cosines_and_starts_at_14():
    model = tiny()
    assert model.scale().item() == pytest.approx(1 / 0.07)
    cosines = tn.frozen(model).encode_images(IMAGES) @ tn.frozen(model).encode_texts(IDS).T
    np.testing.assert_allclose(np.linalg.norm(tn.frozen(model).encode_texts(IDS), axis=1), 1)
    np.testing.assert_allclose(model(IMAGES, IDS).value, cosines / 0.07)
    for t in (1.0, math.log(100), 5.0):  # as in transformers, nothing is cut off where it is used
        model.logit_scale = tn.Tensor(np.array(t))
        assert model.scale().item() == pytest.approx(math.exp(t))
        assert tn.gradients(model.scale(), model.logit_scale) == pytest.approx(math.exp(t))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clamp_writes_the_scale_as_an_optimizer_would(dtype):
    model = tiny(dtype)
    leaf = model.logit_scale
    for t, expected in ((1.0, 1.0), (4.7, math.log(100)), (50.0, math.log(100))):
        tn.load({"t": leaf}, {"t": np.array(t, dtype)})
        clip.clamp(model)
        assert model.logit_scale is leaf
        assert leaf.value == dtype(expected) and leaf.dtype == dtype
        assert np.all(tn.gradients(model.scale(), leaf) > 0)
    stale = model.scale()
    clip.clamp(model)
    with pytest.raises(RuntimeError, match="stale graph"):
        tn.gradients(stale, leaf)


def test_steps_that_push_the_scale_up_end_at_100():
    model = tiny(np.float32)
    params = {"t": model.logit_scale}
    optimizer = optim.SGD(params, lr=1.0)
    for _ in range(8):
        optimizer.step(tn.gradients(-model.logit_scale, params))
        clip.clamp(model)
    assert model.scale().item() == pytest.approx(100)


def test_quick_gelu():
    x = np.linspace(-6, 6, 1001)
    np.testing.assert_allclose(clip.quick_gelu(x), x / (1 + np.exp(-1.702 * x)), rtol=1e-12)
    assert np.max(np.abs(clip.quick_gelu(x) - F.gelu(x))) < 0.021


@pytest.mark.parametrize("end", [None, 10])
def test_a_text_is_read_up_to_its_end_token_and_nothing_after_it_counts(end):
    model = tiny(end=end)
    for row, last in enumerate([3, 1, 4]):
        g = tn.gradients(np.sum(model.encode_texts(IDS[[row]]) ** 3), model.text.pos)
        assert np.all(g[last + 1 :] == 0)
        assert np.all(np.any(g[: last + 1] != 0, axis=1))
    padded = IDS.copy()
    padded[1, 2:] = [3, 9, 5]
    texts = tn.frozen(model).encode_texts
    assert np.array_equal(texts(padded), texts(IDS))
    np.testing.assert_allclose(texts(IDS[1:2, :2]), texts(IDS[1:2]), atol=1e-12)


def test_the_first_end_token_counts_where_padding_is_the_end_token_too():
    model = tn.frozen(tiny(end=10))
    again = np.where(IDS == 0, 10, IDS)
    np.testing.assert_allclose(model.encode_texts(again), model.encode_texts(IDS), atol=1e-12)
    other = tn.frozen(tiny(end=4))  # an end token that is not the highest id
    assert other.text.ends(np.array([[9, 4, 10, 4]])).tolist() == [1]
    missing = tn.frozen(tiny(end=400))  # the vocabulary has no such id: position 0, as in transformers
    assert missing.text.ends(IDS).tolist() == [0, 0, 0]


def test_every_patch_counts_and_images_do_not_feel_each_other():
    model, images = tiny(), tn.Tensor(IMAGES)
    g = tn.gradients(np.sum(model.encode_images(images)[1] ** 3), images)
    assert np.all(g[1] != 0)
    assert np.all(g[[0, 2]] == 0)


def test_blocked_and_dense_attention_give_the_same_loss():
    model = tiny()
    with tn.reference():
        dense = clip.loss(model, IMAGES, IDS).item()
    assert clip.loss(model, IMAGES, IDS).item() == pytest.approx(dense, rel=1e-13)


def test_frozen_inference_is_the_tensor_run_without_tensors():
    model, images = tiny(np.float32), IMAGES.astype(np.float32)
    logits = tn.frozen(model)(images, IDS)
    assert type(logits) is np.ndarray
    assert np.array_equal(logits, model(images, IDS).value)


def test_float32_throughout_and_the_shape_comments_hold():
    images = IMAGES.astype(np.float32)
    with check.dtypes(), check.shapes(clip) as shapes:
        model = tiny(np.float32)
        loss = clip.loss(model, images, IDS)
        grads = tn.gradients(loss, tn.parameters(model))
        p = clip.classify(model, images, clip.class_vectors(model, IDS[:, None]))
    assert not shapes.unreached
    assert p.dtype == loss.dtype == np.float32
    assert {g.dtype for g in grads.values()} == {np.dtype(np.float32)}


def test_deterministic_given_the_rng():
    a, b, c = tiny(seed=3), tiny(seed=3), tiny(seed=4)
    assert clip.loss(a, IMAGES, IDS).item() == clip.loss(b, IMAGES, IDS).item() != clip.loss(c, IMAGES, IDS).item()


# --- zero-shot ------------------------------------------------------------------------------------


def test_zero_shot_takes_the_nearest_text_and_an_ensemble_the_mean_direction():
    model = tiny()
    frozen = tn.frozen(model)
    one = clip.class_vectors(model, IDS[:, None])
    np.testing.assert_allclose(one, frozen.encode_texts(IDS), atol=1e-12)
    np.testing.assert_allclose(clip.classify(model, IMAGES, one), F.softmax(frozen(IMAGES, IDS)), atol=1e-12)
    prompts = np.stack([IDS, IDS[::-1]], axis=1)  # two classes share their prompts, the third has one twice
    mean = clip.class_vectors(model, prompts)
    np.testing.assert_allclose(np.linalg.norm(mean, axis=1), 1)
    expected = one + one[::-1]
    np.testing.assert_allclose(mean, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-12)


# --- published weights and errors ------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("clip")])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5)])
def test_equal_to_transformers(name, dtype, tolerance):
    golden = GOLDEN[name]
    output, loss, gradients = ours(golden["config"], {n: waves(n, s) for n, s in golden["shapes"].items()}, dtype)
    np.testing.assert_allclose(output, golden["output"], rtol=0, atol=tolerance)
    assert abs(loss - golden["loss"]) < tolerance
    assert gradients.keys() == golden["gradients"].keys()
    for n, (product, length) in golden["gradients"].items():
        assert np.all(np.abs(np.array(summary(n, gradients[n])) - [product, length]) < 10 * tolerance * (length + 0.01)), n


def test_published_names_there_and_back():
    state = tn.state_dict(tiny())
    theirs = clip.to_published(state)
    assert {"logit_scale", "vision_model.pre_layrnorm.weight", "text_model.encoder.layers.1.self_attn.q_proj.bias"} <= theirs.keys()
    back = clip.published(theirs | {"text_model.embeddings.position_ids": np.arange(6)[None]})
    assert list(back) == list(state)
    assert all(back[name] is state[name] for name in state)


@pytest.mark.parametrize("config", [clip.Config(), clip.Config.large_14(336), clip.Config.tiny(end=10)])
def test_configurations_there_and_back(config):
    assert clip.Config.from_published(json.loads(json.dumps(config.to_published()))) == config


def test_folders_there_and_back(tmp_path):
    model, images = tiny(np.float32, end=10), IMAGES.astype(np.float32)
    saving.save_pretrained(model, tmp_path)
    again = saving.from_pretrained(tmp_path, clip.CLIP)
    assert again.config == model.config
    assert np.array_equal(again(images, IDS).value, model(images, IDS).value)


def test_old_configurations_leave_out_defaults_or_say_things_twice():
    """OpenAI's files: eos_token_id 2 was a mistake, and a second copy of each part counts."""
    assert clip.Config.from_published({"model_type": "clip", "text_config": {"eos_token_id": 2}}) == clip.Config()
    copy = {"text_config": {"hidden_size": 4}, "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12, "eos_token_id": 2}}
    assert clip.Config.from_published({"model_type": "clip", **copy}).text == clip.Encoder(768, 12, 12, 2048)


def test_published_configurations_that_are_refused():
    good = clip.Config().to_published()
    with pytest.raises(ValueError, match=r"config.json says \('siglip', 'CLIPModel'\), expected \('clip', 'CLIPModel'\)"):
        clip.Config.from_published(good | {"model_type": "siglip"})
    with pytest.raises(ValueError, match="CLIPForImageClassification"):
        clip.Config.from_published(good | {"architectures": ["CLIPForImageClassification"]})
    with pytest.raises(ValueError, match="hidden_act in files, is 'relu', expected one of quick_gelu, gelu"):
        clip.Config.from_published(good | {"text_config": {"hidden_act": "relu"}})
    with pytest.raises(ValueError, match=r"hidden_act in files, is \['gelu'\], expected one of quick_gelu, gelu"):
        clip.Config.from_published(good | {"text_config": {"hidden_act": ["gelu"]}})
    with pytest.raises(ValueError, match=r"image_size is \[4, 8\], expected a whole number from 1"):
        clip.Config.from_published(good | {"vision_config": {"image_size": [4, 8]}})
    with pytest.raises(ValueError, match=r"image is \(4, 8\) and patch 4, expected a number each"):
        clip.Config.tiny(image=(4, 8))
    cases = [("text_config", "eos_token_id", [2]), ("vision_config", "num_hidden_layers", 2.5), ("text_config", "layer_norm_eps", math.inf)]
    for part, key, value in cases:
        with pytest.raises(ValueError, match=rf"{key} is .*, expected a (whole )?number from ") as caught:
            clip.Config.from_published(good | {part: {key: value}})
        assert repr(value) in str(caught.value)
    with pytest.raises(ValueError, match="a text_config or vision_config that is no object"):
        clip.Config.from_published(good | {"vision_config": [1]})
    with pytest.raises(ValueError, match="projection_dim is True"):
        clip.Config.from_published(good | {"projection_dim": True})
    with pytest.raises(ValueError, match="end is 2, which published files write for the highest id"):
        clip.Config.tiny(end=2).to_published()


def test_bad_input_is_one_line_that_names_the_value_and_the_limit():
    model = tiny(end=10)
    for images in (
        np.zeros((2, 1, 8, 9)),
        np.zeros((2, 3, 8, 8)),
        np.zeros((1, 8, 8)),
        np.zeros((2, 1, 8, 8), np.uint8),
        np.zeros((0, 1, 8, 8)),
    ):
        with pytest.raises(ValueError, match=r"CLIP: images are \w+ \(.*\), expected floats \(B, 1, 8, 8\)"):
            model.encode_images(images)
    assert np.array_equal(model(IMAGES.tolist(), IDS.tolist()).value, model(IMAGES, IDS).value)
    with pytest.raises(ValueError, match="texts have 7 tokens, but the context is 6"):
        model.encode_texts(np.full((1, 7), 10))
    with pytest.raises(IndexError, match=r"id 11 is not in 0..10"):
        model.encode_texts(np.array([[11, 10]]))
    with pytest.raises(ValueError, match=r"ids have shape \(3,\), expected \(B, T\)"):
        model.encode_texts(np.array([9, 1, 10]))
    with pytest.raises(ValueError, match="text 1 has no end token 10"):
        model.encode_texts(np.array([[9, 10], [9, 1]]))
    with pytest.raises(ValueError, match="cross_entropy: "):
        clip.loss(model, IMAGES, IDS[:2])
    with pytest.raises(ValueError, match="width 10 is not a multiple of heads 3"):
        clip.Encoder(10, 1, 3, 4)
    with pytest.raises(ValueError, match="image 8 does not divide into patches of 3"):
        clip.Config.tiny(patch=3)
