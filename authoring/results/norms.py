"""The norms alone of the demo's base, trained to do what a full fine-tuning does on text that the fine-tuning wrote.

usage: norms.py DEMO EXPERT OUT.safetensors [--steps 120] [--threads 1]

DEMO: folder with base/ and finetuned/<expert>/. As the adapters in DEMO/peft were trained: on samples, by KL.
"""
import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

WINDOW = 128
BATCH = 4


@torch.no_grad()
def samples(model, count):
    """Windows that a model writes by itself."""
    ids = torch.zeros(count, 1, dtype=torch.long)
    return model.generate(ids, max_new_tokens=WINDOW - 1, do_sample=True, top_k=0, pad_token_id=0, attention_mask=torch.ones_like(ids))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('demo', type=Path)
    p.add_argument('expert')
    p.add_argument('out', type=Path)
    p.add_argument('--steps', type=int, default=120)
    p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(a.demo / 'base', dtype=torch.float32)
    teacher = AutoModelForCausalLM.from_pretrained(a.demo / 'base', dtype=torch.float32).eval()
    tuned = load_file(a.demo / 'finetuned' / a.expert / 'model.safetensors')
    teacher.load_state_dict({name: value.float() for name, value in tuned.items()}, strict=False)
    text = samples(teacher, 160)
    print('sampled', text.shape, flush=True)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for name, weight in model.named_parameters():
        weight.requires_grad_('layernorm' in name and 'layers.' in name)
    moved = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(moved, lr=2e-2)
    started = time.time()
    for step in range(a.steps):
        for group in optimizer.param_groups:
            group['lr'] = 2e-2 * (1 - step / a.steps) + 1e-3
        ids = text[torch.randint(len(text), (BATCH,))]
        with torch.no_grad():
            wanted = teacher(ids).logits.log_softmax(-1)
        loss = torch.nn.functional.kl_div(model(ids).logits.log_softmax(-1), wanted, log_target=True, reduction='none').sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            print(f'{a.expert} {step + 1}/{a.steps} KL {loss.item() / 0.6931:.4f} bits {time.time() - started:.0f} s', flush=True)
    tensors = {name: weight.detach().half() for name, weight in model.named_parameters() if weight.requires_grad}
    save_file({name: value.contiguous() for name, value in tensors.items() if not torch.equal(value.float(), start[name])}, a.out)


if __name__ == '__main__':
    main()
