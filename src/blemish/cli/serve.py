"""`blemish serve`: a service with a history and a page to review on; its tokens, backups."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.errors import MissingExtraError

if TYPE_CHECKING:
    from blemish.serve.line import LineConfig

__all__ = ["serve"]

serve = typer.Typer(help="Run a service: HTTP, a page to review on, cameras, folders, MQTT.", no_args_is_help=False)
token = typer.Typer(help="Tokens that requests need.", no_args_is_help=True)
serve.add_typer(token, name="token")

ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The line's configuration (TOML).")]
DataFolderOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of images and database. Default: blemish-data.")
]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", metavar="URL", help="PostgreSQL instead of SQLite in the data folder.")
]


@serve.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    *,
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. Default: 8765.")] = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
    workers: Annotated[int | None, typer.Option(help="Processes with a model. Default: one a core, up to 4.")] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", metavar="FILE", help="Profile of the product (blemish learn).")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="A simulated line with rendered parts; opens the page.")] = False,
    log: Annotated[str, typer.Option(help="Least level of log lines: debug, info, warning.")] = "info",
) -> None:
    """Serve until Ctrl-C."""
    if context.invoked_subcommand is not None:
        return
    with _extra():
        from blemish.serve.server import JsonLines, run_service
    line = _line(config, host=host, port=port, data=data, database=database, workers=workers)
    if profile is not None:
        from dataclasses import replace

        line = replace(line, inspect=line.inspect.with_settings(profile=str(profile.expanduser().resolve())))
    if line.inspect.references.profile is not None:
        from blemish.profiles import read_profile

        read_profile(line.inspect.references.profile)  # what cannot be read is refused now, not at the first image
    if demo:
        from blemish.serve.demo import with_demo

        line = with_demo(line)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=log.upper(), handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)

    def started(address: str, service: Any) -> None:
        who = "" if service.access.any_tokens() else " (no token exists: this machine needs none)"
        typer.echo(f"{address}{who}; data in {service.folder.path}")
        if demo:
            import webbrowser

            webbrowser.open(address)

    run_service(line, started=started)


@token.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Who uses it, as a station.")],
    *,
    scope: Annotated[list[str], typer.Option(help="read, inspect, review or admin; may be given several times.")],
    days: Annotated[float | None, typer.Option(help="Days that it is valid. Default: until it is ended.")] = None,
    config: ConfigFile = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
) -> None:
    """Make a token and show it this once. From the first one on, every request needs one."""

    def make(access: Any, db: Any) -> str:
        from blemish.serve.auditing import note

        made = access.create(name, scope, days=days)
        note(db, "command line", "make_token", name, {"scopes": scope})
        return str(made)

    typer.echo(_with_access(config, data, database, make))


@token.command("list")
def list_tokens(*, config: ConfigFile = None, data: DataFolderOption = None, database: DatabaseOption = None) -> None:
    """Show all tokens, without their secrets."""
    for each in _with_access(config, data, database, lambda access, _: access.listed()):
        state = "ended" if each["revoked"] else f"until {each['expires']}" if each["expires"] else "valid"
        typer.echo(f"{each['id']}  {each['name']}  {','.join(each['scopes'])}  {state}")


@token.command("revoke")
def revoke_token(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As `token list` shows it.")],
    *,
    config: ConfigFile = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
) -> None:
    """End a token, and the sessions that were opened with it."""

    def end(access: Any, db: Any) -> str:
        from blemish.serve.auditing import note

        name = access.revoke(token_id)
        note(db, "command line", "end_token", token_id)
        return str(name)

    typer.echo(f"ended: {_with_access(config, data, database, end)}")


@serve.command("backup")
def back_up_data(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The tar file to write.")],
    *,
    config: ConfigFile = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
) -> None:
    """Write database, images and profiles into one file; the service may run meanwhile."""
    line = _line(config, data=data, database=database)
    with _extra():
        from blemish.serve.backup import back_up
    typer.echo(f"{back_up(Path(line.serve.data), line.serve.database, out)} files: {out}")


@serve.command("restore")
def restore_data(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `blemish serve backup`.")],
    *,
    config: ConfigFile = None,
    data: DataFolderOption = None,
    database: DatabaseOption = None,
) -> None:
    """Put a backup into a new data folder."""
    line = _line(config, data=data, database=database)
    with _extra():
        from blemish.serve.backup import restore
    restore(archive, Path(line.serve.data), line.serve.database)
    typer.echo(f"restored: {line.serve.data}")


def _line(path: Path | None, **given: Any) -> LineConfig:
    """The configuration of a file, with what the command line says in its place."""
    from dataclasses import replace

    from blemish.serve.line import LineConfig

    line = LineConfig() if path is None else LineConfig.from_toml(path)
    values: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value for name, value in given.items() if value is not None
    }
    return replace(line, serve=replace(line.serve, **values))


def _with_access(config: Path | None, data: Path | None, database: str | None, use: Callable[[Any, Any], Any]) -> Any:
    """What `use` makes of the tokens of a service, which may run meanwhile."""
    from blemish.io.atomic import make_folder

    line = _line(config, data=data, database=database)
    with _extra():
        from blemish.serve.access import Access
        from blemish.serve.database.opening import open_database, sqlite_url
    folder = Path(line.serve.data).expanduser().resolve()
    if line.serve.database is None:
        make_folder(folder)
    db = open_database(line.serve.database or sqlite_url(folder))
    try:
        return use(Access(db), db)
    finally:
        db.dispose()


class _extra:  # noqa: N801  (a context manager that reads as words)
    """Says which extra to install where one of its packages is missing."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("blemish"):
            raise MissingExtraError(str(error.name), "serve", "the service") from error
