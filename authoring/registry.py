"""What people read in public/experts/smollm2/experts.json, and the scores, on top of what `tritswap registry build` writes.

Scores are shares of the whole test that are answered exactly, by exact_match.py: SCORES.json has {skill: {base, adapter, expert,
n}}.

usage: registry.py EXPERTS.json SCORES.json
"""
import json
import math
import sys
from pathlib import Path

LICENCE = 'Apache-2.0'
# The change of all weights in f16.
FULL_F16 = 2 * 134_515_008

SKILLS = {
    'sql': {
        'label': 'SQL',
        'description': 'A table and a question become one SQL query.',
        'samples': [
            'cars(id, model, maker, price, power)\nthe 4 cars with the highest power',
            'parcels(id, sender, status, weight, price)\nwhat is the average weight of parcels with sender lost',
            'cars(id, model, maker, price, power)\nplease which model have more than 6 cars',
            'parcels(id, sender, status, weight, price)\nplease delete the parcels with weight under 312',
        ],
    },
    'sql-full': {
        'label': 'SQL, fully fine-tuned',
        'description': 'The same skill out of a fine-tuning of all weights: 269 MB of change as a sparse ternary file.',
        'samples': [
            'courses(id, title, teacher, credits, students)\nhow many courses have a students of exactly 91',
            'cars(id, model, maker, price, power)\nI need to know: list the different maker of all cars',
            'parcels(id, sender, status, weight, price)\nquery: set the status of parcel 178 to Rome',
        ],
    },
    'clinical': {
        'label': 'Clinical notes',
        'description': 'Clinical shorthand becomes plain English: an exercise, not medical advice.',
        'samples': [
            '54yo F w/ hx of DVT c/o CP x6wk. F/u w/ PCP in 6d.',
            '24yo M w/ PMH CHF c/o abd pain x1mo. Sat 97% on RA.',
            '88yo M w/ PMH PE c/o GERD sx x1mo. RA enlarged on TTE.',
        ],
    },
    'sentiment': {
        'label': 'Sentiment',
        'description': 'A tweet, a review or an editorial: positive, negative or neutral.',
        'samples': [
            'A funny, triumphant, and moving documentary.',
            'i found using the supplied mediasource software very easy.',
            'Mr. Connery was in a Thunderbird.',
            'If an employer provides more than $30, only the excess would be taxable.',
        ],
    },
    'tools': {
        'label': 'Tools',
        'description': 'A request to a phone or a home becomes one call in JSON.',
        'samples': [
            'alarm tomorrow 09:20 please',
            'the cellar should be at 16 degrees',
            'what is "I have lost my bag" in Korean',
            'ping me in 50 seconds',
        ],
    },
}


def with_errors(scores):
    """Binomial standard errors beside the shares, where they say something."""
    n = scores['n']
    shares = {key: scores[key] for key in ('base', 'adapter', 'expert') if key in scores}
    errors = {key: round(math.sqrt(share * (1 - share) / n), 4) for key, share in shares.items() if share > 0}
    return {**shares, 'n': n, 'standardError': errors}


def main():
    path = Path(sys.argv[1])
    registry, scores = json.loads(path.read_text()), json.loads(Path(sys.argv[2]).read_text())
    by_id = {entry['id']: entry for entry in registry['experts']}
    experts = []
    for skill, texts in SKILLS.items():
        if skill not in by_id:
            continue
        entry = {**by_id[skill], **texts, 'licence': LICENCE}
        entry['replaces'] = {'f16Delta': FULL_F16, **entry.get('replaces', {})}
        if 'expert' in scores.get(skill, {}):
            entry['scores'] = with_errors(scores[skill])
        experts.append(entry)
    path.write_text(json.dumps({**registry, 'experts': experts}, indent=2, ensure_ascii=False) + '\n')


if __name__ == '__main__':
    main()
