"""Prompts as messages of a user, in the forms of the families' templates."""

from __future__ import annotations

import copy
import pickle

import pytest
import tiny
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

import lga_fast
from lga_fast import provenance
from lga_fast.chat import ChatTokenizer
from lga_fast.datasets import easyedit_requests
from lga_fast.editors._value_problem import answer_row
from lga_fast.errors import LgaFastError
from lga_fast.models import EditableModel
from lga_fast.tokens import encode_prompt, locate, target_row, token_at

BEGIN = "<begin>"
LOOP = "{% for m in messages %}"
ASKS = "{% if add_generation_prompt %}"
# In miniature, what each family's template does that another's does not: who writes the begin
# token, who trims, what stands between message and answer, what ends an answer.
TEMPLATES = {
    "llama3": "{{ bos_token }}" + LOOP + "<head>{{ m['role'] }}</head>\n\n{{ m['content'] | trim }}"
    "<end>{% endfor %}" + ASKS + "<head>assistant</head>\n\n{% endif %}",
    "qwen": LOOP + "{% if loop.first %}<im>system\nBe good.<end>\n{% endif %}"
    "<im>{{ m['role'] }}\n{{ m['content'] }}<end>\n{% endfor %}"
    + ASKS
    + "<im>assistant\n{% endif %}",
    "qwen that thinks": LOOP
    + "<im>{{ m['role'] }}\n{{ m['content'] }}<end>\n{% endfor %}"
    + ASKS
    + "<im>assistant\n<think>\n\n</think>\n\n{% endif %}",
    "gemma": "{{ bos_token }}"
    + LOOP
    + "<turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n"
    "{{ m['content'] | trim }}<end>\n{% endfor %}" + ASKS + "<turn>model\n{% endif %}",
    "mistral": "{{ bos_token }}" + LOOP + "{% if m['role'] == 'user' %}[INST] {{ m['content'] }}"
    "[/INST]{% else %} {{ m['content'] }}<end>{% endif %}{% endfor %}",
    "mistral without spaces": "{{ bos_token }}" + LOOP + "{% if m['role'] == 'user' %}[INST]"
    "{{ m['content'] }}[/INST]{% else %}{{ m['content'] }}<end>{% endif %}{% endfor %}",
    "glm": "[gMASK]<sop>"
    + LOOP
    + "<head>{{ m['role'] }}\n{{ m['content'] }}{% endfor %}"
    + ASKS
    + "<head>assistant{% endif %}",
    "deepseek": "{{ bos_token }}" + LOOP + "{% if m['role'] == 'user' %}<User>{{ m['content'] }}"
    "{% else %}<Assistant>{{ m['content'] }}<end>{% endif %}{% endfor %}"
    + ASKS
    + "<Assistant>{% endif %}",
}
PROMPT = "The mother tongue of Danielle Darrieux is"
SPECIAL = [BEGIN, "<end>", "<head>", "</head>", "<im>", "<turn>", "[INST]", "[/INST]", "[gMASK]"]
SPECIAL += ["<sop>", "<User>", "<Assistant>", "<think>", "</think>"]


