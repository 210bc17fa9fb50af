"""The HTML report of a run, its diagrams, glossary and CSV."""
