"""Published folders: what they hold is loaded exactly, and whatever does not fit is refused in one line."""

import hashlib
import json
import shutil
import tracemalloc
from pathlib import Path

import tinygrad_notes as tn
from models.adaptation import lora
from models.language import bert, gpt, gpt1
from models.multimodal import clip
from models.vision import vit
from tests.golden.pretrained_settings import FOLDERS, IDS, TEXTS, folder_of, weights_of
from tinygrad_notes import nn, saving
from tinygrad_notes.saving import CheckpointError
from tinygrad_notes.text import ByteBPE

import numpy as np
import pytest

pytest.importorskip("safetensors", reason="saving needs safetensors: pip install tinygrad_notes[weights]")
GOLDEN = json.loads((folder_of("results.json")).read_text("utf-8"))
X = np.array(IDS)


def tiny(dtype=np.float32, **changes):
    return gpt.GPT(gpt.Config.tiny(dtype=dtype, **changes), np.random.default_rng(0))


@pytest.fixture
def folder(tmp_path):
    """A copy of the golden GPT-2's folder, to be spoilt."""
    return Path(shutil.copytree(folder_of("gpt2"), tmp_path / "folder"))


@pytest.fixture
def sharded(tmp_path):
    return Path(shutil.copytree(folder_of("gpt2_sharded_bfloat16"), tmp_path / "sharded"))


def change_json(file, **changes):
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def change_arrays(folder, change):
    """Write the folder's arrays anew, after change(arrays) in place."""
    arrays = saving.load_arrays(folder / "model.safetensors")
    change(arrays)
    saving.save_arrays(folder / "model.safetensors", arrays, {"format": "pt"})


def refused(folder, message, kind=CheckpointError, architecture=gpt.GPT):
    with pytest.raises(kind, match=message) as caught:
        saving.from_pretrained(folder, architecture)
    assert "\n" not in str(caught.value)
    assert str(folder.name) in str(caught.value)


# --- equal to the published ones ----------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance", "slope"), [(np.float64, 1e-9, 1e-9), (np.float32, 1e-5, 1e-4)])
@pytest.mark.parametrize("name", FOLDERS)
def test_golden(name, dtype, tolerance, slope):
    golden = GOLDEN[name]
    model = saving.from_pretrained(folder_of(name), gpt.GPT, dtype=dtype)
    logits = model(X)
    assert logits.dtype == dtype
    np.testing.assert_allclose(logits.value.ravel(), golden["logits"], rtol=0, atol=tolerance)
    loss = gpt.loss(model, X[:, :-1], X[:, 1:])
    assert abs(loss.item() - golden["loss"]) < tolerance
    grads = gpt.to_published(tn.gradients(loss, tn.parameters(model), unused="raise"))
    assert grads.keys() == golden["gradients"].keys()
    for path, g in grads.items():
        assert abs(np.sum(g * weights_of(path, g.shape)) - golden["gradients"][path]) < slope, path


def test_the_golden_files_are_those_of_the_script():
    script = Path(__file__).parent / "golden" / "make_pretrained.py"
    assert GOLDEN["made with"]["script"] == hashlib.sha256(script.read_bytes()).hexdigest()
    assert GOLDEN.keys() == {"made with", "tokenizer", *FOLDERS}


def test_float16_and_bfloat16_become_float32_exactly():
    for name, kind in (("gpt2_float16", "F16"), ("gpt2_sharded_bfloat16", "BF16")):
        file = sorted(folder_of(name).glob("*.safetensors"))[0]
        content = file.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:begin])
        model = saving.from_pretrained(folder_of(name), gpt.GPT)
        state = gpt.to_published(tn.state_dict(model))
        assert {array.dtype for array in state.values()} == {np.dtype(np.float32)}
        for path, entry in header.items():
            if path != "__metadata__":
                assert entry["dtype"] == kind
                data = content[begin + entry["data_offsets"][0] : begin + entry["data_offsets"][1]]
                ours = state[path].reshape(-1)
                bits = ours.astype(np.float16).view(np.uint16) if kind == "F16" else (np.ascontiguousarray(ours).view(np.uint32) >> 16)
                assert bits.astype("<u2").tobytes() == data
                assert kind == "F16" or not np.any(ours.view(np.uint32) & 0xFFFF)


