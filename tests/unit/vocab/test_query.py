"""Queries against literal definitions, over all 512 combinations of categories."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import QueryError
from pagewatch.vocab.query import Query

NAMES = ("wpallowed", "written", "file", "present", "swapped", "pfnzero", "huge", "soft_dirty", "guard")
BIT = {name: 1 << place for place, name in enumerate(NAMES)}
EVERY_VALUE = range(512)
masks = st.integers(0, 511)


def kernel_formula(page, *, inverted, mask, anyof):
    """``pagemap_scan_is_interesting_page`` of fs/proc/task_mmu.c, bit by bit."""

    def holds(bit):
        return bool(page & bit) != bool(inverted & bit)

    required = [bit for bit in BIT.values() if mask & bit]
    alternatives = [bit for bit in BIT.values() if anyof & bit]
    return all(map(holds, required)) and (not alternatives or any(map(holds, alternatives)))


def matched(query):
    return [page for page in EVERY_VALUE if query.matches(page)]


# --- the formula


@given(masks, masks, masks, masks)
def test_matching_is_the_kernels_formula(inverted, mask, anyof, returned):
    query = Query(Category(inverted), Category(mask), Category(anyof), Category(returned))
    expected = [page for page in EVERY_VALUE if kernel_formula(page, inverted=inverted, mask=mask, anyof=anyof)]
    assert matched(query) == expected


@given(masks, masks, masks, st.sampled_from([np.uint64, np.int64, np.uint16, object]))
def test_arrays_are_matched_like_single_values(inverted, mask, anyof, dtype):
    query = Query(inverted, mask, anyof)
    pages = np.array(EVERY_VALUE, dtype).reshape(16, 32)
    answer = query.matches(pages)
    assert answer.shape == pages.shape
    assert answer.dtype == np.bool_
    assert answer.ravel().tolist() == [query.matches(page) for page in EVERY_VALUE]


@pytest.mark.parametrize("value", [Category.WRITTEN, np.uint64(2), 2])
def test_single_values_give_a_plain_bool(value):
    assert Query(mask=Category.WRITTEN).matches(value) is True
    assert Query(mask=Category.FILE).matches(value) is False


def test_an_empty_query_matches_everything():
    assert matched(Query()) == list(EVERY_VALUE)


def test_inversion_alone_has_no_effect():
    assert matched(Query(inverted=Category.PRESENT)) == list(EVERY_VALUE)


@pytest.mark.parametrize("field", ["inverted", "mask", "anyof", "returned"])
@pytest.mark.parametrize("value", [0x200, -1, 1 << 63, "written", None, 1.0])
def test_masks_of_unknown_bits_are_refused(field, value):
    with pytest.raises(QueryError, match=f"{field}=.*wpallowed, written"):
        Query(**{field: value})


def test_a_query_is_a_value_of_categories():
    query = Query(0, 2, 0, 6)
    assert query == Query(mask=Category.WRITTEN, returned=Category.WRITTEN | Category.FILE)
    assert hash(query) == hash(Query(0, 2, 0, 6))
    assert {type(query.inverted), type(query.mask), type(query.anyof), type(query.returned)} == {Category}


# --- where: expressions of the accepted form, however they are written


def condition(literals, group):
    """A predicate on a page for literals joined by & and one group joined by |; literals are (name, negated)."""

    def holds(page, literal):
        name, negated = literal
        return bool(page & BIT[name]) != negated

    return lambda page: (
        all(holds(page, one) for one in literals) and (not group or any(holds(page, one) for one in group))
    )


def text_of(literal):
    name, negated = literal
    return ("!" if negated else "") + name


@st.composite
def accepted_forms(draw):
    """Literals and a group over different categories: what four masks can always say."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=len(NAMES), unique=True))
    signs = draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
    literals = list(zip(names, signs, strict=True))
    at = draw(st.integers(0, len(literals)))
    return literals[:at], literals[at:]


def direct(literals, group):
    parts = [text_of(one) for one in literals]
    if group:
        parts.append("(" + " | ".join(map(text_of, group)) + ")")
    return " & ".join(parts)


def by_de_morgan(literals, group):
    """The negation of the negation, pushed inwards: !(!a | !b | (!c & d))."""
    opposite = [text_of((name, not negated)) for name, negated in literals]
    if group:
        opposite.append("(" + " & ".join(text_of((name, not negated)) for name, negated in group) + ")")
    return "!(" + " | ".join(opposite) + ")"


def distributed(literals, group):
    """The group multiplied out: (a & b & c) | (a & b & !d)."""
    heads = [text_of(one) for one in literals]
    return " | ".join("(" + " & ".join([*heads, text_of(one)]) + ")" for one in group) or " & ".join(heads)


def doubly_negated(literals, group):
    return "~~(" + direct(literals, group) + ")"


@pytest.mark.parametrize("write", [direct, by_de_morgan, distributed, doubly_negated])
@given(form=accepted_forms())
def test_equivalent_writings_are_understood_alike(write, form):
    holds = condition(*form)
    assert matched(Query.where(write(*form))) == [page for page in EVERY_VALUE if holds(page)]


@given(accepted_forms())
def test_named_categories_are_returned(form):
    literals, group = form
    assert int(Query.where(direct(*form)).returned) == sum(BIT[name] for name, _ in literals + group)


@given(accepted_forms())
def test_a_query_prints_as_an_expression_that_means_it(form):
    query = Query.where(direct(*form))
    assert Query.where(str(query), returned=query.returned) == query


