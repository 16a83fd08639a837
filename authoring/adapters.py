"""Low-rank adapters as peft saves them, read without peft."""
import json
import math
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file


def read_factors(folder):
    """{module: (B with its scaling [out, r], A [r, in])} of the linears of a LoRA."""
    folder = Path(folder)
    config = json.loads((folder / 'adapter_config.json').read_text())
    if config.get('rank_pattern') or config.get('alpha_pattern'):
        raise SystemExit(f'{folder}: expected one rank and one alpha for all modules')
    rank = config['r']
    scaling = config['lora_alpha'] / (math.sqrt(rank) if config.get('use_rslora') else rank)
    found = {}
    for name, value in load_file(folder / 'adapter_model.safetensors').items():
        module, _, factor = name.removeprefix('base_model.model.').partition('.lora_')
        if factor not in ('A.weight', 'B.weight'):
            raise SystemExit(f'{folder}: expected factors of linears, found {name}')
        found.setdefault(module, {})[factor[0]] = value.float()
    return {module: (scaling * pair['B'], pair['A']) for module, pair in found.items()}


@contextmanager
def added(model, factors):
    """The model with B · A added to each module's weight, and afterwards as it was, to the bit."""
    weights = {module: model.get_submodule(module).weight for module in factors}
    before = {module: weight.detach().clone() for module, weight in weights.items()}
    try:
        with torch.no_grad():
            for module, (b, a) in factors.items():
                weights[module] += b @ a
        yield model
    finally:
        with torch.no_grad():
            for module, weight in weights.items():
                weight.copy_(before[module])
