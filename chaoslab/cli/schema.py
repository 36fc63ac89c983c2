"""`chaoslab schema`: the JSON Schemas of experiments, runbooks and stacks, for editors."""

from __future__ import annotations

import json

import click

from chaoslab.errors import ExitCode


@click.command("schema")
@click.option("--stack", is_flag=True, help="Of a stack: a Compose file with x-chaoslab, or an overlay such as chaoslab.yaml.")
@click.option("--runbook", is_flag=True, help="Of a runbook: a file of steps that a timeline names.")
def schema_command(stack: bool, runbook: bool) -> int:
    """Print the JSON Schema of an experiment file, a runbook, or a stack.

    \b
    chaoslab schema > experiment.schema.json
    chaoslab schema --runbook > runbook.schema.json
    chaoslab schema --stack > stack.schema.json

    Save it and refer to it in the first line of a file: `# yaml-language-server: $schema=experiment.schema.json`
    """
    from chaoslab.spec.schema import json_schema, runbook_schema, stack_schema

    if stack and runbook:
        raise click.UsageError("--stack and --runbook print different schemas; use one at a time")
    click.echo(json.dumps(stack_schema() if stack else runbook_schema() if runbook else json_schema(), indent=2))
    return ExitCode.PASS
