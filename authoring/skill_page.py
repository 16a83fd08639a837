"""Writes the tables of docs/SKILLS.md from the figures that skill_table.py and sum_table.py kept.

usage: skill_page.py docs/SKILLS.md docs/skills.json
"""
import json
import re
import sys
from pathlib import Path


def percent(row):
    return f'{100 * row["exact"]:.1f}'


def paired(row):
    if 'toAdapter' not in row or row['toAdapterError'] == 0 == row['toAdapter']:
        return ''
    return f' ({100 * row["toAdapter"]:+.1f} ± {100 * row["toAdapterError"]:.1f})'


def kilobytes(rows):
    sizes = [row['bytes'] for row in rows if row.get('bytes')]
    if not sizes:
        return '–'
    low, high = min(sizes), max(sizes)
    if low >= 1e6:
        return f'{high / 1e6:.2f} MB'
    return f'{low / 1e3:.0f}' if round(low / 1e3) == round(high / 1e3) else f'{low / 1e3:.0f}–{high / 1e3:.0f}'


def forms_table(found, split):
    """Rows are forms, columns skills: exact match, and behind it the paired difference to the adapter."""
    skills = {name.removesuffix(f' {split}'): rows for name, rows in found.items() if name.endswith(f' {split}')}
    forms = list(dict.fromkeys(form for rows in skills.values() for form in rows))
    lines = [f'| | kB | {" | ".join(skills)} |', f'| --- | --- |{" --- |" * len(skills)}']
    for form in sorted(forms, key=order):
        rows = [rows.get(form) for rows in skills.values()]
        cells = [percent(row) + paired(row) if row else '–' for row in rows]
        lines.append(f'| {form} | {kilobytes([row for row in rows if row])} | {" | ".join(cells)} |')
    return lines


def order(form):
    """Kinds in the order of the text, each by its size."""
    kinds = ['base', 'adapter', 'full', 'factors', 'terms', 'SVD']
    kind = next(i for i, kind in enumerate(kinds) if form.startswith(kind))
    size = re.search(r'(\d+)', form)
    return kind, 'tuned' in form, 'kB' in form, int(size[1]) if size else 0, form


def adapters_table(found):
    """Rows are sets of requests, columns forms, each with its size."""
    forms = sorted({form for rows in found.values() for form in rows}, key=order)
    lines = [f'| | {" | ".join(forms)} |', f'| --- |{" --- |" * len(forms)}']
    for name, rows in found.items():
        cells = [
            f'{kilobytes([rows[form]])} kB: {percent(rows[form])}{paired(rows[form])}' if form in rows else '–'
            for form in forms
        ]
        lines.append(f'| {name} | {" | ".join(cells)} |'.replace('MB kB', 'MB'))
    return lines


def sums_table(found):
    skills = [key for key in next(iter(found.values())) if not key.endswith(' error')]
    lines = [f'| | {" | ".join(skills)} |', f'| --- |{" --- |" * len(skills)}']
    for name, row in found.items():
        cells = [f'{100 * row[skill]:.0f} ± {100 * row[f"{skill} error"]:.0f}' for skill in skills]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return lines


def main():
    page, figures = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    tables = {
        'test': lambda: forms_table(figures['forms'], 'test'),
        'valid': lambda: forms_table(figures['forms'], 'valid'),
        'wide': lambda: forms_table(figures['wide'], 'test'),
        'adapters': lambda: adapters_table(figures['adapters']),
        **{name: lambda name=name: sums_table(figures['sums'][name]) for name in figures['sums']},
    }

    def filled(match):
        return f'{match[1]}\n{chr(10).join(tables[match[2]]())}\n{match[3]}'

    text = page.read_text()
    page.write_text(re.sub(r'(<!-- table: (.*?) -->)\n.*?(<!-- end -->)', filled, text, flags=re.S))


if __name__ == '__main__':
    main()
