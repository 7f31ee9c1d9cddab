"""Check a dossier without the database: `check(path)` walks the chain in it and finds each receipt in its place.

What it proves: the receipts are those that the chain with this end holds. Not that this is the chain's true
end: compare its hash with one that was noted elsewhere (`tingxin receipts verify` prints it), or with the
database.
"""

import json
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from serving.receipts import chained, digest


class DossierFault(ValueError):
    """The file is no dossier, or not what was made. The message says where."""


@dataclass(frozen=True, slots=True)
class Checked:
    """How many receipts it holds, and the end of the chain they stand in."""

    receipts: int
    number: int
    hash: str
    on_trust: (
        int  # links of others' receipts from before digests: their hashes are given, not shown
    )


def check(path: Path) -> Checked:
    """Return what the dossier proves; raise DossierFault."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            _files(archive, manifest["sha256"])
            held = _receipts(archive)
            return _walk(archive, manifest, held)
    except (zipfile.BadZipFile, UnicodeDecodeError, EOFError) as fault:
        raise DossierFault(f"{path}: not a whole ZIP file ({type(fault).__name__})") from None
    except (KeyError, TypeError, json.JSONDecodeError) as fault:
        raise DossierFault(f"{path}: not a dossier ({type(fault).__name__}: {fault})") from None


def _files(archive: zipfile.ZipFile, hashes: dict[str, str]) -> None:
    unknown = set(archive.namelist()) - set(hashes) - {"manifest.json"}
    if unknown:
        raise DossierFault(f"{min(unknown)}: the manifest does not name it")
    for name, expected in hashes.items():
        whole = sha256()
        with archive.open(name) as file:
            while part := file.read(2**20):
                whole.update(part)
        if whole.hexdigest() != expected:
            raise DossierFault(f"{name}: was changed after it was made")


def _receipts(archive: zipfile.ZipFile) -> dict[int, dict[str, Any]]:
    with archive.open("receipts.jsonl") as file:
        lines = [json.loads(line) for line in file]
    return {line["number"]: line for line in lines}


def _walk(
    archive: zipfile.ZipFile, manifest: dict[str, Any], held: dict[int, dict[str, Any]]
) -> Checked:
    number, previous = manifest["base"]["number"], manifest["base"]["hash"]
    seen = on_trust = 0
    with archive.open("chain.txt") as file:
        for line in file:
            number += 1
            link = line.decode("ascii").rstrip("\n")
            is_plain = link.startswith("=")
            following = link[1:] if is_plain else chained(previous, link)
            if one := held.get(number):
                seen += 1
                _stands(one, previous, following, is_plain)
            elif is_plain:
                on_trust += 1
            previous = following
    if seen != len(held) or seen != manifest["receipts"]:
        raise DossierFault("receipts.jsonl: the chain does not hold all of them")
    if (number, previous) != (manifest["head"]["number"], manifest["head"]["hash"]):
        raise DossierFault("chain.txt: does not lead to the end that the manifest names")
    return Checked(seen, number, previous, on_trust)


def _stands(one: dict[str, Any], previous: str, following: str, is_plain: bool) -> None:
    what = one["body"] if is_plain else digest(one["body"])
    if not one["hash"] == following == chained(previous, what) or one["previous_hash"] != previous:
        raise DossierFault(f"receipt {one['number']}: is not the one that the chain holds")
