"""Requests of five clinical tasks, by templates: OUT/<task>/{train,valid,test}.jsonl, lines {"text", "label"}, and OUT/notes.txt.

usage: clinic_data.py OUT

shorthand  a note in shorthand -> plain English
assertion  a sentence and a concept in it -> present, absent, possible, conditional, hypothetical or family (classes of i2b2 2010)
entities   a sentence -> its problems, treatments and tests
relations  a sentence, a treatment or test and a problem in it -> what one does to the other (i2b2 2010)
inference  a sentence and a statement -> entailment, contradiction or neutral

In `test` each phrasing is about problems that it is never about in `train` and, one time in five, it is a phrasing that `train` never
shows. The abbreviations
are an exercise, not medical advice. notes.txt has sentences of the training phrasings without any task: what a base reads.
"""
import argparse
import json
import random
from pathlib import Path

PROBLEMS = {
    'SOB': 'shortness of breath', 'CP': 'chest pain', 'HA': 'headache', 'N/V': 'nausea', 'DVT': 'deep vein thrombosis',
    'HTN': 'high blood pressure', 'DM2': 'diabetes', 'CHF': 'heart failure', 'COPD': 'lung disease', 'AF': 'atrial fibrillation',
    'CKD': 'kidney disease', 'PNA': 'pneumonia', 'UTI': 'urinary infection', 'CVA': 'stroke', 'PE': 'pulmonary embolism',
    'LBP': 'back pain', 'GERD': 'reflux', 'MI': 'heart attack', 'OA': 'arthritis', 'BPH': 'enlarged prostate',
}
TREATMENTS = {
    'ASA': 'aspirin', 'MTX': 'methotrexate', 'HCTZ': 'hydrochlorothiazide', 'NTG': 'nitroglycerin', 'APAP': 'acetaminophen',
    'abx': 'antibiotics', 'IVF': 'fluids', 'O2': 'oxygen', 'lasix': 'furosemide', 'insulin': 'insulin', 'warf': 'warfarin',
    'pred': 'prednisone', 'MSO4': 'morphine', 'metop': 'metoprolol', 'omep': 'omeprazole', 'hep': 'heparin',
}
TESTS = {
    'CXR': 'chest film', 'EKG': 'electrocardiogram', 'CBC': 'blood count', 'TTE': 'echocardiogram', 'UA': 'urinalysis',
    'CT': 'computed tomography', 'LFTs': 'liver tests', 'ABG': 'blood gas', 'BCx': 'blood cultures', 'MRI': 'magnetic resonance',
}
FREQUENCIES = {'qd': 'once a day', 'BID': 'twice a day', 'TID': 'three times a day', 'qhs': 'at bedtime', 'PRN': 'as needed'}
WAYS = {'PO': 'by mouth', 'IV': 'into a vein', 'SC': 'under the skin'}
LASTING = {'3d': '3 days', '2wk': '2 weeks', '4h': '4 hours', '5d': '5 days', '6wk': '6 weeks', '12h': '12 hours'}

