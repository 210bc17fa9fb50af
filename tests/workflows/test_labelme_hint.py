from pathlib import Path

import pytest

from cytoseg.workflows.labelme_hint import say_labelme


@pytest.mark.parametrize("is_installed", [True, False])
def test_the_command_can_be_copied_and_without_labelme_the_app_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/bin/labelme" if is_installed else None)
    say_labelme("2 crops. Annotate them", Path("my crops"), "--labels", "my crops/labels.txt", recipe="my lab.yaml")
    command, *more = capsys.readouterr().out.splitlines()
    assert command == "2 crops. Annotate them: labelme 'my crops' --labels 'my crops/labels.txt'"
    missing = (
        "labelme is not installed: pip install 'cytoseg[label]'. Without it, annotate in the app: "
        "cytoseg review 'my lab.yaml'"
    )
    assert more == ([] if is_installed else [missing])
