import pytest
import torch

from unisd.mechanisms.features import feature_distance


def test_by_hand():
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 0.0]])
    assert feature_distance(student, teacher).tolist() == [2.5, 0.0]


def test_gradient_through_the_student_only():
    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    c = torch.rand(4, dtype=torch.float64)
    (c * feature_distance(student, teacher)).sum().backward()
    torch.testing.assert_close(student.grad, 2 * c[:, None] * (student - teacher).detach() / 3)
    assert teacher.grad is None


def test_half_precision_is_widened():
    student, teacher = torch.randn(4, 64).bfloat16(), torch.randn(4, 64).bfloat16()
    distance = feature_distance(student, teacher)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, feature_distance(student.float(), teacher.float()))


def test_refusals():
    for student, teacher in ((torch.zeros(2, 3), torch.zeros(2, 4)), (torch.zeros(3), torch.zeros(3))):
        with pytest.raises(ValueError, match="tokens, hidden"):
            feature_distance(student, teacher)
