import pytest

from cytoseg.formats.encodings import encoding_of, is_unicode

TEXTS = [
    "细胞核",
    "核",
    "core 细胞",
    "Zellkern groß",
    "Größe",
    "größer Ölfleck",
    "noyau élevé",
    "façade",
    "ß",
    "noyau «cœur» – été",
]
ENCODINGS = ["gbk", "cp1252", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_encoding_is_found(text: str) -> None:
    content = f'{{"label": "{text}"}}'
    for encoding in ENCODINGS:
        data = content.encode(encoding, errors="ignore")
        if data.decode(encoding) == content:
            found = encoding_of(data)
            assert data.decode(found) == content
            assert is_unicode(found) == encoding.startswith("utf")


def test_a_mark_is_taken_off() -> None:
    assert "[]".encode("utf-8-sig").decode(encoding_of("[]".encode("utf-8-sig"))) == "[]"


def test_what_is_in_no_known_encoding_is_not_read() -> None:
    data = b'["\x81\xff\x90"]'
    with pytest.raises(UnicodeDecodeError):
        data.decode(encoding_of(data))
