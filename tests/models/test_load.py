import pytest
import torch

import tiny
from unisd.errors import UniSDError, UsageError
from unisd.models import load_model, load_tokenizer, max_positions, output_head
from unisd.models.load import weights_fingerprint


def test_folder_round_trip(tmp_path, tokenizer):
    model = tiny.model()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert weights_fingerprint(loaded) == weights_fingerprint(model)
    assert load_tokenizer(str(tmp_path)).chat_template == tokenizer.chat_template


def test_adapter_folder_loads_on_its_base(tmp_path, tokenizer):
    base = tiny.model()
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    adapted = tiny.lora(load_model(str(tmp_path / "base")), trained=True)
    adapted.save_pretrained(tmp_path / "adapter")
    loaded = load_model(str(tmp_path / "adapter"))
    ids = torch.tensor([[1, 5, 9]])
    torch.testing.assert_close(loaded(ids).logits, adapted(ids).logits)
    assert load_tokenizer(str(tmp_path / "adapter")).chat_template == tokenizer.chat_template


@pytest.mark.parametrize("length", [1, 3])
def test_adapters_that_belong_on_each_other_are_refused(length, tmp_path):
    folders = [str(tmp_path / str(number)) for number in range(length)]
    for folder, base in zip(folders, folders[1:] + folders[:1], strict=True):
        adapted = tiny.lora(tiny.model())
        adapted.peft_config["default"].base_model_name_or_path = base
        adapted.save_pretrained(folder)
    for load in (load_model, load_tokenizer):
        with pytest.raises(UniSDError, match="it is its own base") as refused:
            load(folders[0])
        assert len(str(refused.value).splitlines()) == 1


def test_missing_model_is_one_line():
    with pytest.raises(UniSDError) as raised:
        load_model("/nowhere/at/all")
    assert "\n" not in str(raised.value)
    assert "/nowhere/at/all" in str(raised.value)


def test_an_attention_that_is_none_is_called_so(tmp_path):
    tiny.model().save_pretrained(tmp_path)
    with pytest.raises(
        UsageError, match=r"^model\.attention: .*foo.*; choose sdpa or eager, or leave it out$"
    ) as refused:
        load_model(str(tmp_path), attention="foo")
    assert "\n" not in str(refused.value)


def test_unknown_dtype():
    with pytest.raises(UsageError, match=r"model\.dtype"):
        load_model("x", dtype="float8")


def test_max_positions(any_model):
    assert max_positions(any_model) == 2048
    assert max_positions(tiny.lora(any_model)) == 2048


def test_fingerprint_follows_the_weights(model):
    before = weights_fingerprint(model)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0, 0] += 1e-3
    assert weights_fingerprint(model) != before


def test_head_gives_the_models_logits(any_model):
    ids = torch.tensor([[1, 5, 9, 44]])
    hidden = any_model.get_decoder()(ids).last_hidden_state
    head = output_head(any_model)
    logits = head.scale * (hidden @ head.weight.T)
    torch.testing.assert_close(logits, any_model(ids).logits, rtol=1e-5, atol=1e-5)


def test_head_of_soft_capped_model():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    model = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=64,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            final_logit_softcapping=3.0,
        )
    )
    ids = torch.tensor([[1, 5, 9]])
    head = output_head(model)
    z = model.get_decoder()(ids).last_hidden_state @ head.weight.T * 1.0
    torch.testing.assert_close(head.softcap * torch.tanh(z / head.softcap), model(ids).logits, rtol=1e-5, atol=1e-5)


def test_adapter_on_the_head_is_refused(model):
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(model, LoraConfig(target_modules=["lm_head"], r=2))
    with pytest.raises(UsageError, match="lm_head"):
        output_head(wrapped)
