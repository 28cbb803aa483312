"""Queries: which pages PAGEMAP_SCAN shall report, as the ioctl's own four masks."""

import ast
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pagewatch.vocab.categories import ALL_CATEGORIES, Category
from pagewatch.vocab.errors import QueryError

_VALUES = np.arange(int(ALL_CATEGORIES) + 1, dtype=np.uint64)
_BITS = tuple(Category)
_NAMES: dict[str, Category] = {str(bit.name).lower(): bit for bit in _BITS}
_DRAFT = Category.WRITTEN | Category.FILE | Category.PRESENT | Category.SWAPPED | Category.PFNZERO


@dataclass(frozen=True, slots=True)
class Query:
    """A page matches when ``x = categories ^ inverted`` has all of ``mask`` and, if set, any of ``anyof``.

    The four fields are ``category_inverted``, ``category_mask``, ``category_anyof_mask`` and
    ``return_mask`` of ``struct pm_scan_arg``.
    """

    inverted: Category = Category(0)
    """These categories are looked at the other way round. Alone it has no effect."""
    mask: Category = Category(0)
    """All of these must hold, after inversion."""
    anyof: Category = Category(0)
    """At least one of these must hold, after inversion; 0 asks for none."""
    returned: Category = Category(0)
    """Categories to report, as they are (not inverted). Neighbours that look alike merge; 0 merges all."""

    def __post_init__(self) -> None:
        for name in ("inverted", "mask", "anyof", "returned"):
            value = getattr(self, name)
            if not isinstance(value, int) or int(value) & ~int(ALL_CATEGORIES):
                raise QueryError(f"{name}={value!r} is not a combination of categories ({_known()})")
            object.__setattr__(self, name, Category(value))

    @classmethod
    def where(cls, expression: str, returned: Category | None = None) -> Self:
        """Translate an expression such as ``"written & (file | !present)"``.

        Names are the categories in lower case; operators are ``&``, ``|``, ``!`` or ``~``, and parentheses.
        Whatever is equivalent to literals joined by ``&``, with at most one group joined by ``|``, works,
        however it is written.

        :param returned: categories to report; by default those that the expression names.
        :raises QueryError: unknown name, bad syntax, or a condition that four masks cannot express.
        """
        table, named = _truth_table(expression)
        query = cls(*_masks(table, expression), returned=named if returned is None else returned)
        if not np.array_equal(query.matches(_VALUES), table):
            raise QueryError(
                f"{expression!r} needs more than one group of alternatives; PAGEMAP_SCAN takes the form "
                "A & B & (C | !D): split it into several scans"
            )
        return query

    @classmethod
    def draft(
        cls,
        *,
        required: Category = Category(0),
        anyof: Category = Category(0),
        excluded: Category = Category(0),
        returned: Category = Category(0),
    ) -> Self:
        """Translate a request of the 2023 draft interface (required, anyof, excluded, return masks).

        :raises QueryError: a category the draft did not have, or masks that no page can satisfy.
        """
        if (required | anyof | excluded | returned) & ~_DRAFT:
            raise QueryError("the draft interface knew only written, file, present, swapped and pfnzero")
        if required & excluded:
            raise QueryError(f"no page can match: {required & excluded!r} is both required and excluded")
        # The draft tested anyof on the page as it is; an excluded bit can never have been the one that matched.
        alternatives = anyof & ~excluded
        if anyof and not alternatives:
            raise QueryError(f"no page can match: every alternative of {anyof!r} is excluded")
        return cls(excluded, required | excluded, alternatives, returned)

    def matches(self, categories: Any) -> Any:
        """Whether pages with these categories match: the kernel's formula.

        :param categories: one value, or an array of them; the result has the same shape.
        """
        if isinstance(categories, np.ndarray):
            seen = categories.astype(np.uint64) ^ np.uint64(self.inverted)
            ok = (seen & np.uint64(self.mask)) == np.uint64(self.mask)
            return ok & ((seen & np.uint64(self.anyof)) != 0) if self.anyof else ok
        value = int(categories) ^ int(self.inverted)
        return value & self.mask == self.mask and (not self.anyof or value & self.anyof != 0)

    def __str__(self) -> str:
        literals = [_literal(bit, self.inverted) for bit in _BITS if bit & self.mask]
        group = [_literal(bit, self.inverted) for bit in _BITS if bit & self.anyof]
        if group:
            literals.append(f"({' | '.join(group)})" if len(group) > 1 else group[0])
        return " & ".join(literals) or "everything"


def _literal(bit: Category, inverted: Category) -> str:
    return ("!" if bit & inverted else "") + str(bit.name).lower()


def _having(bit: Category) -> npt.NDArray[np.bool_]:
    """Which combinations of categories contain the bit."""
    return (_VALUES & np.uint64(bit)).astype(np.bool_)


def near(name: str) -> str:
    """What to write instead of a name that no category has: the likely one, and all there are."""
    close = get_close_matches(name.lower(), _NAMES, n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"known: {_known()}"


def _known() -> str:
    return ", ".join(_NAMES)


def _truth_table(expression: str) -> tuple[npt.NDArray[np.bool_], Category]:
    """The expression's value for every combination of categories, and the categories it names."""
    try:
        # "!" and "~" bind alike; Python's parser knows the second.
        tree = ast.parse(expression.replace("!", "~").strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise QueryError(
            f"cannot read {expression!r}: write category names ({_known()}) joined by & | ! and parentheses"
        ) from None
    named = Category(0)

    def value(node: ast.AST) -> npt.NDArray[np.bool_]:
        nonlocal named
        match node:
            case ast.Name(id=name) if name in _NAMES:
                named |= _NAMES[name]
                return _having(_NAMES[name])
            case ast.Name(id=name):
                where = "" if expression.strip() == name else f" in {expression!r}"
                raise QueryError(f"unknown category {name!r}{where}; {near(name)}")
            case ast.UnaryOp(op=ast.Invert(), operand=operand):
                return ~value(operand)
            case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
                return value(left) & value(right)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return value(left) | value(right)
        raise QueryError(f"cannot read {expression!r}: only & | ! and parentheses join category names")

    try:
        return value(tree), named
    except RecursionError:
        raise QueryError("the expression is nested too deeply") from None


def _masks(table: npt.NDArray[np.bool_], expression: str) -> tuple[Category, Category, Category]:
    """Inverted, mask and anyof of a condition given by its truth table, if it has such a form at all.

    A literal belongs to the mask when the condition implies it. Under those, a literal belongs to the one
    group of alternatives when it implies the condition.
    """
    if not table.any():
        raise QueryError(f"{expression!r} matches no page at all")
    inverted = mask = anyof = Category(0)
    for bit in _BITS:
        has = _having(bit)
        if not (table & ~has).any():
            mask |= bit
        elif not (table & has).any():
            mask |= bit
            inverted |= bit
    required = ((_VALUES ^ np.uint64(inverted)) & np.uint64(mask)) == np.uint64(mask)
    if (table | ~required).all():
        return inverted, mask, anyof
    for bit in _BITS:
        has = _having(bit)
        if bit & mask:
            continue
        if (table | ~(required & has)).all():
            anyof |= bit
        elif (table | ~(required & ~has)).all():
            anyof |= bit
            inverted |= bit
    return inverted, mask, anyof
