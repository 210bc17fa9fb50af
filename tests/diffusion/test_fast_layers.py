import pytest
import torch
from torch import Tensor, nn

from cytoseg.diffusion.fast_layers import FastAttention, FastLinearAttention, FastRMSNorm, use_fast_layers
from cytoseg.diffusion.import_lucidrains import Attention, LinearAttention, RMSNorm, Unet


def _pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    theirs = Unet(8, dim_mults=(1, 2))
    for weights in theirs.parameters():
        nn.init.normal_(weights, std=0.3)  # so that no part is at a special value such as 1
    ours = Unet(8, dim_mults=(1, 2))
    ours.load_state_dict(theirs.state_dict())
    use_fast_layers(ours)
    return theirs, ours


def _input(height: int = 12, width: int = 20) -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1)), torch.tensor([3, 700])


def test_all_three_parts_are_replaced_everywhere() -> None:
    theirs, ours = _pair()
    parts = ((RMSNorm, FastRMSNorm, 29), (LinearAttention, FastLinearAttention, 2), (Attention, FastAttention, 3))
    for old, new, count in parts:
        assert sum(isinstance(part, new) for part in ours.modules()) == count
        assert not any(isinstance(part, old) for part in ours.modules())
        assert any(isinstance(part, old) for part in theirs.modules())


def test_weights_keep_names_and_order() -> None:
    theirs, ours = _pair()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_network_computes_what_the_package_computes(layout: torch.memory_format) -> None:
    theirs, ours = _pair()
    x, t = _input()
    x = x.contiguous(memory_format=layout)
    expected = theirs(x, t)
    torch.testing.assert_close(ours(x, t), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_gradients_are_the_package_s() -> None:
    theirs, ours = _pair()
    x, t = _input()
    for unet in (theirs, ours):
        unet(x, t).square().mean().backward()
    for (name, expected), found in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert expected.grad is not None
        assert found.grad is not None
        scale = float(expected.grad.abs().max())
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-4 * scale, msg=name)


def test_half_precision_loses_no_more_than_the_package_s() -> None:
    theirs, ours = _pair()
    x, t = _input()
    exact = theirs(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        lost = [(unet(x, t).float() - exact).norm() / exact.norm() for unet in (theirs, ours)]
    assert lost[1] < 1.5 * lost[0]


def test_large_keys_do_not_overflow() -> None:
    torch.manual_seed(0)
    theirs = LinearAttention(8)
    with torch.no_grad():
        theirs.to_qkv.weight *= 1000
    x = torch.randn(1, 8, 4, 4)
    expected = theirs(x)
    assert expected.isfinite().all()
    torch.testing.assert_close(FastLinearAttention(theirs)(x), expected, rtol=1e-4, atol=1e-4)


def test_attention_counts_the_learned_memory_and_stores_no_weight_for_each_pair_of_pixels() -> None:
    torch.manual_seed(0)
    theirs, x = Attention(8), torch.randn(1, 8, 32, 32)
    with torch.no_grad(), torch.profiler.profile(profile_memory=True, acc_events=True) as seen:
        found = FastAttention(theirs)(x)
    torch.testing.assert_close(found, theirs(x), rtol=1e-4, atol=1e-4)
    assert max(event.self_cpu_memory_usage for event in seen.events()) < 4 * 1024 * 1024 * 4  # of the four heads
    with torch.no_grad():
        theirs.mem_kv[1] += 1
        assert (FastAttention(theirs)(x) - found).abs().max() > 1e-4


def test_a_pixel_of_zeros_stays_zero() -> None:
    x = torch.zeros(1, 4, 2, 2)
    assert torch.equal(FastRMSNorm(RMSNorm(4))(x), x)
