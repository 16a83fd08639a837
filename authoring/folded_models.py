"""Writes small models whose exported graph has other weights than their checkpoint, and what torch answers: tests/fixtures/folded.

bert_packed: onnxruntime's transformer optimizer packs query, key and value into one weight of an Attention node.

    python authoring/folded_models.py tests/fixtures/folded
"""
import pathlib
import sys
import tempfile

import onnx
import torch
from onnxruntime.transformers import optimizer
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification

torch.set_num_threads(1)


def bert_packed(folder: pathlib.Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
        num_labels=3,
    )
    model = BertForSequenceClassification(config).eval()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    model.save_pretrained(folder)
    ids = torch.randint(1, 40, (2, 7))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    with tempfile.TemporaryDirectory() as scratch:
        plain = f"{scratch}/plain.onnx"
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            plain,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in inputs},
            opset_version=14,
            dynamo=False,
        )
        packed = optimizer.optimize_model(plain, model_type="bert", num_heads=2, hidden_size=16, opt_level=0)
        (folder / "onnx").mkdir(exist_ok=True)
        packed.save_model_to_file(str(folder / "onnx/model.onnx"))
    graph = onnx.load(str(folder / "onnx/model.onnx")).graph
    assert [node.op_type for node in graph.node].count("Attention") == 2

    expected = dict(inputs)
    with torch.no_grad():
        expected["base"] = model(**inputs).logits
        lora = LoraConfig(r=2, lora_alpha=4, target_modules=["query", "key", "value"], init_lora_weights=False)
        adapted = get_peft_model(BertForSequenceClassification.from_pretrained(folder), lora).eval()
        expected["lora"] = adapted(**inputs).logits
        adapted.save_pretrained(folder / "lora")
        tuned = BertForSequenceClassification.from_pretrained(folder).eval()
        for parameter in tuned.parameters():
            parameter.data += torch.randn_like(parameter) * 0.05
        expected["tuned"] = tuned(**inputs).logits
        save_file(tuned.state_dict(), folder / "tuned.safetensors")
    save_file({name: value.contiguous() for name, value in expected.items()}, folder / "expected.safetensors")
    (folder / "lora/README.md").unlink(missing_ok=True)


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    for make in (bert_packed,):
        target = out / make.__name__
        target.mkdir(parents=True, exist_ok=True)
        make(target)
