import torch

from learner.kernels.tanh import tanh, tanh_


def test_it_is_torchs_tanh_with_its_gradient() -> None:
    x = torch.linspace(-30.0, 30.0, 301, dtype=torch.float64).requires_grad_()
    before = x.detach().clone()
    torch.testing.assert_close(tanh(x), torch.tanh(x))
    torch.testing.assert_close(tanh_(x.detach().clone()), torch.tanh(before))
    assert torch.equal(x.detach(), before)
    assert torch.autograd.gradcheck(tanh, (x[100:200],))


def test_in_float32_it_is_as_good_as_torchs() -> None:
    x = torch.linspace(-9.0, 9.0, 10_001)
    exact = torch.tanh(x.double())
    assert float((tanh(x).double() - exact).abs().max()) < 2.5e-7
