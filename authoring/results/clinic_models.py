"""Small models that read clinical sentences, and their fine-tunings, trained on the CPU from what clinic_data.py wrote.

usage: clinic_models.py DATA OUT [--part encoder|widths|t5] [--threads 1]

OUT/encoder            an encoder with a head of six classes, pretrained on the notes by masked tokens; the head is random
OUT/encoder-tuned/KIND fine-tunings of it for assertion: full, lora2, lora8, lora32, ia3, bitfit, norms; qlora8 over its layers in NF4
OUT/encoder-WIDTH      the same encoder at other widths, and OUT/encoder-WIDTH-tuned/full by the same recipe
OUT/t5                 an encoder-decoder, pretrained on the notes by spans and copies
OUT/t5-tuned/TASK      full fine-tunings of it, one for each task
OUT/scores-PART.json   what torch counts: accuracy of the encoders, exact answers of the others

Bases are rounded to f16 before they are tuned, so that what a page has in VRAM is what was tuned.
"""
import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig, BertForMaskedLM, BertForSequenceClassification, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration,
)

CLASSES = ['absent', 'conditional', 'family', 'hypothetical', 'possible', 'present']
TASKS = ['shorthand', 'assertion', 'entities', 'relations', 'inference']
VOCABULARY = 768
SENTINELS = [f'<extra_id_{i}>' for i in range(8)]
SPECIAL = ['<pad>', '</s>', '<s>', '<mask>', *SENTINELS]
PAD, END, START, MASK = range(4)
WIDTH = 96
# Beside WIDTH: three sizes of one recipe.
OTHER_WIDTHS = (24, 48)


def make_tokenizer(texts, template):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[('<s>', START), ('</s>', END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token='<pad>', eos_token='</s>', bos_token='<s>', mask_token='<mask>', clean_up_tokenization_spaces=False
    )


def rows(data, task, split):
    return [json.loads(line) for line in (data / task / f'{split}.jsonl').read_text().splitlines()]


def padded(sequences, fill=PAD):
    width = max(map(len, sequences))
    return torch.tensor([ids + [fill] * (width - len(ids)) for ids in sequences])


def train(model, parameters, steps, rate, loss_of, name, resume=None):
    """Adam, a short warm-up, and a cosine. `resume`: a file to go on from after a cut, and the draws of batches."""
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0, betas=(0.9, 0.98))
    model.train()
    started = time.time()
    first = 0
    if resume is not None:
        path, rng = resume
        if path.exists():
            state = torch.load(path, weights_only=False)
            first = state['step']
            model.load_state_dict(state['model'])
            optimizer.load_state_dict(state['optimizer'])
            torch.set_rng_state(state['torch'])
            rng.setstate(state['rng'])
    for step in range(first, steps):
        if resume is not None and step % 100 == 0 and step > first:
            torch.save(
                {
                    'step': step, 'model': model.state_dict(), 'optimizer': optimizer.state_dict(), 'torch': torch.get_rng_state(),
                    'rng': rng.getstate(),
                },
                path,
            )
        for group in optimizer.param_groups:
            group['lr'] = rate * min(1, (step + 1) / 20) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / steps)))
        loss = loss_of()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 100 == 99 or step == steps - 1:
            print(f'{name} {step + 1}/{steps} loss {loss.item():.4f} {time.time() - started:.0f} s', flush=True)
    model.eval()
    if resume is not None:
        path.unlink(missing_ok=True)