# The last two phrasings of a class are for the test alone.
ASSERTIONS = {
    'present': ['the patient has {p}', 'she was admitted with {p}', 'he presents with {p}', 'examination shows {p}', 'known {p} since last year', 'there is {p}', 'she suffers from {p}', 'his main complaint is {p}'],
    'absent': ['the patient denies {p}', 'there is no {p}', 'no evidence of {p}', 'negative for {p}', 'he has never had {p}', 'without signs of {p}', 'she reports no {p}', '{p} was ruled out'],
    'possible': ['possible {p}', 'this may be {p}', 'suspicious for {p}', 'likely {p}', '{p} can not be excluded', 'questionable {p}', 'the findings suggest {p}', 'probable {p}'],
    'conditional': ['{p} on exertion only', '{p} when he climbs stairs', 'she gets {p} with exercise', '{p} after taking {t}', '{t} gives him {p}', '{p} only when lying flat', 'she has {p} if she takes {t}', '{p} brought on by effort'],
    'hypothetical': ['return if {p} develops', 'call in case of {p}', 'to prevent {p} take {t}', 'watch for {p}', 'should {p} occur come back', 'take {t} for any {p}', 'if there is {p} go to the ward', 'instructed to report {p}'],
    'family': ['her mother had {p}', 'father died of {p}', 'family history of {p}', 'his brother has {p}', 'a sister with {p}', 'strong family history for {p}', 'an aunt had {p}', 'grandfather with {p}'],
}
RELATIONS = {
    'improves': ['{p} got better with {t}', '{t} relieved the {p}', '{p} resolved after {t}', '{t} controls the {p}', 'good response of {p} to {t}', '{p} is gone since {t}'],
    'worsens': ['{p} got worse despite {t}', '{t} did not help the {p}', '{p} persists under {t}', '{t} made the {p} worse', '{t} failed for {p}', '{p} returned on {t}'],
    'causes': ['{p} due to {t}', '{t} caused {p}', '{p} began after {t} was started', '{t} was followed by {p}', 'induced by {t} there was {p}', '{p} as a side effect of {t}'],
    'given': ['{t} was started for {p}', 'she takes {t} for {p}', 'for {p} he receives {t}', '{p} is treated with {t}', '{t} was ordered for {p}', 'began {t} because of {p}'],
    'withheld': ['{t} was stopped because of {p}', 'no {t} in view of {p}', '{t} is held for {p}', '{p} rules out {t}', '{t} was not given due to {p}', 'avoid {t} with {p}'],
    'none': ['{p} is old and {t} is for sleep', 'he takes {t} and also has {p}', '{p} was noted , {t} continues', '{t} at home , now {p}', 'on {t} . also {p}', '{p} in the past , today {t}'],
}
MENTIONS = [
    '{p} was treated with {t}', '{x} showed {p}', 'the patient with {p} and {q} takes {t}', 'for {p} a {x} was done',
    'he has {p} but no {q}', '{t} and {u} were started', '{x} was done , then {t} for {p}', 'she denies {p} and {q} on {t}',
    'after {t} the {x} is normal', 'history of {p} , {q} , on {u}', 'given {t} , {x} still shows {p}', '{p} , {q} , plan {x} and {u}',
]
STATEMENTS = [
    ('{t} was started for {p}', [('the patient takes {t}', 'entailment'), ('the patient has never had {t}', 'contradiction'), ('the patient has {q}', 'neutral')]),
    ('the patient denies {p}', [('there is no {p}', 'entailment'), ('the patient has {p}', 'contradiction'), ('the patient takes {t}', 'neutral')]),
    ('she was admitted with {p}', [('she has {p}', 'entailment'), ('she has no {p}', 'contradiction'), ('she had {x} before', 'neutral')]),
    ('{x} showed {p}', [('the {x} is abnormal', 'entailment'), ('the {x} is normal', 'contradiction'), ('the {x} was done last year', 'neutral')]),
    ('{p} got better with {t}', [('{t} helped', 'entailment'), ('{t} did not help', 'contradiction'), ('{t} was given for {q}', 'neutral')]),
    ('{t} was stopped because of {p}', [('he takes no {t} now', 'entailment'), ('he still takes {t}', 'contradiction'), ('he takes {u} now', 'neutral')]),
    ('no evidence of {p} on {x}', [('the {x} shows no {p}', 'entailment'), ('the {x} shows {p}', 'contradiction'), ('the {x} shows {q}', 'neutral')]),
    ('her mother had {p}', [('there is {p} in the family', 'entailment'), ('nobody in the family had {p}', 'contradiction'), ('she has {p}', 'neutral')]),
]


class Draw:
    """Phrasings and concepts of one line. A phrasing meets a quarter of the problems in the test alone."""

    def __init__(self, rng, test):
        self.rng, self.test = rng, test

    def phrase(self, pool, held):
        """Of the last `held` phrasings a fifth of the test."""
        if self.test:
            return self.rng.choice(pool[-held:] if self.rng.random() < 0.2 else pool[:-held])
        return self.rng.choice(pool[:-held])

    def isHeld(self, form, p, t):
        return (p + len(form)) % 4 == 0

    def slots(self, form):
        """Concepts for a phrasing."""
        problems, treatments, tests = (list(pool.values()) for pool in (PROBLEMS, TREATMENTS, TESTS))
        while True:
            p, t = self.rng.randrange(len(problems)), self.rng.randrange(len(treatments))
            if self.isHeld(form, p, t) == self.test:
                break
        q = self.rng.choice([other for other in problems if other != problems[p]])
        u = self.rng.choice([other for other in treatments if other != treatments[t]])
        return {'p': problems[p], 't': treatments[t], 'q': q, 'u': u, 'x': self.rng.choice(tests)}


