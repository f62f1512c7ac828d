"""What the class that a config was released with says of the head of a causal decoder.

``architectures`` names the class whose weights are in the files: with an output matrix (``LlamaForCausalLM``), without
one (``MistralModel``, as models that make embeddings of texts are released), or with a head that the spec language does
not have (``LlamaForSequenceClassification``).
"""

from __future__ import annotations

import re

from llmprof.importing import families
from llmprof.importing.config import Config, Read, inferred
from llmprof.importing.document import Doc
from llmprof.importing.family import TRANSFORMERS
from llmprof.importing.inexpressible import INEXPRESSIBLE
from llmprof.spec.nodes import short

_WITH_OUTPUT = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_WITHOUT = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForRewardModel")
_TOWERS = ("text_config", "llm_config", "language_config", "thinker_config", "vision_config", "audio_config")


def _of_another(c: Config, name: str) -> bool:
    """Whether a class with an output matrix is one of another family that is known by name.

    Its own goes by the names of the configuration class and of the ``model_type``; a tower's end in "text" besides.
    """
    ending = next((ending for ending in _WITH_OUTPUT if name.endswith(ending)), None)
    if ending is None:
        return False
    said = _plain(name.removesuffix(ending))
    return said not in _own(c) and said in {_plain(kind) for kind in (*families.known(), *INEXPRESSIBLE)}


def _is_unknown(c: Config, name: str) -> bool:
    """Whether a class with an output matrix goes by a name that is neither the family's nor another's."""
    ending = next((ending for ending in _WITH_OUTPUT if name.endswith(ending)), None)
    bare = name.removeprefix("Flax").removeprefix("TF")
    return ending is not None and _plain(bare.removesuffix(ending)) not in _own(c)


def _own(c: Config) -> set[str]:
    own = {_plain(c.family.removesuffix("Config")), _plain(str(c.raw("model_type")))}
    return own | {kind.removesuffix("text") for kind in own}


def _plain(name: str) -> str:
    """Letters and digits alone, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def headed(c: Config, body: Doc) -> Doc:
    """The document of a causal decoder; without an output matrix, where that is how it was released.

    A matrix that is the token table is there in any case, so then nothing changes. The names of classes say something
    in the families of transformers alone: those that come with code of their own are called as their makers like, but
    for the endings of heads that are no matrix over the vocabulary; and of a model of several towers it counts whether
    it is one of those, or has no head at all (``Mistral3Model``; but Qwen2.5-Omni is a "Model" that has one). A head
    that the language does not have is refused, and so is another family's class: which of the two the files hold is not
    said.
    """
    names = c.raw("architectures")
    if names is None or body.get("structure") != "causal-decoder":
        return body
    towers = c.has_any(*_TOWERS)
    if towers or not c.family.endswith("Config"):
        said = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        if any(name.endswith(_WITHOUT) for name in said):
            c.refuse(
                "architectures", "a class with a matrix over the vocabulary: the language has no other head of these"
            )
        bare = (
            towers
            and not c.has("thinker_config")
            and [_plain(name) for name in said] == [f"{_plain(str(c.raw('model_type')))}model"]
        )
        return _headless(said[0], body) if bare and _of_transformers(c) else body
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        c.wrong("architectures", "a list of names of classes")
        return body
    if stranger := next((name for name in names if _of_another(c, name)), None):
        c.refuse("architectures", f"a class of the model_type {c.raw('model_type')}: {stranger} is another family's")
        return body
    if unknown := next((name for name in names if _is_unknown(c, name)), None):
        c.remark(
            f"architectures names {short(unknown)}, which no family is called by; it was read as the class of "
            f"{c.raw('model_type')}, and code of its own was not looked at"
        )
    if not names or any(name.endswith(_WITH_OUTPUT) for name in names):
        return body
    base = c.family.removesuffix("Config")
    if names != [f"{base}Model"]:
        c.refuse("architectures", f"{base}ForCausalLM or {base}Model: the spec language has no other head of these")
        return body
    return _headless(names[0], body)


def _headless(name: str, body: Doc) -> Doc:
    """The document of a model that was released as the class `name`, without an output matrix of its own."""
    tied = body["tied_embeddings"]
    if tied.value if isinstance(tied, Read) else tied:
        return body
    said: Read[str] = Read(name, ("architectures",))
    head = {"kind": inferred("none", f"architectures names {name}, which has no output matrix", said)}
    return {**body, "head": head}


def _of_transformers(c: Config) -> bool:
    """Whether the family's classes are transformers'; what others call a model may have a head all the same."""
    found = families.family(str(c.raw("model_type")))
    return found is not None and found.source == TRANSFORMERS
