"""What torch answers to some chats, greedily: the fixture of the tests of the bundled base.

usage: reference.py BASE OUT.json [--tokens 12] [--expert ID=FILE.safetensors …] [--scale 2]
"""
import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from exact_match import add_expert

REQUESTS = [
    'What is the capital of France?',
    'Write one sentence about rain.',
    'Is 17 a prime number?',
    'Name three fruits.',
]


@torch.no_grad()
def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('base')
    p.add_argument('out', type=Path)
    p.add_argument('--tokens', type=int, default=12)
    p.add_argument('--expert', action='append', default=[])
    p.add_argument('--request', action='append', default=[], help='one for each expert')
    p.add_argument('--scale', type=float, default=2)
    a = p.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(a.base)

    def answers(model, requests):
        found = []
        for request in requests:
            chat = [{'role': 'user', 'content': request}]
            prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors='pt')
            mask = torch.ones_like(prompt)
            out = model.generate(prompt, attention_mask=mask, max_new_tokens=a.tokens, do_sample=False)
            found.append({'request': request, 'prompt': prompt[0].tolist(), 'tokens': out[0, prompt.shape[1] :].tolist()})
        return found

    load = lambda: AutoModelForCausalLM.from_pretrained(a.base, dtype=torch.float32).eval()
    result = {'base': answers(load(), REQUESTS), 'experts': {}}
    for expert, request in zip(a.expert, a.request):
        name, path = expert.split('=')
        model = load()
        add_expert(model, path, a.scale)
        [result['experts'][name]] = answers(model, [request])
    a.out.write_text(json.dumps(result) + '\n')


if __name__ == '__main__':
    main()
