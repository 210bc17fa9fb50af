import importlib
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from cytoseg.diffusion import import_lucidrains

MISMATCH = "operator torchvision::nms does not exist"


def _importer(errors: list[str], seen: list[str]) -> Callable[[str], ModuleType]:
    """An import that fails with each error in turn and then works."""

    def import_module(name: str) -> ModuleType:
        seen.append(name)
        if errors:
            raise RuntimeError(errors.pop(0))
        return ModuleType(name)

    return import_module


def test_the_package_is_there() -> None:
    package = "denoising_diffusion_pytorch.denoising_diffusion_pytorch"
    assert (import_lucidrains.Unet.__module__, import_lucidrains.GaussianDiffusion.__module__) == (package, package)


def test_a_healthy_torchvision_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(importlib, "import_module", _importer([], seen))
    monkeypatch.setattr(torch.library, "Library", pytest.fail)
    monkeypatch.setattr(import_lucidrains, "_kept_alive", [])
    import_lucidrains.import_torchvision()
    assert seen == ["torchvision"]
    assert not import_lucidrains.mended_torchvision()


def test_a_mismatched_torchvision_is_fixed_and_imported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    defined: list[str] = []

    class Library:
        def __init__(self, *_args: str) -> None: ...

        def define(self, schema: str) -> None:
            defined.append(schema.partition("(")[0])

    seen: list[str] = []
    monkeypatch.setattr(sys, "modules", {**sys.modules, "torchvision.half": ModuleType("half")})
    monkeypatch.setattr(importlib, "import_module", _importer([MISMATCH], seen))
    monkeypatch.setattr(torch.library, "Library", Library)
    kept: list[Library] = []
    monkeypatch.setattr(import_lucidrains, "_kept_alive", kept)
    import_lucidrains.import_torchvision()
    assert seen == ["torchvision", "torchvision"]
    assert defined == ["nms", "qnms"]
    assert len(kept) == 1
    assert import_lucidrains.mended_torchvision()
    assert not any(name.partition(".")[0] == "torchvision" for name in sys.modules)


def test_any_other_failure_of_torchvision_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", _importer(["CUDA is broken"], []))
    with pytest.raises(RuntimeError, match="CUDA is broken"):
        import_lucidrains.import_torchvision()
