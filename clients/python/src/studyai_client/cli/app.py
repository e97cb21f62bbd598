"""The commands. What they can be told is in `parameters`, what they do in the modules beside."""

# No `from __future__ import annotations`: typer reads the annotations.
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TextIO, cast

import typer
from typer.core import TyperCommand

from studyai_client.cli import INTERRUPTED, answering, environment
from studyai_client.cli import parameters as say
from studyai_client.cli.connection import Connection, names_engine
from studyai_client.cli.output import Style, output_for
from studyai_client.errors import InvalidRequestError, StudyAIError
from studyai_client.options import DEFAULT_TIMEOUT, Address
from studyai_client.settings import AskOptions, check_token

_UNREADABLE = 2
"""A file that is named and cannot be read is as wrong as the rest of a command line."""
_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif"}
_MINUS = re.compile(r"-(\d|[^-].*\s| )", re.DOTALL)
"""How a question begins, and no option: -3x, or -x = 3."""

app = typer.Typer(
    help=say.APP,
    epilog=say.EXITS,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Asking(TyperCommand):
    """The command `ask`, whose question may begin with a minus."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts such a question where it is not taken for options."""
        questions = [] if "--" in args else [argument for argument in args if _MINUS.match(argument)]
        options = [argument for argument in args if argument not in questions]
        return super().parse_args(ctx, [*options, "--", *questions] if questions else args)


@app.callback(invoke_without_command=True)
def studyai(
    show_version: Annotated[
        bool, typer.Option("--version", metavar="", help="Show the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Says the version, if it is asked for; else what every command begins with."""
    if show_version:
        print(f"studyai {version('studyai-client')}")
        raise typer.Exit
    try:
        for address in environment.withheld():
            print(f"studyai: {address} of .env is left out: its token is the environment's.", file=sys.stderr)
        environment.complete()
    except (UnicodeDecodeError, OSError) as error:
        fault = f": {error.strerror}" if isinstance(error, OSError) else " is not UTF-8: save it as that."
        print(f"studyai: .env{fault}", file=sys.stderr)
        raise typer.Exit(_UNREADABLE) from None


@app.command(cls=Asking, help=say.ASK, short_help="Ask about a picture; the answer appears while it is written.")
def ask(
    picture: say.Picture,
    question: say.QuestionText = None,
    url: say.Url = None,
    grpc: say.Grpc = False,
    engine: say.Engine = None,
    ca_file: say.CaFile = None,
    student: say.Student = "",
    session: say.Session = "",
    subject: say.Subject = "",
    no_stream: say.NoStream = False,
    as_json: say.Json = False,
    plain: say.Plain = False,
    quiet: say.Quiet = False,
    timeout: say.Timeout = DEFAULT_TIMEOUT,
) -> None:
    """See the help."""
    source, prompt = _asked(picture, question, session)
    options = AskOptions(subject=subject, session_id=session, timeout=timeout)
    connection = _connection(url, engine, grpc=grpc, ca_file=ca_file, student=student)
    output = output_for(Style(as_json=as_json, plain=plain, quiet=quiet))
    _exit(lambda: answering.ask(connection, output, source, prompt, options, streaming=not no_stream))


@app.command(help=say.RESUME, short_help="Show an answer again, from its start.")
def resume(
    answer_id: say.AnswerId,
    url: say.Url = None,
    grpc: say.Grpc = False,
    engine: say.Engine = None,
    ca_file: say.CaFile = None,
    student: say.Student = "",
    as_json: say.Json = False,
    plain: say.Plain = False,
    quiet: say.Quiet = False,
    timeout: say.Timeout = DEFAULT_TIMEOUT,
) -> None:
    """See the help."""
    connection = _connection(url, engine, grpc=grpc, ca_file=ca_file, student=student)
    output = output_for(Style(as_json=as_json, plain=plain, quiet=quiet))
    _exit(lambda: answering.resume(connection, output, answer_id, timeout))


@app.command(help=say.STOP, short_help="Stop an answer that is being written.")
def stop(
    answer_id: say.AnswerId,
    url: say.Url = None,
    grpc: say.Grpc = False,
    engine: say.Engine = None,
    ca_file: say.CaFile = None,
    student: say.Student = "",
) -> None:
    """See the help."""
    connection = _connection(url, engine, grpc=grpc, ca_file=ca_file, student=student)
    _exit(lambda: answering.stop(connection, output_for(Style()), answer_id))


@app.command("doctor", help=say.DOCTOR, short_help="Check all that an answer needs, and say what to do.")
def examine(
    url: say.Url = None,
    engine: say.Engines = None,
    ca_file: say.CaFile = None,
) -> None:
    """See the help."""
    from studyai_client.cli import doctor  # noqa: PLC0415 - takes longer to load than an answer's first words

    _connection(url, None, grpc=False, ca_file=ca_file)
    _exit(lambda: doctor.run(url, engine, ca_file))


def _asked(picture: str, question: str | None, session: str) -> tuple[str | BinaryIO | None, str]:
    """Returns the picture and the question: a single argument is a question about the session's picture."""
    if question is None:
        if not session:
            raise _incomplete(picture)
        return None, picture
    if picture != "-":
        return picture, question
    if cast("TextIO | None", sys.stdin) is None or sys.stdin.isatty():
        raise typer.BadParameter("Pipe a picture into standard input.", param_hint="PICTURE")
    return sys.stdin.buffer, question


def _incomplete(only: str) -> typer.BadParameter:
    """Returns what is wrong with a single argument: a picture or a question, as it looks."""
    usage = "studyai ask PICTURE QUESTION"
    is_file = os.path.isfile(only)  # noqa: PTH113 - a question may be too long for a path
    if only == "-" or Path(only).suffix.lower() in _PICTURES or is_file:
        return typer.BadParameter(f"A question is missing: {usage}", param_hint="QUESTION")
    return typer.BadParameter(
        f"A picture is missing: {usage}, or --session ID for a chat that has one.", param_hint="PICTURE"
    )


def _connection(
    url: str | None, engine: str | None, *, grpc: bool, ca_file: str | None, student: str = ""
) -> Connection:
    connection = Connection.of(url, engine, grpc=grpc, ca_file=ca_file, student=student)
    if (grpc or engine) and not names_engine(url):
        wrong = "--engine or AI_ENGINE_URL" if engine or os.environ.get("AI_ENGINE_URL") else "ENGINE_PORT"
    else:
        wrong = "--url or STUDYAI_URL" if url else "PORT"
    try:
        Address.parse(connection.url)
        wrong = "SERVICE_TOKEN" if connection.url.startswith("grpc") else "STUDYAI_TOKEN"
        check_token(connection.token)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=wrong) from None
    return connection


def _exit(work: answering.Work) -> None:
    """Ends the command with the status that its work returns."""
    try:
        status = answering.guarded(work)
    except InvalidRequestError as error:
        raise typer.BadParameter(str(error)) from None
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        print(f"studyai: {named}{error.strerror or error}", file=sys.stderr)
        status = _UNREADABLE if error.filename else answering.FAILED
    except ImportError as error:  # an extra: what gRPC needs, or a SOCKS proxy
        print(f"studyai: {error}", file=sys.stderr)
        status = answering.FAILED
    except KeyboardInterrupt:
        status = INTERRUPTED
    except StudyAIError as error:
        output_for(Style(plain=True)).failed(error)
        status = answering.FAILED
    raise typer.Exit(status)
