"""Adapters of every kind that peft trains, on the small models of the zoo, and what torch answers with them.

    python authoring/peft_kinds.py ZOO OUT [CASE ...]

Writes OUT/<model>/<case>/ as peft saves adapters, and OUT/<model>/expected.safetensors: the first of the zoo's inputs, the
outputs without an adapter (`base`) and with each (of language models the last position). `tests/fixtures/kinds` is made by it;
seeds are fixed and weights random, so outputs mean nothing. Written with peft 0.21.2 and torch 2.13 on a CPU.
"""

import hashlib
import sys
from pathlib import Path

import peft
import torch
from peft_fixtures import Expected, by_model, moves, saved
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

CLASSES = {
    "llama-tiny": (AutoModelForCausalLM, "CAUSAL_LM"),
    "qwen2-tiny": (AutoModelForCausalLM, "CAUSAL_LM"),
    "gpt2-tiny": (AutoModelForCausalLM, "CAUSAL_LM"),
    "bert-tiny-classify": (AutoModelForSequenceClassification, "SEQ_CLS"),
    "t5-tiny": (AutoModelForSeq2SeqLM, "SEQ_2_SEQ_LM"),
    "vit-tiny": (AutoModelForImageClassification, None),
}

# The targets are few: a fixture is some kilobytes.
QV = ["layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj"]
QD = ["layers.0.self_attn.q_proj", "layers.1.mlp.down_proj"]
BERT = ["layer.0.attention.self.query", "layer.1.output.dense"]
T5 = ["decoder.block.0.layer.0.SelfAttention.q", "encoder.block.1.layer.0.SelfAttention.v"]
GPT2 = ["h.0.attn.c_attn", "h.1.mlp.c_proj"]
VIT = ["patch_embeddings.projection", "layer.0.attention.attention.query"]

P = peft


