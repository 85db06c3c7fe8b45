"""``python -m demo up | down | clean | demo | status``: what the Makefile calls."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

import psycopg
from rich.console import Console

from demo import story
from demo.settings import Settings
from demo.stack import Stack
from schema_change.core.errors import ConfigurationError, SchemaChangeError

log = logging.getLogger("demo")


def up(stack: Stack, console: Console) -> int:
    """Start everything, or what is missing of it, and leave it running."""
    with stack.exclusive():
        _start(stack, console)
    console.print(f"\nAirflow      {stack.airflow.url}", markup=False, highlight=False)
    for user, password in stack.airflow.passwords.items():
        console.print(f"  log in as  {user:<6} {password}", markup=False, highlight=False)
    parameters = stack.weather.parameters
    console.print(
        f"PostgreSQL   postgresql://{parameters['user']}@{parameters['host']}:{parameters['port']}/{stack.weather.database}"
        "\nstop it with: make down",
        markup=False,
        highlight=False,
    )
    return 0


def down(stack: Stack, console: Console) -> int:
    """Stop everything that was started."""
    with stack.exclusive():
        stack.stop()
    console.print("stopped")
    return 0


def clean(stack: Stack, console: Console) -> int:
    """Stop everything and delete the demo's folder."""
    with stack.exclusive():
        stack.remove()
    console.print(f"removed {stack.home}", markup=False, highlight=False)
    return 0


def status(stack: Stack, console: Console) -> int:
    """Say what runs; exit code 0 when everything does."""
    console.print(f"PostgreSQL    {'running' if stack.server.running else 'stopped'}", highlight=False)
    known = {process.name: process.running for process in stack.airflow.processes}
    for name, alive in known.items():
        console.print(f"{name:<13} {'running' if alive else 'stopped'}", highlight=False)
    if not known:
        console.print("Airflow       stopped")
    return 0 if stack.running else 1


def demo(stack: Stack, console: Console) -> int:
    """Run both changes on a fresh database; exit code 0 when everything is proven. What was up before stays up."""
    with stack.exclusive():
        was_up = stack.running
        if was_up:
            _refuse_active_runs(stack)
        try:
            if not was_up:
                stack.reset()
            _start(stack, console, fresh=True)
            done = story.tell(stack, console)
        finally:
            if not was_up:
                console.print("\nstopping …", highlight=False)
                stack.stop()
    if was_up:
        console.print("the stack of make up goes on", highlight=False)
    console.print("\n[bold green]the demo succeeded[/]" if done else "\n[bold red]the demo failed[/]", highlight=False)
    return 0 if done else 1


def _refuse_active_runs(stack: Stack) -> None:
    """Raise ConfigurationError while a run is at work on the database that is about to be made anew."""
    with stack.airflow.api() as api:
        active = [run for run in api.unfinished_runs() if run[0] in (story.LANDS, story.FAILS)]
    if active:
        raise ConfigurationError(
            f"{active[0][0]} is running ({active[0][1]})", hint="wait for it to end, or stop everything with make down"
        )


def _start(stack: Stack, console: Console, *, fresh: bool = False) -> None:
    with console.status("starting PostgreSQL"):
        stack.start_server()
    with console.status("loading a year of weather and flights"):
        counts = stack.load_weather() if fresh else stack.ensure_weather()
    console.print(
        f"PostgreSQL {stack.server.installation.major} on port {stack.settings.pg_port}: "
        + ", ".join(f"{rows:,} {table}" for table, rows in counts.items()),
        highlight=False,
        soft_wrap=True,
    )
    with console.status("starting Airflow (half a minute the first time)"):
        stack.start()
        stack.airflow.wait_for_dags(story.LANDS, story.FAILS)
    console.print(f"Airflow on {stack.airflow.url}: both changes are DAGs", highlight=False)


COMMANDS: dict[str, Callable[[Stack, Console], int]] = {
    command.__name__: command for command in (up, down, clean, demo, status)
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; print an error as one line with its remedy, never as a stack trace."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="The demo: PostgreSQL, Airflow, two changes.")
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(arguments).command
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    console = Console()
    try:
        return COMMANDS[command](Stack(Settings.from_environment()), console)
    except KeyboardInterrupt:
        console.print("\ninterrupted; make down stops what still runs", highlight=False)
        return 130
    except (SchemaChangeError, psycopg.Error, OSError) as error:
        console.print(f"make {command}: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
