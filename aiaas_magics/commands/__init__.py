"""The verbs of `%aiaas`, one module each."""

from __future__ import annotations

from aiaas_magics.commands import (
    attach,
    cancel,
    datasets,
    endpoint,
    endpoints,
    help,  # noqa: A004  (the verb's name)
    keys,
    lineage,
    load,
    logs,
    metrics,
    model,
    models,
    predict,
    preview,
    publish,
    register,
    resume,
    retire,
    run,
    runs,
    sweep,
    train,
    usage,
)
from aiaas_magics.commands.command import Command

COMMANDS: dict[str, Command] = {
    module.COMMAND.verb: module.COMMAND
    for module in (
        help,
        datasets,
        register,
        preview,
        load,
        train,
        sweep,
        runs,
        run,
        attach,
        logs,
        metrics,
        cancel,
        resume,
        models,
        model,
        publish,
        endpoints,
        endpoint,
        predict,
        retire,
        keys,
        lineage,
        usage,
    )
}
"""Verb → command, in the order of a day's work."""
