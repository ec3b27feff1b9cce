import pytest
import torch

import tiny
from unisd.errors import UniSDError
from unisd.mechanisms.teacher import AverageTeacher, InitialTeacher, LiveTeacher

IDS = torch.tensor([[1, 5, 9, 30]])


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def student(adapter: bool):
    return tiny.lora(tiny.model()) if adapter else tiny.model()


def train_a_little(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))


@pytest.mark.parametrize("adapter", [True, False])
def test_initial_teacher_stays_what_the_model_was(adapter):
    model = student(adapter)
    before = logits(model)
    teacher = InitialTeacher(model)
    train_a_little(model)
    after = logits(model)
    with teacher.weights() as taught:
        torch.testing.assert_close(logits(taught), before)
    assert not torch.allclose(after, before)
    assert torch.equal(logits(model), after)


@pytest.mark.parametrize("adapter", [True, False])
def test_ema_equals_the_student_at_the_start_and_moves_after(adapter):
    model = student(adapter)
    teacher = AverageTeacher(model, 0.9, 2)
    start = logits(model)
    with teacher.weights() as taught:
        assert torch.equal(logits(taught), start)
    train_a_little(model)
    assert not teacher.follow(1)
    with teacher.weights() as taught:
        assert torch.equal(logits(taught), start)
    assert teacher.follow(2)
    with teacher.weights() as taught:
        moved = logits(taught)
    assert not torch.allclose(moved, start)
    assert not torch.allclose(moved, logits(model))


def test_ema_is_the_weighted_mean():
    model = tiny.lora(tiny.model())
    teacher = AverageTeacher(model, 0.75, 1)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    expected = {n: p.detach().clone() for n, p in trained.items()}
    for step in (1, 2, 3):
        train_a_little(model)
        teacher.follow(step)
        expected = {n: 0.75 * value + 0.25 * trained[n].detach() for n, value in expected.items()}
    with teacher.weights():
        for name, value in expected.items():
            torch.testing.assert_close(trained[name].detach(), value)


def test_live_teacher_is_the_student():
    model = student(True)
    teacher = LiveTeacher(model)
    train_a_little(model)
    with teacher.weights() as taught:
        assert torch.equal(logits(taught), logits(model))


@pytest.mark.parametrize("kind", ["initial", "ema"])
@pytest.mark.parametrize("adapter", [True, False])
def test_student_comes_back_bit_for_bit_even_after_an_error(kind, adapter):
    model = student(adapter)
    teacher = AverageTeacher(model, 0.9, 1) if kind == "ema" else InitialTeacher(model)
    train_a_little(model)
    if kind == "ema":
        teacher.follow(1)
    before = {n: (p.data_ptr(), p.detach().clone()) for n, p in model.named_parameters()}
    model.train()
    with pytest.raises(ZeroDivisionError), teacher.weights():
        raise ZeroDivisionError
    assert model.training
    for name, parameter in model.named_parameters():
        assert parameter.data_ptr() == before[name][0]
        assert torch.equal(parameter, before[name][1])


def test_no_second_model_under_lora():
    model = tiny.lora(tiny.model())
    adapter = sum(p.numel() for p in model.parameters() if p.requires_grad)
    held = sum(value.numel() for value in AverageTeacher(model, 0.9, 10)._shadow.values())
    assert held == adapter
    assert not InitialTeacher(model)._start


def test_bf16_student_has_an_fp32_average():
    model = tiny.model().to(torch.bfloat16)
    teacher = AverageTeacher(model, 0.999, 1)
    train_a_little(model)
    for step in range(1, 200):
        teacher.follow(step)
    assert teacher.distances()["ema_to_student"] > 0
    assert all(value.dtype == torch.float32 for value in teacher._shadow.values())
    fresh = AverageTeacher(model, 0.999, 1)
    fresh.follow(1)
    with teacher.weights() as taught:
        assert next(taught.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("adapter", [True, False])
def test_saved_and_loaded_exactly(adapter, tmp_path):
    model = student(adapter)
    teacher = AverageTeacher(model, 0.9, 1)
    train_a_little(model)
    teacher.follow(1)
    teacher.save(tmp_path)
    other = AverageTeacher(student(adapter), 0.9, 1)
    other.load(tmp_path)
    assert other.updates == 1
    for name, value in teacher._shadow.items():
        assert torch.equal(other._shadow[name], value)
    if adapter:
        assert other.distances()["ema_to_start"] > 0


def test_a_checkpoint_without_an_average_is_refused(tmp_path):
    with pytest.raises(UniSDError, match=r"ema\.safetensors is missing"):
        AverageTeacher(student(True), 0.9, 10).load(tmp_path)


def test_an_average_of_another_model_is_refused(tmp_path):
    AverageTeacher(student(False), 0.9, 10).save(tmp_path)
    with pytest.raises(UniSDError, match="another model"):
        AverageTeacher(student(True), 0.9, 10).load(tmp_path)