def rounded(model):
    """Weights as f16 has them."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())
    return model


def save(model, tokenizer, folder, dtype=torch.float16):
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    tensors = {name: value.detach().to(dtype).contiguous().clone() for name, value in model.state_dict().items() if value.is_floating_point()}
    for tied in ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight', 'lm_head.weight', 'cls.predictions.decoder.weight'):
        tensors.pop(tied, None)
    save_file(tensors, folder / 'model.safetensors', metadata={'format': 'pt'})


# ------------------------------------------------------------------ encoder

# The sixteen levels of NF4 (QLoRA, arXiv 2305.14314, appendix E).
NF4 = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])


def nf4(weight, block=64):
    """A weight as NF4 has it: each block of 64 over its largest magnitude."""
    blocks = weight.reshape(-1, block)
    largest = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks / largest).unsqueeze(-1).sub(NF4).abs().argmin(-1)
    return (NF4[nearest] * largest).reshape(weight.shape)


def rank_of(kind):
    return int(kind.rpartition('a')[2])


def masked_tokens(notes, rng, batch=48):
    """A batch of notes: a seventh of the tokens is to be found again, the labels say which."""
    ids = padded(rng.sample(notes, batch))
    hidden = (torch.rand(ids.shape) < 0.15) & (ids != PAD) & (ids != START) & (ids != END)
    labels = torch.where(hidden, ids, -100)
    return torch.where(hidden, MASK, ids), (ids != PAD).long(), labels


def classify(model, examples):
    """Predicted classes of examples."""
    found = []
    with torch.no_grad():
        for at in range(0, len(examples), 100):
            ids = padded([ids for ids, _ in examples[at : at + 100]])
            found += model(input_ids=ids, attention_mask=(ids != PAD).long()).logits.argmax(-1).tolist()
    return found


def accuracy(model, examples):
    found = classify(model, examples)
    return sum(a == b for a, (_, b) in zip(found, examples)) / len(examples)


class Encoders:
    """An encoder of a width, in OUT/NAME: pretrained unless it is there. `tune` trains a fine-tuning of it for assertion."""

    def __init__(self, data, out, name, width, scores):
        texts = (data / 'notes.txt').read_text().splitlines()
        self.tokenizer = make_tokenizer(texts, '<s> $A </s>')
        self.tuned, self.scores = out / f'{name}-tuned', scores
        self.config = BertConfig(
            vocab_size=len(self.tokenizer), hidden_size=width, num_hidden_layers=3, num_attention_heads=4, intermediate_size=2 * width,
            max_position_embeddings=64, type_vocab_size=1, pad_token_id=PAD, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            id2label=dict(enumerate(CLASSES)), label2id={name: i for i, name in enumerate(CLASSES)},
        )
        torch.manual_seed(0)
        self.rng = random.Random(0)
        base = BertForSequenceClassification(self.config)
        if (out / name).exists():
            base.load_state_dict(load_file(out / name / 'model.safetensors'), strict=False)
        else:
            notes = [ids for ids in self.tokenizer(texts)['input_ids'] if len(ids) <= 64]
            self.pretrain(base, notes, name, out / f'{name}.part')
            rounded(base)
            save(base, self.tokenizer, out / name)
        base.eval()
        self.start = {name: value.clone() for name, value in base.state_dict().items()}
        self.examples = {
            split: [(self.tokenizer(row['text'])['input_ids'], CLASSES.index(row['label'])) for row in rows(data, 'assertion', split)]
            for split in ('train', 'valid', 'test')
        }
        scores['base'] = accuracy(base, self.examples['test'])
        print(name, 'base', scores['base'], flush=True)

    def pretrain(self, base, notes, name, part):
        language = BertForMaskedLM(self.config)
        own = {name: value for name, value in base.bert.state_dict().items() if not name.startswith('pooler')}
        language.bert.load_state_dict(own, strict=False)

        def masked_loss():
            ids, mask, labels = masked_tokens(notes, self.rng)
            return language(input_ids=ids, attention_mask=mask, labels=labels).loss

        train(language, list(language.parameters()), 1200, 2e-3, masked_loss, name, (part, self.rng))
        base.bert.load_state_dict(language.bert.state_dict(), strict=False)

    def fresh(self):
        model = BertForSequenceClassification(self.config)
        model.load_state_dict(self.start)
        return model

    def tune(self, model, rate, name):
        order = random.Random(1)

        def loss():
            batch = order.sample(self.examples['train'], 32)
            ids = padded([ids for ids, _ in batch])
            logits = model(input_ids=ids, attention_mask=(ids != PAD).long()).logits
            return torch.nn.functional.cross_entropy(logits, torch.tensor([label for _, label in batch]))

        train(model, [weight for weight in model.parameters() if weight.requires_grad], 160, rate, loss, name)
        self.scores[name] = accuracy(model, self.examples['test'])
        print(name, self.scores[name], flush=True)


# What a fine-tuning moves, and how fast.
PARTLY = {
    'full': (5e-4, lambda name: True),
    'bitfit': (1e-2, lambda name: name.endswith('bias') or name.startswith('classifier')),
    'norms': (1e-2, lambda name: 'LayerNorm' in name or name.startswith('classifier')),
}


def tune_partly(encoders, kind):
    if (encoders.tuned / kind).exists():
        return
    rate, moves = PARTLY[kind]
    model = encoders.fresh()
    for name, weight in model.named_parameters():
        weight.requires_grad_(moves(name))
    encoders.tune(model, rate, kind)
    save(model, encoders.tokenizer, encoders.tuned / kind)


def tune_adapter(encoders, kind):
    if (encoders.tuned / kind).exists():
        return
    from peft import IA3Config, LoraConfig, get_peft_model

    torch.manual_seed(1)
    common = {'task_type': 'SEQ_CLS', 'modules_to_save': ['classifier']}
    linears = ['query', 'key', 'value', 'output.dense', 'intermediate.dense']
    config = (
        IA3Config(target_modules=['key', 'value', 'output.dense'], feedforward_modules=['output.dense'], **common)
        if kind == 'ia3'
        else LoraConfig(r=rank_of(kind), lora_alpha=2 * rank_of(kind), target_modules=linears, **common)
    )
    own = encoders.fresh()
    if kind.startswith('q'):
        for weight in own.bert.encoder.parameters():
            if weight.ndim == 2:
                weight.data.copy_(nf4(weight.data))
    model = get_peft_model(own, config)
    encoders.tune(model, 1e-2 if kind == 'ia3' else 3e-3, kind)
    model.save_pretrained(encoders.tuned / kind)


def all_encoders(data, out, scores):
    encoders = Encoders(data, out, 'encoder', WIDTH, scores)
    for kind in PARTLY:
        tune_partly(encoders, kind)
    for kind in ('lora2', 'lora8', 'lora32', 'ia3', 'qlora8'):
        tune_adapter(encoders, kind)


def all_widths(data, out, scores):
    for width in OTHER_WIDTHS:
        own = scores.setdefault(str(width), {})
        tune_partly(Encoders(data, out, f'encoder-{width}', width, own), 'full')


# ---------------------------------------------------------- encoder-decoder

def spans(ids, rng):
    """Some spans of a note become sentinels; what they hid is to be said. A third of the notes is to be copied."""
    if rng.random() < 0.33:
        return ids + [END], ids + [END]
    front, said, at, count = [], [], 0, 0
    while at < len(ids):
        if rng.random() < 0.15 and count < len(SENTINELS):
            length = rng.randrange(1, 4)
            front.append(4 + count)
            said += [4 + count, *ids[at : at + length]]
            at += length
            count += 1
        else:
            front.append(ids[at])
            at += 1
    return front + [END], said + [END]


def sequence_loss(model, pairs):
    ids = padded([front for front, _ in pairs])
    return model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=padded([said for _, said in pairs], -100)).loss


def exact(model, pairs):
    """Share of pairs whose every wanted token is the first choice behind those before it."""
    right = 0
    with torch.no_grad():
        for at in range(0, len(pairs), 50):
            some = pairs[at : at + 50]
            ids, labels = padded([front for front, _ in some]), padded([said for _, said in some], -100)
            logits = model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=labels).logits
            right += ((logits.argmax(-1) == labels) | (labels == -100)).all(-1).sum().item()
    return right / len(pairs)


def encoder_decoders(data, out, scores):
    texts = (data / 'notes.txt').read_text().splitlines()
    tokenizer = make_tokenizer(texts, '$A </s>')
    config = T5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=24, num_heads=4, d_ff=2 * WIDTH, num_layers=2, num_decoder_layers=2,
        relative_attention_num_buckets=16, dropout_rate=0.0, pad_token_id=PAD, eos_token_id=END, decoder_start_token_id=PAD,
    )
    torch.manual_seed(0)
    rng = random.Random(0)
    notes = [ids[:-1] for ids in tokenizer(texts)['input_ids'] if len(ids) <= 64]
    base = T5ForConditionalGeneration(config)
    if (out / 't5').exists():
        base.load_state_dict(load_file(out / 't5/model.safetensors'), strict=False)
        base.tie_weights()
    else:
        train(
            base, list(base.parameters()), 800, 4e-3,
            lambda: sequence_loss(base, [spans(ids, rng) for ids in rng.sample(notes, 24)]), 't5',
        )
        rounded(base)
        save(base, tokenizer, out / 't5')
    start = {name: value.clone() for name, value in base.state_dict().items()}
    encode = lambda row: (tokenizer(row['text'])['input_ids'], tokenizer(row['label'])['input_ids'])
    tests = {task: [encode(row) for row in rows(data, task, 'test')] for task in TASKS}
    scores['base'] = {task: exact(base, tests[task]) for task in TASKS}
    print('t5 base', scores['base'], flush=True)
    for task in TASKS:
        if (out / 't5-tuned' / task).exists():
            continue
        base.load_state_dict(start)
        pairs = [encode(row) for row in rows(data, task, 'train')]
        order = random.Random(1)
        steps = 300 if task in ('shorthand', 'entities') else 150
        train(base, list(base.parameters()), steps, 2e-3, lambda: sequence_loss(base, order.sample(pairs, 20)), task)
        scores[task] = {other: exact(base, tests[other]) for other in TASKS}
        print(task, scores[task], flush=True)
        save(base, tokenizer, out / 't5-tuned' / task)


PARTS = {'encoder': all_encoders, 'widths': all_widths, 't5': encoder_decoders}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path)
    p.add_argument('out', type=Path)
    p.add_argument('--part', choices=list(PARTS), action='append')
    p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    for name in a.part or PARTS:
        path = a.out / f'scores-{name}.json'
        scores = {name: json.loads(path.read_text()) if path.exists() else {}}
        PARTS[name](a.data, a.out, scores[name])
        path.write_text(json.dumps(scores[name], indent=1) + '\n')


if __name__ == '__main__':
    main()
