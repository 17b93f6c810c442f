"""Installs fusion-ner: the packages of the tree as they stand, and the console command `fusion-ner`."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements() -> list[str]:
    """The direct requirements of requirements.in, up to the section for tests and checks."""
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").partition("# Tests and checks.")[0].splitlines()
    return [line for line in lines if line and not line.startswith("#")]


setup(
    name="fusion-ner",
    version="0.1.0",
    description="Named-entity tagging on TensorFlow: a dynamic-fusion BERT tagger from annotated text to TF Serving",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.11",
    packages=find_packages(include=["components*", "pipeline*", "schemas*", "serving*", "kubeflow*"]),
    package_data={"": ["*.pbtxt", "*.json", "*.proto", "*.yaml", "config/*.pbtxt", "py.typed"]},
    install_requires=requirements(),
    entry_points={"console_scripts": ["fusion-ner = pipeline.command_line:main"]},
)
