"""`scripts/doctor`: every check, in plain words; exit code 1 when something is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.called_from import go_back
from scripts.doctor_checks.catalogue import check_catalogue, has_catalogue
from scripts.doctor_checks.findings import Finding, note, wrong
from scripts.doctor_checks.machine import check_machine, check_packages
from scripts.doctor_checks.model import check_model, check_served_model
from scripts.doctor_checks.picture import ask_about_a_picture
from scripts.doctor_checks.proof import check_proof
from scripts.doctor_checks.service import Service, check_service
from scripts.installation import command_name
from scripts.own_server import OwnServer, server_flags
from shared.settings import OneLineParser, SettingsError


def main(argv: Sequence[str]) -> int:
    try:
        own = OwnServer()
        for oddity in own.check():
            print(note(f"{oddity}.", "Mend the line, or take it out."))
        arguments = parse_arguments(own, argv)
        arguments.key = arguments.key or own.api_key(arguments.url)
    except SettingsError as error:
        print(wrong(f"{error}.", "Mend that first: every command reads it."))
        return 1
    problems = 0
    for finding in examine(own, arguments):
        print(finding, flush=True)
        problems += finding.wrong
    if problems:
        print(f"\n{problems} thing{'s' if problems > 1 else ''} to mend.")
    else:
        print("\nNothing is wrong.")
    return 1 if problems else 0


def parse_arguments(own: OwnServer, argv: Sequence[str]) -> argparse.Namespace:
    parser = OneLineParser(
        prog=command_name("doctor"),
        description="Tell what is wrong with a set-up and how to mend it.",
        parents=[server_flags(own)],
    )
    parser.add_argument(
        "--model-path",
        type=Path,
        help="a model's folder [default: the models of the settings here, else the demo model]",
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


def examine(own: OwnServer, arguments: argparse.Namespace) -> Iterator[Finding]:
    yield from check_machine()
    yield from check_packages()
    model = arguments.model or arguments.model_path
    folders = list(check_model(model) if model else _check_own_models(own))
    yield from folders
    if arguments.model and not any(finding.wrong for finding in folders):
        yield from check_proof(arguments.model)
    service = Service(arguments.url, arguments.key)
    of_service = list(check_service(service, own.worker_port, needed=arguments.run))
    yield from of_service
    if arguments.run and not any(finding.wrong for finding in of_service):
        yield from ask_about_a_picture(service)


def _check_own_models(own: OwnServer) -> Iterator[Finding]:
    return check_catalogue(own) if has_catalogue(own) else check_served_model(own)


if __name__ == "__main__":
    go_back()
    sys.exit(main(sys.argv[1:]))
