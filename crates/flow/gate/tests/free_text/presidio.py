"""Presidio's pattern recognisers on the data sets that `free_text/shared.rs` measures, by the same measure: a value is found when none of
its letters and digits is left; a place is right when it touches one. No language model: names and places are not looked for.

Usage: pip install presidio-analyzer==2.2.366, then: python presidio.py <folder with phi_notes and phi_presidio>
"""

import collections
import gzip
import json
import sys
import time

from presidio_analyzer import PatternRecognizer, predefined_recognizers

# Recognisers of other countries begin with these.
NATIONAL = ("Au", "Br", "Ca", "De", "Es", "Fi", "In", "It", "Kr", "Ng", "Ph", "Pl", "Se", "Sg", "Th", "Tr", "Uk", "Za")


def recognisers():
    """Those for English and for the United States that need no model, with what each finds by itself."""
    for name in sorted(vars(predefined_recognizers)):
        kind = getattr(predefined_recognizers, name)
        if not (isinstance(kind, type) and issubclass(kind, PatternRecognizer) and kind is not PatternRecognizer):
            continue
        if name.startswith(NATIONAL) and not name.startswith(("Iban", "Ip")):
            continue
        try:
            recogniser = kind()
        except Exception as error:  # One that needs something of its own.
            print(f"  left out {name}: {type(error).__name__}")
            continue
        if recogniser.supported_language == "en":
            yield recogniser
    yield predefined_recognizers.PhoneRecognizer()


def notes(folder):
    with gzip.open(f"{folder}/phi_notes/notes.jsonl.gz", "rt") as lines:
        for note in map(json.loads, lines):
            yield note["text"], [(s["start"], s["end"], s["label"]) for s in note["spans"]]


def sentences(folder):
    with gzip.open(f"{folder}/phi_presidio/synth_dataset_v2.json.gz", "rt") as text:
        for line in json.load(text):
            spans = [(s["start_position"], s["end_position"], s["entity_type"]) for s in line["spans"]]
            yield line["full_text"], spans


def measure(title, texts, finders):
    recall, found, right, size, spent = collections.defaultdict(lambda: [0, 0]), 0, 0, 0, 0.0
    for text, spans in texts:
        started = time.process_time()
        places = [
            (place.start, place.end)
            for finder in finders
            for place in finder.analyze(text=text, entities=finder.supported_entities, nlp_artifacts=None) or []
        ]
        spent += time.process_time() - started
        size += len(text.encode())
        covered = {at for start, end in places for at in range(start, end)}
        planted = {at for start, end, _ in spans for at in range(start, end)}
        for start, end, label in spans:
            recall[label][0] += all(at in covered for at in range(start, end) if text[at].isalnum())
            recall[label][1] += 1
        found += len(places)
        right += sum(any(at in planted for at in range(start, end)) for start, end in places)
    print(f"\n{title}")
    for label, (hit, everything) in sorted(recall.items()):
        print(f"  recall    {label:<18} {100 * hit / everything:6.2f} % of {everything}")
    print(f"  precision of all {100 * right / max(found, 1):6.2f} % of {found}; {size / 1e6 / spent:.2f} MB/s of one core")


def main():
    finders = list(recognisers())
    print("recognisers:", ", ".join(type(finder).__name__ for finder in finders))
    measure("phi_notes, Presidio's patterns", notes(sys.argv[1]), finders)
    measure("phi_presidio, Presidio's patterns", sentences(sys.argv[1]), finders)


if __name__ == "__main__":
    main()
