"""The command line's words: what can be said, and what `--help` says about it."""

from __future__ import annotations

import os
import ssl
from typing import Annotated, Any

import typer

_WHERE, _HOW, _WHO = "Where StudyAI is", "How the answer is shown", "Who asks, and where it belongs"


def _engine(what: str, variable: str | None = None) -> Any:
    return typer.Option(envvar=variable, metavar="HOST:PORT", help=what, show_default=False, rich_help_panel=_WHERE)


def _authorities(file: str | None) -> str | None:
    if file and not os.access(file, os.R_OK):
        raise typer.BadParameter(f"{file} cannot be read.")
    try:
        if file:
            ssl.create_default_context(cafile=file)
    except OSError:
        raise typer.BadParameter(f"{file} holds no certificate in PEM.") from None
    return file


Url = Annotated[
    str | None,
    typer.Option(
        envvar="STUDYAI_URL",
        metavar="URL",
        help="The gateway, [bold]http://…[/bold] or [bold]https://…[/bold]; [bold]grpc://…[/bold] and "
        "[bold]grpcs://…[/bold] name an engine. Else http://127.0.0.1:3000, or the port in PORT.",
        show_default=False,
        rich_help_panel=_WHERE,
    ),
]
Grpc = Annotated[
    bool,
    typer.Option(
        "--grpc",
        metavar="",
        help="Ask the engine itself, over gRPC, instead of the gateway: at AI_ENGINE_URL, else 127.0.0.1:5001, or the "
        "port in ENGINE_PORT.",
        rich_help_panel=_WHERE,
    ),
]
Engine = Annotated[str | None, _engine("Ask this engine, as --grpc does.")]
Engines = Annotated[str | None, _engine("The engine; of several, comma-separated, each is asked.", "AI_ENGINE_URL")]
CaFile = Annotated[
    str | None,
    typer.Option(
        envvar="STUDYAI_CA_FILE",
        metavar="FILE",
        callback=_authorities,
        help="Authorities to trust for TLS, PEM, in place of the public ones.",
        rich_help_panel=_WHERE,
    ),
]
Student = Annotated[
    str,
    typer.Option(
        envvar="STUDYAI_STUDENT",
        metavar="ID",
        help="The student. A bearer token in STUDYAI_TOKEN says it already.",
        show_default=False,
        rich_help_panel=_WHO,
    ),
]
Timeout = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", help="How long all of it may take.", rich_help_panel=_HOW)
]
Json = Annotated[
    bool, typer.Option("--json", metavar="", help="One JSON object per event and line.", rich_help_panel=_HOW)
]
Plain = Annotated[
    bool, typer.Option("--plain", metavar="", help="The text as it is, on a terminal too.", rich_help_panel=_HOW)
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", help="Nothing on standard error but failures.", rich_help_panel=_HOW),
]
AnswerId = Annotated[str, typer.Argument(metavar="ID", help="The answer's id, as `ask` said it.", show_default=False)]
Picture = Annotated[
    str,
    typer.Argument(
        metavar="PICTURE", help="A JPEG, PNG, WebP or GIF; - reads it from standard input.", show_default=False
    ),
]
QuestionText = Annotated[
    str | None, typer.Argument(metavar="QUESTION", help="What you want to know.", show_default=False)
]
Session = Annotated[
    str,
    typer.Option(
        metavar="ID",
        help="The chat to go on with: what was asked before is known, and the picture may be left out.",
        show_default=False,
        rich_help_panel=_WHO,
    ),
]
Subject = Annotated[
    str,
    typer.Option(metavar="NAME", help="The school subject, such as math.", show_default=False, rich_help_panel=_WHO),
]
NoStream = Annotated[
    bool,
    typer.Option("--no-stream", metavar="", help="Take the whole answer at once.", rich_help_panel=_HOW),
]

APP = "Asks [bold]StudyAI[/bold] about a photographed page, and shows the answer while it is written."
EXITS = (
    "Exit status: 0 all went well, 1 it failed, 2 the command line is wrong, 130 Ctrl-C. "
    "The answer goes to standard output, everything else to standard error."
)
ASK = """Ask about a picture; the answer appears while it is written.

On a terminal it is rendered; in a pipe or a file it is plain text, written piece by piece.

[bold]Examples[/bold]

  studyai ask page.jpg "What is x?"
  studyai ask page.jpg "Explain step 2" --subject math --session tuesday
  studyai ask "And how do I check that?" --session tuesday
  studyai ask - "What does it say?" < page.png > notes.md

[bold]Ctrl-C[/bold] stops the answer; [bold]studyai resume ID[/bold] still shows what was written.\
 A connection that breaks is made again, and the answer goes on where it was.
"""
RESUME = """Show an answer again, from its start; live while it is being written.

Answers are kept for a while after their end: 5 minutes, unless the service was told otherwise.\
 [bold]Ctrl-C[/bold] leaves, and does not stop the answer.
"""
STOP = """Stop an answer that is being written, for everybody who reads it.

They keep the text so far. Stopping an answer that has ended changes nothing, and succeeds.
"""
DOCTOR = """Check everything an answer needs, and say what to do about what is wrong.

Reads the settings of the environment and of [bold].env[/bold] in this folder, then asks the engine (health,\
 reflection), the gateway (/healthz, /readyz, and whether it takes STUDYAI_TOKEN), the model's server (its list of\
 models) and Redis (PING). Where only a gateway elsewhere is named, no engine is asked.\
 Nothing is changed, no model is asked for an answer, and no key is shown.

Exit status 1 where something has to be put right.
"""
