import pytest

from mamba_slm.core.errors import DataError
from mamba_slm.text.template import compiled, render_template

MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " Hello <b> "}]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}{{ m.role }}{{ '' if loop.last else ',' }}{% endfor %}", "user,assistant"),
        ("{{ messages[1]['content'] | trim }}", "Hello <b>"),
        ("{{ 'a' ~ 1 ~ messages[0].content + '!' }}", "a1Hi!"),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 2 * 3 %}{% endfor %}{{ ns.n }}",
            "12",
        ),
        ("{% for m in messages if m.role == 'user' %}{{ loop.index0 }}{{ loop.length }}{% endfor %}", "01"),
        ("{% for m in messages[1:] %}{{ m.content.strip() | upper }}{% break %}{% endfor %}", "HELLO <B>"),
        ("{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}", "role=user;content=Hi;"),
        ("{{ messages[1] | tojson }}", '{"role": "assistant", "content": " Hello <b> "}'),
        ("{{ messages | map(attribute='role') | join('+') }}", "user+assistant"),
        ("{% if tools %}x{% endif %}{{ 7 % 4 }}{{ messages | length }}", "32"),
        ("{% macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) ~ f(2) }}", "[1][2]"),
        ("a{% generation %}b{{ 'c' }}{% endgeneration %}d", "a<bc>d"),
    ],
)
def test_what_chat_templates_use_works(source, expected):
    assert render_template(source, {"messages": MESSAGES}, generation_marks=("<", ">")) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(10 ** 9) %}{% endfor %}",
        "{{ 'a' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ 'a' | center(999999999) }}",
        "{{ '%999999999d' | format(1) }}",
        "{% set big = 'a' | center(4000000) %}{{ big.replace('', big) }}",
        "{% set big = 'a' | center(4000000) %}{{ big | list | join(big) }}",
        "{{ ('\t' | center(2000)).expandtabs(4000000) }}",
        "{{ 'a'.ljust(999999999) }}",
        "{{ 'a' | indent(999999999) }}",
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x.replace('a', 'aa') %}{% endfor %}",
        "{% set n = namespace(x='aa') %}{% for i in range(60) %}{% set n.x = n.x | replace('a', 'aa') %}{% endfor %}",
        "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{% for a in range(99999) %}{{ 'a' * 1 }}{% endfor %}",
        "x" * 200_000,
        "{% for a in range(9999) %}" + "x" * 1000 + "{% endfor %}",
    ],
)
def test_a_hostile_template_is_stopped_early(source):
    with pytest.raises(DataError, match="chat template"):
        render_template(source, {"messages": MESSAGES})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for %}", "has a mistake in line 1"),
        ("\n{{ messages | nosuchfilter }}", "has a mistake in line 2: No filter named 'nosuchfilter'"),
        ("{{ raise_exception('roles must alternate') }}", "refuses the conversation: roles must alternate"),
        ("{{ nothing.at.all }}", "failed: 'nothing' is undefined"),
        ("{{ 1 + 'a' }}", "failed: TypeError"),
        ("{{ 1 / 0 }}", "failed: ZeroDivisionError"),
    ],
)
def test_a_template_that_fails_says_why(source, message):
    with pytest.raises(DataError, match="the chat template") as caught:
        render_template(source, {"messages": MESSAGES})
    assert message in str(caught.value)


def test_a_template_is_compiled_once_and_each_rendering_has_its_own_marks_and_budget():
    source = "{% generation %}{{ text }}{% endgeneration %}{% for n in range(90000) %}{% endfor %}"
    rendered = [render_template(source, {"text": mark}, generation_marks=(mark, mark)) for mark in "ab"]
    before = compiled.cache_info().misses
    rendered.append(render_template(source, {"text": "c"}, generation_marks=("c", "c")))
    assert rendered == ["aaa", "bbb", "ccc"]
    assert compiled.cache_info().misses == before
