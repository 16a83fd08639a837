"""A causal checkpoint as ONNX graphs with GroupQueryAttention, in f32 and f16, in a folder that transformers.js takes.

usage: export_graphs.py CHECKPOINT OUT
"""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

COMPANIONS = ('config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json')
# Name, precision and execution provider of onnxruntime-genai's builder: its f16 graphs for webgpu keep norms in f16 as well.
GRAPHS = (('model', 'fp32', 'cpu'), ('model_fp16', 'fp16', 'webgpu'))


def export(checkpoint, out, name, precision, provider):
    config = json.loads((checkpoint / 'config.json').read_text())
    heads = config['num_key_value_heads']
    head_size = config.get('head_dim') or config['hidden_size'] // config['num_attention_heads']
    with tempfile.TemporaryDirectory() as built, tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, '-m', 'onnxruntime_genai.models.builder']
        command += ['-i', checkpoint, '-o', built, '-p', precision, '-e', provider, '-c', cache]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        model = onnx.load(Path(built) / 'model.onnx')
    # transformers.js makes the first cache from these sizes, which the builder leaves symbolic.
    for value in [*model.graph.input, *model.graph.output]:
        if 'past_key' in value.name or 'present' in value.name:
            dims = value.type.tensor_type.shape.dim
            dims[1].dim_value, dims[3].dim_value = heads, head_size
    data = f'{name}.onnx_data'
    onnx.save(model, out / f'{name}.onnx', save_as_external_data=True, location=data, size_threshold=1024)


def main():
    checkpoint, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    (out / 'onnx').mkdir(parents=True, exist_ok=True)
    for name in COMPANIONS:
        shutil.copy(checkpoint / name, out / name)
    for graph in GRAPHS:
        export(checkpoint, out / 'onnx', *graph)


if __name__ == '__main__':
    main()
