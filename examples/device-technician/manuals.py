"""One device as the manual a technician would hold: Markdown with instructions and configuration parameters."""

from __future__ import annotations

import re
from typing import Any

SECTIONS = (
    ("inclusion", "Adding the device to a network (inclusion)"),
    ("exclusion", "Removing the device from a network (exclusion)"),
    ("reset", "Factory reset"),
    ("wakeup", "Waking up the device"),
)
TABLE_ROWS = 8  # more parameters get a section each, as printed manuals do
TABLE_CELL = 100  # characters; a longer description or list of options does too
_LEGAL = re.compile(
    r"\s*\([^)]*\)|,?\s+(?:Co\.?,?\s*)?(?:Ltd\.?|LLC|L\.L\.C\.|Inc\.?|GmbH|AG|S\.?L\.?U?\.?|S\.?A\.?|A/S|B\.?V\.?|Corp\.?"
    r"|Corporation|Limited|Pty\.?|A[Bb]|Oy|SpA|S\.p\.A\.|S\.r\.l\.)(?=[\s,]|$)"
)
_LEGAL_END = re.compile(
    r"(?:\s*[&+]\s*Co\.?\s*KG|\s*\+\s*Co|(?<!&)[\s,.]+(?:Co|Pte|Pty|Ltd|KG|SAS|AS|NV|ApS))[\s,.]*$", re.IGNORECASE
)
_STEP = re.compile(r"(?:Step\s+)?(\d+)\s*[.):]\s+(?=\S)", re.IGNORECASE)


def instructions(device: dict[str, Any]) -> dict[str, str]:
    """The texts that say what to do, by kind, where there are any."""
    metadata = device.get("metadata") or {}
    return {kind: metadata[kind].strip() for kind, _ in SECTIONS if str(metadata.get(kind) or "").strip()}


def parameters(device: dict[str, Any]) -> list[dict[str, Any]]:
    """The configuration parameters that a person may set or read."""
    return [p for p in device.get("paramInformation") or [] if p.get("label") and not p.get("hidden")]


def name(device: dict[str, Any]) -> str:
    """Maker and model, as people call it: without the maker's legal form."""
    maker = _LEGAL.sub("", one_line(device["manufacturer"])).strip(" ,.")
    while (shorter := _LEGAL_END.sub("", maker)) and shorter != maker:
        maker = shorter
    model = one_line(device["label"])
    return model if model.casefold().startswith(maker.casefold()) else f"{maker} {model}"