def test_float64_stays_float64_unless_told_otherwise(tmp_path):
    model = tiny(np.float64)
    saving.save_pretrained(model, tmp_path)
    again = saving.from_pretrained(tmp_path, gpt.GPT)
    for a, b in zip(tn.state_dict(again).values(), tn.state_dict(model).values(), strict=True):
        assert a.dtype == b.dtype == np.float64 and np.array_equal(a, b)
    assert again.config == model.config
    assert saving.from_pretrained(tmp_path, gpt.GPT, dtype="float32").wte.weight.dtype == np.float32
    with pytest.raises(ValueError, match="dtype is float16, expected float32 or float64"):
        saving.from_pretrained(tmp_path, gpt.GPT, dtype=np.float16)


def test_one_array_in_float64_makes_the_model_float64(folder):
    change_arrays(folder, lambda arrays: arrays.update({"transformer.ln_f.bias": np.full(12, 1 / 3)}))
    model = saving.from_pretrained(folder, gpt.GPT)
    assert {array.dtype for array in tn.state_dict(model).values()} == {np.dtype(np.float64)}
    assert model.ln_f.bias.value[0] == 1 / 3


def test_a_saved_folder_loads_again_bit_for_bit(tmp_path):
    model = tiny(hidden=20, eps=1e-3, dropout=0.2, embedding_dropout=0.3)
    tn.freeze(model, "h.0.*")  # constants are saved as parameters are
    saving.save_pretrained(model, tmp_path / "new" / "folder")
    again = saving.from_pretrained(tmp_path / "new" / "folder", gpt.GPT)
    assert again.config == model.config
    assert tn.count(again) == tn.count(tiny(hidden=20))
    for name, array in tn.state_dict(model).items():
        assert np.array_equal(tn.state_dict(again)[name], array)
    assert saving.load_metadata(tmp_path / "new" / "folder" / "model.safetensors") == {"format": "pt"}  # transformers asks for it


@pytest.mark.parametrize("name", FOLDERS)
def test_a_saved_folder_says_what_the_one_said_that_it_came_from(tmp_path, name):
    """Also what the model has no use for: special tokens, the defaults of generation."""
    published = json.loads((folder_of(name) / "config.json").read_text("utf-8"))
    saving.save_pretrained(saving.from_pretrained(folder_of(name), gpt.GPT), tmp_path)
    again = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert (again["bos_token_id"], again["eos_token_id"], again["pad_token_id"]) == (0, 0, None)
    differs = {key for key in published | again if published.get(key, ...) != again.get(key, ...)}
    assert differs <= {"attn_pdrop", "dtype", "transformers_version"}  # there is no dropout of attention weights here, nor 16 bits


def test_what_a_folder_says_stays_with_copies_and_gives_way_to_changes(tmp_path, folder):
    change_json(
        folder / "config.json", pad_token_id=7, task={"a": {"b": 1}}, n_ctx=9, hidden_size=12, n_embd=..., auto_map={"AutoModel": "code.py"}
    )
    model = saving.from_pretrained(folder, gpt.GPT, dropout=0.3)
    for one in (
        model,
        tn.snapshot(model),
        tn.frozen(model),
        lora.merge(model, lora.adapter(model, lora.Config(), np.random.default_rng(0))),
    ):
        saving.save_pretrained(one, tmp_path / "again")
        again = json.loads((tmp_path / "again" / "config.json").read_text("utf-8"))
        assert (again["pad_token_id"], again["eos_token_id"], again["task"]) == (7, 0, {"a": {"b": 1}})
        assert (again["resid_pdrop"], again["n_embd"]) == (0.3, 12)
        assert not again.keys() & {"hidden_size", "auto_map", "transformers_version"}  # what could contradict, and code that is not there
        assert saving.from_pretrained(tmp_path / "again", gpt.GPT).config == model.config


