import typer
models = typer.Typer()
@models.callback(invoke_without_command=True)
def _l() -> None: pass
