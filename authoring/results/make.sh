#!/usr/bin/env bash
# Makes results/models: small models that read clinical sentences, and fine-tunings of them. An hour of one core; other versions of
# torch, or other machines, give other weights.
#
# usage: authoring/results/make.sh WORK      WORK: an empty folder for what is trained
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$1
models=results/models
here=authoring/results
export TRITSWAP_FORCE=1
npm run --silent build:cli
python "$here/clinic_data.py" "$work/data"
python "$here/clinic_models.py" "$work/data" "$work/trained"
for pair in encoder:assertion encoder-24:assertion-24 encoder-48:assertion-48 t5:clinic; do
  python "$here/export_clinic.py" "$work/trained/${pair%:*}"
  node dist/cli.js prepare "$work/trained/${pair%:*}" --storage f16 --out "$models/${pair#*:}"
done
mkdir -p "$models/assertion-tuned" "$models/clinic-tuned"
node dist/cli.js compress --base "$work/trained/encoder" --finetuned "$work/trained/encoder-tuned/full" --density 0.2 --out "$models/assertion-tuned/full-0.2.trit"
for task in shorthand assertion entities relations inference; do
  node dist/cli.js compress --base "$work/trained/t5" --finetuned "$work/trained/t5-tuned/$task" --density 0.2 --out "$models/clinic-tuned/$task.trit"
done
python "$here/pack.py" "$work/trained" "$work/data" "$models"
