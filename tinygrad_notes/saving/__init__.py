"""Arrays, checkpoints and published models in safetensors files.

For example:

    save_arrays("weights.safetensors", state_dict(model))
    load(model, load_arrays("weights.safetensors"))

    save_checkpoint("run.safetensors", step=step, model=model, optimizer=opt, rng=rng, extra={"losses": losses})
    step, extra = load_checkpoint("run.safetensors", model=model, optimizer=opt, rng=rng)

    model = from_pretrained("folder", gpt.GPT)
    save_pretrained(model, "folder")
"""

from tinygrad_notes.saving.arrays import CheckpointError, load_arrays, load_metadata, save_arrays
from tinygrad_notes.saving.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from tinygrad_notes.saving.pretrained import from_pretrained, save_pretrained

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "from_pretrained",
    "load_arrays",
    "load_checkpoint",
    "load_metadata",
    "save_arrays",
    "save_checkpoint",
    "save_pretrained",
]
