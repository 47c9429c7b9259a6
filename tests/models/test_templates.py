"""A model's chat template is a foreign program: it runs in a sandbox, and is not larger than templates are."""

import json
import shutil
from pathlib import Path

import pytest

from engine.inference import chat
from engine.models import catalogue, weights
from engine.models.architecture import ModelError

LONG = "{# " + "x" * weights.MAX_TEMPLATE + " #}"


@pytest.fixture
def folder(tmp_path: Path, smollm: Path) -> Path:
    """A model's folder with its tokenizer."""
    copy = tmp_path / "model"
    shutil.copytree(smollm, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    (copy / "model.safetensors").write_bytes(b"")
    return copy


def embed(folder: Path, template: object) -> Path:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": template}))
    return file


def test_a_template_of_usual_size_is_accepted(folder: Path) -> None:
    assert weights.pull(catalogue.find(str(folder))) == folder


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json", "additional_chat_templates/tools.jinja"])
def test_a_template_that_is_too_long_is_refused_with_its_file_and_size(folder: Path, name: str) -> None:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(LONG)
    with pytest.raises(ModelError, match=rf"{file}: its chat template has 65,5\d\d bytes, at most 65,536 are allowed"):
        weights.pull(catalogue.find(str(folder)))


@pytest.mark.parametrize("template", [LONG, [{"name": "default", "template": LONG}]])
def test_so_is_one_within_the_tokenizer_s_settings(folder: Path, template: object) -> None:
    file = embed(folder, template)
    with pytest.raises(ModelError, match=rf"{file}: its chat template has 65,5\d\d bytes"):
        weights.pull(catalogue.find(str(folder)))


def test_settings_that_are_not_json_are_named(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: not JSON"):
        weights.pull(catalogue.find(str(folder)))


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
    ],
)
def test_a_template_cannot_reach_python_s_own_parts_or_change_what_it_is_given(smollm: Path, template: str) -> None:
    from jinja2.exceptions import SecurityError
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm)
    tokenizer.chat_template = template
    with pytest.raises(SecurityError):
        chat.prompt_text(tokenizer, "hello")
