"""Tests; a regular package, because a library also installs a package of this name."""