def manual(device: dict[str, Any], title: str) -> str:
    """The whole manual."""
    parts = [f"# {title}", one_line(device.get("description", "")), "## Product data", product_data(device)]
    texts = instructions(device)
    for kind, heading in SECTIONS:
        if kind in texts:
            parts += [f"## {heading}", prose(texts[kind])]
    groups = associations(device)
    if groups:
        parts += ["## Association groups", groups]
    rows = parameters(device)
    if rows:
        parts += ["## Configuration parameters", *parameter_parts(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def one_line(text: str) -> str:
    """Text without line breaks and doubled spaces."""
    return " ".join(text.split())


def prose(text: str) -> str:
    """Instructions as Markdown: numbered lines are a list, a line that goes on joins its own, others are paragraphs."""
    items: list[tuple[int, str]] = []  # number of the step (0: none), text
    fresh = True
    for line in (line.strip() for line in text.splitlines()):
        step = _STEP.match(line)
        if not line:
            fresh = True
        elif step:
            items.append((int(step.group(1)), line[step.end() :]))
            fresh = False
        elif items and not fresh and not items[-1][1].endswith((".", "!", "?", ":")) and line[0].islower():
            items[-1] = (items[-1][0], f"{items[-1][1]} {line}")
        else:
            items.append((0, line))
            fresh = False
    blocks: list[str] = []
    before = 0
    for number, line in items:
        shown = f"{number}. {line}" if number else escape(line)
        blocks.append(("\n" if number and before else "\n\n" if blocks else "") + shown)
        before = number
    return "".join(blocks)


def escape(line: str) -> str:
    """A bulleted line as an item of a list; one that Markdown would take for a heading or quotation as text."""
    return re.sub(r"^([#>])(?=\s)", r"\\\1", re.sub(r"^[•*+–-]\s+", "- ", line))


def product_data(device: dict[str, Any]) -> str:
    """Maker, model, kind, identifiers and firmware as a table of two columns."""
    rows = [
        ("Manufacturer", device["manufacturer"]),
        ("Model", device["label"]),
        ("Product type", device.get("description", "")),
    ]
    first = (device.get("devices") or [{}])[0]
    if first.get("productType"):
        rows.append(("Z-Wave product ID", f"{first['productType']}:{first['productId']}"))
    firmware = device.get("firmwareVersion") or {}
    if firmware and (firmware["min"], firmware["max"]) != ("0.0", "255.255"):
        ends = firmware["max"] == "255.255"
        rows.append(("Firmware", f"{firmware['min']} or later" if ends else f"{firmware['min']} to {firmware['max']}"))
    return table(("Property", "Value"), [row for row in rows if row[1]])


def associations(device: dict[str, Any]) -> str:
    """The association groups as a table, or nothing."""
    groups = device.get("associations") or {}
    rows = [
        (number, group.get("label", ""), str(group.get("maxNodes", "")), "yes" if group.get("isLifeline") else "no")
        for number, group in groups.items()
        if group.get("label")
    ]
    return table(("Group", "Name", "Node limit", "Lifeline"), rows) if rows else ""


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table without the columns in which nothing stands."""
    kept = [at for at in range(len(head)) if any(row[at] for row in rows)]
    lines = [[head[at] for at in kept], ["---"] * len(kept)]
    lines += [[one_line(row[at]).replace("|", "\\|") for at in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def parameter_parts(rows: list[dict[str, Any]]) -> list[str]:
    """A table where the parameters are few and short, else a section each."""
    cells = [cell for row in rows for cell in (options(row), row.get("description", ""))]
    if len(rows) <= TABLE_ROWS and max(map(len, cells)) <= TABLE_CELL:
        head = ("Number", "Name", "Default", "Range", "Unit", "Options", "Description")
        return [table(head, [_row(row) for row in rows])]
    return [part for row in rows for part in _section(row)]


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    texts = (default(row), bounds(row), row.get("unit", ""), options(row), row.get("description", ""))
    return (str(row["#"]), row["label"], *texts)


def _section(row: dict[str, Any]) -> list[str]:
    unit = one_line(row.get("unit", ""))
    plain = unit if unit and not any(letter.isdigit() for letter in unit) else ""
    lines = [
        ("Default", with_unit(default(row), plain)),
        ("Range", with_unit(bounds(row), plain)),
        ("Unit", unit if unit and not plain else ""),
        ("Access", "read only" if row.get("readOnly") else "write only" if row.get("writeOnly") else ""),
    ]
    items = [f"- {label}: {value}" for label, value in lines if value]
    if row.get("options"):
        items += ["- Options:", *(f"  - {o['value']}: {one_line(o['label'])}" for o in row["options"])]
    heading = f"### Parameter {row['#']}: {one_line(row['label'])}"
    return [heading, escape(one_line(row.get("description", ""))), "\n".join(items)]


def with_unit(value: str, unit: str) -> str:
    """The value with its unit; what is named in brackets, 0 (Off), needs none."""
    return f"{value} {unit}" if value and unit and not value.endswith(")") else value


def default(row: dict[str, Any]) -> str:
    """The default value, with the option's name where it is one."""
    value = row.get("defaultValue")
    named = {option["value"]: one_line(option["label"]) for option in row.get("options") or []}
    return "" if value is None else f"{value} ({named[value]})" if value in named else str(value)


def bounds(row: dict[str, Any]) -> str:
    """The least and the greatest value; nothing where the two are not both known."""
    low, high = row.get("minValue"), row.get("maxValue")
    return f"{low} to {high}" if low is not None and high is not None and low != high else ""


def options(row: dict[str, Any]) -> str:
    """The values that have a name, in one line."""
    return "; ".join(f"{option['value']} = {one_line(option['label'])}" for option in row.get("options") or [])
