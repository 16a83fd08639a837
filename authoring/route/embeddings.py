"""Three ways to place a request, each in at most 250 bytes a centroid: hashed n-grams (the product's), the mean of the base's
token embeddings, and the mean of its last hidden states. Prints how often the right expert is chosen, and none.

usage: embeddings.py TEXTS CHECKPOINT [--vectors FILE] [--minutes N]

TEXTS is what `bench/route/texts.ts` wrote, CHECKPOINT a folder of the base for transformers. Vectors of the base are kept
in FILE (embeddings.npz) as they come, so that a run that was ended goes on. The general requests' weight and the threshold
for "none" are chosen for each way on `valid`: nine in ten foreign requests are none, and then most are selected rightly.
"""
import argparse, json, time
import numpy as np

K, ROUNDS = 8, 8

def unit(x): return x / np.maximum(1e-9, np.linalg.norm(x, axis=-1, keepdims=True))

def base_vectors(texts, checkpoint, path, minutes):
    """Mean token embedding and mean last hidden state of each text."""
    import os, torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    torch.set_num_threads(1)
    done = dict(np.load(path)) if os.path.exists(path) else {}
    missing = sorted({t for t in texts if t not in done}, key=len)
    if missing:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint); tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token; tokenizer.padding_side = 'right'
        model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).model.eval()
        started = time.time()
        with torch.no_grad():
            for at in range(0, len(missing), 16):
                batch = missing[at:at + 16]; inputs = tokenizer(batch, padding=True, truncation=True, max_length=96, return_tensors='pt')
                mask = inputs.attention_mask[..., None].float(); mean = lambda x: ((x * mask).sum(1) / mask.sum(1)).numpy()
                for text, e, h in zip(batch, mean(model.embed_tokens(inputs.input_ids)), mean(model(**inputs).last_hidden_state)): done[text] = np.stack([e, h])
                if at // 16 % 10 == 9: np.savez(path, **done)
                if time.time() - started > 60 * minutes: break
        np.savez(path, **done)
    return done

def clusters(x, seed=0):
    """k-means by cosine."""
    if len(x) <= K: return x
    random = np.random.RandomState(seed); centres = [x[random.randint(len(x))]]; far = 1 - x @ centres[0]
    while len(centres) < K:
        p = np.maximum(0, far); centres.append(x[random.choice(len(x), p=p / p.sum())]); far = np.minimum(far, 1 - x @ centres[-1])
    centres = np.array(centres)
    for _ in range(ROUNDS):
        own = (x @ centres.T).argmax(1); centres = np.array([unit(x[own == k].sum(0)) if (own == k).any() else centres[k] for k in range(K)])
    return centres

def quantized(c, bits):
    """A sign and a magnitude of so many bits for each value."""
    levels = 2 ** bits; step = (1 if bits == 1 else 2.5 / levels) * np.sqrt((c * c).mean(-1, keepdims=True))
    return unit(np.where(c < 0, -1, 1) * (np.minimum(levels - 1, np.floor(np.abs(c) / step)) + 0.5))

class Way:
    def __init__(self, name, bits, vectors, index):
        """vectors: of all texts, not centred; index: rows of each (kind, set)."""
        general = vectors[index['general', 'train']].mean(0)
        self.name, self.index, self.x = name, index, unit(vectors - general)
        self.bytes = vectors.shape[1] * (1 + bits) // 8
        self.centroids = {kind: quantized(clusters(self.x[rows]), bits) for (kind, set_), rows in index.items() if set_ == 'train' and kind != 'general'}
        self.general = (self.x @ self.x[index['general', 'train']].T).max(1)

    def scores(self, kind, set_, experts, weight):
        rows = self.index.get((kind, set_), [])
        return np.stack([(self.x[rows] @ self.centroids[e].T).max(1) for e in experts], 1) - weight * self.general[rows, None]

    def figures(self, set_, experts, weight, threshold):
        """Of each expert, which of its requests were selected rightly; and which foreign ones were none."""
        right = {}
        for at, expert in enumerate(experts):
            s = self.scores(expert, set_, experts, weight)
            if len(s): right[expert] = (s.argmax(1) == at) & (s.max(1) >= threshold)
        return right, self.scores('foreign', set_, experts, weight).max(1) < threshold

    def chosen(self, experts):
        best = None
        for weight in (0, .3, .5, .7, .9):
            threshold = np.quantile(self.scores('foreign', 'valid', experts, weight).max(1), .9)
            right, _ = self.figures('valid', experts, weight, threshold); share = np.mean([r.mean() for r in right.values()])
            if best is None or share > best[0]: best = (share, weight, threshold)
        return best[1:]

def percent(hits):
    p, n = hits.mean(), len(hits); return f'{100 * p:.1f} ± {100 * (p * (1 - p) / n) ** .5:.1f}'

def main():
    a = argparse.ArgumentParser(); a.add_argument('texts'); a.add_argument('checkpoint'); a.add_argument('--vectors', default='embeddings.npz'); a.add_argument('--minutes', type=float, default=60)
    a = a.parse_args()
    rows = json.load(open(a.texts)); base = base_vectors([r['text'] for r in rows], a.checkpoint, a.vectors, a.minutes)
    rows = [r for r in rows if r['text'] in base]; index = {}
    for at, row in enumerate(rows): index.setdefault((row['kind'], row['set']), []).append(at)
    of = lambda which: np.stack([base[r['text']][which] for r in rows])
    ways = [Way('hashed n-grams', 1, np.array([r['position'] for r in rows], dtype=np.float32), index), Way('mean token embedding', 2, of(0), index), Way('mean hidden state', 2, of(1), index)]
    kinds = lambda word: [k for (k, s) in index if s == 'train' and k.startswith(word)]
    print('| among | | bytes | valid: right, % | none, % | test: right, % | none, % |\n| --- | --- | --- | --- | --- | --- | --- |')
    for name, experts in (('4 skills', kinds('skill ')), ('14 skills', kinds('skill ') + kinds('unseen ')), ('6 pens', kinds('pen '))):
        for way in ways:
            weight, threshold = way.chosen(experts); cells = []
            for set_ in ('valid', 'test'):
                right, none = way.figures(set_, experts, weight, threshold); cells += [percent(np.concatenate(list(right.values()))), percent(none)]
            print(f"| {name} | {way.name} | {way.bytes} | {' | '.join(cells)} |")

main()