def test_parts_of_a_configuration_keep_what_they_say(tmp_path):
    model = clip.CLIP(clip.Config.tiny(), np.random.default_rng(0))
    saving.save_pretrained(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["text_config"] |= {"pad_token_id": 3, "bos_token_id": 4}
    config["vision_config"] |= {"attention_dropout": 0.5}
    change_json(tmp_path / "config.json", **config)
    saving.save_pretrained(saving.from_pretrained(tmp_path, clip.CLIP), tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text("utf-8")) == config


def test_names_of_classes_are_those_of_the_model(tmp_path):
    """Nothing of the folder's stays where the head is another."""
    saving.save_pretrained(bert.Classifier(bert.Config.tiny(labels=("a", "b", "c")), np.random.default_rng(0)), tmp_path)
    change_json(tmp_path / "config.json", num_labels=3)
    new = {"new": ("classifier.*",), "rng": np.random.default_rng(0), "classes": 2, "labels": ()}
    saving.save_pretrained(saving.from_pretrained(tmp_path, bert.Classifier, **new), tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text("utf-8"))
    assert again["id2label"] == {"0": "LABEL_0", "1": "LABEL_1"} and "num_labels" not in again


@pytest.mark.parametrize("architecture", [gpt.Config, gpt1.Config, bert.Config, vit.Config])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": -3}, "Config: dropout is -3, expected a number from 0 to 1"),
        ({"dropout": "a"}, "Config: dropout is 'a', expected a number from 0 to 1"),
        ({"dropout": None}, "Config: dropout is None, expected a number from 0 to 1"),
        ({"eps": float("nan")}, "Config: eps is nan, expected a number from 0 to 1"),
        ({"heads": 0}, f"Config: heads is 0, expected a whole number from 1 to {2**31 - 1}"),
        ({"width": 12.0}, f"Config: width is 12.0, expected a whole number from 1 to {2**31 - 1}"),
        ({"layers": True}, f"Config: layers is True, expected a whole number from 1 to {2**31 - 1}"),
    ],
)
def test_numbers_that_no_model_can_have(architecture, changes, message):
    with pytest.raises(ValueError) as caught:
        architecture.tiny(**changes)
    assert str(caught.value) == message


def test_numbers_of_other_kinds():
    with pytest.raises(ValueError, match=r"^Config: patch is \(4, 0\), expected a whole number from 1 to "):
        vit.Config.tiny(patch=(4, 0))
    with pytest.raises(ValueError, match=r"^Encoder: layers is 0, expected a whole number from 1 to "):
        clip.Encoder(12, 0, 2, 20)
    with pytest.raises(ValueError, match=r"^Config: space is 0, expected a whole number from 1 to "):
        clip.Config.tiny(space=0)
    assert vit.Config.tiny(classes=0, pooler=0).classes == 0 and gpt.Config.tiny(hidden=None, width=np.int64(12)).width == 12


def test_changes_that_cannot_be(folder):
    with pytest.raises(ValueError, match=r"^Config: dropout is -3, expected a number from 0 to 1$"):
        saving.from_pretrained(folder, gpt.GPT, dropout=-3)


def test_published_weights_that_are_not_finite_are_told(folder):
    change_arrays(folder, lambda arrays: arrays["transformer.h.1.ln_2.bias"].__setitem__(3, np.nan))
    with pytest.warns(RuntimeWarning, match=r"^load: nan or inf: h\.1\.ln_2\.bias; look where these weights were made$"):
        saving.from_pretrained(folder, gpt.GPT)


def test_a_model_without_prefix_and_with_buffers_and_a_second_head_loads(folder):
    def older(arrays):
        for name in list(arrays):
            arrays[name.removeprefix("transformer.")] = arrays.pop(name)
        arrays["h.0.attn.bias"] = np.tri(9)[None, None] > 0
        arrays["h.1.attn.masked_bias"] = np.array(-1e4, np.float32)
        arrays["lm_head.weight"] = arrays["wte.weight"]

    before = saving.from_pretrained(folder, gpt.GPT)
    change_arrays(folder, older)
    assert np.array_equal(saving.from_pretrained(folder, gpt.GPT)(X).value, before(X).value)


def test_a_class_derived_elsewhere_has_the_published_form_of_its_base():
    class Mine(gpt.GPT):
        pass

    assert type(saving.from_pretrained(folder_of("gpt2"), Mine)) is Mine


