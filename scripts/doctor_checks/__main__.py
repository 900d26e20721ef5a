"""`scripts/doctor`: every check, in plain words; exit code 1 when something is wrong."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.called_from import go_back
from scripts.doctor_checks.findings import Finding
from scripts.doctor_checks.machine import check_machine, check_packages
from scripts.doctor_checks.model import check_model
from scripts.doctor_checks.picture import ask_about_a_picture
from scripts.doctor_checks.proof import check_proof
from scripts.doctor_checks.service import Service, check_service
from scripts.installation import command_name

BUILT_IN_MODEL = Path(__file__).resolve().parents[2] / "worker" / "demo_model"


def main(argv: Sequence[str]) -> int:
    arguments = parse_arguments(argv)
    problems = 0
    for finding in examine(arguments):
        print(finding, flush=True)
        problems += finding.wrong
    if problems:
        print(f"\n{problems} thing{'s' if problems > 1 else ''} to mend.")
    else:
        print("\nNothing is wrong.")
    return 1 if problems else 0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=command_name("doctor"),
        description="Tell what is wrong with a set-up and how to mend it.",
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the gateway")
    parser.add_argument("--key", default=os.environ.get("OPENAI_API_KEY"), help="its API key")
    parser.add_argument(
        "--model-path", type=Path, default=BUILT_IN_MODEL, help="a model's folder (default: demo)"
    )
    parser.add_argument(
        "--model",
        type=Path,
        help="also load this model's folder and prove that its answers are right",
    )
    parser.add_argument(
        "--run", action="store_true", help="ask about one picture, and say what is slow"
    )
    return parser.parse_args(argv)


def examine(arguments: argparse.Namespace) -> Iterator[Finding]:
    yield from check_machine()
    yield from check_packages()
    folder = list(check_model(arguments.model or arguments.model_path))
    yield from folder
    if arguments.model and not any(finding.wrong for finding in folder):
        yield from check_proof(arguments.model)
    service = Service(arguments.url, arguments.key)
    of_service = list(check_service(service, needed=arguments.run))
    yield from of_service
    if arguments.run and not any(finding.wrong for finding in of_service):
        yield from ask_about_a_picture(service)


if __name__ == "__main__":
    go_back()
    sys.exit(main(sys.argv[1:]))
