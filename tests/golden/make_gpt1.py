"""Writes gpt1.json, the results of transformers' GPT-1 for gpt1_inputs.py: python -m tests.golden.make_gpt1

Needs torch and transformers (extra "parity"). float64, rounded to 9 digits.
"""

import json
from pathlib import Path

from tests.golden.gpt1_inputs import CONFIG, IDS, LABELS
from tests.golden.make_bert import gradients, head
from tests.golden.sines import rounded, sines, summary

import torch
import transformers


def theirs(kind):
    """One of their models in float64, without dropout, its weights made of sines."""
    config = transformers.OpenAIGPTConfig(**{k: v for k, v in CONFIG.items() if k != "model_type"}, pad_token_id=0)
    model = getattr(transformers, kind)(config).double().eval()
    with torch.no_grad():
        for name, array in sines({name: tuple(p.shape) for name, p in model.named_parameters()}).items():
            model.get_parameter(name).copy_(torch.from_numpy(array))
    return model


def results():
    ids = torch.from_numpy(IDS)
    model = theirs("OpenAIGPTLMHeadModel")
    logits = model(ids).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())  # theirs would be in float32
    language = {"logits": rounded(logits.detach()), "loss": loss.item(), "gradients": summary(gradients(model, loss))}
    model = theirs("OpenAIGPTForSequenceClassification")
    out = model(ids, labels=torch.from_numpy(LABELS))
    task = {"logits": rounded(out.logits.detach()), "loss": out.loss.item(), "gradients": summary(gradients(model, out.loss))}
    return {"language": language, "task": task}


if __name__ == "__main__":
    Path(__file__).with_name("gpt1.json").write_text(json.dumps(head(__file__) | results()) + "\n")