def test_a_model_with_adapters_or_other_changes_is_not_written(tmp_path):
    model = tiny()
    adapter = lora.adapter(model, lora.Config(), np.random.default_rng(0))
    message = r"save_pretrained: the model has adapters or other changes: unexpected h.0.attn.c_attn.changes.*; lora.merge it first"
    with pytest.raises(ValueError, match=message) as caught:
        saving.save_pretrained(lora.attach(model, adapter), tmp_path / "new")
    assert "\n" not in str(caught.value) and not (tmp_path / "new").exists()
    model.wte.weight = tn.Tensor(np.zeros((12, 12), np.float32))
    with pytest.raises(ValueError, match=r"other changes: of another shape wte.weight; "):
        saving.save_pretrained(model, tmp_path / "new")
    saving.save_pretrained(lora.merge(tiny(), adapter), tmp_path / "merged")
    assert type(saving.from_pretrained(tmp_path / "merged", gpt.GPT)) is gpt.GPT


class Buffered(gpt.GPT):
    """A GPT with a constant among its weights."""

    def __init__(self, config, rng):
        super().__init__(config, rng)
        self.wpe.weight = np.zeros(self.wpe.weight.shape, config.dtype)


def test_a_leaf_keeps_its_kind():
    model = saving.from_pretrained(folder_of("gpt2"), Buffered)
    assert type(model.wpe.weight) is np.ndarray
    assert np.array_equal(model.wpe.weight, saving.from_pretrained(folder_of("gpt2"), gpt.GPT).wpe.weight.value)