class Notes(Draw):
    """What a base reads: three quarters of the pairs of problem and treatment, whatever the phrasing."""

    def isHeld(self, form, p, t):
        return (p + t) % 4 == 0


def assertion(draw):
    label = draw.rng.choice(list(ASSERTIONS))
    form = draw.phrase(ASSERTIONS[label], 2)
    slots = draw.slots(form)
    return f'{form.format(**slots)} : {slots["p"]}', label


def relations(draw):
    label = draw.rng.choice(list(RELATIONS))
    form = draw.phrase(RELATIONS[label], 1)
    slots = draw.slots(form)
    return f'{form.format(**slots)} : {slots["t"]} , {slots["p"]}', label


def entities(draw):
    form = draw.phrase(MENTIONS, 2)
    slots = draw.slots(form)
    kinds = {'p': 'problem', 'q': 'problem', 't': 'treatment', 'u': 'treatment', 'x': 'test'}
    used = sorted((slot for slot in kinds if f'{{{slot}}}' in form), key=lambda slot: form.index(f'{{{slot}}}'))
    return form.format(**slots), ' ; '.join(f'{kinds[slot]} {slots[slot]}' for slot in used)


def inference(draw):
    premise, statements = draw.rng.choice(STATEMENTS)
    statement, label = draw.rng.choice(statements)
    slots = draw.slots(premise + statement)
    return f'{premise.format(**slots)} : {statement.format(**slots)}', label


def shorthand(draw):
    slots = draw.slots('')
    short = {full: key for pool in (PROBLEMS, TREATMENTS, TESTS) for key, full in pool.items()}
    age, (lasting, long) = draw.rng.randrange(20, 90), draw.rng.choice(list(LASTING.items()))
    sex, person = draw.rng.choice([('M', 'man'), ('F', 'woman')])
    often, frequency = draw.rng.choice(list(FREQUENCIES.items()))
    way, by = draw.rng.choice(list(WAYS.items()))
    p, q, t, x = (slots[slot] for slot in 'pqtx')
    note, plain = draw.phrase([
        (f'{age} {sex} c/o {short[p]} x {lasting}', f'a {person} of {age} complains of {p} for {long}'),
        (f'{age} {sex} h/o {short[q]} , no {short[p]}', f'a {person} of {age} with {q} in the past , no {p}'),
        (f'start {short[t]} {way} {often} for {short[p]}', f'start {t} {by} {frequency} for {p}'),
        (f'd/c {short[t]} {way} , f/u {short[x]}', f'stop {t} {by} , then {x}'),
        (f'{short[x]} c/w {short[p]}', f'{x} fits {p}'),
        (f'c/o {short[p]} x {lasting} , plan {short[x]}', f'complains of {p} for {long} , plan {x}'),
    ], 1)
    return note, plain


TASKS = {'shorthand': shorthand, 'assertion': assertion, 'entities': entities, 'relations': relations, 'inference': inference}
SIZES = {'train': 4000, 'valid': 200, 'test': 400}
NOTES = 4000


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path)
    out = p.parse_args().out
    notes = set()
    for task, make in TASKS.items():
        (out / task).mkdir(parents=True, exist_ok=True)
        trained = set()
        for split, size in SIZES.items():
            draw = Draw(random.Random(f'{task} {split}'), split == 'test')
            rows = []
            while len(rows) < size:
                row = make(draw)
                if split != 'test' or row not in trained:
                    rows.append(row)
            if split == 'train':
                trained.update(rows)
            with open(out / task / f'{split}.jsonl', 'w') as file:
                file.writelines(json.dumps({'text': text, 'label': label}) + '\n' for text, label in rows)
        draw = Notes(random.Random(f'{task} notes'), False)
        for text, label in (make(draw) for _ in range(NOTES)):
            notes.update(text.split(' : ') + ([label] if task == 'shorthand' else []))
    (out / 'notes.txt').write_text('\n'.join(sorted(notes)) + '\n')


if __name__ == '__main__':
    main()
