"""A check as JUnit XML, which CI systems show: a test case for each quantity."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from fedsim.results.regress.check import Check
from fedsim.results.regress.finding import Finding


def junit(check: Check, *, name: str) -> str:
    """The text of the file; ``name`` is the baseline's."""
    suite = ElementTree.Element("testsuite", name=f"fedsim check {name}")
    _case(suite, "same bytes or no harm", failure=check.line if check.status == "regressed" else None)
    _case(suite, "what must hold", failure="\n".join(check.broken) or None)
    for finding in check.findings:
        is_worse = finding.verdict in ("regressed", "changed")
        is_open = finding.verdict == "undecided"
        _case(
            suite, finding.quantity, failure=_told(finding) if is_worse else None,
            skipped=_told(finding) if is_open else None,
        )  # fmt: skip
    cases = list(suite)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    suite.set("errors", "0")
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, name: str, *, failure: str | None = None, skipped: str | None = None) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname="fedsim.check", name=name)
    if failure is not None:
        ElementTree.SubElement(case, "failure", message=failure.splitlines()[0]).text = failure
    elif skipped is not None:
        ElementTree.SubElement(case, "skipped", message=skipped)


def _told(finding: Finding) -> str:
    interval = "" if math.isnan(finding.low) else f" ({finding.low:.6g} … {finding.high:.6g})"
    moved = f"{finding.before:.6g} → {finding.after:.6g}, difference {finding.difference:.6g}{interval}"
    return f"{finding.verdict}: {moved}, margin {finding.margin:.6g}"
