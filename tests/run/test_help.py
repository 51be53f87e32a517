"""What `python -m harness.run --help` prints."""

from harness.run import conf, launcher_schema, overrides
from harness.run import help as manual
from harness.runfolder.meanings import meanings


def test_every_key_group_engine_and_example_is_listed() -> None:
    text = manual.help_text([])
    for key in (*meanings(), *overrides.COMMAND_KEYS):
        assert f"  {key} " in text
    for group, options in conf.groups().items():
        assert ", ".join(options) in text, group
    for kind, schemas in launcher_schema.SCHEMAS.items():
        assert f"hydra/{kind}: {', '.join(schemas)}\n" in text
        for name in schemas:
            for key, meaning in launcher_schema.keys(kind, name).items():
                assert f" {key} " in text
                assert meaning in text
    assert text.count("python -m harness.run ") >= 4


def test_defaults_are_shown() -> None:
    lines = {line.split()[0]: line for line in manual.help_text([]).splitlines() if line.split()}
    assert lines["batch"].endswith("[32]")
    assert lines["max_norm"].endswith("[null]")
    assert lines["dataset.num_val"].endswith("[5000]")
    assert lines["optimizer.beta1"].endswith("[see conf/optimizer]")
