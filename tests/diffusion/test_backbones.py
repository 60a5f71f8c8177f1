import copy

import diffusers
import pytest
import torch
from torch import nn

from ambient_ray.diffusion import AmbientObjective, EDMPrecond, build_backbone, check_backbone, diffusers_network

UNET = "ambient_ray.diffusion.backbones.UNet"
DIT = "ambient_ray.diffusion.backbones.DiT"
SMALL = {
    UNET: {
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "attention": (4,),
        "attention_head_dim": 16,
    },
    DIT: {"layers": 2, "heads": 2, "head_dim": 8},
}


class MyNet(nn.Module):
    def __init__(self, channels, resolution, num_classes, width=4):
        super().__init__()
        self.net = nn.Conv2d(channels, channels, 3, padding=1)
        self.width = width

    def forward(self, x, c_noise, labels):
        return self.net(x)


def not_a_module(**kwargs):
    return 3


@pytest.mark.parametrize("target", [UNET, DIT])
@pytest.mark.parametrize("num_classes", [None, 10])
def test_every_parameter_learns_and_the_start_is_c_skip_x(target, num_classes):
    torch.manual_seed(0)
    net = build_backbone({"_target_": target, **SMALL[target]}, channels=3, resolution=8, num_classes=num_classes)
    model = EDMPrecond(net)
    x, sigma = torch.randn(4, 3, 8, 8), torch.tensor([0.1, 0.5, 1.0, 2.0])
    labels = None if num_classes is None else torch.tensor([0, 1, 2, 9])
    skip = 0.25 / (sigma**2 + 0.25)
    torch.testing.assert_close(model(x, sigma, labels), skip.view(-1, 1, 1, 1) * x)

    for p in model.parameters():  # off the zero start, where the gradient reaches the last layer only
        nn.init.normal_(p, std=0.1)
    loss = AmbientObjective(0.5).loss(model, x, torch.randn_like(x), labels=labels)
    loss.mean().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None]
    assert not dead, "DDP waits for ever for parameters without a gradient"


@pytest.mark.parametrize("target", [UNET, DIT])
def test_the_network_tells_noise_levels_apart_smoothly(target):
    """A level .1 % away looks almost the same, another level does not."""
    torch.manual_seed(0)
    net = build_backbone({"_target_": target, **SMALL[target]}, channels=1, resolution=8)
    for p in net.parameters():
        if p.abs().sum() == 0:
            nn.init.normal_(p, std=0.1)
    x = torch.randn(1, 1, 8, 8)

    def out(sigma):
        return net(x, torch.tensor([sigma]).log() / 4)

    with torch.no_grad():
        base = out(0.5)
        step, jump = (out(0.5005) - base).norm(), (out(2.0) - base).norm()
    assert 0 < step < 0.2 * jump


def _whole_image_dit(num_classes=None):
    torch.manual_seed(0)
    sizes = SMALL[DIT] | {"patch_size": 8}
    net = build_backbone({"_target_": DIT, **sizes}, channels=2, resolution=8, num_classes=num_classes)
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    return net


def test_attention_over_one_token_equals_diffusers_own_with_its_gradients():
    from diffusers.models.attention_processor import AttnProcessor2_0

    short = _whole_image_dit()
    plain = copy.deepcopy(short).requires_grad_(True)
    for block in plain.net.transformer_blocks:
        block.attn1.set_processor(AttnProcessor2_0())
    x, c_noise = torch.randn(5, 2, 8, 8), torch.linspace(-1.5, 1.0, 5)
    for net in (short, plain):
        net(x, c_noise).square().mean().backward()
    torch.testing.assert_close(short(x, c_noise), plain(x, c_noise))
    frozen = 0
    for (name, mine), (_, theirs) in zip(short.named_parameters(), plain.named_parameters(), strict=True):
        if mine.requires_grad:
            torch.testing.assert_close(mine.grad, theirs.grad, msg=lambda text, name=name: f"{name}: {text}")
        else:
            frozen += 1
            assert ".to_q." in name or ".to_k." in name
            assert theirs.grad.abs().max() < 1e-6, "one token's attention does not depend on queries and keys"
    assert frozen == 2 * 2 * len(short.net.transformer_blocks)