expressions = st.recursive(
    st.sampled_from(NAMES[:4]),
    lambda inner: st.one_of(
        inner.map(lambda a: f"!{a}" if a.isidentifier() else f"!({a})"),
        st.tuples(inner, inner).map(lambda ab: f"({ab[0]} & {ab[1]})"),
        st.tuples(inner, inner).map(lambda ab: f"({ab[0]} | {ab[1]})"),
    ),
    max_leaves=8,
)


def meaning(expression):
    """Python's own ``and``, ``or`` and ``not`` decide what an expression means."""
    words = expression.replace("&", " and ").replace("|", " or ").replace("!", " not ")
    code = compile(words.strip(), "expression", "eval")
    return [
        page
        for page in EVERY_VALUE
        if eval(code, {}, {name: bool(page & bit) for name, bit in BIT.items()})  # noqa: S307 - made of NAMES above
    ]


def expressible():
    """Every set of pages over four categories that some four masks select."""
    found = set()
    for mask in range(16):
        for anyof in range(16):
            for inverted in range(16):
                found.add(tuple(kernel_formula(page, inverted=inverted, mask=mask, anyof=anyof) for page in range(16)))
    return found


EXPRESSIBLE = expressible()


@given(expressions)
def test_exactly_what_four_masks_can_say_is_accepted(expression):
    wanted = meaning(expression)
    can_be_said = tuple(page in wanted for page in range(16)) in EXPRESSIBLE
    try:
        query = Query.where(expression)
    except QueryError:
        assert not wanted or not can_be_said
    else:
        assert matched(query) == wanted


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "cannot read"),
        ("written &", "cannot read"),
        ("written file", "cannot read"),
        ("(written", "cannot read"),
        ("written\n& file", "cannot read"),
        ("written\0", "cannot read"),
        ("written and file", "only & | ! and parentheses"),
        ("not written", "only & | ! and parentheses"),
        ("written ^ file", "only & | ! and parentheses"),
        ("written != file", "cannot read"),
        ("written & 1", "only & | ! and parentheses"),
        ("-written", "only & | ! and parentheses"),
        ("written()", "only & | ! and parentheses"),
        ("written.real", "only & | ! and parentheses"),
        ("'written'", "only & | ! and parentheses"),
        ("(lambda: 0)", "only & | ! and parentheses"),
        ("dirty", "unknown category 'dirty'.*known: wpallowed, written"),
        ("Written", "unknown category 'Written'.*did you mean written[?]"),
        ("file & presnt", "'presnt'.*did you mean present[?] known"),
        ("soft-dirty", "cannot read"),
        ("xyz", "unknown category 'xyz'; known: wpallowed"),
        ("__import__", "unknown category"),
        ("written & !written", "matches no page"),
        ("written | (file & present)", "more than one group"),
        ("(written | file) & (present | swapped)", "more than one group"),
        ("(written & !file) | (!written & file)", "more than one group"),
        ("~" * 100_000 + "written", "cannot read|nested too deeply"),
        ("(" * 300 + "written" + ")" * 300, "cannot read|nested too deeply"),
    ],
    ids=lambda text: repr(text)[:40],
)
def test_what_cannot_be_a_query_is_refused_with_help(expression, words):
    with pytest.raises(QueryError, match=words):
        Query.where(expression)


def test_the_refusal_of_two_groups_says_what_to_do():
    with pytest.raises(QueryError, match="split it into several scans"):
        Query.where("(written | file) & (present | swapped)")


def test_a_tautology_matches_everything():
    assert matched(Query.where("written | !written")) == list(EVERY_VALUE)


def test_where_takes_what_to_return():
    query = Query.where("written & (file | !present)", returned=Category.HUGE)
    assert query == Query(Category.PRESENT, Category.WRITTEN, Category.FILE | Category.PRESENT, Category.HUGE)


# --- the draft interface of 2023

DRAFT = 0b11_1110
draft_masks = st.integers(0, 31).map(lambda bits: bits << 1)


def draft_formula(page, *, required, anyof, excluded):
    """The test of the draft patches: ``(b & req) == req && (!any || b & any) && !(b & excl)``."""
    return page & required == required and (not anyof or bool(page & anyof)) and not page & excluded


@given(draft_masks, draft_masks, draft_masks, draft_masks)
def test_draft_requests_mean_what_the_draft_meant(required, anyof, excluded, returned):
    expected = [page for page in EVERY_VALUE if draft_formula(page, required=required, anyof=anyof, excluded=excluded)]
    try:
        query = Query.draft(
            required=Category(required), anyof=Category(anyof), excluded=Category(excluded), returned=Category(returned)
        )
    except QueryError:
        assert not expected
    else:
        assert matched(query) == expected != []
        assert int(query.returned) == returned


def test_an_excluded_alternative_is_no_alternative():
    """Left in both masks it would be inverted, and its absence would satisfy the group."""
    query = Query.draft(anyof=Category.FILE | Category.PRESENT, excluded=Category.FILE)
    assert not query.matches(Category(0))
    assert query.matches(Category.PRESENT)
    assert not query.matches(Category.PRESENT | Category.FILE)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"required": Category.FILE, "excluded": Category.FILE}, "both required and excluded"),
        ({"anyof": Category.FILE, "excluded": Category.FILE | Category.PRESENT}, "every alternative"),
        ({"required": Category.HUGE}, "draft interface knew only"),
        ({"anyof": Category.SOFT_DIRTY}, "draft interface knew only"),
        ({"excluded": Category.GUARD}, "draft interface knew only"),
        ({"returned": Category.WPALLOWED}, "draft interface knew only"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_impossible_draft_requests_are_refused(request_, words):
    with pytest.raises(QueryError, match=words):
        Query.draft(**request_)


def test_the_drafts_five_categories_are_accepted():
    assert int(Query.draft(required=Category(DRAFT)).mask) == DRAFT
