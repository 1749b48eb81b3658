"""Loading ensembles: what is wrong with one, and what follows from a load or an unload of one of its models.

The first are on the server `graph_broken`, the others on `control`, in explicit mode, with models of their own. (An
ensemble of an ensemble that takes itself as a step ends Triton 2.51.)
"""

from __future__ import annotations

from ..messages import infer, tensor
from ..repository import adding_model, index, load, ready, unload
from ..steps import AwaitState, Case, Http, RemoveTree, Step, WriteFile

_BROKEN = (
    "good",
    "unknown_model",
    "unknown_models",
    "unloadable",
    "of_unloadable",
    "of_broken_ensemble",
    "of_two_broken",
    "cycle_a",
    "cycle_b",
    "cycle_self",
    "input_not_mapped",
    "input_not_there",
    "output_not_there",
    "type_of_input",
    "type_of_output",
    "shape_of_input",
    "shape_of_output",
    "shape_of_steps",
    "batch_too_large",
    "batch_of_plain",
    "missing_version",
    "mixed_streams",
    "mixed_outputs",
    "unused_input",
    "unwritten_output",
    "unused_tensor",
    "written_twice",
    "unwritten_tensor",
    "no_steps",
    "with_instances",
    "with_backend",
    "with_batcher",
    "with_warmup",
    "no_model_name",
    "no_output_map",
    "no_version_folder",
)

_IN = [tensor("IN", "INT32", [1], [1])]

