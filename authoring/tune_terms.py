"""Ternary rank-1 terms of a LoRA, tuned on the author's own requests: as many bytes as before, and more of what the adapter does.

START is a folder that `tritswap decode --peft` wrote of an expert with terms: it says which modules have how many terms. Each
vector of a term gets a latent, from the adapter's own product; a step reads the best ternary vectors of the latents (the signs of
the largest, as many as have the largest cosine to it), lowers the loss of the wanted answers, and hands the gradients on to the
latents as if nothing had been rounded. One scale a term moves along. Every few steps DATA/valid.jsonl is scored, and what is kept is
what answers it best.

Writes OUT for `tritswap compress --terms-from`: I8 <target>.x [out, p] and .y [p, in], F32 <target>.d [p].

usage: tune_terms.py BASE ADAPTER START DATA OUT.safetensors [--steps 80] [--batch 12] [--lr 0.02] [--valid 100] [--threads 2]
"""
import argparse
import math
import random
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters import read_factors
from chats import answer_logits, exact_match, mean_loss, read_examples, score

WARM_UP = 8
# Evaluations on `valid` without a better one, after which tuning ends.
PATIENCE = 3


def best_signs(values):
    """The vectors of −1, 0, 1 with the largest cosine to the rows of `values`."""
    sizes, order = values.abs().sort(dim=-1, descending=True)
    count = torch.arange(1, values.shape[-1] + 1)
    best = (sizes.cumsum(-1).square() / count).argmax(-1, keepdim=True)
    kept = torch.zeros_like(values).scatter(-1, order, (count - 1 <= best).float())
    return values.sign() * kept


def straight_through(latents):
    return best_signs(latents.detach()) + latents - latents.detach()


class Terms(torch.nn.Module):
    """Terms beside one linear: h becomes h + Σ d · x · (y · h)."""

    def __init__(self, x, y, d, product):
        super().__init__()
        b, a = product
        latent_x, latent_y = [], []
        for t in range(len(d)):
            # What the other terms leave of the product, as this term's vectors see it.
            left = torch.cat([b, -(x * d)[:, torch.arange(len(d)) != t]], 1)
            right = torch.cat([a, y[torch.arange(len(d)) != t]])
            latent_x.append(left @ (right @ y[t]) * d[t].sign())
            latent_y.append(right.T @ (left.T @ x[:, t]) * d[t].sign())
        unit = lambda rows: torch.stack([row / row.square().mean().sqrt() for row in rows])
        self.x = torch.nn.Parameter(unit(latent_x))
        self.y = torch.nn.Parameter(unit(latent_y))
        self.log_gain = torch.nn.Parameter(torch.zeros(len(d)))
        self.register_buffer('start', d)

    def scales(self):
        return self.start * self.log_gain.exp()

    def forward(self, h):
        return (h @ straight_through(self.y).T * self.scales()) @ straight_through(self.x)

    @torch.no_grad()
    def tensors(self, module):
        return {
            f'{module}.weight.x': best_signs(self.x).T.contiguous().to(torch.int8),
            f'{module}.weight.y': best_signs(self.y).to(torch.int8),
            f'{module}.weight.d': self.scales().clone(),
        }


def read_terms(folder):
    """{module: (x [out, p], y [p, in], d [p])}, without the zeros that bring all modules to one rank."""
    found = {}
    for module, (b, a) in read_factors(folder).items():
        used = (b != 0).any(0)
        d = b[:, used].abs().amax(0)
        x = b[:, used] / d
        if not (torch.isin(x.round(), torch.tensor([-1.0, 0.0, 1.0])).all() and torch.isin(a, torch.tensor([-1.0, 0.0, 1.0])).all()):
            raise SystemExit(f'{folder}: expected terms, found other values in {module}')
        found[module] = (x.round(), a[used], d)
    return found


def install(model, terms, product):
    """Hooks for all terms. Each reads its linear's input beside it."""
    tuned = torch.nn.ModuleDict()
    for module, (x, y, d) in terms.items():
        own = Terms(x, y, d, product[module])
        tuned[module.replace('.', '/')] = own
        model.get_submodule(module).register_forward_hook(lambda _, inputs, output, own=own: output + own(inputs[0]))
    return tuned


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('base')
    p.add_argument('adapter')
    p.add_argument('start')
    p.add_argument('data', type=Path)
    p.add_argument('out')
    p.add_argument('--steps', type=int, default=80)
    p.add_argument('--batch', type=int, default=12)
    p.add_argument('--lr', type=float, default=0.02)
    p.add_argument('--every', type=int, default=20, help='steps between two evaluations')
    p.add_argument('--valid', type=int, default=100, help='chats of valid.jsonl that are scored')
    p.add_argument('--threads', type=int, default=2)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    rng = random.Random(0)
    tokenizer = AutoTokenizer.from_pretrained(a.base)
    model = AutoModelForCausalLM.from_pretrained(a.base, dtype=torch.float32).eval().requires_grad_(False)
    tuned = install(model, read_terms(a.start), read_factors(a.adapter))
    train = read_examples(tokenizer, a.data / 'train.jsonl')
    valid = read_examples(tokenizer, a.data / 'valid.jsonl', a.valid)
    optimizer = torch.optim.Adam(tuned.parameters(), lr=a.lr, betas=(0.9, 0.98))
    started, best, waited = time.time(), None, 0

    def evaluate(step):
        """Keeps what answers most; of as many, what is surer. @returns whether it is the best so far"""
        nonlocal best
        answers = score(model, valid)
        (share, error), (loss, loss_error) = exact_match(answers), mean_loss(answers)
        print(
            f'{step} steps, {time.time() - started:.0f} s: valid {100 * share:.1f} ± {100 * error:.1f} %, {loss:.4f} ± {loss_error:.4f} nats a token',
            flush=True,
        )
        if best is not None and (share, -loss) <= best[0]:
            return False
        best = ((share, -loss), step)
        tensors = {}
        for key, own in tuned.items():
            tensors |= own.tensors(key.replace('/', '.'))
        save_file(tensors, a.out)
        return True

    evaluate(0)
    for step in range(1, a.steps + 1):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - 1) / a.steps))
        for group in optimizer.param_groups:
            group['lr'] = a.lr * min(1, step / WARM_UP) * (0.95 * cosine + 0.05)
        logits, wanted, _ = answer_logits(model, rng.sample(train, a.batch))
        torch.nn.functional.cross_entropy(logits, wanted).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % a.every == 0 or step == a.steps:
            waited = 0 if evaluate(step) else waited + 1
            if waited == PATIENCE:
                break
    print(f'{a.out}: as after {best[1]} steps')


if __name__ == '__main__':
    main()
