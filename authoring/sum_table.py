"""What two skills answer when both are active: each form of the pair at several weights of the set, skill by skill.

Adapters are LORA/<skill>, chats DATA/<skill>/valid.jsonl and test.jsonl. The expert's values are those that its file holds
(`skill_table.py`). `alone` is the same form without the other skill. Rows that OUT.json has are not scored again.

usage: sum_table.py BASE LORA DATA OUT.json --pair sql,clinical [--split valid|test] [--limit N] [--forms REGEX] [--weights 1,0.8] [--threads 2]
"""
import argparse
import json
import re
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from adapters import added, read_factors
from chats import exact_match, read_examples, score
from skill_table import packed

FORMS = {
    **{f'terms, {n} each': ['--terms', str(n)] for n in (1, 2, 3, 4, 6)},
    **{f'factors, {k} %': ['--codec', 'ternary', '--density', str(k / 100)] for k in (20, 30)},
}


def factors_of(form, base, adapter):
    if form == 'adapter':
        return read_factors(adapter)
    with tempfile.TemporaryDirectory() as folder:
        return packed(['--adapter', adapter, '--base', base, *FORMS[form]], Path(folder))[0]


def summed(parts, weight):
    """One pair of factors a module, for the weighted sum of the parts."""
    found = {}
    for module in {module for part in parts for module in part}:
        pairs = [part[module] for part in parts if module in part]
        found[module] = (weight * torch.cat([b for b, _ in pairs], 1), torch.cat([a for _, a in pairs], 0))
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('base')
    p.add_argument('lora', type=Path)
    p.add_argument('data', type=Path)
    p.add_argument('out', type=Path)
    p.add_argument('--pair', required=True)
    p.add_argument('--split', default='valid')
    p.add_argument('--limit', type=int, default=100)
    p.add_argument('--forms', default='')
    p.add_argument('--weights', default='1,0.8,0.6')
    p.add_argument('--threads', type=int, default=2)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    tokenizer = AutoTokenizer.from_pretrained(a.base)
    model = AutoModelForCausalLM.from_pretrained(a.base, dtype=torch.float32).eval()
    skills = a.pair.split(',')
    examples = {skill: read_examples(tokenizer, a.data / skill / f'{a.split}.jsonl', a.limit) for skill in skills}
    results = json.loads(a.out.read_text()) if a.out.exists() else {}
    found = results.setdefault(f'{"+".join(skills)} {a.split} {a.limit}', {})
    for form in ['adapter', *FORMS]:
        if not re.search(a.forms, form):
            continue
        parts = {skill: factors_of(form, a.base, a.lora / skill) for skill in skills}
        sums = {f'{form}, weight {weight}': summed(list(parts.values()), weight) for weight in map(float, a.weights.split(','))}
        alone = {f'{form}, alone': parts}
        for name, factors in {**alone, **sums}.items():
            if name in found:
                continue
            row = {}
            for skill in skills:
                with added(model, factors[skill] if name.endswith('alone') else factors):
                    row[skill], row[f'{skill} error'] = exact_match(score(model, examples[skill]))
            found[name] = row
            a.out.write_text(json.dumps(results, indent=1) + '\n')
            print(name, json.dumps(row), flush=True)


if __name__ == '__main__':
    main()
