"""The `fusion-ner` command: its table of subcommands, and that asking for help stays light."""

import subprocess
import sys

import pytest

from pipeline import command_line


@pytest.mark.parametrize("name", sorted(command_line.SUBCOMMANDS))
def test_help_of_a_subcommand_imports_no_heavy_package(name):
    program = (
        "import sys\n"
        "from pipeline.command_line import main\n"
        "try:\n"
        f"    main([{name!r}, '--help'])\n"
        "except SystemExit as exit:\n"
        "    assert exit.code == 0, exit.code\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'kfp', 'keras', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    assert name in process.stdout


def test_an_unknown_subcommand_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_info:
        command_line.main(["tran"])
    assert exit_info.value.code == 2
    assert "invalid choice: 'tran'" in capsys.readouterr().err
