"""FocalLoss with class indices: rows that are left out, and an α that it cannot take."""

import pytest
import torch

from focalrepro.losses import BACKGROUND, IGNORED, FocalLoss, sigmoid_focal_loss, softmax_focal_loss


@pytest.mark.parametrize("alpha", [[0.25, 0.75], torch.tensor([0.25, 0.75]), None])
def test_a_weight_for_each_class_is_softmaxs(alpha):
    x, said = torch.zeros(2), r"must be one number, .* softmax_focal_loss takes a weight for each class"
    for made in (lambda: FocalLoss(alpha=alpha), lambda: sigmoid_focal_loss(x, x, alpha)):
        with pytest.raises(ValueError, match=said):
            made()


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_what_is_left_out_may_be_anything_and_leaves_no_trace(reduction):
    logits = torch.tensor([[1.0, -2.0], [torch.nan, torch.inf], [0.5, 3.0]], requires_grad=True)
    loss = FocalLoss(reduction=reduction)(logits, torch.tensor([0, -2, -1]))
    alone = FocalLoss(reduction=reduction)(logits[[0, 2]], torch.tensor([0, -1]))
    if reduction == "none":
        assert loss[1].tolist() == [0.0, 0.0]
        loss = loss[[0, 2]]
    torch.testing.assert_close(loss, alone)
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    assert grad[1].tolist() == [0.0, 0.0] and grad.isfinite().all() and grad[0].abs().min() > 0


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_left_out_rows_need_no_look_in_a_compiled_graph(reduction):
    criterion = FocalLoss(reduction=reduction)
    compiled = torch.compile(criterion, backend="eager", fullgraph=True)
    logits, classes = torch.linspace(-3, 3, 12).view(4, 3), torch.tensor([0, IGNORED, BACKGROUND, 2])
    torch.testing.assert_close(compiled(logits, classes), criterion(logits, classes))


def test_softmax_weights_need_no_look_either():
    logits, classes = torch.linspace(-3, 3, 12).view(4, 3), torch.tensor([0, 1, 2, 2])
    alpha = torch.tensor([0.2, 0.3, 0.5])
    compiled = torch.compile(softmax_focal_loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, classes, alpha), softmax_focal_loss(logits, classes, alpha))
