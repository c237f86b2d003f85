"""Where in the index everything lies that a target can match.

    tag, group      rows of `tags`, up to the purge's stamp
    url             the rows of one place: both schemes, all that hooks added to the key
    prefix, host    a range of the objects each, or two
    pattern         as the prefix that all its matches have, if they have one
    anything else   all objects of the site

A range holds at least what the target matches; what of it does is for `matches` and the stamps to say.

Not here: how keys are laid out (`rows.py`); what is done with what lies there (`disksweep.py`, `diskreads.py`).
Source: PURGE rule 4.
"""

from banish.purge.patterns import fixed_prefix
from banish.purge.targets import Kind, Target, compiled
from banish.store.index import Family, Range
from banish.store.rows import gen_range, group_name, host_ranges, prefix_range, tag_name, tag_range, url_range


def ranges(gen: int, target: Target, below: int) -> list[tuple[Family, Range]]:
    """Where all that a purge of `target` with apply index `below` can match is found in a generation."""
    value = target.value
    match target.kind:
        case Kind.URL:
            return [(Family.OBJECTS, url_range(gen, value))]
        case Kind.PREFIX:
            return [(Family.OBJECTS, prefix_range(gen, value))]
        case Kind.HOST:
            return [(Family.OBJECTS, span) for span in host_ranges(gen, value)]
        case Kind.TAG:
            return [(Family.TAGS, tag_range(gen, tag_name(value), below))]
        case Kind.GROUP:
            origin, _, group = value.partition(" ")
            return [(Family.TAGS, tag_range(gen, group_name(origin, group), below))]
        case Kind.PATTERN if (beginning := _beginning(target)) is not None:
            return [(Family.OBJECTS, prefix_range(gen, beginning))]
        case _:
            return [(Family.OBJECTS, gen_range(gen))]


def has_range(target: Target) -> bool:
    """Whether less than all objects of a site is to be looked at."""
    if target.kind is Kind.PATTERN:
        return _beginning(target) is not None
    return target.kind is not Kind.EVERYTHING


def _beginning(target: Target) -> str | None:
    """How every place begins that a pattern can match; None if that cannot be said."""
    try:
        compiled(target.value, target.regex)
    except ValueError:  # then more is meant than the pattern says
        return None
    return fixed_prefix(target.value, regex=target.regex)
