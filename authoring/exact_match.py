"""Share of requests that are answered exactly, in torch: the base, an adapter, a checkpoint, or a decoded expert.

A greedy answer is the wanted one where every wanted token, the one that ends it included, is the first choice behind those before
it: one pass over the wanted answers tells, without generating.

usage: exact_match.py BASE DATA/test.jsonl [--adapter DIR | --checkpoint DIR | --expert FILE.safetensors] [--scale 2] [--limit N]
  --expert: what `tritswap decode` wrote, deltas or LoRA factors; --scale: lora_alpha / r of the adapter
"""
import argparse
import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


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


def is_exact(model, tokenizer, row):
    chat = [{'role': 'user', 'content': row['user']}, {'role': 'assistant', 'content': row['assistant']}]
    whole = tokenizer.apply_chat_template(chat, tokenize=False).rstrip('\n')
    request = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(whole, return_tensors='pt')['input_ids']
    first = len(tokenizer(request)['input_ids'])
    hidden = model.model(input_ids=ids)[0][0, first - 1 : -1]
    return bool((model.lm_head(hidden).argmax(-1) == ids[0, first:]).all())


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
    rows = [json.loads(line) for line in a.data.read_text().splitlines()][: a.limit]
    share = sum(is_exact(model, tokenizer, row) for row in rows) / len(rows)
    error = math.sqrt(share * (1 - share) / len(rows))
    print(json.dumps({'exact': round(share, 4), 'standardError': round(error, 4), 'n': len(rows)}))


if __name__ == '__main__':
    main()
