"""Writes small models whose exported graph has other weights than their checkpoint, and what torch answers: tests/fixtures/folded.

bert_packed: onnxruntime's transformer optimizer packs query, key and value into one weight of an Attention node.
resnet, mobilenet: torch multiplies batch norms into the convolutions before them.
wav2vec2: the length of a weight is multiplied into its direction.
swin, beit: relative position biases are looked up in their tables. beit, levit and mobilenet are larger, and not in the repository.

    python authoring/folded_models.py tests/fixtures/folded [model…]
"""
import pathlib
import sys
import tempfile

import onnx
import torch
from onnxruntime.transformers import optimizer
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import (
    BeitConfig,
    BeitForImageClassification,
    BertConfig,
    BertForSequenceClassification,
    LevitConfig,
    LevitForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

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


def trained(model, by: float):
    """Moves every weight, as training does; variances stay positive."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            if name.endswith("num_batches_tracked"):
                tensor += 7
            continue
        moved = torch.randn_like(tensor) * by
        tensor.data += moved.abs() if name.endswith("running_var") else moved
    return model


def write(folder: pathlib.Path, model, inputs, output: str, dynamic=(), **adapters: LoraConfig) -> None:
    """A checkpoint, its graph, a fine-tuning of all weights, and adapters."""
    name = next(iter(inputs))
    model.save_pretrained(folder)
    (folder / "onnx").mkdir(exist_ok=True)
    torch.onnx.export(
        model,
        tuple(inputs.values()),
        str(folder / "onnx/model.onnx"),
        input_names=list(inputs),
        output_names=[output],
        dynamic_axes={name: dict(enumerate(dynamic))} if dynamic else None,
        opset_version=17,
        dynamo=False,
    )
    expected = dict(inputs)
    with torch.no_grad():
        expected["base"] = model(**inputs)[output]
        tuned = trained(type(model).from_pretrained(folder).eval(), 0.05)
        expected["tuned"] = tuned(**inputs)[output]
        save_file({key: value.contiguous() for key, value in tuned.state_dict().items()}, folder / "tuned.safetensors")
        for adapter, config in adapters.items():
            adapted = get_peft_model(type(model).from_pretrained(folder), config).eval()
            for key, value in adapted.named_parameters():
                if "magnitude" in key:
                    value *= 1 + 0.3 * torch.rand_like(value)
            expected[adapter] = adapted(**inputs)[output]
            adapted.save_pretrained(folder / adapter)
            (folder / adapter / "README.md").unlink(missing_ok=True)
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")


def lora(*modules: str, **more) -> LoraConfig:
    return LoraConfig(r=2, lora_alpha=4, target_modules=list(modules), init_lora_weights=False, **more)


def image(size: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(2, 3, size, size)}


def resnet(folder: pathlib.Path) -> None:
    torch.manual_seed(1)
    config = ResNetConfig(
        embedding_size=6, hidden_sizes=[8, 12], depths=[1, 2], layer_type="bottleneck", num_labels=4
    )
    model = trained(ResNetForImageClassification(config).eval(), 0.2)
    write(folder, model, image(16), "logits", lora=lora("convolution"), dora=lora("convolution", use_dora=True))


def mobilenet(folder: pathlib.Path) -> None:
    torch.manual_seed(2)
    config = MobileNetV2Config(
        image_size=32, depth_multiplier=0.1, depth_divisible_by=2, min_depth=2, expand_ratio=2, num_labels=4,
        finegrained_output=False, tf_padding=False,
    )
    model = trained(MobileNetV2ForImageClassification(config).eval(), 0.1)
    write(folder, model, image(32), "logits", lora=lora("reduce_1x1.convolution", "classifier"))


def wav2vec2(folder: pathlib.Path) -> None:
    torch.manual_seed(3)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
        conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4, classifier_proj_size=8, num_labels=3, apply_spec_augment=False,
        feat_extract_norm="group",
    )
    model = trained(Wav2Vec2ForSequenceClassification(config).eval(), 0.1)
    adapters = {"lora": lora("q_proj", "v_proj"), "lora_conv": lora("conv_layers.0.conv", "conv_layers.1.conv")}
    write(folder, model, {"input_values": torch.randn(2, 400)}, "logits", ("batch", "samples"), **adapters)


def swin(folder: pathlib.Path) -> None:
    torch.manual_seed(4)
    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1], num_heads=[2], window_size=4, mlp_ratio=1.0,
        num_labels=3,
    )
    model = trained(SwinForImageClassification(config).eval(), 0.2)
    write(folder, model, image(32), "logits", lora=lora("query", "value"))


def beit(folder: pathlib.Path) -> None:
    torch.manual_seed(5)
    config = BeitConfig(
        image_size=24, patch_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        use_relative_position_bias=True, num_labels=3, vocab_size=8,
    )
    model = trained(BeitForImageClassification(config).eval(), 0.2)
    write(folder, model, image(24), "logits", lora=lora("query", "value"))


def levit(folder: pathlib.Path) -> None:
    torch.manual_seed(6)
    config = LevitConfig(
        image_size=64, hidden_sizes=[16, 16, 16], num_attention_heads=[2, 2, 2], depths=[1, 1, 1], key_dim=[4, 4, 4],
        attention_ratio=[2, 2, 2], mlp_ratio=[1, 1, 1], patch_size=16, num_labels=3,
    )
    model = trained(LevitForImageClassification(config).eval(), 0.1)
    write(folder, model, image(64), "logits")


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    for make in (bert_packed, resnet, mobilenet, wav2vec2, swin, beit, levit):
        if len(sys.argv) > 2 and make.__name__ not in sys.argv[2:]:
            continue
        target = out / make.__name__
        target.mkdir(parents=True, exist_ok=True)
        make(target)
