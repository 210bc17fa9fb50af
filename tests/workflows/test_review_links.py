import socket

import pytest

from cytoseg.review.settings import ReviewSection
from cytoseg.workflows.review_links import HOSTS, TOKEN, host_names, opening_lines, surroundings

LOCAL = ("127.0.0.1:8501", "localhost:8501", "[::1]:8501")


@pytest.fixture(autouse=True)
def _called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "lab-pc")


@pytest.mark.parametrize(
    ("host", "names", "found"),
    [
        ("127.0.0.1", (), LOCAL),
        ("localhost", (), LOCAL),
        ("::1", (), LOCAL),
        ("127.0.0.2", (), (*LOCAL, "127.0.0.2:8501")),
        ("0.0.0.0", (), (*LOCAL, "lab-pc:8501")),
        ("::", (), (*LOCAL, "lab-pc:8501")),
        ("192.168.1.5", (), (*LOCAL, "192.168.1.5:8501", "lab-pc:8501")),
        ("fd00::5", (), (*LOCAL, "[fd00::5]:8501", "lab-pc:8501")),
        ("lab-pc", (), (*LOCAL, "lab-pc:8501")),
        ("127.0.0.1", ("lab.example",), (*LOCAL, "lab.example:8501", "lab.example")),
        ("127.0.0.1", ("lab.example:9000", "[fd00::5]:80"), (*LOCAL, "lab.example:9000", "[fd00::5]:80")),
    ],
)
def test_the_names_are_this_machine_and_what_was_named(
    host: str, names: tuple[str, ...], found: tuple[str, ...]
) -> None:
    assert host_names(ReviewSection(host=host, names=names)) == found


def test_on_this_machine_one_line_gives_the_link() -> None:
    assert opening_lines(ReviewSection(), "secret") == ["Review: http://127.0.0.1:8501/?token=secret  (Ctrl-C ends it)"]
    assert opening_lines(ReviewSection(host="::1", port=9000), "s")[0].startswith("Review: http://[::1]:9000/?token=s ")


def test_at_another_address_the_start_says_who_is_let_in_and_by_which_names() -> None:
    first, second, told = opening_lines(ReviewSection(host="0.0.0.0"), "secret")
    assert first == "Review: http://127.0.0.1:8501/?token=secret  (Ctrl-C ends it)"
    assert second == "From other machines: http://lab-pc:8501/?token=secret"
    assert told.startswith("review.host=0.0.0.0: any machine that can reach this one can request")
    assert "127.0.0.1:8501, localhost:8501, [::1]:8501, lab-pc:8501, or its bare address" in told
    assert "review.names" in told
    assert "unencrypted" in told
    named = opening_lines(ReviewSection(host="::", names=("lab.example", "proxy.example:443")), "s")[1:3]
    assert [line.split()[-1] for line in named] == [
        "http://lab.example:8501/?token=s",
        "http://proxy.example:443/?token=s",
    ]
    assert len(opening_lines(ReviewSection(host="192.168.1.5"), "s")) == 2


def test_the_app_gets_its_settings_by_variables_that_other_accounts_cannot_read() -> None:
    assert surroundings(ReviewSection(), "secret") == {TOKEN: "secret", HOSTS: ",".join(LOCAL)}
