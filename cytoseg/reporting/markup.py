"""HTML building blocks of the report; all external text is escaped here."""

from collections.abc import Sequence
from html import escape

from cytoseg.metrics.results import Score, share_text

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5a6675; --line: #dfe4ea; --tint: #f5f7f9; --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 32px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; }
h2 { font-size: 21px; margin: 48px 0 12px; padding-top: 20px; border-top: 1px solid var(--line); }
h3 { font-size: 16px; margin: 24px 0 8px; }
p, li, dd { max-width: 78ch; }
.soft, figcaption { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 12px 0; font-size: 15px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 16px 7px 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
td + td { white-space: nowrap; }
th { font-weight: 600; font-size: 14px; color: var(--soft); }
tr.main td { font-weight: 600; background: var(--tint); }
td.cell { text-align: center; padding: 10px 18px; border: 1px solid #fff; }
td.cell small { display: block; opacity: .8; }
.numbers { display: flex; flex-wrap: wrap; gap: 14px; margin: 20px 0; }
.number { border: 1px solid var(--line); border-radius: 10px; padding: 12px 20px; min-width: 170px; }
.number b { display: block; font-size: 27px; line-height: 1.25; }
.missing { background: var(--tint); border-left: 4px solid #e69f00; padding: 10px 16px; border-radius: 4px; }
figure { margin: 16px 0; }
figure img { max-width: 100%; height: auto; border-radius: 6px; display: block; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 24px; align-items: start; }
figure.strip img { width: 100%; }
figcaption { font-size: 14px; margin-top: 6px; }
dt { font-weight: 600; margin-top: 12px; } dd { margin: 0; }
code { background: var(--tint); padding: 1px 5px; border-radius: 4px; font-size: 90%; }
footer { margin-top: 56px; font-size: 14px; color: var(--soft); }
@media print { main { max-width: none; padding: 0; } figure, table, .number { break-inside: avoid; } }
"""


def page(title: str, body: Sequence[str]) -> str:
    """Join sections to a self-contained HTML page; the sections are trusted, the title is escaped."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, main_row: int | None = None) -> str:
    """Make a table of plain texts.

    Args:
        head: Column titles.
        rows: Cells, one sequence per row.
        main_row: Row to set in bold, such as the ensemble among baselines.

    Returns:
        HTML; every text is escaped.
    """
    titles = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = []
    for number, row in enumerate(rows):
        mark = ' class="main"' if number == main_row else ""
        lines.append(f"<tr{mark}>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>")
    return (
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>\n'
        + "\n".join(lines)
        + "</tbody></table></div>"
    )


def numbers(entries: Sequence[tuple[str, Score]]) -> str:
    """Make a row of large numbers with titles above and intervals below."""
    boxes = []
    for title, score in entries:
        interval = ""
        if score.low is not None and score.high is not None:
            interval = f'<span class="soft">95 %: {score.low:.2f} to {score.high:.2f}</span>'
        value = share_text(score.value)
        boxes.append(f'<div class="number"><span>{escape(title)}</span><b>{value}</b>{interval}</div>')
    return f'<div class="numbers">{"".join(boxes)}</div>'


def figure(source: str, caption: str, *, strip: bool = False) -> str:
    """Make a figure from a data URI and a caption; a strip fills the width."""
    kind = ' class="strip"' if strip else ""
    return (
        f'<figure{kind}><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def pair(left: str, right: str) -> str:
    """Place two elements side by side if the page is wide enough."""
    return f'<div class="pair"><div>{left}</div><div>{right}</div></div>'


def folded(title: str, content: str) -> str:
    """Make a collapsible section."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def missing(sentence: str, command: str = "") -> str:
    """Make a note about a missing part with the command that makes it."""
    hint = f" Make it with <code>{escape(command)}</code>." if command else ""
    return f'<p class="missing">{escape(sentence)}{hint}</p>'


def confusion_table(
    names: Sequence[str], confusion: Sequence[Sequence[int]], shares: Sequence[Sequence[float | None]]
) -> str:
    """Make a confusion matrix with cells tinted by fraction.

    Args:
        names: Class names, K of them.
        confusion: (K, K) pixel counts, rows truth, columns prediction.
        shares: (K, K) fractions of the counts, or None in an empty row.

    Returns:
        HTML; the names are escaped.
    """
    head = "".join(f"<th>predicted {escape(name)}</th>" for name in names)
    lines = []
    for name, counts, parts in zip(names, confusion, shares, strict=True):
        cells = "".join(_cell(count, part) for count, part in zip(counts, parts, strict=True))
        lines.append(f"<tr><th>truly {escape(name)}</th>{cells}</tr>")
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'


def _cell(count: int, share: float | None) -> str:
    part = share or 0.0
    ink = "#fff" if part > 0.7 else "#1c2430"
    text = "n/a" if share is None else f"{100 * share:.1f} %"
    return (
        f'<td class="cell" style="background:rgba(0,90,160,{part:.3f});color:{ink}">{text}<small>{count:,}</small></td>'
    )
