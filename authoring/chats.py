"""Chats with a wanted answer, many read in one pass: their rows lie behind each other, after the beginning that all of them share."""
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass
class Example:
    """Ids of a whole chat, up to the token that closes its answer, and where the answer begins."""

    ids: list
    first: int


@dataclass
class Answer:
    exact: bool
    first_choices: int
    tokens: int
    # Information content of the wanted answer, in nats.
    loss: float


def read_examples(tokenizer, path, limit=None):
    """Examples of a file of lines {"user", "assistant"} with an optional "system", or {"messages"}."""
    lines = Path(path).read_text().splitlines()[:limit]
    return [example_of(tokenizer, json.loads(line)) for line in lines]


def example_of(tokenizer, row):
    chat = row.get('messages') or [
        *([{'role': 'system', 'content': row['system']}] if 'system' in row else []),
        {'role': 'user', 'content': row['user']},
        {'role': 'assistant', 'content': row['assistant']},
    ]
    whole = tokenizer.apply_chat_template(chat, tokenize=False).rstrip('\n')
    request = tokenizer.apply_chat_template(chat[:-1], tokenize=False, add_generation_prompt=True)
    return Example(tokenizer(whole)['input_ids'], len(tokenizer(request)['input_ids']))


def answer_logits(model, examples):
    """Logits for the tokens of the answers, [tokens of all answers, vocabulary], those tokens, and how many each example has."""
    prefix = os.path.commonprefix([example.ids[: example.first - 1] for example in examples])
    shared = len(prefix)
    ids, positions, owner, predicting, wanted = list(prefix), list(range(shared)), [0] * shared, [], []
    for number, example in enumerate(examples, 1):
        start = len(ids) - shared
        ids += example.ids[shared:]
        positions += range(shared, len(example.ids))
        owner += [number] * (len(example.ids) - shared)
        predicting += range(start + example.first - 1, start + len(example.ids) - 1)
        wanted += example.ids[example.first :]
    owner = torch.tensor(owner)
    seen = (owner[:, None] == owner) | (owner == 0)
    mask = torch.where(seen.tril(), 0.0, torch.finfo(torch.float32).min)
    hidden = model.model(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        attention_mask=mask[None, None],
    ).last_hidden_state
    lengths = [len(example.ids) - example.first for example in examples]
    return model.lm_head(hidden[0, predicting]), torch.tensor(wanted), lengths


@torch.no_grad()
def score(model, examples, batch=8):
    """What the model answers, teacher-forced. A greedy answer is the wanted one where each of its tokens, the one that closes it
    included, is the first choice behind those before it, so no text needs to be generated."""
    found = []
    for at in range(0, len(examples), batch):
        logits, wanted, lengths = answer_logits(model, examples[at : at + batch])
        right = logits.argmax(-1) == wanted
        losses = torch.nn.functional.cross_entropy(logits, wanted, reduction='none')
        for own, loss in zip(right.split(lengths), losses.split(lengths)):
            found.append(Answer(bool(own.all()), int(own.sum()), len(own), float(loss.sum())))
    return found


def exact_match(answers):
    """Share of exact answers, and its standard error."""
    share = sum(answer.exact for answer in answers) / len(answers)
    return share, math.sqrt(share * (1 - share) / len(answers))


def paired_difference(answers, others):
    """Mean difference of exact match, example by example, and its standard error."""
    gaps = torch.tensor([float(a.exact) - float(b.exact) for a, b in zip(answers, others, strict=True)])
    return float(gaps.mean()), float(gaps.std() / math.sqrt(len(gaps)))


def mean_loss(answers):
    """Nats a token, each chat counting alike, and its standard error."""
    losses = torch.tensor([answer.loss / answer.tokens for answer in answers])
    return float(losses.mean()), float(losses.std() / math.sqrt(len(losses)))
