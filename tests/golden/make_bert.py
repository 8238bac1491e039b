"""Writes bert.json, the results of transformers' BERT for bert_inputs.py: python -m tests.golden.make_bert

Needs torch and transformers (extra "parity"). float64, rounded to 9 digits.
"""

import json
from pathlib import Path

from tests.golden.bert_inputs import CONFIG, IDS, IS_RANDOM, LABELS, MASK, SEGMENTS, TARGETS
from tests.golden.sines import digest, rounded, sines, summary

import torch
import transformers


def theirs(kind):
    """One of their models in float64, without dropout, its weights made of sines."""
    config = transformers.BertConfig(**{k: v for k, v in CONFIG.items() if k != "model_type"}, attn_implementation="eager")
    model = getattr(transformers, kind)(config).double().eval()
    with torch.no_grad():
        for name, array in sines({name: tuple(p.shape) for name, p in model.named_parameters()}).items():
            model.get_parameter(name).copy_(torch.from_numpy(array))
    return model


def gradients(model, loss):
    names, params = zip(*model.named_parameters(), strict=True)
    return {name: g.numpy() for name, g in zip(names, torch.autograd.grad(loss, params), strict=True)}


def results():
    inputs = [torch.from_numpy(x) for x in (IDS, MASK.astype(int), SEGMENTS)]
    model = theirs("BertForPreTraining")
    out = model(*inputs, labels=torch.from_numpy(TARGETS), next_sentence_label=torch.from_numpy(IS_RANDOM))
    mlm = out.prediction_logits[torch.from_numpy(MASK)]
    pretraining = {"mlm": rounded(mlm.detach()), "nsp": rounded(out.seq_relationship_logits.detach()), "loss": out.loss.item()}
    pretraining["gradients"] = summary(gradients(model, out.loss))
    model = theirs("BertForSequenceClassification")
    out = model(*inputs, labels=torch.from_numpy(LABELS))
    classification = {"logits": rounded(out.logits.detach()), "loss": out.loss.item()}
    classification["gradients"] = summary(gradients(model, out.loss))
    return {"pretraining": pretraining, "classification": classification}


def head(script):
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "script": digest(script),
        "seed": "none: weights are sines, see sines.py",
    }


if __name__ == "__main__":
    Path(__file__).with_name("bert.json").write_text(json.dumps(head(__file__) | results()) + "\n")
