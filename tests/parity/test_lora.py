"""LoRA equals peft's: the same A and B give the same outputs, gradients and merged weights."""

import tinygrad_notes as tn
from models.adaptation import lora
from models.language import gpt
from tinygrad_notes import saving

import numpy as np
import pytest

reason = "parity with peft needs PyTorch, transformers and peft: pip install peft"
torch = pytest.importorskip("torch", reason=reason)
transformers = pytest.importorskip("transformers", reason=reason)
peft = pytest.importorskip("peft", reason=reason)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning:transformers", "ignore:.*deprecated:FutureWarning"
)  # peft's calls of transformers

IDS = np.random.default_rng(0).integers(17, size=(3, 9))
TARGETS = {"*c_attn": ["c_attn"], "*attn.c_proj *c_fc": ["attn.c_proj", "c_fc"]}


@pytest.fixture
def published(tmp_path):
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=17, n_positions=9, n_embd=12, n_layer=2, n_head=3, bos_token_id=0, eos_token_id=0)
    model = transformers.GPT2LMHeadModel(config).double().eval()
    model.save_pretrained(tmp_path)
    return model, saving.from_pretrained(tmp_path, gpt.GPT)


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize(("r", "alpha"), [(1, 1), (4, 32), (3, 2)])
def test_outputs_gradients_and_merged_weights(published, targets, r, alpha):
    theirs, ours = published
    config = peft.LoraConfig(r=r, lora_alpha=alpha, target_modules=TARGETS[targets], fan_in_fan_out=True, task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(theirs, config).eval()
    adapter = lora.adapter(ours, lora.Config(r=r, alpha=alpha, targets=tuple(targets.split())), np.random.default_rng(0))
    rng, state = np.random.default_rng(1), {}
    for name, p in wrapped.named_parameters():
        if "lora_" in name:
            path = name.removeprefix("base_model.model.transformer.").replace(".lora_", " ").split(" ")[0]
            leaf = "A" if "lora_A" in name else "B"
            state[f"{path}.{leaf}"] = rng.normal(size=tuple(p.shape))
            p.data = torch.tensor(state[f"{path}.{leaf}"])
    state |= {name: array for name, array in tn.state_dict(adapter).items() if name.endswith("scale")}
    tn.load(adapter, state)  # every path and shape is the same

    adapted, ids = lora.attach(ours, adapter), torch.tensor(IDS)
    logits = wrapped(ids).logits
    np.testing.assert_allclose(adapted(IDS).value, logits.detach().numpy(), rtol=0, atol=1e-9)
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    grads = tn.gradients(gpt.loss(adapted, IDS[:, :-1], IDS[:, 1:]), tn.parameters(adapter), unused="raise")
    trained = {name: p.grad.numpy() for name, p in wrapped.named_parameters() if p.requires_grad}
    assert len(trained) == len(grads)
    for name, g in grads.items():
        path, _, leaf = name.rpartition(".")
        np.testing.assert_allclose(g, trained[f"base_model.model.transformer.{path}.lora_{leaf}.default.weight"], rtol=0, atol=1e-9)

    merged = gpt.to_published(tn.state_dict(lora.merge(ours, adapter)))
    plain = dict(wrapped.merge_and_unload().named_parameters())
    for name, array in merged.items():
        np.testing.assert_allclose(array, plain[name].detach().numpy(), rtol=0, atol=1e-12, err_msg=name)


def test_the_start_is_the_same_but_for_the_spread_of_a(published):
    theirs, ours = published
    wrapped = peft.get_peft_model(
        theirs, peft.LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights="gaussian")
    )
    adapter = lora.adapter(ours, lora.Config(r=4, targets=("*c_attn",)), np.random.default_rng(0))
    for name, p in wrapped.named_parameters():
        if "lora_B" in name:
            assert not torch.any(p)
    assert not any(np.any(change.B.value) for change in adapter.values())
    count = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert tn.count(adapter) == count
