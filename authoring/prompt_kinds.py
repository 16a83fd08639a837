"""Adapters of peft that depend on the prompt: activated LoRA, and virtual tokens, or keys and values, before it.

    python authoring/prompt_kinds.py ZOO OUT [CASE ...]

Writes OUT/<model>/<case>/ as peft saves adapters, and OUT/<model>/expected.safetensors: input_ids, what the base (`base`) and each
adapter answers at the last position, greedy continuations (`greedy.<case>`), and of activated LoRA the keys and values of all
positions (`<case>.keys`, `<case>.values`, [layers, heads, positions, size]; `base.…` without it). `tests/fixtures/prompt_kinds` is
made by it; seeds are fixed and weights random, so answers mean nothing. Written with peft 0.21.2 and torch 2.13 on a CPU.
"""

import sys
from pathlib import Path

import peft
import torch
from peft_fixtures import Expected, by_model, moves, saved
from peft_kinds import QD, QV
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)

P = peft
NEW_TOKENS = 12
# Twice in the prompt: the last one counts.
INVOCATION = [77, 1500]
PROMPT = [865, 1098, *INVOCATION, 2736, 3814, 2487, 77, *INVOCATION, 751, 1200]


def cases():
    """(model, case, configuration, how far its parameters are moved from where peft starts them)"""
    for model, targets in (("llama-tiny", QD), ("qwen2-tiny", QV)):
        yield model, "alora", P.LoraConfig(
            r=4, lora_alpha=8, target_modules=targets, alora_invocation_tokens=INVOCATION), 0.5
    yield "llama-tiny", "alora_unasked", P.LoraConfig(
        r=4, lora_alpha=8, target_modules=QV[:1], alora_invocation_tokens=[1500, 77]), 0.5
    yield "qwen2-tiny", "alora_bias", P.LoraConfig(
        r=2, lora_alpha=8, target_modules=QV, lora_bias=True, alora_invocation_tokens=PROMPT[:1]), 0.5
    for model in ("llama-tiny", "qwen2-tiny"):
        yield model, "prompt", P.PromptTuningConfig(num_virtual_tokens=5), 0.5
        yield model, "ptuning", P.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=32), 0.5
        yield model, "prefix", P.PrefixTuningConfig(num_virtual_tokens=4), 0.5
    yield "llama-tiny", "cpt", P.CPTConfig(
        task_type="CAUSAL_LM", cpt_token_ids=[5, 9, 12], cpt_mask=[1, 1, 1], cpt_tokens_type_mask=[1, 2, 4],
        opt_projection_epsilon=9, opt_projection_format_epsilon=9), 0.5
    yield "llama-tiny", "cartridge", P.CartridgeConfig(num_virtual_tokens=3), 0.5
    yield "qwen2-tiny", "prefix_projected", P.PrefixTuningConfig(
        num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=16), 0.5


def answer(model, ids):
    with torch.no_grad():
        return model(input_ids=ids).logits[:, -1:].contiguous()


def greedy(model, ids):
    with torch.no_grad():
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS,
                             min_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)
    return out[:, -NEW_TOKENS:].contiguous()


def cache(model, ids):
    with torch.no_grad():
        layers = model(input_ids=ids, use_cache=True).past_key_values.layers
    return {name: torch.stack([getattr(layer, name)[0] for layer in layers]) for name in ("keys", "values")}


def main(zoo, out, wanted):
    for model_name, list_of_cases in by_model(cases(), wanted).items():
        base = AutoModelForCausalLM.from_pretrained(zoo / model_name).eval()
        ids = torch.tensor([PROMPT])
        expected = Expected(out / model_name / "expected.safetensors", keeps=wanted)
        expected.tensors |= {"input_ids": ids, "base": answer(base, ids), "greedy.base": greedy(base, ids)}
        expected.tensors |= {f"base.{name}": tensor for name, tensor in cache(base, ids).items()}
        for case, config, size in list_of_cases:
            _, loaded = saved(base, config, f"{model_name}/{case}", size, out, "CAUSAL_LM")
            found = expected.tensors[case] = answer(loaded, ids)
            wrote = expected.tensors[f"greedy.{case}"] = greedy(loaded, ids)
            if case.startswith("alora"):
                expected.tensors |= {f"{case}.{name}": tensor for name, tensor in cache(loaded, ids).items()}
            change = moves(found, expected.tensors["base"])
            print(f"{model_name}/{case} moves {change:.3f} writes {wrote.tolist()[0]}", flush=True)
        expected.save()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