def test_several_tokens_keep_their_attention():
    net = build_backbone({"_target_": DIT, **SMALL[DIT], "patch_size": 4}, channels=1, resolution=8)
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("num_classes", [None, 10])
@pytest.mark.parametrize("level", [0.002, 0.5, 80.0])
def test_one_noise_level_for_a_batch_is_computed_as_if_given_for_each_image(num_classes, level):
    model = EDMPrecond(_whole_image_dit(num_classes))
    assert model.broadcasts_noise_level
    x, labels = torch.randn(6, 2, 8, 8), None if num_classes is None else torch.arange(6)
    each = model(x, torch.full((6,), level), labels)
    torch.testing.assert_close(model(x, torch.full((1,), level), labels), each)
    torch.testing.assert_close(model(x, torch.tensor(level), labels), each)


def test_labels_are_asked_for_exactly_when_there_are_classes():
    x, c = torch.randn(1, 1, 8, 8), torch.zeros(1)
    for target in (UNET, DIT):
        with pytest.raises(ValueError, match="10 classes: give labels"):
            build_backbone({"_target_": target, **SMALL[target]}, channels=1, resolution=8, num_classes=10)(x, c)
        with pytest.raises(ValueError, match="no classes"):
            build_backbone({"_target_": target, **SMALL[target]}, channels=1, resolution=8)(x, c, torch.zeros(1))


def test_a_users_module_plugs_in():
    net = build_backbone({"_target_": f"{__name__}.MyNet", "width": 9}, channels=2, resolution=5)
    assert net.width == 9
    assert EDMPrecond(net)(torch.randn(2, 2, 5, 5), torch.ones(2)).shape == (2, 2, 5, 5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "must name a class as package.module.Class, got None"),
        ({"_target_": "UNet"}, "must name a class"),
        ({"_target_": "no_such_package.Net"}, "no_such_package.Net cannot be imported"),
        ({"_target_": "ambient_ray.diffusion.backbones.Nope"}, "has no class or function Nope"),
        ({"_target_": f"{__name__}.not_a_module"}, "gives a int, not a torch.nn.Module"),
        ({"_target_": UNET, "deep": 3}, "refuses its arguments.*deep"),
        ({"_target_": UNET, "block_out_channels": (8,) * 5}, "8 is not divisible by 16; use 1 to 4 levels"),
        (
            {"_target_": UNET, "block_out_channels": (30,), "norm_groups": 4},
            "norm_groups 4 does not divide the 30",
        ),
        (
            {"_target_": UNET, "block_out_channels": (32, 32), "attention": (5,)},
            r"the levels have sizes \[8, 4\]",
        ),
        (
            {"_target_": UNET, "block_out_channels": (40,), "attention": (8,)},
            "attention_head_dim 32 does not divide",
        ),
        ({"_target_": UNET, "block_out_channels": (32,), "dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"_target_": DIT, "patch_size": 3}, "patch_size 3 does not divide the resolution 8"),
    ],
)
def test_what_cannot_be_built_is_one_clear_sentence(config, message):
    with pytest.raises(ValueError, match=message):
        check_backbone(config, channels=1, resolution=8)
    with pytest.raises(ValueError, match=message):
        build_backbone(config, channels=1, resolution=8)


def test_odd_sizes_work_where_they_divide():
    net = build_backbone({"_target_": UNET, "block_out_channels": (12,)}, channels=1, resolution=7)
    assert net(torch.randn(1, 1, 7, 7), torch.zeros(1)).shape == (1, 1, 7, 7)
    net = build_backbone({"_target_": UNET, "block_out_channels": (8, 8, 8)}, channels=1, resolution=28)
    assert net(torch.randn(1, 1, 28, 28), torch.zeros(1)).shape == (1, 1, 28, 28)


