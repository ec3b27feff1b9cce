"""Feature matching: the student's last hidden state moves toward the teacher's at the same completion token."""

import torch
from torch import Tensor


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the hidden dimension of the squared difference.

    Source: UniSD section 3, representation alignment; the states are those after the final norm.

    Args:
        student: [N, H], any float dtype; computed in float32, or float64 if given float64.
        teacher: [N, H], same shape; taken as constant.

    Returns:
        [N], 0 or more, float32 or float64, differentiable in `student`.

    Raises:
        ValueError: shapes that differ or are not [N, H].
    """
    if student.dim() != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"features must both be [tokens, hidden], got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    wide = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    return (student.to(wide) - teacher.detach().to(wide)).square().mean(-1)


def feature_loss(student: Tensor, teacher: Tensor, coefficients: Tensor) -> Tensor:
    """Sum over tokens of coefficient times `feature_distance`, with gradient through the student only.

    Args:
        student: [N, H], any float dtype.
        teacher: [N, H], same shape.
        coefficients: [N], taken as constant; lambda and the step's normaliser are already in them.

    Returns:
        Scalar, float32 or float64.

    Raises:
        ValueError: shapes that do not fit.
    """
    distance = feature_distance(student, teacher)
    if coefficients.shape != distance.shape:
        raise ValueError(f"coefficients {tuple(coefficients.shape)} do not fit {distance.numel()} tokens")
    return (coefficients.detach().to(distance.dtype) * distance).sum()
