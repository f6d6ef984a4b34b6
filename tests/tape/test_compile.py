"""A network as one call computes what its modules compute, or says why it cannot."""

from __future__ import annotations

import copy
import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import effops
from effops.ops import extension
from tests import peers
from tests.tape.nets import close, images, made

pytestmark = pytest.mark.skipif(extension.module is None, reason="needs the CPU kernels")


@pytest.fixture(scope="module")
def pair() -> tuple[nn.Module, nn.Module]:
    """A model and its compiled twin; tests that change it take a copy."""
    model = made()
    return model, effops.compile_cpu(copy.deepcopy(model), images())


NAMES = [
    "mobilenetv1_025",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
    "tf_mobilenetv3_small_minimal_100",
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "tf_efficientnetv2_b0",
    "mobilenetv4_conv_small_035",
    "mobilenetv4_conv_blur_medium",
    "mobilenetv4_hybrid_medium",
    "efficientnet_es",
    "efficientnet_cc_b0_4e",
    "efficientnet_b3_gn",
]


@pytest.mark.parametrize("name", [name for name in NAMES if effops.list_models(name)])
@torch.no_grad()
def test_families(name):
    model = made(name)
    exact = copy.deepcopy(model).double()
    for x in (images(), images().contiguous(memory_format=torch.channels_last), images(1, 75)):
        want, truth = model(x), exact(x.double())
        compiled = effops.compile_cpu(copy.deepcopy(model), x)
        assert sum(compiled.compile_report.kernels.values()) > 0
        got = compiled(x)
        # In the same precision, and no farther from the truth than the modules themselves.
        scale = truth.abs().max()
        assert (got - truth).abs().max() <= 2 * (want - truth).abs().max() + 1e-6 * scale
        assert torch.equal(compiled(x), got)


@torch.no_grad()
def test_whole_networks_need_no_call_of_torch(pair):
    _, compiled = pair
    report = compiled.compile_report
    assert report.torch == {} and report.shape == (2, 3, 64, 64)
    assert {"dense", "pointwise", "depthwise", "se_gate", "mean"} <= set(report.kernels)
    assert "calls of torch: none" in str(report)
    # Squeeze-and-excitation is read where it lies.
    packed = [p for name, p in compiled.named_parameters() if ".se." not in name]
    weights = sum(parameter.numel() for parameter in packed) * 4
    assert 0.9 * weights < report.weight_bytes < 1.3 * weights < 1.3 * 4 * sum(map(Tensor.numel, compiled.parameters()))
    # A place is used again as soon as nothing reads it: far less than all maps together.
    assert 0 < report.buffer_bytes < 1.5e6


@torch.no_grad()
@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv3_small_050", "mobilenetv4_conv_small_035"])
def test_whole_networks_in_bfloat16_need_no_call_of_torch(name):
    model = made(name)
    x = images().bfloat16()
    exact = model(x.float())
    model = model.bfloat16()
    want = model(x)
    compiled = effops.compile_cpu(copy.deepcopy(model), x)
    assert compiled.compile_report.torch == {} and "convert" in compiled.compile_report.kernels
    got = compiled(x)
    assert (got - exact).abs().max() <= 2 * (want - exact).abs().max() + 1e-2 * exact.abs().max()


