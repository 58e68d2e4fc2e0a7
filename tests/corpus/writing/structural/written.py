"""What the structural writer makes of a piece of Markdown: for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence

from werkmeister.corpus.documents.document import Document
from werkmeister.corpus.documents.passages import cut
from werkmeister.corpus.documents.reading import read_bytes
from werkmeister.corpus.writing.pair import Pair
from werkmeister.corpus.writing.structural.writer import StructuralWriter
from werkmeister.passage import Passage

GERMAN = """# Betriebsanleitung Hydraulikpumpe HP 40

## Technische Daten

| Merkmal | Wert | Einheit |
| --- | --- | --- |
| Nennspannung | 230 | V |
| Schutzart | IP54 | |

## Motor

| Merkmal | Wert |
| --- | --- |
| Drehzahl | 1450 1/min |

## Parameter

| Nr. | Bezeichnung | Werkseinstellung | Bereich | Einheit | Beschreibung |
| --- | --- | --- | --- | --- | --- |
| P01 | Solldruck | 120 | 20 bis 250 | bar | Legt den Druck am Ausgang fest. |
| P02 | Nachlaufzeit | 5 | 0 bis 60 | s | |
| P03 | Betriebsart | 1 | | | 0 = Aus; 1 = Automatik; 2 = Hand |

## Inbetriebnahme

1. Drehen Sie den Hauptschalter auf EIN.
2. Warten Sie, bis die grüne LED leuchtet.
3. Stellen Sie mit dem Drehknopf den Solldruck ein.

## Filter wechseln

1. Pumpe ausschalten.
2. Alten Filter entnehmen.
3. Neuen Filter einsetzen.

## Das Öl ablassen

Schalten Sie die Pumpe aus. Öffnen Sie die Ablassschraube und lassen Sie das Öl in einen Behälter laufen.

## Störungen und Abhilfe

| Störung | Mögliche Ursache | Abhilfe |
| --- | --- | --- |
| Pumpe läuft nicht an | Sicherung ausgelöst | Sicherung prüfen und ersetzen. |
| Druck zu niedrig | Filter verstopft | Filter wechseln. |
| Druck zu niedrig | Ölstand zu niedrig | Öl bis zur Markierung nachfüllen. |

## Fehlercodes

| Fehlercode | Bedeutung |
| --- | --- |
| E01 | Motor überlastet |

## Häufige Fragen

### Wie oft muss der Filter gewechselt werden?

Der Filter muss alle 500 Betriebsstunden gewechselt werden.

## Glossar

- Solldruck: Der Druck, den die Pumpe am Ausgang halten soll.
- SPS: Speicherprogrammierbare Steuerung einer Anlage.

## Bypassventil

Ein Bypassventil ist ein Ventil, das bei Überdruck einen Teil des Öls in den Tank zurückführt.
"""

ENGLISH = """# Heidler HX-200 Operating Manual

## Overview

The HX-200 is a hydraulic press for workshops. It is heavy.

## Specifications

| Item | Value |
| --- | --- |
| Rated voltage | 400 V |
| Dimensions | 1200 x 800 x 2100 mm |
| Noise level | - |

## Alarm list

| Alarm code | Meaning | Action |
| --- | --- | --- |
| A12 | Oil temperature too high | Stop the press and let the oil cool down. |
| A13 | Door open | Close the door. |

## Replacing the filter

1. Switch off the main switch.
2. Unscrew the cap.
3. Insert the new filter.

## Adjusting the pressure

Loosen the lock nut, then turn the screw clockwise to raise the pressure. Tighten the lock nut.

## Registers

- Register 40: Speed setpoint [0..3000 rpm], default 1500
- Register 41: Ramp time, default 10

## Parameters

| Name | Min | Max | Default | Unit |
| --- | --- | --- | --- | --- |
| Stroke | 10 | 400 | 200 | mm |
| Speed | 1 | 10 | 5 | 0.1 m/s |

### Parameter 13: Local control

Defines who may operate the press.

- Default: 1 (Panel)
- Range: 0 to 2
- Unit: 0.5 s
- Options:
  - 0: Nobody
  - 1: Panel
  - 2: Everybody

## Signals

- press.ready - (bit, out) TRUE when the press may be started.
- press.fault - (bit, out) TRUE when a guard is open.

## Troubleshooting

| Symptom | Remedy |
| --- | --- |
| Press does not start | Check the emergency stop button. |

## Control

PLC stands for programmable logic controller.

## Glossary

### Ram

The moving part that presses the workpiece.

## FAQ

Q: How often should the oil be changed?
A: Change the oil every 2000 hours.
"""


def document_of(text: str, budget: int = 256) -> tuple[Document, list[Passage]]:
    """A document read from Markdown, with its passages; a word counts as one token."""
    document = read_bytes(text.encode(), "manual.md")
    return document, cut(document, lambda texts: [len(one.split()) for one in texts], budget=budget)


def pairs_of(text: str, *, forms: int = 6, per_passage: int = 0, budget: int = 256) -> list[Pair]:
    """The pairs of a document of Markdown."""
    document, passages = document_of(text, budget)
    return list(StructuralWriter(forms=forms, per_passage=per_passage).write(document, passages))


def answers_to(pairs: Sequence[Pair], *words: str) -> set[str]:
    """The answers to the questions that hold all of these words."""
    return {pair.answer for pair in pairs if all(word in pair.question for word in words)}
