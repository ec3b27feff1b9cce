import pytest
import torch

from unisd.objective.features import feature_distance, feature_loss


def test_by_hand():
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    assert feature_distance(student, teacher).tolist() == [2.5, 0.0]
    assert float(feature_loss(student, teacher, torch.tensor([0.5, 7.0]))) == 1.25


def test_gradient_through_the_student_only():
    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    c = torch.rand(4, dtype=torch.float64, requires_grad=True)
    feature_loss(student, teacher, c).backward()
    torch.testing.assert_close(student.grad, 2 * c[:, None] * (student - teacher).detach() / 3)
    assert teacher.grad is None
    assert c.grad is None


def test_rows_add_up():
    student, teacher, c = torch.randn(9, 5), torch.randn(9, 5), torch.rand(9)
    parts = sum(feature_loss(student[i::2], teacher[i::2], c[i::2]) for i in range(2))
    torch.testing.assert_close(feature_loss(student, teacher, c), parts)


def test_half_precision_is_widened():
    student, teacher = torch.randn(4, 64).bfloat16(), torch.randn(4, 64).bfloat16()
    distance = feature_distance(student, teacher)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, feature_distance(student.float(), teacher.float()))


def test_refusals():
    for student, teacher in ((torch.zeros(2, 3), torch.zeros(2, 4)), (torch.zeros(3), torch.zeros(3))):
        with pytest.raises(ValueError, match="tokens, hidden"):
            feature_distance(student, teacher)
    with pytest.raises(ValueError, match="do not fit"):
        feature_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3))