def test_loading_takes_little_more_memory_than_the_model(tmp_path):
    model = tiny(vocabulary=4000, width=128, heads=4)
    size = sum(array.nbytes for array in tn.state_dict(model).values())
    saving.save_pretrained(model, tmp_path)
    del model
    saving.from_pretrained(tmp_path, gpt.GPT)  # what is allocated once only
    tracemalloc.start()
    try:
        kept = saving.from_pretrained(tmp_path, gpt.GPT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert tn.count(kept) * 4 == size
    assert peak < 2.5 * size  # the model as it is made, the buffer into which its leaves move, and what is passing


# --- folders of another class ------------------------------------------------------------------------

LABELS = ("calm", "glad", "sad")
ALL_OF_BERT = (bert.BERT, bert.PreTraining, bert.Classifier)


def berts(kind, seed=0, **changes):
    return kind(bert.Config.tiny(**changes), np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("model", "architecture"),
    [
        (tiny(), "GPT2LMHeadModel"),
        (gpt1.GPT(gpt1.Config.tiny(classes=3, labels=LABELS), np.random.default_rng(0)), "OpenAIGPTLMHeadModel"),
        (gpt1.Classifier(gpt1.Config.tiny(classes=3, labels=LABELS), np.random.default_rng(0)), "OpenAIGPTForSequenceClassification"),
        (berts(bert.BERT, labels=LABELS), "BertModel"),
        (berts(bert.PreTraining, labels=LABELS), "BertForPreTraining"),
        (berts(bert.Classifier, labels=LABELS), "BertForSequenceClassification"),
        (berts(bert.Classifier), "BertForSequenceClassification"),
        (vit.ViT(vit.Config.tiny(classes=3, labels=LABELS), np.random.default_rng(0)), "ViTForImageClassification"),
        (vit.ViT(vit.Config.tiny(classes=0, pooler=12), np.random.default_rng(0)), "ViTModel"),
        (vit.ViT(vit.Config.tiny(classes=0), np.random.default_rng(0)), "ViTModel"),
        (clip.CLIP(clip.Config.tiny(), np.random.default_rng(0)), "CLIPModel"),
    ],
)
def test_the_class_and_the_labels_are_written_and_read(tmp_path, model, architecture):
    saving.save_pretrained(model, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["architectures"] == [architecture]
    if getattr(model.config, "labels", ()):
        assert written["id2label"] == {"0": "calm", "1": "glad", "2": "sad"}
        assert written["label2id"] == {"calm": 0, "glad": 1, "sad": 2}
    again = saving.from_pretrained(tmp_path, type(model))
    assert again.config == model.config
    for name, array in tn.state_dict(model).items():
        assert np.array_equal(tn.state_dict(again)[name], array)


@pytest.mark.parametrize("kind", ALL_OF_BERT)
def test_the_encoder_loads_from_each_kind_of_folder(tmp_path, kind):
    model = berts(kind)
    saving.save_pretrained(model, tmp_path)
    encoder = tn.state_dict(model if kind is bert.BERT else model.bert)
    found = tn.state_dict(saving.from_pretrained(tmp_path, bert.BERT))
    assert found.keys() == encoder.keys()
    assert all(np.array_equal(found[name], encoder[name]) for name in found)
    change_arrays(tmp_path, lambda arrays: arrays.update({f"{'bert.' if kind is not bert.BERT else ''}more": np.zeros(2, np.float32)}))
    refused(tmp_path, "unexpected: more", architecture=bert.BERT)  # beside the encoder there may be heads, within it nothing else


def test_a_new_head_needs_an_explicit_word(tmp_path):
    old = berts(bert.PreTraining)
    saving.save_pretrained(old, tmp_path)
    refused(
        tmp_path,
        r"do not fit Classifier: missing: classifier\.weight, classifier\.bias; unexpected: mlm\..*next\.bias",
        architecture=bert.Classifier,
    )
    rng = np.random.default_rng(3)
    with pytest.raises(CheckpointError, match=r"fit Classifier: unexpected: mlm\."):
        saving.from_pretrained(tmp_path, bert.Classifier, new=("classifier.*",), rng=rng)
    with pytest.raises(CheckpointError, match=r"fit Classifier: missing: classifier\.weight, classifier\.bias$"):
        saving.from_pretrained(tmp_path, bert.Classifier, unused=("mlm.*", "next.*"))
    words = {"new": ("classifier.*",), "unused": ("mlm.*", "next.*"), "classes": 4, "labels": ("a", "b", "c", "d"), "dropout": 0.1}
    model = saving.from_pretrained(tmp_path, bert.Classifier, rng=np.random.default_rng(3), **words)
    assert model.config == bert.Config.tiny(classes=4, labels=("a", "b", "c", "d"), dropout=0.1)
    for name, array in tn.state_dict(model.bert).items():
        assert np.array_equal(array, tn.state_dict(old.bert)[name]), name
    assert (
        model.classifier.weight.shape == (4, 12) and np.all(model.classifier.weight.value != 0) and not np.any(model.classifier.bias.value)
    )
    again = saving.from_pretrained(tmp_path, bert.Classifier, rng=np.random.default_rng(3), **words)
    assert np.array_equal(again.classifier.weight.value, model.classifier.weight.value)
    other = saving.from_pretrained(tmp_path, bert.Classifier, rng=np.random.default_rng(4), **words)
    assert not np.any(other.classifier.weight.value == model.classifier.weight.value)
    saving.save_pretrained(berts(bert.BERT), tmp_path / "plain")
    from_plain = saving.from_pretrained(tmp_path / "plain", bert.PreTraining, new=("mlm.*", "next.*"), rng=rng)
    assert np.array_equal(from_plain.bert.word.weight.value, berts(bert.BERT).word.weight.value)


def test_another_number_of_classes(tmp_path):
    model = vit.ViT(vit.Config.tiny(classes=3, labels=LABELS), np.random.default_rng(0))
    model.head.weight = tn.Tensor(np.ones((3, 12), np.float32))
    saving.save_pretrained(model, tmp_path)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"3 labels for 7 classes; name each class, or none: labels=\(\)"):
        saving.from_pretrained(tmp_path, vit.ViT, classes=7)
    with pytest.raises(CheckpointError, match=r"head\.weight has shape \(3, 12\), expected \(7, 12\)"):
        saving.from_pretrained(tmp_path, vit.ViT, classes=7, labels=())
    found = saving.from_pretrained(tmp_path, vit.ViT, new=("head.*",), rng=rng, classes=7, labels=())
    assert found.head.weight.shape == (7, 12) and not np.any(found.head.weight.value)
    without = saving.from_pretrained(tmp_path, vit.ViT, unused=("head.*",), classes=0, labels=())
    images = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    assert np.array_equal(without(images).value, model.features(images).value[:, 0])


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ({"new": ("wpe.*",)}, ValueError, r"new is \('wpe\.\*',\), but there is no rng; name parameters"),
        ({"new": ("head.*",), "rng": np.random.default_rng(0)}, ValueError, r"new has 'head\.\*', which matches none of "),
        ({"classes": 3}, TypeError, r"models\.language\.gpt\.Config has no classes"),
        ({"width": 13}, ValueError, "width 13 is not a multiple of heads 3"),
    ],
)
def test_words_that_cannot_be(words, kind, message):
    with pytest.raises(kind, match=message) as caught:
        saving.from_pretrained(folder_of("gpt2"), gpt.GPT, **words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_labels": 4}, r"id2label is \{'0': 'calm'.*, expected a name for each number from 0 to 3, num_labels - 1"),
        ({"id2label": {"1": "a", "2": "b"}}, r"id2label is \{'1': 'a', '2': 'b'\}, expected a name for each number from 0 to 1"),
        ({"id2label": {"0": 3}}, "id2label is .*, expected a name"),
        ({"id2label": ["a"]}, "id2label is .*, expected an object"),
    ],
)
def test_labels_that_cannot_be(tmp_path, changes, message):
    saving.save_pretrained(berts(bert.Classifier, labels=LABELS), tmp_path)
    change_json(tmp_path / "config.json", **changes)
    refused(tmp_path, message, architecture=bert.Classifier)


