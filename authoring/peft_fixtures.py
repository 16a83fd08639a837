"""What the fixtures of adapters have in common: an adapter as peft saves it, and a file with what torch answers."""

import copy
import json
import shutil
import warnings
import zlib

import peft
import torch
from safetensors import safe_open
from safetensors.torch import save_file

warnings.filterwarnings("ignore")


def by_model(cases, wanted):
    """Cases (model, case, configuration, size) in lists by model: all, or those that are named, with their model or not."""
    found = {}
    for model, case, config, size in cases:
        if not wanted or case in wanted or f"{model}/{case}" in wanted:
            found.setdefault(model, []).append((case, config, size))
    return found


def moved(model, size):
    """Moves what is trained; norms of singular factors, seeds and magnitudes stay what peft makes of them."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.dtype.is_floating_point:
                unit = parameter.abs().mean().clamp(min=0.5) if "magnitude" in name or "tokens" in name else 1
                parameter += size * unit * torch.randn(parameter.shape)


def saved(base, config, name, size, out, task):
    """Saves an adapter that is moved by `size` to OUT/<name>. Returns it as it is in memory, and as another reader of the folder
    gets it: that is what people load."""
    torch.manual_seed(zlib.crc32(name.encode()))
    if task is not None and hasattr(config, "task_type"):
        config.task_type = task
    model = peft.get_peft_model(copy.deepcopy(base), config).eval()
    moved(model, size)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = f"onnx-zoo/{name.split('/')[0]}"
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")
    return model, peft.PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()


def moves(found, base):
    """How far an adapter moves an output, over its range."""
    return (found - base).abs().max() / (base.max() - base.min())


class Expected:
    """The file of a model's outputs; cases that are not written again keep theirs."""

    def __init__(self, file, keeps):
        self.file, self.tensors = file, {}
        if keeps and file.exists():
            with safe_open(file, "pt") as stored:
                self.tensors = {name: stored.get_tensor(name) for name in stored.keys()}

    def save(self):
        save_file({name: tensor.contiguous() for name, tensor in sorted(self.tensors.items())}, self.file)
