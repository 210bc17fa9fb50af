from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cytoseg.diffusion.architecture import Architecture
from cytoseg.diffusion.quick_convolution import QuickConv2d
from cytoseg.diffusion.unet import build_unet


@pytest.fixture(params=["AVX2", "AVX512"])
def capability(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of processor: the gradients of one are computed on copies."""
    found: str = request.param
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: found)
    return found


def _layers(*, bias: bool = True, **geometry: int) -> tuple[nn.Conv2d, QuickConv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, 3, bias=bias, **geometry)  # type: ignore[arg-type]
    quick = QuickConv2d(5, 7, 3, bias=bias, **geometry)  # type: ignore[arg-type]
    quick.load_state_dict(plain.state_dict())
    return plain, quick


def _gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    out = layer(x)
    (out * torch.linspace(-1, 1, out.numel()).reshape(out.shape)).sum().backward()
    return [out.detach(), *(part.grad for part in (x, *layer.parameters()) if part.grad is not None)]


@pytest.mark.usefixtures("capability")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("bias", "geometry"),
    [(True, {"padding": 1}), (False, {"padding": 1}), (True, {"padding": 2, "dilation": 2, "stride": 2})],
)
def test_outputs_and_gradients_are_those_of_conv2d(
    bias: bool, geometry: dict[str, int], layout: torch.memory_format
) -> None:
    plain, quick = _layers(bias=bias, **geometry)
    x = torch.randn(2, 5, 11, 9).contiguous(memory_format=layout)
    expected, found = _gradients(plain, x), _gradients(quick, x)
    assert len(found) == len(expected) == (4 if bias else 3)
    assert torch.equal(found[0], expected[0])
    for one, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("frozen", ["weight", "bias", "input"])
def test_what_is_frozen_gets_no_gradient(frozen: str, capability: str) -> None:
    plain, quick = _layers(padding=1)
    x = torch.randn(2, 5, 8, 8)
    grads: list[list[Tensor | None]] = []
    for layer in (plain, quick):
        part = x.clone().requires_grad_(frozen != "input")
        if frozen != "input":
            getattr(layer, frozen).requires_grad_(False)
        layer(part).square().sum().backward()
        grads.append([part.grad, layer.weight.grad, layer.bias.grad if layer.bias is not None else None])
    for expected, found in zip(*grads, strict=True):
        assert (found is None) == (expected is None), capability
        if found is not None and expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("mode", "used"), [(torch.enable_grad, True), (torch.no_grad, False)])
def test_copies_are_only_made_for_a_gradient(
    mode: Callable[[], torch.no_grad], used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    _, quick = _layers(padding=1)
    with mode():
        out = quick(torch.randn(1, 5, 6, 6))
    assert (type(out.grad_fn).__name__ == "_ConvolutionBackward") == used


def test_autocast_keeps_the_usual_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    _, quick = _layers(padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert quick(torch.randn(1, 5, 6, 6)).dtype == torch.bfloat16


def test_the_network_s_gradients_do_not_depend_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    unet = build_unet(Architecture(dim=16, dim_mults=(1, 1, 1), timesteps=10, backbone="pretrained"))
    assert sum(isinstance(part, QuickConv2d) for part in unet.modules()) == 6
    x, t = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 4])
    grads = []
    for capability in ("AVX512", "AVX2"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda found=capability: found)
        unet.zero_grad()
        unet(x, t).square().mean().backward()
        grads.append([part.grad.clone() for part in unet.parameters() if part.grad is not None])
    for plain, quick in zip(*grads, strict=True):
        torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()) + 1e-9)
