"""What each form of a skill answers, by its bytes: a table for docs/SKILLS.md, skill by skill.

Adapters are LORA/<skill>, chats DATA/<skill>/valid.jsonl and test.jsonl. Files are made by `tritswap compress` (after `npm run
build:cli`) and read back by `tritswap decode --peft`, so what is scored is what a file holds; the rival, a truncated SVD, is counted
without a head. Each row is scored once and kept in OUT.json, so that a run that was cut off goes on.

usage: skill_table.py BASE LORA DATA OUT.json [--skills sql,…] [--split test|valid] [--limit N] [--forms REGEX] [--tuned DIR] [--threads 2]
  --tuned: where <skill>.safetensors of tune_terms.py lie
"""
import argparse
import json
import re
import subprocess
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters import added, read_factors
from chats import exact_match, paired_difference, read_examples, score
from svd import truncated

ROOT = Path(__file__).parent.parent
# Forms that `tritswap compress --adapter` makes, by their options.
COMPRESSED = {
    **{f'factors, {k} %': ['--codec', 'ternary', '--density', str(k / 100)] for k in (5, 10, 20, 30)},
    **{f'terms, {n} each': ['--terms', str(n)] for n in (1, 2, 3, 4, 6, 8)},
    **{f'terms, {size} kB': ['--bytes', f'{size}kB'] for size in (40, 70)},
}
SVD = [(1, 2), (1, 3), (1, 4), (2, 2)]


def tritswap(*arguments):
    subprocess.run(['node', ROOT / 'dist/cli.js', *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def packed(arguments, folder):
    """Factors of what a file holds, and its bytes."""
    file = folder / 'x.trit'
    tritswap('compress', *arguments, '--out', file)
    tritswap('decode', file, '--peft', folder / 'peft')
    return read_factors(folder / 'peft'), file.stat().st_size


def forms(base, adapter, tuned):
    """(name, a function that makes the factors and says their bytes) of every form."""
    factors = read_factors(adapter)
    values = sum(b.numel() + a.numel() for b, a in factors.values())
    yield 'base', lambda _: ({}, None)
    yield 'adapter, f16', lambda _: (factors, 2 * values)
    for name, options in COMPRESSED.items():
        yield name, lambda folder, options=options: packed(['--adapter', adapter, '--base', base, *options], folder)
    if tuned is not None and tuned.exists():
        yield 'terms, tuned', lambda folder: packed(['--terms-from', tuned, '--base', base], folder)
    for rank, bits in SVD:
        yield f'SVD, rank {rank}, {bits} bits', lambda _, rank=rank, bits=bits: truncated(factors, rank, bits)


def rows_of(model, examples, found, a, skill):
    """Scores the forms that are not in `found` yet, the adapter first, which others are compared with."""
    tuned = a.tuned / f'{skill}.safetensors' if a.tuned else None
    answers = None
    for name, make in forms(a.base, a.lora / skill, tuned):
        if (name in found and name != 'adapter, f16') or not re.search(a.forms, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            factors, size = make(Path(folder))
        with added(model, factors):
            own = score(model, examples)
        answers = own if name == 'adapter, f16' else answers
        exact, error = exact_match(own)
        row = {'bytes': size, 'exact': exact, 'standardError': error, 'n': len(own)}
        if answers is not None:
            row['toAdapter'], row['toAdapterError'] = paired_difference(own, answers)
        yield name, row


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('base')
    p.add_argument('lora', type=Path)
    p.add_argument('data', type=Path)
    p.add_argument('out', type=Path)
    p.add_argument('--skills')
    p.add_argument('--split', default='test')
    p.add_argument('--limit', type=int, default=300)
    p.add_argument('--forms', default='')
    p.add_argument('--tuned', type=Path)
    p.add_argument('--threads', type=int, default=2)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    tokenizer = AutoTokenizer.from_pretrained(a.base)
    model = AutoModelForCausalLM.from_pretrained(a.base, dtype=torch.float32).eval()
    results = json.loads(a.out.read_text()) if a.out.exists() else {}
    for skill in a.skills.split(',') if a.skills else sorted(path.name for path in a.lora.iterdir()):
        examples = read_examples(tokenizer, a.data / skill / f'{a.split}.jsonl', a.limit)
        found = results.setdefault(f'{skill} {a.split}', {})
        for name, row in rows_of(model, examples, found, a, skill):
            found[name] = row
            a.out.write_text(json.dumps(results, indent=1) + '\n')
            print(skill, name, json.dumps(row), flush=True)


if __name__ == '__main__':
    main()