def test_a_number_of_classes_without_names(tmp_path):
    saving.save_pretrained(berts(bert.Classifier, labels=LABELS), tmp_path)
    change_json(tmp_path / "config.json", num_labels=3, id2label=..., label2id=...)
    assert saving.from_pretrained(tmp_path, bert.Classifier).config == bert.Config.tiny()


# --- refused -------------------------------------------------------------------------------------


def test_what_is_not_there(tmp_path, folder, sharded):
    refused(
        tmp_path / "nowhere",
        r"nowhere: is not there, or not a folder; expected one with config.json and model.safetensors",
        FileNotFoundError,
    )
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(
        folder,
        r"has no weights, expected model.safetensors or model.safetensors.index.json; pytorch_model.bin is of another",
        FileNotFoundError,
    )
    (folder / "pytorch_model.bin").unlink()
    refused(folder, r"has no weights, expected model.safetensors or model.safetensors.index.json$", FileNotFoundError)
    (folder / "config.json").unlink()
    refused(folder, r"config.json: is not there", FileNotFoundError)
    (sharded / "model-00002-of-00002.safetensors").unlink()
    refused(sharded, r"index.json: names 'model-00002-of-00002.safetensors', which is not there")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert', expected 'gpt2'"),
        ({"model_type": ...}, "model_type is None, expected 'gpt2'"),
        ({"activation_function": "relu"}, "activation_function is 'relu', expected 'gelu_new'"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"n_embd": "12"}, "n_embd is '12', expected a whole number from 1"),
        ({"n_layer": 0}, "n_layer is 0, expected a whole number from 1"),
        ({"embd_pdrop": 3}, "embd_pdrop is 3, expected a number from 0 to 1"),
        ({"num_attention_heads": 5, "n_head": ...}, "width 12 is not a multiple of heads 5"),  # n_head by its other name
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is nan, expected a number from 0 to 1"),
        ({"n_embd": 13}, "width 13 is not a multiple of heads 3"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon is 'small'"),
        ({"model_type": ["gpt2"]}, r"model_type is \['gpt2'\]"),
    ],
)
def test_a_configuration_of_another_architecture(folder, changes, message):
    change_json(folder / "config.json", **changes)
    refused(folder, r"config.json: does not fit GPT: .*" + message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layer": 10**9}, "it has 1000000000 layers, but the folder 28 arrays"),
        ({"n_embd": 3 * 10**7}, r"its sizes ask for an array \(\d+, 30000000\), but the largest of the folder has \d+ numbers at most"),
        ({"vocab_size": 2**31 - 1}, r"its sizes ask for an array \(2147483647, 12\)"),
        ({"n_positions": 10**400}, r"n_positions is 10*, expected a whole number from 1"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_made(folder, changes, message):
    change_json(folder / "config.json", **changes)
    refused(folder, r"config.json: does not fit GPT: .*" + message)


@pytest.mark.parametrize("kind", [MemoryError, OverflowError])
def test_a_model_for_which_there_is_no_room(folder, kind):
    class Large(gpt.GPT):
        def __init__(self, config, rng):
            raise kind("no room")

    refused(folder, rf"config.json: does not fit Large: {kind.__name__}: no room", architecture=Large)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "is a JSON list, expected an object"),
        ("[" * 100_000, "nested too deeply"),
        ("\ud800", "is not JSON: .utf-8. codec can.t decode byte 0xed"),
    ],
)
def test_a_configuration_that_is_none(folder, text, message):
    (folder / "config.json").write_text(text, errors="surrogatepass")
    refused(folder, r"config.json: .*" + message)


