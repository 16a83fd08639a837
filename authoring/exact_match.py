"""Share of requests that are answered exactly, in torch: the base, an adapter, a checkpoint, or a decoded expert.

usage: exact_match.py BASE DATA/test.jsonl [--adapter DIR | --checkpoint DIR | --expert FILE.safetensors] [--scale 2] [--limit N]
  --expert: what `tritswap decode` wrote, deltas or LoRA factors; --scale: lora_alpha / r of the adapter
"""
import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from chats import exact_match, read_examples, score


def add_expert(model, path, scale):
    weights, pairs = dict(model.named_parameters()), {}
    for name, value in load_file(path).items():
        name = name.removeprefix('base_model.model.')
        module, _, factor = name.partition('.lora_')
        if factor:
            pairs.setdefault(module, {})[factor[0]] = value.float()
        else:
            weights[name].add_(value.reshape(weights[name].shape))
    for module, pair in pairs.items():
        weights[f'{module}.weight'].add_(scale * (pair['B'] @ pair['A']))


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('base')
    p.add_argument('data', type=Path)
    p.add_argument('--adapter')
    p.add_argument('--checkpoint')
    p.add_argument('--expert')
    p.add_argument('--scale', type=float, default=2)
    p.add_argument('--limit', type=int)
    p.add_argument('--threads', type=int, default=2)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    tokenizer = AutoTokenizer.from_pretrained(a.base)
    model = AutoModelForCausalLM.from_pretrained(a.checkpoint or a.base, dtype=torch.float32).eval()
    if a.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, a.adapter).merge_and_unload()
    if a.expert:
        add_expert(model, a.expert, a.scale)
    answers = score(model, read_examples(tokenizer, a.data, a.limit))
    share, error = exact_match(answers)
    print(json.dumps({'exact': round(share, 4), 'standardError': round(error, 4), 'n': len(answers)}))


if __name__ == '__main__':
    main()
