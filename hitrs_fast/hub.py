"""Saving and loading by huggingface_hub's conventions, in the files of a run folder, and the model cards.

A folder (or a repository on the hub) holds `config.json` and `model.safetensors`, the encoder, which
`HiTRS.from_pretrained` reads whatever else is there; `heads.safetensors`, all other weights of a task's model, whose
metadata say which class and which options they belong to; and `README.md`, the model card.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin, hf_hub_download
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

if TYPE_CHECKING:
    from .config import HiTRSConfig
    from .encoder import HiTRS

CONFIG, HEADS = "config.json", "heads.safetensors"
ABOUT = "hitrs_fast"  # key of the heads' metadata
SHOWN = 10  # classes that a model card names


class HubModel(PyTorchModelHubMixin, library_name="hitrs_fast", tags=["skeleton", "hi-trs"]):
    """`from_pretrained`, `save_pretrained` and `push_to_hub`; weights that do not fit the model are an error."""

    @classmethod
    def _from_pretrained(cls, *, strict: bool = True, **arguments: Any) -> Any:
        return super()._from_pretrained(strict=strict, **arguments)

    def _encoder(self) -> HiTRS:
        return getattr(self, "encoder", self)  # type: ignore[arg-type]

    def generate_model_card(
        self, run: str | os.PathLike[str] | None = None, license: str = "unknown", data: str | None = None
    ) -> ModelCard:
        """The model card, as `save_pretrained` and `push_to_hub` write it with these `model_card_kwargs`.

        Args:
            run: the folder whose `run.json` and `metrics.json` tell the data and the figures, where they are there.
            license: of the weights, as the hub names it, such as "apache-2.0".
            data: what the model was trained on, instead of the name of the run's store.
        """
        info = type(self)._hub_mixin_info.model_card_data
        fields = ModelCardData(library_name=info.library_name, tags=info.tags, license=license)
        record, metrics = (_json(run, name) for name in ("run.json", "metrics.json"))
        rows = _facts(self, self._encoder().config) | {"data": data or _data(record), "licence": license}
        figures = {k: f"{v:.4g}" for k, v in metrics.items() if isinstance(v, int | float)}
        return ModelCard(f"---\n{fields.to_yaml()}\n---\n\n{_text(type(self).__name__, rows, figures)}")


Head = TypeVar("Head", bound="HubHead")


class HubHead(nn.Module, HubModel):
    """A task's model on an encoder. Its constructor takes the encoder and what `options` gives."""

    encoder: HiTRS

    def options(self) -> dict[str, Any]:
        """What the constructor takes beside the encoder."""
        raise NotImplementedError

    def _save_pretrained(self, save_directory: Path) -> None:
        self.encoder._save_pretrained(save_directory)
        config = dataclasses.asdict(self.encoder.config)
        (save_directory / CONFIG).write_text(json.dumps(config, sort_keys=True, indent=2))
        # One key: safetensors writes several in an order that changes, and equal models should be equal files.
        about = {"model": type(self).__name__, "options": self.options()}
        save_file(heads_of(self), save_directory / HEADS, {ABOUT: json.dumps(about)})

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls: type[Head],
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        map_location: str = "cpu",
        strict: bool = True,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **options: Any,
    ) -> Head:
        """The model of a folder or of a repository on the hub, without dropout.

        `options` replace what the constructor was given. Raises ValueError for the heads of another class.
        """
        # The mixin's own method would take options for the configuration's fields of the same name.
        from .encoder import HiTRS

        source = os.fspath(pretrained_model_name_or_path)
        download: dict[str, Any] = {"force_download": force_download, "token": token, "cache_dir": cache_dir}
        download |= {"local_files_only": local_files_only, "revision": revision}
        encoder = HiTRS.from_pretrained(source, map_location=map_location, strict=strict, **download)
        with safe_open(_file(source, **download), "pt", device=map_location) as file:
            about = about_of(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about.get("model") != cls.__name__:
            found = f"those of a {about['model']}" if "model" in about else "not of a model that can be rebuilt"
            raise ValueError(f"{source}: the heads in {HEADS} are {found}, and this is {cls.__name__}")
        model = cls(encoder, **(about["options"] | options)).to(map_location)  # type: ignore[call-arg]
        encoded = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
        model.load_state_dict(tensors | encoded, strict=strict)
        return model.eval()


def about_of(metadata: dict[str, str] | None) -> dict[str, Any]:
    """What heads say of themselves: `model` and `options`; nothing for heads that cannot be rebuilt."""
    return json.loads((metadata or {}).get(ABOUT, "{}"))


def heads_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights besides the encoder's."""
    state = model.state_dict()
    return {name: t.contiguous() for name, t in state.items() if not name.startswith("encoder.")}


def _file(model_id: str, **download: Any) -> str:
    if not os.path.isdir(model_id):
        return hf_hub_download(model_id, HEADS, **download)
    path = os.path.join(model_id, HEADS)
    if not os.path.isfile(path):
        raise ValueError(f"{model_id} has no {HEADS}; an encoder alone is read by HiTRS.from_pretrained")
    return path


def _json(folder: str | os.PathLike[str] | None, name: str) -> dict[str, Any]:
    file = None if folder is None else Path(folder) / name
    return json.loads(file.read_text()) if file is not None and file.exists() else {}


def _facts(model: Any, c: HiTRSConfig) -> dict[str, str]:
    centred = "centred on the first hip" + ", then kept in place" * c.in_place
    facts = {
        "layout": f"{c.layout.name}: {c.joints} joints, {c.channels} coordinates",
        "input": f"{c.stream} stream, {centred if c.center else 'not centred'}; metres",
        "clips": f"{c.window} frames, {c.dilate} apart, every {c.stride} frames",
        "sizes": f"widths {c.widths}, {c.layers} layers a level, {c.heads} heads of {c.head_dim}",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
    }
    names = getattr(model, "class_names", None)
    if names is not None:
        facts["classes"] = f"{len(names)}: {', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)}"
    return facts


def _data(record: dict[str, Any]) -> str:
    """Of a run's record the store's name, without the folders before it, and what of the store was used."""
    if "store" not in record:
        return "not stated"
    name = record["store"]["path"].rstrip("/").rpartition("/")[2]
    counts = [f"{n} {what}" for what, n in record["store"]["counts"].items()]
    parts = [f"{what} {value}" for what, value in record.get("parts", {}).items()]
    return f"{name} ({', '.join([*counts, *parts])})"


def _text(kind: str, facts: dict[str, str], figures: dict[str, str]) -> str:
    def table(rows: dict[str, str]) -> str:
        return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v.replace('|', '/')} |" for k, v in rows.items())])

    measured = table(figures) if figures else "None recorded."
    what = "encoder" if kind == "HiTRS" else "model"
    return f"""# {kind}

A Hi-TRS {what} of human skeleton sequences (Chen et al., ECCV 2022), made with hitrs_fast.

{table(facts)}

## Use
```python
import hitrs_fast as hf

model = hf.{kind}.from_pretrained("this repository, or its folder")
```

## Metrics
{measured}
"""