def test_weights_that_are_no_plain_numbers(folder):
    change_json(folder / "config.json", quantization_config={"load_in_8bit": True})
    refused(folder, "config.json: has a quantization_config, expected weights that are plain numbers")


def test_what_lacks_in_the_configuration_is_gpt2s_own(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    config = gpt.Config.from_published({"model_type": "gpt2"})
    assert config == gpt.Config(dropout=0.1)
    assert gpt.Config.from_published({"model_type": "gpt2", "embd_pdrop": 0.3}) == gpt.Config(dropout=0.1, embedding_dropout=0.3)
    change_json(folder / "config.json", n_embd=12, n_layer=2, n_head=3, n_positions=9)
    refused(folder, r"wte.weight has shape \(17, 12\), expected \(50257, 12\)")


def test_names_and_shapes(folder):
    def spoil(arrays):
        del arrays["transformer.ln_f.bias"]
        arrays["transformer.h.0.attn.c_attn.weight"] = arrays["transformer.h.0.attn.c_attn.weight"].T.copy()
        arrays["score.weight"] = np.zeros((2, 12), np.float32)
        arrays["transformer.h.2.ln_1.bias"] = np.zeros(12, np.float32)

    change_arrays(folder, spoil)
    message = (
        r"weights do not fit GPT: missing: ln_f.bias; unexpected: h.2.ln_1.bias, score.weight; "
        r"unfit: h.0.attn.c_attn.weight has shape \(36, 12\)|\(12, 36\), expected \(36, 12\)$"
    )
    refused(folder, message)
    with pytest.raises(CheckpointError) as caught:
        saving.from_pretrained(folder, gpt.GPT)
    for word in ("missing: ln_f.bias", "score.weight", "h.2.ln_1.bias", "h.0.attn.c_attn.weight has shape"):
        assert word in str(caught.value)


def test_whole_numbers_are_no_weights(folder):
    change_arrays(folder, lambda arrays: arrays.update({"transformer.ln_f.bias": np.zeros(12, np.int32)}))
    refused(folder, "ln_f.bias has dtype int32, expected float32")


def test_a_file_cut_short_at_any_length_or_changed(folder, sharded):
    for place, name in ((folder, "model.safetensors"), (sharded, "model-00002-of-00002.safetensors")):
        whole = (place / name).read_bytes()
        for n in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
            (place / name).write_bytes(whole[:n])
            refused(place, "not a whole safetensors file")
        (place / name).write_bytes(whole + b"\0")
        refused(place, "not a whole safetensors file")
    saving.save_pretrained(tiny(), folder)
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    refused(folder, "is damaged")  # what we wrote ourselves has a checksum


OUTSIDE = [
    "../folder/model.safetensors",
    "/etc/passwd",
    "/tmp/x.safetensors",
    "..",
    "",
    "a/b.safetensors",
    "a\\b.safetensors",
    "C:x.safetensors",
    "x.bin",
    "a\n.safetensors",
    "\0.safetensors",
]


@pytest.mark.parametrize("file", OUTSIDE)
def test_an_index_names_files_of_its_folder_only(sharded, file):
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    index["weight_map"]["transformer.wte.weight"] = file
    change_json(sharded / "model.safetensors.index.json", **index)
    refused(sharded, r"index.json: names .*, expected the name of a .safetensors file in this folder")


@pytest.mark.parametrize("weight_map", [..., [], {}, {"wte.weight": 3}, None])
def test_an_index_without_a_map(sharded, weight_map):
    change_json(sharded / "model.safetensors.index.json", weight_map=weight_map)
    refused(sharded, "has no weight_map from names to files")


def test_an_index_that_says_something_else_than_its_files(sharded):
    index = json.loads((sharded / "model.safetensors.index.json").read_text())["weight_map"]
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    moved = {name: second if name == "transformer.wte.weight" else file for name, file in index.items()}
    change_json(sharded / "model.safetensors.index.json", weight_map=moved)
    refused(sharded, rf"{first}: is not what .* it lacks 0 names \[\] and has 1 others \['transformer.wte.weight'\]")
    change_json(sharded / "model.safetensors.index.json", weight_map={**index, "more": second})
    refused(sharded, rf"{second}: is not what .* it lacks 1 names \['more'\]")


def test_classes_that_have_no_published_form(tmp_path):
    for other in (nn.Linear, dict, gpt, gpt.GPT(gpt.Config.tiny(), np.random.default_rng(0))):
        with pytest.raises(TypeError, match=r"^from_pretrained: .* expected one such as gpt\.GPT") as caught:
            saving.from_pretrained(folder_of("gpt2"), other)
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match=r"^save_pretrained: .* expected one such as gpt\.GPT"):
        saving.save_pretrained(nn.Linear(2, 3, rng=np.random.default_rng(0)), tmp_path)


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file: cannot be a folder: .*; name another one"):
        saving.save_pretrained(tiny(), tmp_path / "file")


