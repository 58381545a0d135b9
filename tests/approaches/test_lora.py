"""A LoRA is trained from the deployed prompt, once, and says how it came about."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from steelyard.approaches.lora_spec import LoraTuningSpec
from steelyard.approaches.tuning.base_model import BaseModel, load_base
from steelyard.approaches.tuning.examples import Example, balanced, choose, hold_out, tokenise
from steelyard.approaches.tuning.forward import Forward
from steelyard.approaches.tuning.gguf_adapter import read_peft
from steelyard.approaches.tuning.llama import Llama, as_tensors
from steelyard.approaches.tuning.lora import TunedAdapter, prepare_adapter
from steelyard.approaches.tuning.trained import Trained
from steelyard.approaches.tuning.training import train_adapter
from steelyard.approaches.workbench import Workbench
from steelyard.cases.case import Case, CaseInput
from steelyard.errors import InputError
from steelyard.models.calls import Message
from steelyard.models.weights import SMOLLM2_135M_INSTRUCT, cached_path
from tests.approaches.tiny_llama import Notes, write_tiny_gguf
from tests.approaches.torch_answers import generate_greedy, torch_answers
from tests.approaches.world import triage_task

WORDS = {
    "refund": ["money back", "charged twice", "return the payment", "wrong amount taken", "refund the order"],
    "login": ["password rejected", "cannot sign in", "locked out", "code never arrives", "login page fails"],
    "card lost": ["card is gone", "card stolen", "lost my wallet", "someone took the card", "dropped the card"],
}
SMALL = LoraTuningSpec(
    method="lora", max_examples=60, layers=2, rank=4, learning_rate=0.02, batch_size=8, max_tokens=96
)


def prompt(case: CaseInput) -> tuple[Message, ...]:
    return (Message("system", "Sort the ticket."), Message("user", str(case.fields["text"])))


def target(case: Case) -> str:
    assert case.expected is not None
    return str(case.expected["label"])


def cases(n: int, *, seed: int = 0) -> tuple[Case, ...]:
    """Tickets from templates, labels in turn, texts of different lengths."""
    rng = np.random.default_rng(seed)
    labels = list(WORDS)
    found = []
    for i in range(n):
        label = labels[i % len(labels)]
        opening = rng.choice(["hello, ", "hi there ", "please help: ", "since monday ", ""])
        text = f"{opening}{rng.choice(WORDS[label])}{rng.choice(['', ' thanks', ' again today', f' ref {i}'])}"
        found.append(Case(id=f"c{i}", input={"text": text}, expected={"label": label}))
    return tuple(found)


def workbench(folder: Path, train: tuple[Case, ...], gguf: Path | None = None) -> Workbench:
    return Workbench(
        task=triage_task(),
        train=train,
        dev=(),
        folder=folder / "prepared",
        endpoints={},
        embedder=lambda: pytest.fail("a LoRA needs no embeddings"),
        base_gguf=lambda: gguf or folder / "tiny.gguf",
        cpu_hour_usd=0.36,
        say=Notes(),
    )


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    return workbench(tmp_path, cases(60))


@pytest.fixture
def base(bench: Workbench) -> BaseModel:
    return load_base(bench.base_gguf())


def tuned(bench: Workbench, spec: LoraTuningSpec = SMALL) -> TunedAdapter:
    return prepare_adapter(spec, prompt=prompt, target=target, bench=bench)


def tokenised(base: BaseModel, some: tuple[Case, ...], max_tokens: int = 96) -> tuple[Example, ...]:
    return tokenise(base, some, prompt, target, max_tokens=max_tokens).examples


# ------------------------------------------------------------------------------------------------ choosing examples


def test_a_sample_keeps_the_shares_of_the_labels() -> None:
    """Sampling half of an uneven train split keeps every label's share within one case, and the seed decides."""
    some = [*cases(90), *(replace(case, id=f"x{case.id}") for case in cases(90) if target(case) == "login")]
    counted = Counter(map(target, some))
    sample = choose(some, target, at_most=60, seed=1)
    assert len({case.id for case in sample}) == 60
    for label, n in Counter(map(target, sample)).items():
        assert abs(n - counted[label] / 2) <= 1
    assert sample == choose(some, target, at_most=60, seed=1)
    assert sample != choose(some, target, at_most=60, seed=2)
    assert len(choose(some, target, at_most=10_000, seed=1)) == len(some)