def tokenizer(template: str | None = None) -> PreTrainedTokenizerFast:
    """One that puts a begin token before every text, as Llama's and Gemma's do."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(tiny.TEXT, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=BEGIN, eos_token="<end>", chat_template=template
    )


@pytest.fixture(params=TEMPLATES)
def plain(request):
    return tokenizer(TEMPLATES[request.param])


@pytest.mark.parametrize("prompt", [PROMPT, f"  {PROMPT}", f"{PROMPT} "])
def test_prompts_are_what_the_template_makes_of_them(plain, prompt):
    messages = [{"role": "user", "content": prompt}]
    wanted = plain.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert encode_prompt(ChatTokenizer(plain), prompt) == wanted
    assert wanted.count(plain.bos_token_id) <= 1


def test_a_rendered_prompt_gets_no_second_begin_token(plain):
    """Text that the caller has rendered, without `chat`."""
    messages = [{"role": "user", "content": PROMPT}]
    text = plain.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    for ids in (encode_prompt(plain, text), target_row(plain, text, "English").ids):
        assert list(ids).count(plain.bos_token_id) == 1


@pytest.mark.parametrize("context", ["", "Therefore it rains. "])
def test_the_subject_is_found_in_the_rendering(plain, context):
    tokenizer, prompt = ChatTokenizer(plain), context + PROMPT
    end = prompt.index("Darrieux") + len("Darrieux")
    row = target_row(tokenizer, prompt, "English")
    index = token_at(tokenizer, prompt, end - 1, row.ids[: row.start])
    assert plain.decode(row.ids[: index + 1]).endswith("Danielle Darrieux")
    ids, offsets = locate(tokenizer, prompt)
    assert list(row.ids[: row.start]) == ids
    holding = [i for i, (a, b) in enumerate(offsets) if a < len(prompt) and b > 0]
    assert plain.decode([ids[i] for i in holding]).strip() == prompt


def test_the_answer_stands_where_the_template_puts_it(plain):
    tokenizer = ChatTokenizer(plain)
    row = target_row(tokenizer, PROMPT, "English")
    assert plain.decode(row.target).strip() == "English"
    messages = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": "English"}]
    whole = plain.apply_chat_template(messages, return_dict=False)
    if "think" not in plain.chat_template:  # which shows answers of the past without it
        assert list(row.ids) == whole[: len(row.ids)]
    if "<end>{%" in plain.chat_template or "<end>\n{%" in plain.chat_template:
        assert tokenizer.turn_end_ids == [plain.eos_token_id]


def test_answers_end_where_the_template_ends_them():
    own = tokenizer(TEMPLATES["qwen"].replace("<end>\n", "<turn>\n"))
    assert ChatTokenizer(own).turn_end_ids == [own.convert_tokens_to_ids("<turn>")]
    model = tiny.model("gpt2")
    model = EditableModel(model.hf, ChatTokenizer(own), "tiny")
    assert model.end_ids() >= {own.eos_token_id, own.convert_tokens_to_ids("<turn>")}


def test_scores_and_edits_are_of_the_rendering():
    plain = tokenizer(TEMPLATES["llama3"])
    hf = tiny.model("llama", torch.float64).hf
    chat = lga_fast.load(hf, tokenizer=plain, chat=True)
    fact = {"prompt": PROMPT, "subject": "Danielle Darrieux", "target_new": "English"}
    text = plain.apply_chat_template(
        [{"role": "user", "content": PROMPT}], tokenize=False, add_generation_prompt=True
    )
    rendered = lga_fast.load(hf, tokenizer=plain)
    scores = lga_fast.score_layers(chat, [fact])
    same = lga_fast.score_layers(rendered, [fact | {"prompt": text}])
    assert (scores.per_request() == same.per_request()).all()
    assert scores.provenance["chat"] and not same.provenance["chat"]
    assert provenance.arithmetic(scores.provenance).endswith("chat template")
    options = {"layer": 1, "steps": 2, "contexts": [], "kl_factor": 0.0}
    change, its = (
        lga_fast.edit(chat, [fact], **options),
        lga_fast.edit(rendered, [fact | {"prompt": text}], **options),
    )
    assert change.checksum == its.checksum


def test_contexts_stand_inside_the_message():
    plain = tokenizer(TEMPLATES["gemma"])
    chat = lga_fast.load(tiny.model("llama").hf, tokenizer=plain, chat=True)
    fact = {"prompt": PROMPT, "subject": "Danielle Darrieux", "target_new": "English"}
    row, index = answer_row(chat, "Therefore it rains. ", easyedit_requests([fact])[0])
    text = plain.decode(row.ids)
    assert text == f"{BEGIN}<turn>user\nTherefore it rains. {PROMPT}<end>\n<turn>model\nEnglish"
    assert plain.decode(row.ids[: index + 1]).endswith("Darrieux")


def test_a_checksum_tells_a_chat_from_plain_prompts():
    plain = tokenizer(TEMPLATES["qwen"])
    other = tokenizer(TEMPLATES["gemma"])
    sums = [provenance.tokenizer_checksum(one) for one in (plain, ChatTokenizer(plain))]
    assert len({*sums, provenance.tokenizer_checksum(ChatTokenizer(other))}) == 3


def test_it_can_be_copied_and_pickled():
    chat = ChatTokenizer(tokenizer(TEMPLATES["qwen"]))
    for twin in (copy.deepcopy(chat), pickle.loads(pickle.dumps(chat))):
        assert twin.prompt(PROMPT) == chat.prompt(PROMPT)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "without one"),
        ("{{ bos_token }}hello", "does not show its messages"),
        (LOOP + "{{ m['content'] | upper }}{% endfor %}", "does not show the message"),
        ("{{ raise_exception('no system prompt') }}", "template fails: no system prompt"),
    ],
)
def test_templates_that_cannot_serve_are_refused(template, says):
    with pytest.raises(LgaFastError, match=says):
        ChatTokenizer(tokenizer(template)).prompt(PROMPT)