# --- tokenisers ------------------------------------------------------------------------------------


def test_golden_tokenizer(tmp_path):
    place = Path(shutil.copytree(folder_of("tokenizer"), tmp_path / "tokenizer"))
    both = [ByteBPE.from_pretrained(place)]
    (place / "tokenizer.json").unlink()
    both.append(ByteBPE.from_pretrained(place))
    for tokenizer in both:
        assert tokenizer.special == {"<|endoftext|>": 0}
        for text, ids in zip(TEXTS, GOLDEN["tokenizer"], strict=True):
            assert tokenizer.encode_special(text).tolist() == ids
            assert tokenizer.decode(np.array(ids, int)) == text
    (place / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no tokenizer\.json, nor both vocab\.json and merges\.txt"):
        ByteBPE.from_pretrained(place)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalizer": {"type": "NFC"}}, "it normalises text"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "it cuts text by 'Whitespace'"),
        ({"pre_tokenizer": None}, "it cuts text by None"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "it puts a space before the text"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}}, "it cuts text by 'ByteLevel'"),
        ({"post_processor": {"type": "TemplateProcessing", "special_tokens": {"<s>": {}}}}, "it adds tokens to the text"),
        ({"post_processor": {"type": "BertProcessing"}}, "it adds tokens to the text"),
        ({"added_tokens": [{"id": 0, "content": "<|endoftext|>", "lstrip": True}]}, "an added token takes the space beside it"),
        ({"model": {"type": "WordPiece", "vocab": {}, "merges": []}}, "its model is 'WordPiece'"),
        ({"model": {"vocab": {}, "merges": [], "ignore_merges": True}}, "it merges otherwise"),
        ({"model": {"vocab": {}, "merges": [], "end_of_word_suffix": "</w>"}}, "it marks the middle or end of words"),
        ({"model": {"vocab": {"a": 1}, "merges": []}, "added_tokens": []}, "does not map tokens to the ids 0, 1, 2"),
        ({"model": {"vocab": {"a": 0}, "merges": ["a b"]}, "added_tokens": []}, "merge 1 of .* is 'a b', expected two"),
        ({"model": 3}, "is not laid out as a tokenizer.json"),
        ({"model": ...}, "is not laid out as a tokenizer.json"),
        ({"added_tokens": [{"id": 0}]}, "is not laid out as a tokenizer.json"),
    ],
)
def test_a_tokeniser_that_would_give_other_ids_is_refused(tmp_path, changes, message):
    place = Path(shutil.copytree(folder_of("tokenizer"), tmp_path / "tokenizer"))
    change_json(place / "tokenizer.json", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        ByteBPE.from_pretrained(place)
    assert "\n" not in str(caught.value)