def test_unlabelled_cases_are_left_out_and_empty_texts_stay() -> None:
    """A case without a label cannot be trained on; a case without text is what production may send."""
    some = (*cases(3), Case(id="u", input={"text": "x"}), Case(id="e", input={"text": ""}, expected={"label": "login"}))
    assert {case.id for case in choose(some, target, at_most=9, seed=0)} == {"c0", "c1", "c2", "e"}


def test_clusters_are_not_divided_between_training_and_validation() -> None:
    """About a tenth is held out; cases that belong together stay together; nothing is lost."""
    some = tuple(replace(case, cluster=f"k{i // 4}") for i, case in enumerate(cases(240)))
    train, validation = hold_out(some, target, seed=0)
    assert len(train) + len(validation) == 240
    assert 16 <= len(validation) <= 32
    assert not {case.cluster for case in train} & {case.cluster for case in validation}
    assert hold_out(cases(19), target, seed=0) == (cases(19), ())


def test_long_inputs_are_cut_to_fit(base: BaseModel) -> None:
    """The prompt is cut inside the user's text and nowhere else, as little as possible, and counted."""
    long = Case(id="long", input={"text": "é" * 500}, expected={"label": "login"})
    found = tokenise(base, (*cases(3), long), prompt, target, max_tokens=96)
    assert (len(found.examples), found.n_cut, found.n_left_out) == (4, 1, 0)
    cut = found.examples[-1]
    assert 94 <= cut.n_tokens <= 96
    assert base.decode(cut.prompt).endswith("é\nassistant\n")
    assert base.decode(cut.completion) == "login"
    assert cut.completion[-1] == base.end_token


def test_a_prompt_that_leaves_no_room_is_refused(base: BaseModel) -> None:
    """When nothing fits, the message names the setting and a value that would do."""
    with pytest.raises(InputError, match=r"no training example fits 32 tokens.*\n.*max_tokens to \d+"):
        tokenise(base, cases(3), prompt, target, max_tokens=32)


# ------------------------------------------------------------------------------------------------ the computation


