"""Trains one skill of the base on the CPU: a LoRA adapter as peft saves it, or a full fine-tuning in bf16.

DATA/train.jsonl has lines {"user", "assistant"}. The loss counts the answer and the token that ends it. A LoRA takes about ten
minutes on two cores, a full fine-tuning about an hour.

usage: train.py BASE DATA OUT [--mode lora|full] [--rank 8] [--modules q_proj,…] [--epochs 1] [--lr LR] [--batch 16] [--threads 2]
"""
import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LINEARS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
# Batches of one length: chats are sorted within this many batches.
SORTED_BATCHES = 8


def encoded(tokenizer, line):
    """Ids of a chat, and how many of them are the request."""
    row = json.loads(line)
    chat = [{'role': 'user', 'content': row['user']}]
    request = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    front = tokenizer(request, add_special_tokens=False)['input_ids']
    answer = tokenizer(row['assistant'], add_special_tokens=False)['input_ids']
    return front + answer + [tokenizer.eos_token_id], len(front)


def batches(chats, size, rng):
    order = list(range(len(chats)))
    rng.shuffle(order)
    group = size * SORTED_BATCHES
    found = []
    for at in range(0, len(order), group):
        near = sorted(order[at : at + group], key=lambda i: len(chats[i][0]))
        found += [[chats[i] for i in near[b : b + size]] for b in range(0, len(near), size)]
    rng.shuffle(found)
    return found


def loss_of(model, body, chats, pad):
    width = max(len(ids) for ids, _ in chats)
    ids, mask = torch.full((len(chats), width), pad), torch.zeros(len(chats), width, dtype=torch.long)
    rows, columns, wanted = [], [], []
    for row, (own, first) in enumerate(chats):
        ids[row, : len(own)], mask[row, : len(own)] = torch.tensor(own), 1
        rows += [row] * (len(own) - first)
        columns += range(first - 1, len(own) - 1)
        wanted += own[first:]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        hidden = body.model(input_ids=ids, attention_mask=mask).last_hidden_state
        logits = body.lm_head(hidden[rows, columns])
    return torch.nn.functional.cross_entropy(logits.float(), torch.tensor(wanted))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('base')
    p.add_argument('data', type=Path)
    p.add_argument('out', type=Path)
    p.add_argument('--mode', choices=['lora', 'full'], default='lora')
    p.add_argument('--rank', type=int, default=8)
    p.add_argument('--modules', default=','.join(LINEARS), help='which linears a LoRA adapts')
    p.add_argument('--epochs', type=float, default=1)
    p.add_argument('--lr', type=float)
    p.add_argument('--batch', type=int, default=16)
    p.add_argument('--threads', type=int, default=2)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    rng = random.Random(0)
    tokenizer = AutoTokenizer.from_pretrained(a.base)
    model = AutoModelForCausalLM.from_pretrained(a.base, dtype=torch.float32)
    if a.mode == 'lora':
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=a.rank, lora_alpha=2 * a.rank, task_type='CAUSAL_LM', target_modules=a.modules.split(','))
        model = get_peft_model(model, config)
    body = model.base_model.model if a.mode == 'lora' else model
    chats = [encoded(tokenizer, line) for line in (a.data / 'train.jsonl').read_text().splitlines()]
    steps = int(len(chats) // a.batch * a.epochs)
    warm = max(5, steps // 20)
    rate = a.lr or (1e-3 if a.mode == 'lora' else 5e-5)
    moved = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(moved, lr=rate, weight_decay=0.0, betas=(0.9, 0.98))
    model.train()
    started, step = time.time(), 0
    while step < steps:
        for batch in batches(chats, a.batch, rng)[: steps - step]:
            cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group['lr'] = rate * min(1, (step + 1) / warm) * (0.95 * cosine + 0.05)
            loss = loss_of(model, body, batch, tokenizer.pad_token_id)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(moved, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            if step % 20 == 0:
                print(f'{step}/{steps} loss {loss.item():.4f} {time.time() - started:.0f} s', flush=True)
    (model if a.mode == 'lora' else model.to(torch.bfloat16)).save_pretrained(a.out)


if __name__ == '__main__':
    main()
