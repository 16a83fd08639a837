"""ONNX graphs of what clinic_models.py trained, in FOLDER/onnx as transformers.js expects them, each compared with torch.

usage: export_clinic.py FOLDER      FOLDER: .../encoder or .../t5
"""
import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, BertForSequenceClassification, T5ForConditionalGeneration

BATCH, LENGTH = 'batch', 'length'


class Classifier(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


class Encoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder = model.encoder

    def forward(self, input_ids, attention_mask):
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class Decoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.decoder, self.lm_head, self.scale = model.decoder, model.lm_head, model.config.d_model**-0.5

    def forward(self, input_ids, encoder_hidden_states, encoder_attention_mask):
        states = self.decoder(
            input_ids=input_ids, encoder_hidden_states=encoder_hidden_states, encoder_attention_mask=encoder_attention_mask, use_cache=False
        ).last_hidden_state
        return self.lm_head(states * self.scale)


def export(module, inputs, output, path):
    path.parent.mkdir(exist_ok=True)
    axes = {name: {0: BATCH, 1: f'{name}_{LENGTH}'} for name in inputs}
    torch.onnx.export(
        module, tuple(inputs.values()), path, input_names=list(inputs), output_names=[output], dynamic_axes=axes, opset_version=17, dynamo=False
    )
    session = onnxruntime.InferenceSession(path)
    # Other lengths than those of the trace.
    longer = {name: torch.cat([value, value[:, :3]], 1) for name, value in inputs.items()}
    with torch.no_grad():
        wanted = module(*longer.values()).numpy()
    (found,) = session.run([output], {name: value.numpy() for name, value in longer.items()})
    print(path, 'largest difference from torch', np.abs(found - wanted).max(), 'of', np.abs(wanted).max())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', type=Path)
    folder = p.parse_args().folder
    torch.set_num_threads(1)
    config = AutoConfig.from_pretrained(folder, attn_implementation='eager')
    kind = T5ForConditionalGeneration if config.model_type == 't5' else BertForSequenceClassification
    model = kind(config).eval()
    model.load_state_dict({name: value.float() for name, value in load_file(folder / 'model.safetensors').items()}, strict=False)
    ids = torch.randint(20, config.vocab_size, (1, 9))
    mask = torch.ones_like(ids)
    if config.model_type != 't5':
        export(Classifier(model), {'input_ids': ids, 'attention_mask': mask}, 'logits', folder / 'onnx/model.onnx')
        return
    model.tie_weights()
    export(Encoder(model), {'input_ids': ids, 'attention_mask': mask}, 'last_hidden_state', folder / 'onnx/encoder_model.onnx')
    with torch.no_grad():
        states = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    export(
        Decoder(model),
        {'input_ids': ids[:, :6], 'encoder_hidden_states': states, 'encoder_attention_mask': mask},
        'logits',
        folder / 'onnx/decoder_model.onnx',
    )


if __name__ == '__main__':
    main()