def cases():
    """(model, case, configuration, how far its parameters are moved from where peft starts them)"""
    llama = "llama-tiny"
    yield llama, "adalora", P.AdaLoraConfig(
        init_r=6, target_r=4, total_step=10, lora_alpha=16, target_modules=QD, rank_pattern=None), 0.3
    yield llama, "vera", P.VeraConfig(r=8, target_modules=QD), 0.5
    yield llama, "pvera", P.PveraConfig(r=8, target_modules=QD), 0.5
    yield llama, "refuse_vera_unsaved", P.VeraConfig(r=8, save_projection=False, target_modules=QV), 0.5
    yield llama, "loha", P.LoHaConfig(r=3, alpha=6, target_modules=QD, rank_pattern={"q_proj": 2}), 0.3
    yield llama, "lokr", P.LoKrConfig(r=3, alpha=6, target_modules=QD, decompose_both=True), 0.3
    yield llama, "lokr_whole", P.LoKrConfig(r=32, alpha=16, target_modules=QV), 0.05
    yield llama, "lora_pissa", P.LoraConfig(r=4, lora_alpha=8, target_modules=QV, init_lora_weights="pissa"), 0.05
    yield llama, "lora_olora", P.LoraConfig(r=4, lora_alpha=8, target_modules=QD, init_lora_weights="olora"), 0.05
    yield llama, "dora", P.LoraConfig(r=4, lora_alpha=8, target_modules=QD, use_dora=True), 0.2
    yield llama, "dora_rslora", P.LoraConfig(
        r=4, lora_alpha=8, target_modules=QV, use_dora=True, use_rslora=True, alpha_pattern={"v_proj": 3}), 0.2
    yield llama, "oft", P.OFTConfig(oft_block_size=16, target_modules=QD), 0.1
    yield llama, "oft_exact", P.OFTConfig(oft_block_size=8, use_cayley_neumann=False, target_modules=QD), 0.3
    yield llama, "oft_shared", P.OFTConfig(
        r=4, oft_block_size=0, block_share=True, target_modules=QV, num_cayley_neumann_terms=4), 0.2
    yield llama, "coft", P.OFTConfig(oft_block_size=16, coft=True, eps=0.5, target_modules=QD), 0.1
    yield llama, "boft", P.BOFTConfig(boft_block_size=8, boft_n_butterfly_factor=1, target_modules=QD), 0.2
    yield llama, "miss", P.MissConfig(r=8, target_modules=QD), 0.2
    yield llama, "miss_odd", P.MissConfig(r=10, target_modules=QD), 0.2
    yield llama, "miss_bat", P.MissConfig(r=8, init_weights="bat", target_modules=QD), 0.1
    yield llama, "miss_mini", P.MissConfig(r=8, mini_r=16, init_weights="mini", target_modules=QV), 0.2
    yield llama, "hra", P.HRAConfig(r=4, target_modules=QD), 0.1
    yield llama, "hra_gs", P.HRAConfig(r=5, apply_GS=True, target_modules=QV), 0.1
    yield llama, "fourierft", P.FourierFTConfig(n_frequency=200, scaling=100.0, target_modules=QD), 0.5
    yield llama, "fourierft_pattern", P.FourierFTConfig(
        n_frequency=100, scaling=50.0, random_loc_seed=3, n_frequency_pattern={"v_proj": 300}, target_modules=QV), 0.5
    yield llama, "waveft", P.WaveFTConfig(n_frequency=300, scaling=5.0, target_modules=QD), 0.1
    yield llama, "waveft_sym4", P.WaveFTConfig(
        n_frequency=300, scaling=5.0, wavelet_family="sym4", target_modules=QD), 0.1
    yield llama, "waveft_plain", P.WaveFTConfig(
        n_frequency=300, scaling=5.0, use_idwt=False, random_loc_seed=9, target_modules=QV), 0.1
    yield llama, "shira", P.ShiraConfig(r=2, target_modules=QD, random_seed=5), 0.3
    yield llama, "randlora", P.RandLoraConfig(r=16, target_modules=QV), 0.5
    yield llama, "vblora", P.VBLoRAConfig(
        r=2, num_vectors=16, vector_length=16, topk=2, target_modules=QD), 0.2
    yield llama, "vblora_topk", P.VBLoRAConfig(
        r=2, num_vectors=16, vector_length=16, topk=2, save_only_topk_weights=True, target_modules=QD), 0.2
    yield llama, "c3a", P.C3AConfig(block_size=16, target_modules=QD), 0.5
    yield llama, "hira", P.HiraConfig(r=4, target_modules=QD), 0.3
    yield llama, "delora", P.DeloraConfig(r=4, delora_lambda=3, target_modules=QD), 0.3
    yield llama, "gralora", P.GraloraConfig(r=8, gralora_k=4, hybrid_r=2, alpha=16, target_modules=QD), 0.2
    yield llama, "road", P.RoadConfig(variant="road_2", group_size=16, target_modules=QD), 0.2
    yield llama, "trainable_tokens", P.TrainableTokensConfig(
        target_modules=["embed_tokens"], token_indices=[865, 3031, 1010]), 0.3
    yield llama, "lora_tokens", P.LoraConfig(
        r=2, target_modules=QV[:1], trainable_token_indices={"embed_tokens": [3799, 530]}), 0.3
    yield llama, "ln_tuning", P.LNTuningConfig(target_modules=["input_layernorm", "norm"]), 0.2
    for model in (llama, "qwen2-tiny"):
        yield model, "dora_embedding", P.LoraConfig(
            r=4, lora_alpha=8, target_modules=["embed_tokens", "layers.0.self_attn.v_proj"], use_dora=True), 0.2
    yield "qwen2-tiny", "dora", P.LoraConfig(r=4, lora_alpha=8, target_modules=QD, use_dora=True), 0.2
    yield "qwen2-tiny", "road", P.RoadConfig(variant="road_4", group_size=16, target_modules=QV), 0.2
    yield "qwen2-tiny", "tokens_tied", P.TrainableTokensConfig(
        target_modules=["embed_tokens"], token_indices=[865, 3031, 1010]), 0.3
    bert = "bert-tiny-classify"
    yield bert, "dora", P.LoraConfig(r=4, lora_alpha=8, target_modules=BERT, use_dora=True), 0.3
    yield bert, "boft", P.BOFTConfig(boft_block_size=8, target_modules=BERT), 0.2
    yield bert, "lora_bias", P.LoraConfig(r=4, lora_alpha=8, target_modules=BERT, lora_bias=True), 0.3
    yield bert, "beft", P.BeftConfig(target_modules=BERT), 0.5
    yield bert, "road", P.RoadConfig(variant="road_1", group_size=16, target_modules=BERT), 0.3
    yield "t5-tiny", "oft", P.OFTConfig(oft_block_size=16, target_modules=T5), 0.1
    yield "t5-tiny", "loha", P.LoHaConfig(r=4, alpha=8, target_modules=T5), 0.3
    yield "gpt2-tiny", "dora", P.LoraConfig(
        r=4, lora_alpha=8, target_modules=GPT2, use_dora=True, fan_in_fan_out=True), 0.1
    yield "gpt2-tiny", "fourierft", P.FourierFTConfig(
        n_frequency=200, scaling=100.0, target_modules=GPT2, fan_in_fan_out=True), 0.5
    yield "vit-tiny", "dora", P.LoraConfig(r=4, lora_alpha=8, target_modules=VIT, use_dora=True), 0.1
    yield "vit-tiny", "loha", P.LoHaConfig(r=4, alpha=8, target_modules=VIT, use_effective_conv2d=True), 0.3
    yield "vit-tiny", "lokr", P.LoKrConfig(r=2, alpha=8, target_modules=VIT, use_effective_conv2d=True), 0.3
    yield "vit-tiny", "refuse_oft_kernel", P.OFTConfig(oft_block_size=16, target_modules=VIT), 0.1
    yield "vit-tiny", "hra", P.HRAConfig(r=4, target_modules=VIT), 0.1


def inputs_of(folder):
    with safe_open(folder / "expected.safetensors", "pt") as file:
        names = ["input_ids", "attention_mask", "decoder_input_ids", "pixel_values"]
        # One row is enough, and half the bytes.
        return {name: file.get_tensor(name)[:1] for name in names if name in file.keys()}


def answer(model, inputs):
    with torch.no_grad():
        logits = model(**inputs).logits
    return logits[:, -1:].contiguous() if logits.ndim == 3 else logits


def main(zoo, out, wanted):
    for model_name, list_of_cases in by_model(cases(), wanted).items():
        cls, task = CLASSES[model_name]
        base = cls.from_pretrained(zoo / model_name).eval()
        inputs = inputs_of(zoo / model_name)
        expected = Expected(out / model_name / "expected.safetensors", keeps=wanted)
        expected.tensors |= inputs | {"base": answer(base, inputs)}
        for case, config, size in list_of_cases:
            name = f"{model_name}/{case}"
            model, loaded = saved(base, config, name, size, out, task)
            found = expected.tensors[case] = answer(loaded, inputs)
            kept = (answer(model, inputs) - found).abs().max()
            digest = hashlib.sha256((out / name / "adapter_model.safetensors").read_bytes()).hexdigest()
            change = moves(found, expected.tensors["base"])
            print(f"{name} moves {change:.3f} saved {kept:.1e} {digest[:16]}", flush=True)
        expected.save()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
