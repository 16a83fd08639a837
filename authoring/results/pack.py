"""What the repository keeps of the models of clinic_models.py: what moved, in f16, and the hash of every file.

usage: pack.py TRAINED DATA MODELS      MODELS: results/models
"""
import argparse
import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

# Requests of each task that are kept: all that are measured.
KEPT = {'assertion': {'valid': 200, 'test': 400}}
FEWER = {'valid': 200, 'test': 200}


def halves(tensors):
    return {name: value.half().contiguous() for name, value in tensors.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('trained', type=Path)
    p.add_argument('data', type=Path)
    p.add_argument('models', type=Path)
    a = p.parse_args()
    base = load_file(a.trained / 'encoder/model.safetensors')
    to = a.models / 'assertion-tuned'
    to.mkdir(parents=True, exist_ok=True)
    for kind in ('full', 'bitfit', 'norms'):
        tuned = load_file(a.trained / 'encoder-tuned' / kind / 'model.safetensors')
        moved = {name: value for name, value in tuned.items() if not torch.equal(value, base[name])}
        save_file(halves(moved), to / f'{kind}.safetensors')
    for folder in sorted((a.trained / 'encoder-tuned').iterdir()):
        adapter = folder / 'adapter_model.safetensors'
        if adapter.exists():
            (to / folder.name).mkdir(exist_ok=True)
            save_file(halves(load_file(adapter)), to / folder.name / adapter.name)
            shutil.copy(folder / 'adapter_config.json', to / folder.name)
    for folder in sorted(a.trained.glob('encoder-*-tuned')):
        width = folder.name.split('-')[1]
        own = load_file(a.trained / f'encoder-{width}/model.safetensors')
        tuned = load_file(folder / 'full/model.safetensors')
        to = a.models / f'assertion-{width}-tuned'
        to.mkdir(exist_ok=True)
        save_file(halves({name: value for name, value in tuned.items() if not torch.equal(value, own[name])}), to / 'full.safetensors')
    own = load_file(a.trained / 't5/model.safetensors')
    to = a.models / 'clinic-tuned'
    for folder in sorted((a.trained / 't5-tuned').iterdir()):
        tuned = load_file(folder / 'model.safetensors')
        save_file(halves({name: value for name, value in tuned.items() if not torch.equal(value, own[name])}), to / f'{folder.name}.safetensors')
    labels = a.models / 'labels'
    labels.mkdir(exist_ok=True)
    for task in ('shorthand', 'assertion', 'entities', 'relations', 'inference'):
        for split, count in KEPT.get(task, FEWER).items():
            lines = (a.data / task / f'{split}.jsonl').read_text().splitlines()[:count]
            (labels / f'{task}.{split}.jsonl').write_text('\n'.join(lines) + '\n')
    for scores in a.trained.glob('scores-*.json'):
        shutil.copy(scores, a.models)
    hashes = {
        str(path.relative_to(a.models)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(a.models.rglob('*'))
        if path.is_file() and path.name != 'hashes.json'
    }
    (a.models / 'hashes.json').write_text(json.dumps(hashes, indent=1) + '\n')


if __name__ == '__main__':
    main()
