"""A GGUF of a Llama-like chat model as a Hugging Face checkpoint in f32, for exporters and for training.

transformers dequantizes the weights. It does not rebuild this kind of tokenizer, so that is made here from the vocabulary and the
merges: byte-level BPE behind the pre-tokenizer that the GGUF names. Chat template and special tokens are the GGUF's.

usage: gguf_to_hf.py MODEL.gguf OUT
"""
import json
import sys
from pathlib import Path

import torch
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

# Kinds of tokens that are never split: control and user-defined.
SPECIAL = (3, 4)
# Pre-tokenizers of llama.cpp that split digits one by one before GPT-2's rule.
SPLIT_DIGITS = ('smollm', 'starcoder', 'refact', 'command-r')


def tokenizer_of(meta):
    if meta['tokenizer.ggml.model'] != 'gpt2':
        raise SystemExit(f"expected a byte-level BPE tokenizer, found {meta['tokenizer.ggml.model']}")
    tokens = meta['tokenizer.ggml.tokens']
    merges = [tuple(pair.split(' ')) for pair in meta['tokenizer.ggml.merges']]
    bpe = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if meta.get('tokenizer.ggml.pre') in SPLIT_DIGITS:
        bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_of])
    else:
        bpe.pre_tokenizer = bytes_of
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False)
    special = [token for token, kind in zip(tokens, meta['tokenizer.ggml.token_type']) if kind in SPECIAL]
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])

    def named(role):
        at = meta.get(f'tokenizer.ggml.{role}_token_id')
        return None if at is None else tokens[at]

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        clean_up_tokenization_spaces=False,
        model_input_names=['input_ids', 'attention_mask'],
        model_max_length=meta['llama.context_length'],
        bos_token=named('bos'),
        eos_token=named('eos'),
        unk_token=named('unknown'),
        pad_token=named('padding'),
    )
    tokenizer.chat_template = meta['tokenizer.chat_template']
    return tokenizer


def main():
    gguf, out = Path(sys.argv[1]), Path(sys.argv[2])
    meta = {name: field.contents() for name, field in GGUFReader(gguf).fields.items()}
    model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = tokenizer_of(meta)
    ids = {role: getattr(tokenizer, role) for role in ('bos_token_id', 'eos_token_id', 'pad_token_id')}
    for role, value in ids.items():
        setattr(model.config, role, value)
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    # transformers.js reads the template from tokenizer_config.json, newer transformers write it beside.
    path = out / 'tokenizer_config.json'
    config = json.loads(path.read_text())
    config['chat_template'] = tokenizer.chat_template
    path.write_text(json.dumps(config, indent=2) + '\n')
    (out / 'chat_template.jinja').unlink(missing_ok=True)


if __name__ == '__main__':
    main()
