"""The verbs of `%aiaas`, one module each."""

from __future__ import annotations

from aiaas_magics.commands import (
    attach,
    cancel,
    compare,
    dataset,
    datasets,
    diff,
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
    profile,
    promote,
    publish,
    register,
    resume,
    retire,
    rollback,
    run,
    runs,
    sql,
    sweep,
    tag,
    traffic,
    train,
)
from aiaas_magics.commands.command import Command

COMMANDS: dict[str, Command] = {
    module.COMMAND.verb: module.COMMAND
    for module in (
        help,
        datasets,
        dataset,
        register,
        preview,
        profile,
        load,
        sql,
        tag,
        diff,
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
        compare,
        traffic,
        promote,
        rollback,
        retire,
        keys,
        lineage,
    )
}
"""Verb → command, in the order of a day's work."""