CONFIG = """backend: "python"
input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""

RAISES = "class TritonPythonModel:\n    def initialize(self, args):\n        raise RuntimeError('not today')\n"


def ensemble_config(*models: str, version: int = -1) -> str:
    tensors = ["IN", *(f"T{index}" for index in range(1, len(models))), "OUT"]
    steps = ",\n".join(
        f'    {{ model_name: "{model}" model_version: {version} input_map {{ key: "IN" value: "{tensors[index]}" }}'
        f' output_map {{ key: "OUT" value: "{tensors[index + 1]}" }} }}'
        for index, model in enumerate(models)
    )
    return (
        'platform: "ensemble"\n'
        'input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]\n'
        'output [ { name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] } ]\n'
        f"ensemble_scheduling {{\n  step [\n{steps}\n  ]\n}}\n"
    )


def model_files(name: str, number: int = 1, version: int = 1) -> tuple[Step, ...]:
    return (
        WriteFile(f"{name}/config.pbtxt", CONFIG),
        WriteFile(f"{name}/{version}/model.py", adding_model(number, "IN", "OUT")),
    )


def ensemble_files(name: str, *models: str, version: int = -1) -> tuple[Step, ...]:
    return (
        WriteFile(f"{name}/config.pbtxt", ensemble_config(*models, version=version)),
        WriteFile(f"{name}/1/notes.txt", "an ensemble has no files"),
    )


def gone(*models: str) -> tuple[Step, ...]:
    """Unload models, wait for the end of each, and remove their folders."""
    return (
        *(unload(model) for model in models),
        *(AwaitState(model, "UNAVAILABLE") for model in models),
        *(RemoveTree(model) for model in models),
    )


def _case(name: str, *steps: tuple[Step, ...] | Step) -> Case:
    flat: list[Step] = []
    for step in steps:
        flat.extend(step if isinstance(step, tuple) else (step,))
    return Case(f"ensemble-{name}", tuple(flat), "control")


_LOADS = (
    _case(
        "load-brings-its-models",
        model_files("elb_step"),
        ensemble_files("elb", "elb_step", "elb_step"),
        index("elb", "elb_step"),
        load("elb"),
        index("elb", "elb_step"),
        infer("elb", _IN),
        ready("elb_step"),
        gone("elb", "elb_step"),
    ),
    _case(
        "load-twice",
        model_files("elt_step"),
        ensemble_files("elt", "elt_step"),
        load("elt"),
        load("elt"),
        infer("elt", _IN),
        gone("elt", "elt_step"),
    ),
    _case(
        "load-of-models-changes-nothing",
        model_files("elm_step"),
        ensemble_files("elm", "elm_step"),
        load("elm_step"),
        ready("elm"),
        infer("elm", _IN),
        load("elm"),
        infer("elm", _IN),
        gone("elm", "elm_step"),
    ),
    _case(
        "unload-leaves-its-models",
        model_files("eul_step"),
        ensemble_files("eul", "eul_step"),
        load("eul"),
        unload("eul"),
        AwaitState("eul", "UNAVAILABLE"),
        ready("eul"),
        infer("eul", _IN),
        infer("eul_step", _IN),
        index("eul", "eul_step"),
        gone("eul", "eul_step"),
    ),
    _case(
        "unload-with-dependents",
        model_files("eud_step"),
        ensemble_files("eud", "eud_step"),
        load("eud"),
        unload("eud", dependents=True),
        AwaitState("eud", "UNAVAILABLE"),
        AwaitState("eud_step", "UNAVAILABLE"),
        index("eud", "eud_step"),
        gone("eud", "eud_step"),
    ),
    _case(
        "unload-with-dependents-explicitly-loaded",
        model_files("eue_step"),
        ensemble_files("eue", "eue_step"),
        load("eue_step"),
        load("eue"),
        unload("eue", dependents=True),
        AwaitState("eue", "UNAVAILABLE"),
        ready("eue_step"),
        index("eue", "eue_step"),
        gone("eue", "eue_step"),
    ),
    _case(
        "unload-with-dependents-shared",
        model_files("eus_step"),
        ensemble_files("eus_a", "eus_step"),
        ensemble_files("eus_b", "eus_step"),
        load("eus_a"),
        load("eus_b"),
        unload("eus_a", dependents=True),
        AwaitState("eus_a", "UNAVAILABLE"),
        ready("eus_step"),
        infer("eus_b", _IN),
        gone("eus_b", "eus_a", "eus_step"),
    ),
    _case(
        "unload-of-a-model",
        model_files("eum_step"),
        ensemble_files("eum", "eum_step"),
        load("eum"),
        unload("eum_step"),
        AwaitState("eum_step", "UNAVAILABLE"),
        AwaitState("eum", "UNAVAILABLE"),
        index("eum", "eum_step"),
        ready("eum"),
        infer("eum", _IN),
        gone("eum", "eum_step"),
    ),
    _case(
        "unloaded-model-comes-back",
        model_files("euc_step"),
        ensemble_files("euc", "euc_step"),
        load("euc"),
        unload("euc_step"),
        AwaitState("euc", "UNAVAILABLE"),
        load("euc_step"),
        index("euc", "euc_step"),
        ready("euc"),
        infer("euc", _IN),
        gone("euc", "euc_step"),
    ),
    _case(
        "changed-model",
        model_files("ecm_step"),
        ensemble_files("ecm", "ecm_step"),
        load("ecm"),
        infer("ecm", _IN),
        WriteFile("ecm_step/1/model.py", adding_model(10, "IN", "OUT")),
        load("ecm_step"),
        infer("ecm", _IN),
        gone("ecm", "ecm_step"),
    ),
    _case(
        "changed-model-by-the-ensemble",
        model_files("ece_step"),
        ensemble_files("ece", "ece_step"),
        load("ece"),
        WriteFile("ece_step/1/model.py", adding_model(10, "IN", "OUT")),
        load("ece"),
        infer("ece", _IN),
        gone("ece", "ece_step"),
    ),
    _case(
        "changed-ensemble",
        model_files("ecg_step"),
        ensemble_files("ecg", "ecg_step"),
        load("ecg"),
        WriteFile("ecg/config.pbtxt", ensemble_config("ecg_step", "ecg_step")),
        load("ecg"),
        infer("ecg", _IN),
        gone("ecg", "ecg_step"),
    ),
    _case(
        "changed-model-does-not-fit",
        model_files("ecf_step"),
        ensemble_files("ecf", "ecf_step"),
        load("ecf"),
        WriteFile("ecf_step/config.pbtxt", CONFIG.replace("TYPE_INT32", "TYPE_FP32")),
        load("ecf_step"),
        AwaitState("ecf", "UNAVAILABLE"),
        index("ecf", "ecf_step"),
        infer("ecf", _IN),
        gone("ecf", "ecf_step"),
    ),
    _case(
        "new-version-of-a-model",
        model_files("env_step"),
        ensemble_files("env", "env_step"),
        load("env"),
        WriteFile("env_step/2/model.py", adding_model(100, "IN", "OUT")),
        load("env_step"),
        index("env"),
        infer("env", _IN),
        gone("env", "env_step"),
    ),
    _case(
        "version-of-a-model-goes",
        model_files("evg_step"),
        ensemble_files("evg", "evg_step", version=1),
        load("evg"),
        WriteFile("evg_step/2/model.py", adding_model(100, "IN", "OUT")),
        load("evg_step"),
        AwaitState("evg", "UNAVAILABLE"),
        index("evg"),
        infer("evg", _IN),
        gone("evg", "evg_step"),
    ),
    _case(
        "load-nested",
        model_files("eln_step"),
        ensemble_files("eln_inner", "eln_step"),
        ensemble_files("eln", "eln_inner", "eln_step"),
        load("eln"),
        index("eln", "eln_inner", "eln_step"),
        infer("eln", _IN),
        gone("eln", "eln_inner", "eln_step"),
    ),
    _case(
        "unload-nested-with-dependents",
        model_files("eun_step"),
        ensemble_files("eun_inner", "eun_step"),
        ensemble_files("eun", "eun_inner"),
        load("eun"),
        unload("eun", dependents=True),
        AwaitState("eun", "UNAVAILABLE"),
        AwaitState("eun_inner", "UNAVAILABLE"),
        AwaitState("eun_step", "UNAVAILABLE"),
        index("eun", "eun_inner", "eun_step"),
        gone("eun", "eun_inner", "eun_step"),
    ),
    _case(
        "load-with-a-model-that-fails",
        WriteFile("elf_step/config.pbtxt", CONFIG),
        WriteFile("elf_step/1/model.py", RAISES),
        ensemble_files("elf", "elf_step"),
        load("elf"),
        index("elf", "elf_step"),
        infer("elf", _IN),
        RemoveTree("elf"),
        RemoveTree("elf_step"),
    ),
    _case(
        "load-with-a-model-that-is-not-there",
        ensemble_files("elu", "elu_step"),
        load("elu"),
        index("elu"),
        infer("elu", _IN),
        RemoveTree("elu"),
    ),
    _case(
        "load-of-one-that-does-not-fit",
        model_files("eld_step"),
        WriteFile(
            "eld/config.pbtxt",
            ensemble_config("eld_step").replace('"IN" data_type: TYPE_INT32', '"IN" data_type: TYPE_FP32'),
        ),
        WriteFile("eld/1/notes.txt", ""),
        load("eld"),
        index("eld", "eld_step"),
        gone("eld_step"),
        RemoveTree("eld"),
    ),
    _case(
        "repaired-model",
        WriteFile("erm_step/config.pbtxt", CONFIG),
        WriteFile("erm_step/1/model.py", RAISES),
        ensemble_files("erm", "erm_step"),
        load("erm"),
        WriteFile("erm_step/1/model.py", adding_model(1, "IN", "OUT")),
        load("erm_step"),
        index("erm", "erm_step"),
        load("erm"),
        infer("erm", _IN),
        gone("erm", "erm_step"),
    ),
)

CASES = (
    *(
        Case(
            f"ensemble-loaded-{model.replace('_', '-')}",
            (
                Http("POST", "/v2/repository/index", only=(model,)),
                Http("GET", f"/v2/models/{model}/ready"),
                infer(model, _IN),
            ),
            "graph_broken",
        )
        for model in _BROKEN
    ),
    *_LOADS,
)