class _Means(nn.Module):
    """Means of a kernel's result, in its dtype and another, converted there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 24, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = effops.ops.pointwise_conv_act(x, self.conv.weight, self.conv.bias, act="relu")
        mean, precise = y.mean((2, 3)), y.mean((3, 2), keepdim=True, dtype=torch.float32)
        other = torch.bfloat16 if y.dtype == torch.float32 else torch.float32
        return mean, precise, precise.to(torch.bfloat16), mean.to(other), y.to(other)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_means_and_conversions_are_kernels(dtype):
    model = _Means().to(dtype).eval()
    x = torch.randn(2, 16, 9, 7).to(dtype, memory_format=torch.channels_last)
    compiled = effops.compile_cpu(copy.deepcopy(model), x)
    assert compiled.compile_report.torch == {}
    assert compiled.compile_report.kernels["mean"] == 2 and compiled.compile_report.kernels["convert"] == 3
    for got, want in zip(compiled(x), model(x), strict=True):
        assert (got.dtype, got.shape, got.stride()) == (want.dtype, want.shape, want.stride())
        close(got.float(), want.float(), 1e-2 if torch.bfloat16 in (dtype, got.dtype) else 1e-6)


@torch.no_grad()
def test_feature_maps_and_other_outputs():
    model = made("mobilenetv2_035", features_only=True)
    x = images()
    close(effops.compile_cpu(copy.deepcopy(model), x)(x), model(x))

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = made()

        def forward(self, x):
            features = self.net.forward_features(x)
            return {"logits": self.net.forward_head(features), "features": features, "size": x.shape[2]}

    two = Two().eval()
    want = two(x)
    got = effops.compile_cpu(two, x)(x)
    assert got.keys() == want.keys() and got["size"] == 64
    close([got["logits"], got["features"]], [want["logits"], want["features"]])


@torch.no_grad()
def test_bfloat16():
    model = made("efficientnet_b0").bfloat16()
    exact = copy.deepcopy(model).double()
    x = images(dtype=torch.bfloat16)
    got, want, truth = effops.compile_cpu(copy.deepcopy(model), x)(x), model(x), exact(x.double())
    assert got.dtype == torch.bfloat16
    assert (got - truth).abs().max() <= 2 * (want - truth).abs().max() + 1e-3 * truth.abs().max()


@torch.no_grad()
def test_sizes_share_weights(pair):
    model, compiled = copy.deepcopy(pair[0]), effops.compile_cpu(copy.deepcopy(pair[0]), images())
    before = compiled.compile_report.weight_bytes
    for x in (images(1, 32), images(3, 96), images(1, 47), images(5, 64), images(2, 64)):
        for _ in range(2):
            close(compiled(x), model(x))
    assert compiled.compile_report.weight_bytes == before


@torch.no_grad()
def test_sizes_and_layouts_are_recorded_once(pair):
    model, compiled = copy.deepcopy(pair[0]), effops.compile_cpu(copy.deepcopy(pair[0]))
    sizes = [images(1, size) for size in (32, 64, 96)]
    inputs = [*sizes, *(x.contiguous(memory_format=torch.channels_last) for x in sizes)]
    seen = []
    for _ in range(3):
        for x in inputs:
            close(compiled(x), model(x))
        # Rows further apart than they are long: such images are copied.
        close(compiled(images(1, 64)[..., :32, :32]), model(images(1, 64)[..., :32, :32]))
        found = compiled._tapes.calls._calls
        seen.append({(key, shape): id(tape) for key, tapes in found.items() for shape, tape in tapes.items()})
    assert len(seen[0]) == len(inputs) and seen[0] == seen[1] == seen[2]


def test_inference_mode(pair):
    """Without an example, and on an image made in inference mode; fused models too."""
    other = peers.randomise(peers.timm().create_model("mobilenetv3_small_050", drop_rate=0.2))
    for model in (copy.deepcopy(pair[0]), other):
        with torch.no_grad():
            want = model(images())
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled = effops.compile_cpu(model)
            close(compiled(images() * 1), want)
            assert len(compiled._tapes.calls) == 1 and compiled.compile_report.torch == {}
            close(compiled(images()), want)


@torch.no_grad()
def test_results_are_the_callers_own(pair):
    _, compiled = pair
    x, other = images(), images() + 1
    first = compiled(x)
    kept = first.clone()
    assert compiled(other).data_ptr() != first.data_ptr()
    assert torch.equal(first, kept)


@torch.no_grad()
def test_threads_do_not_share_buffers(pair):
    _, compiled = pair
    inputs = [images() + i for i in range(4)]
    want = [compiled(x) for x in inputs]
    wrong = []

    def serve(i):
        with torch.no_grad():
            wrong.extend(i for _ in range(30) if not torch.equal(compiled(inputs[i]), want[i]))

    threads = [threading.Thread(target=serve, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@torch.no_grad()
def test_a_forward_that_returns_its_input():
    class Passes(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = made()

        def forward(self, x):
            self.inner(x)
            return x

    compiled, x = effops.compile_cpu(Passes().eval(), images()), images()
    for _ in range(2):
        assert compiled(x) is x


@torch.no_grad()
def test_another_instruction_set(pair):
    model, compiled = pair[0], effops.compile_cpu(copy.deepcopy(pair[0]), images())
    best = extension.module.isa()
    plan = compiled._tapes.calls.get(*_key(compiled)).steps[0].plan
    try:
        extension.module.set_isa("scalar")
        close(compiled(images()), model(images()))
        if best != "scalar":
            with pytest.raises(ValueError, match=f"the plan is for {best} kernels"):
                plan.run([])
    finally:
        extension.module.set_isa(best)
    close(compiled(images()), model(images()))


def _key(compiled):
    x = images()
    return (x.is_contiguous(), x.dtype), x


@torch.no_grad()
def test_number_of_threads_changes_nothing(pair):
    _, compiled = pair
    x = images(3, 96)
    torch.set_num_threads(2)
    try:
        two = compiled(x)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(compiled(x), two)


@torch.no_grad()
def test_empty_and_wrong_inputs(pair):
    _, compiled = pair
    assert compiled(images(0)).shape == (0, 1000)
    with pytest.raises(effops.ArgumentError, match="x must be"):
        compiled(images(channels=4))
    close(compiled(images()), pair[0](images()))


class ByValue(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = made()

    def forward(self, x):
        y = self.net(x)
        return y if y[0, 0] > 0 else -y


class Drawn(ByValue):
    def forward(self, x):
        return F.dropout(self.net(x), 0.5, training=True)


class Behind(ByValue):
    """Takes values from its input where the dispatcher does not see it."""

    def forward(self, x):
        return self.net(x) + torch.tensor(float(x.numpy()[0, 0, 0, 0]))


class Counting(ByValue):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.net(x) * self.calls


class Constant(ByValue):
    def forward(self, x):
        return self.net(x), torch.ones(3)


REFUSED = [
    (ByValue, "depend on values"),
    (Drawn, "random numbers"),
    (Behind, "on another input"),
    (Counting, "kept from call to call"),
    (Constant, "does not depend on the input"),
]


@pytest.mark.parametrize(("kind", "reason"), REFUSED)
@torch.no_grad()
def test_what_cannot_be_one_call_is_told(kind, reason):
    model = kind().eval()
    with pytest.raises(effops.ArgumentError, match=reason):
        effops.compile_cpu(model, images())
    assert type(model) is kind
    effops.compile_cpu(model)
    twin = kind().eval()
    twin.load_state_dict(model.state_dict())
    with pytest.warns(UserWarning, match=reason):
        got = model(images())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(images())
    if kind in (Constant, Behind):
        close(got, twin(images()))


def test_wrong_arguments():
    with pytest.raises(effops.ArgumentError, match=r"model must be a torch.nn.Module; got int"):
        effops.compile_cpu(3)
    with pytest.raises(effops.ArgumentError, match=r"model must be a torch.nn.Module; got int"):
        effops.uncompile(3)
    model = made()
    with pytest.raises(effops.ArgumentError, match=r"examples\[1\] must be a batch of images.*got str"):
        effops.compile_cpu(model, images(), "x")
    with pytest.raises(effops.ArgumentError, match=r"examples\[0\].*got shape \(0, 3, 64, 64\)"):
        effops.compile_cpu(model, images(0))
    with pytest.raises(effops.ArgumentError, match=r"call model.eval\(\) first"):
        effops.compile_cpu(model.train(), images())
    with pytest.raises(effops.ArgumentError, match="no part of it runs on effops' CPU kernels"):
        effops.compile_cpu(nn.LayerNorm(3).eval(), torch.randn(2, 3))