def test_the_shared_prefix_changes_neither_loss_nor_gradient(base: BaseModel, tmp_path: Path) -> None:
    """Computing what all prompts begin with once is exact: same losses and gradients as without sharing."""
    import torch

    examples = tokenised(base, cases(6))
    loner = Example(prompt=(5, 6, 7), completion=(8, base.end_token))  # has nothing in common with the others
    model = Llama(base, torch.float32)
    arrays = train_adapter(base, examples, (), SMALL, say=Notes(), checkpoints=tmp_path).adapter
    results = []
    for known in (examples, (*examples, loner)):
        adapter = {name: tensor.requires_grad_() for name, tensor in as_tensors(arrays).items()}
        forward = Forward(model, known, first_trained=1)
        nll, _ = forward.nll(examples, adapter, scale=4.0)
        gradients = torch.autograd.grad(nll.sum(), list(adapter.values()))
        results.append((len(forward.prefix), nll.detach().numpy(), [g.numpy() for g in gradients]))
    (shared, nll_shared, gradients_shared), (alone, nll_alone, gradients_alone) = results
    assert shared > 20
    assert alone == 0
    np.testing.assert_allclose(nll_shared, nll_alone, atol=1e-4)
    for one, other in zip(gradients_shared, gradients_alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_exact_match_is_what_decoding_would_give(base: BaseModel, tmp_path: Path) -> None:
    """The one-pass judgement along the wanted answer agrees with generating it token by token."""
    import torch

    examples = tokenised(base, cases(12))
    spec = SMALL.model_copy(update={"epochs": 20.0, "batch_size": 2})
    trained = train_adapter(base, examples[:8], (), spec, say=Notes(), checkpoints=tmp_path)
    adapter, model = as_tensors(trained.adapter), Llama(base, torch.float32)
    with torch.no_grad():
        _, is_exact = Forward(model, examples, first_trained=1).nll(examples, adapter, scale=4.0)
    answers = generate_greedy(base, model, [e.prompt for e in examples], adapter, scale=4.0, max_tokens=12)
    wanted = [base.decode(example.completion) for example in examples]
    assert [a == w for a, w in zip(answers, wanted, strict=True)] == is_exact.tolist()
    assert any(is_exact)
    assert not all(is_exact)


def test_batched_generation_is_that_of_one_prompt_at_a_time(base: BaseModel) -> None:
    """Padding and the batch a prompt is in do not change its answer."""
    import torch

    model = Llama(base, torch.float32)
    prompts = [example.prompt for example in tokenised(base, cases(5))]
    together = generate_greedy(base, model, prompts, max_tokens=6)
    assert together == [generate_greedy(base, model, [one], max_tokens=6)[0] for one in prompts]


# ------------------------------------------------------------------------------------------------ preparing


def test_a_trained_adapter_is_complete_and_is_paid_for_once(bench: Workbench) -> None:
    """Files, card and cost are there; the second time it is found, with the cost of the first."""
    first = tuned(bench)
    card = first.setup.card
    assert card is not None
    assert not first.setup.reused
    assert {path.name for path in first.path.parent.iterdir()} == {
        "adapter.gguf",
        "adapter_model.safetensors",
        "adapter_config.json",
        "card.json",
    }
    assert (card["n_train"], card["n_validation"], card["n_cut"], card["n_left_out"]) == (54, 6, 0, 0)
    assert card["base_model"]["licence"] == "apache-2.0"
    assert card["loss_curve"][0]["loss"] > card["loss_curve"][-1]["loss"]
    assert 0 <= card["validation_exact_match"] <= 1
    assert first.setup.cost_usd == pytest.approx(card["cpu_seconds"] * 0.36 / 3600)
    assert isinstance(bench.say, Notes)
    assert any("step 7 of 7" in line for line in bench.say.lines)

    second = tuned(replace(bench, cpu_hour_usd=0.72))
    assert second.setup.reused
    assert (second.path, second.digest, second.setup.seconds) == (first.path, first.digest, first.setup.seconds)
    assert second.setup.cost_usd == pytest.approx(2 * (first.setup.cost_usd or 0))


def test_an_adapter_that_is_there_needs_no_training_library(bench: Workbench) -> None:
    """Finding a trained adapter imports neither PyTorch nor the tokenizer."""
    tuned(bench)
    script = f"""
import sys
from pathlib import Path
from tests.approaches.test_lora import cases, tuned, workbench
assert tuned(workbench(Path({str(bench.folder.parent)!r}), cases(60))).setup.reused
assert not {{"torch", "transformers", "tokenizers", "gguf"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


def test_what_goes_in_decides_which_adapter_comes_out(bench: Workbench) -> None:
    """Another label, prompt, setting or base is another adapter; the same in another order of cases is not checked."""
    digest = tuned(bench).digest
    first, *rest = bench.train
    relabelled = replace(first, expected={"label": "login"})
    assert tuned(replace(bench, train=(relabelled, *rest))).digest != digest
    assert tuned(bench, SMALL.model_copy(update={"rank": 2})).digest != digest
    other = prepare_adapter(SMALL, prompt=lambda case: prompt(case)[1:], target=target, bench=bench)
    assert other.digest != digest


def test_the_same_seed_gives_the_same_bytes(base: BaseModel, tmp_path: Path) -> None:
    """Two trainings on one machine end with the same curve and bytes; another seed gives other weights."""
    examples = tokenised(base, cases(30))

    def train(name: str, seed: int) -> Trained:
        spec = SMALL.model_copy(update={"seed": seed})
        return train_adapter(base, examples, (), spec, say=Notes(), checkpoints=tmp_path / name)

    one, two, other = train("one", 0), train("two", 0), train("other", 1)
    assert one.curve == two.curve
    for name, values in one.adapter.items():
        assert two.adapter[name].tobytes() == values.tobytes()
    assert any(np.abs(other.adapter[name] - values).max() > 0.01 for name, values in one.adapter.items())


def test_a_file_of_the_same_seed_is_the_same_file(bench: Workbench, tmp_path: Path) -> None:
    """The GGUF adapter too, wherever it was made."""
    other = replace(bench, folder=tmp_path / "elsewhere")
    assert tuned(bench).path.read_bytes() == tuned(other).path.read_bytes()


def test_training_stops_when_validation_gets_worse(base: BaseModel, tmp_path: Path) -> None:
    """With labels that are pure chance, later epochs only memorise: they end early and the best weights are kept."""
    rng = np.random.default_rng(0)
    some = tuple(replace(case, expected={"label": str(rng.choice(list(WORDS)))}) for case in cases(60))
    examples = tokenised(base, some)
    spec = SMALL.model_copy(update={"epochs": 20.0})
    trained = train_adapter(base, examples[:40], examples[40:], spec, say=Notes(), checkpoints=tmp_path)
    losses = [found["loss"] for found in trained.validations]
    assert len(losses) < 20
    assert losses[-1] > min(losses)


def test_validation_inside_an_epoch_keeps_the_best_weights(base: BaseModel, tmp_path: Path) -> None:
    """Validated every few steps, stopped after two that bring nothing; what is kept answers as the best one did."""
    examples = tokenised(base, cases(60))
    spec = SMALL.model_copy(update={"validate_steps": 2, "patience": 2, "learning_rate": 0.5, "batch_size": 2})
    trained = train_adapter(base, examples[:40], examples[40:], spec, say=Notes(), checkpoints=tmp_path)
    losses = [found["loss"] for found in trained.validations]
    assert [found["step"] for found in trained.validations] == [2 * (i + 1) for i in range(len(losses))]
    assert trained.n_steps < 20
    assert min(losses[-2:]) > min(losses)
    best = min(trained.validations, key=lambda found: found["loss"])
    assert sum(trained.validation_right) / 20 == best["exact_match"]


def test_twenty_examples_are_trained_on_and_validated_with_two(bench: Workbench) -> None:
    """Few examples can try a tuner out; fewer than twenty are all trained on, and nothing is claimed of them."""
    card = tuned(replace(bench, train=cases(20))).setup.card
    assert card is not None
    assert (card["n_train"], card["n_validation"]) == (18, 2)
    card = tuned(replace(bench, train=cases(19))).setup.card
    assert card is not None
    assert (card["n_train"], card["n_validation"], card["validation_loss"]) == (19, 0, None)


# ------------------------------------------------------------------------------------------------ uneven labels


def uneven() -> tuple[Case, ...]:
    """Sixty tickets, of which six are about `card lost`, six about `login`."""
    some = [case for case in cases(150) if target(case) == "refund"][:48]
    return (*some, *(case for case in cases(18) if target(case) != "refund"))


def test_rare_labels_gain_weight(base: BaseModel) -> None:
    """By repeats or by weights, a rare label counts as much as the frequent one; capped, and with mean weight one."""
    examples = tokenised(base, uneven())
    labels = [base.decode(example.completion) for example in examples]
    assert balanced(examples, "none") == examples
    shown = Counter(base.decode(example.completion) for example in balanced(examples, "oversample"))
    assert shown == {"refund": 48, "login": 48, "card lost": 48}
    weighted = balanced(examples, "weight")
    mass = {label: sum(one.weight for one, of in zip(weighted, labels, strict=True) if of == label) for label in WORDS}
    assert list(mass.values()) == pytest.approx([20, 20, 20])
    assert sum(example.weight for example in weighted) == pytest.approx(60)
    lonely = balanced((*examples, replace(examples[0], completion=(7, base.end_token))), "oversample")
    assert sum(example.completion[0] == 7 for example in lonely) == 10


def test_balanced_training_answers_rare_labels_more_often(base: BaseModel, tmp_path: Path) -> None:
    """Tickets whose text says nothing are guessed by label alone: the frequent one, unless labels are balanced."""
    blank = [replace(case, input={"text": f"hello {i}"}) for i, case in enumerate(uneven())]
    examples = tokenised(base, tuple(blank))
    rare = [example for example in examples if base.decode(example.completion) != "refund"]
    spec = SMALL.model_copy(update={"epochs": 4.0})

    def loss_of_rare(how: Literal["none", "oversample", "weight"]) -> float:
        some = balanced(examples, how)
        return train_adapter(base, some, rare, spec, say=Notes(), checkpoints=tmp_path / how).validations[-1]["loss"]

    plain = loss_of_rare("none")
    assert loss_of_rare("weight") < plain
    assert loss_of_rare("oversample") < plain


def test_balance_is_on_the_card(bench: Workbench) -> None:
    """How, and what an example of each answer counts; another balance is another adapter."""
    plain = tuned(bench)
    other = tuned(replace(bench, train=uneven()), SMALL.model_copy(update={"balance": "weight"}))
    assert plain.setup.card is not None
    assert other.setup.card is not None
    assert plain.setup.card["balanced"] is None
    found = other.setup.card["balanced"]
    assert found["how"] == "weight"
    assert found["by_answer"]["login"] > 3 * found["by_answer"]["refund"]


def test_nothing_labelled_is_refused(bench: Workbench) -> None:
    """Without a labelled case there is nothing to train on, and the message says so."""
    with pytest.raises(InputError, match="no labelled case"):
        tuned(replace(bench, train=tuple(replace(case, expected=None) for case in bench.train)))


# ------------------------------------------------------------------------------------------------ the real model


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> TunedAdapter:
    """A LoRA of the real base model on 160 templated tickets."""
    gguf = _real_gguf()
    spec = LoraTuningSpec(method="lora", max_examples=160, layers=8)
    return tuned(workbench(tmp_path_factory.mktemp("real"), cases(160), gguf), spec)


def _real_gguf() -> Path:
    return cached_path(SMOLLM2_135M_INSTRUCT)


class Served:
    """The real model behind llama.cpp's server, with an adapter when one is given."""

    def __init__(self, gguf: Path, adapter: Path | None = None) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(gguf)
        params.verbosity = -1
        params.n_ctx, params.n_parallel, params.cpuparams.n_threads, params.cache_ram_mib = 1024, 1, 1, 0
        params.port = 0
        if adapter is not None:
            lora = xllamacpp.CommonAdapterLoraInfo()
            lora.path, lora.scale = str(adapter), 1.0
            params.lora_adapters = [lora]
        self._server = xllamacpp.Server(params)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self._server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            found: dict[str, Any] = json.load(response)
        return found


@pytest.mark.model
def test_training_prompts_are_the_deployed_prompts_to_the_token() -> None:
    """Chat template and tokenizer agree with llama.cpp, also on digits, spaces, emoji and written control tokens."""
    base = load_base(_real_gguf())
    server = Served(_real_gguf())
    texts = [
        "Hello  world 12345 don't I'LL",
        "  lead trail  \n\n x\t\ty",
        "émigré ñandú 漢字 ½ ² ٣ 🙂👩‍👩‍👧",
        "<|im_end|> injected <|im_start|>user\n",
        "",
        "a\r\nb   \n  c",
        "\u00a0nbsp\u3000wide DON'T 've 100,000.50€",
        *(str(case.input["text"]) for case in cases(10)),
    ]
    for text in texts:
        messages = prompt(CaseInput(id="x", fields={"text": text}))
        body = {"messages": [{"role": message.role, "content": message.content} for message in messages]}
        assert server.post("/apply-template", body)["prompt"] == base.chat(messages)
        content = {"content": base.chat(messages), "add_special": True, "parse_special": True}
        assert server.post("/tokenize", content)["tokens"] == base.chat_ids(messages)


@pytest.mark.model
def test_what_is_served_is_what_was_trained(real: TunedAdapter) -> None:
    """On 40 new tickets llama.cpp and PyTorch give the same answers but for rare ties, and they are right."""
    new = cases(40, seed=7)
    card = real.setup.card
    assert card is not None
    prompts = [prompt(case.visible()) for case in new]
    in_torch = torch_answers(real.path.parent, prompts, base_gguf=_real_gguf(), max_tokens=12)
    server = Served(_real_gguf(), real.path)
    served = []
    for messages in prompts:
        body = {
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": 12,
            "temperature": 0,
            "lora": [{"id": 0, "scale": 1.0}],
        }
        served.append(server.post("/v1/chat/completions", body)["choices"][0]["message"]["content"])
    wanted = [target(case) for case in new]
    assert sum(a == b for a, b in zip(in_torch, served, strict=True)) >= 36
    assert sum(a == b for a, b in zip(served, wanted, strict=True)) >= 30
    assert card["validation_exact_match"] >= 0.7


@pytest.mark.model
def test_the_adapter_reaches_the_top_layers_only(real: TunedAdapter) -> None:
    """`layers: 8` leaves the lower 22 of 30 layers as they are."""
    adapter, _ = read_peft(real.path.parent)
    assert {int(name.split(".")[1]) for name in adapter} == set(range(22, 30))