@pytest.mark.parametrize(
    ("target", "sizes", "same_as"),
    [
        (UNET, {"block_out_channels": (16, 32), "width": 0.5}, {"block_out_channels": (8, 16)}),
        (UNET, {"block_out_channels": (16, 32), "width": 1.3}, {"block_out_channels": (24, 40)}),
        (UNET, {"block_out_channels": (16, 32), "width": 0.01}, {"block_out_channels": (8, 8)}),
        (UNET, {"layers_per_block": 2, "block_out_channels": (8,), "depth": 0.7}, {"layers_per_block": 1}),
        (UNET, {"layers_per_block": 1, "block_out_channels": (8,), "depth": 1.5}, {"layers_per_block": 2}),
        (
            {"_target_": UNET, "attention": (4,), "attention_head_dim": 16},
            {"block_out_channels": (16, 32), "width": 1.4},
            {"block_out_channels": (16, 48)},
        ),
        (DIT, {"head_dim": 16, "width": 0.5}, {"head_dim": 8}),
        (DIT, {"head_dim": 16, "width": 1.8}, {"head_dim": 32}),
        (DIT, {"layers": 3, "depth": 0.5}, {"layers": 2}),
        (DIT, {"layers": 3, "depth": 0.1}, {"layers": 1}),
    ],
)
def test_width_and_depth_are_multiples_rounded_to_what_can_be_built(target, sizes, same_as):
    common = {"heads": 2, "layers": 1, "head_dim": 8} if target == DIT else {"layers_per_block": 1}
    common = {**common, **(target if isinstance(target, dict) else {"_target_": target})}
    plain = {key: value for key, value in sizes.items() if key not in {"width", "depth"}}
    scaled = build_backbone({**common, **sizes}, channels=1, resolution=8)
    expected = build_backbone({**common, **plain, **same_as}, channels=1, resolution=8)
    assert [p.shape for p in scaled.parameters()] == [p.shape for p in expected.parameters()]


@pytest.mark.parametrize("target", [UNET, DIT])
def test_a_width_and_depth_of_one_are_the_network_itself_and_nonsense_is_refused(target):
    def build(**extra):
        torch.manual_seed(0)
        return build_backbone({"_target_": target, **SMALL[target], **extra}, channels=1, resolution=8)

    ours, plain = build(width=1.0, depth=1.0), build()
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), plain.parameters(), strict=True))
    for bad in ({"width": 0.0}, {"depth": -1.0}):
        with pytest.raises(ValueError, match="must be a multiple above 0"):
            build(**bad)


@pytest.mark.parametrize("target", [UNET, DIT])
def test_a_backbone_around_a_network_that_is_there(target):
    """What diffusers builds from the named arguments takes the weights, and gives the backbone's output."""
    torch.manual_seed(0)
    config, image = {"_target_": target, **SMALL[target]}, {"channels": 3, "resolution": 8, "num_classes": 4}
    mine = build_backbone(config, **image).eval()
    for p in mine.parameters():
        nn.init.normal_(p, std=0.1)
    name, arguments = diffusers_network(config, **image)
    net = getattr(diffusers, name)(**arguments).eval()
    net.load_state_dict(mine.net.state_dict())
    around = build_backbone(config | {"net": net}, **image)
    assert around.net is net
    x, c_noise, labels = torch.randn(2, 3, 8, 8), torch.tensor([-1.0, 0.5]), torch.tensor([0, 3])
    torch.testing.assert_close(around(x, c_noise, labels), mine(x, c_noise, labels), rtol=0, atol=0)


def test_a_network_of_ones_own_is_none_of_diffusers():
    assert diffusers_network({"_target_": "never.installed.Net"}, channels=1, resolution=8) is None
