"""The house rule: a room includes only headers of the rooms it may know, and nobody's private headers but its own."""

import re
import unittest
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]

VALUES = {"base", "facts", "policy"}
READERS = {"prometheus", "nginx", "firewall", "tls"}
ALLOWED = {
    "base": set(),
    "facts": {"base"},
    "policy": {"base", "facts"},
    "varlink": {"base"},
    **{room: VALUES for room in READERS},
    "host": VALUES | READERS,
    "controls": VALUES | READERS,
    "probe": VALUES,
    "program": {"base"},
    "metrics": {"base", "varlink"},
    "rotation": VALUES | READERS | {"program"},
    "plan": VALUES | READERS | {"host", "controls", "probe", "program", "rotation"},
    "render": VALUES | {"controls", "plan"},
    "agent": VALUES | READERS | {"host", "controls", "plan", "probe", "program", "render", "rotation", "varlink"},
    "cli": VALUES | READERS | {"host", "controls", "plan", "probe", "program", "render", "rotation", "varlink", "agent"},
    "bin": VALUES | READERS | {"host", "controls", "metrics", "plan", "probe", "program", "render", "rotation", "varlink", "agent", "cli"},
}
# A public header is called like its room, except these.
HEADER_OF = {
    **dict.fromkeys(["access", "certificate", "files", "live", "process", "proxy", "ruleset", "server"], "facts"),
    **dict.fromkeys(["edit", "flags", "rules", "template", "unit", "values"], "prometheus"),
    **dict.fromkeys(["event", "apply", "make", "state"], "plan"),
    **dict.fromkeys(["demands", "deployment", "lint", "site"], "controls"),
    "address": "base",
    "audit_log": "nginx",
    "diff": "base",
    "http": "varlink",
}

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.MULTILINE)


def room_of(path: Path) -> str:
    """The room of a file, given relative to the tree."""
    return path.parts[1] if path.parts[0] == "src" else HEADER_OF.get(path.stem, path.stem)


def broken_arrows(path: Path, text: str, exists=lambda path: (TREE / path).is_file()) -> list[str]:
    room = room_of(path)
    if room not in ALLOWED:
        return [f"{path}: no row for the room {room} in {Path(__file__).name}"]
    broken = []
    for quote, header in INCLUDE.findall(text):
        if header.startswith("promwarden/"):
            other = HEADER_OF.get(Path(header).stem, Path(header).stem)
            if other != room and other not in ALLOWED[room]:
                broken.append(f"{path}: {room} must not know {other} ({header})")
        elif quote == '"':
            places = [path.parent / header, Path("src", room, header), Path("src", header)]
            found = next((place for place in places if ".." not in place.parts and exists(place)), None)
            if found is None or room_of(found) != room:
                broken.append(f"{path}: {header} is not a header of {room}")
    return broken


def sources():
    for top in ("include", "src"):
        for path in sorted((TREE / top).rglob("*")):
            if path.suffix in (".hpp", ".cpp"):
                yield path.relative_to(TREE), path.read_text(encoding="utf-8")


class Arrows(unittest.TestCase):
    def test_every_arrow_is_allowed(self):
        files = list(sources())
        self.assertGreater(len(files), 5)
        self.assertEqual([line for path, text in files for line in broken_arrows(path, text)], [])

    def test_only_one_file_includes_tomlplusplus(self):
        users = [str(path) for path, text in sources() if any("toml++" in header for _, header in INCLUDE.findall(text))]
        self.assertLessEqual(len(users), 1, users)

    def test_a_forbidden_arrow_is_found(self):
        def broken(path, text):
            return len(broken_arrows(Path(path), text, exists=lambda place: str(place) in ("src/policy/lexis.hpp", "src/render/style.hpp")))

        self.assertEqual(broken("src/facts/x.cpp", '#include "promwarden/policy.hpp"\n'), 1)
        self.assertEqual(broken("include/promwarden/ruleset.hpp", '#include "promwarden/policy.hpp"\n'), 1)
        self.assertEqual(broken("src/varlink/x.cpp", '#include "promwarden/facts.hpp"\n#include "promwarden/base.hpp"\n'), 1)
        self.assertEqual(broken("src/host/x.cpp", '#include "promwarden/controls.hpp"\n'), 1)
        self.assertEqual(broken("src/controls/x.cpp", '#include "../policy/lexis.hpp"\n'), 1)
        self.assertEqual(broken("src/controls/x.cpp", '#include "policy/lexis.hpp"\n'), 1)
        self.assertEqual(broken("src/policy/x.cpp", '#include "lexis.hpp"\n#include <vector>\n'), 0)
        self.assertEqual(broken("src/render/x.cpp", '#include "promwarden/render.hpp"\n#include "promwarden/event.hpp"\n'), 0)
        self.assertEqual(broken("src/attic/x.cpp", ""), 1)


if __name__ == "__main__":
    unittest.main()
