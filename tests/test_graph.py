"""The thought graph against its definition, written out token by token."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parathinker import Kind, Segment, ThoughtGraph, UsageError
from parathinker.modeling.masks import additive_mask, dense_mask


@st.composite
def any_graphs(draw) -> ThoughtGraph:
    """Any acyclic graph: every segment picks parents among those before it."""
    graph = ThoughtGraph()
    for index in range(draw(st.integers(1, 7))):
        parents = draw(st.sets(st.integers(0, index - 1), max_size=4)) if index else set()
        kind = draw(st.sampled_from(list(Kind)))
        thought_id = draw(st.integers(1, 31)) if kind is Kind.PATH else 0
        graph.add(kind, draw(st.integers(0, 3)), parents, thought_id)
    return graph


@st.composite
def chats(draw) -> ThoughtGraph:
    """Rounds of prompt, paths and summary; the next round hangs under the summary before."""
    graph, under = ThoughtGraph(), ()
    length = st.integers(0, 3)
    for _ in range(draw(st.integers(1, 3))):
        prompt = graph.add(Kind.PROMPT, draw(length), under)
        for _ in range(draw(st.integers(1, 2))):
            ids = range(1, draw(st.integers(1, 3)) + 1)
            paths = [graph.add(Kind.PATH, draw(length), (prompt,), i) for i in ids]
            prompt = graph.add(Kind.SUMMARY, draw(length), (prompt, *paths))
        under = (prompt,)
    return graph


graphs = st.one_of(any_graphs(), chats())


def tokens_of(graph: ThoughtGraph) -> list[tuple[int, int]]:
    """(segment, index in it) of every token, in flat order."""
    return [(s, i) for s, segment in enumerate(graph.segments) for i in range(segment.length)]


def is_seen(graph: ThoughtGraph, segment: int, of: int) -> bool:
    """Walk up the parents; from a prompt on, paths are out of sight."""

    def walk(index: int, paths_too: bool) -> bool:
        paths_too = paths_too and graph.segments[index].kind is not Kind.PROMPT
        return any(
            (parent == segment and (paths_too or graph.segments[parent].kind is not Kind.PATH))
            or walk(parent, paths_too)
            for parent in graph.segments[index].parents
        )

    return walk(of, True)


def longest_way_to(graph: ThoughtGraph, segment: int) -> int:
    """Most tokens on any way from a root down to where the segment begins."""

    @cache
    def way(index: int) -> int:
        parents = graph.segments[index].parents
        return max([way(p) + graph.segments[p].length for p in parents], default=0)

    return way(segment)


@given(graphs)
def test_a_token_sees_its_own_segment_causally_and_what_leads_to_it_and_nothing_else(graph):
    tokens = tokens_of(graph)
    mask = dense_mask(graph)
    assert mask.shape == (len(tokens), len(tokens))
    for q, (query_segment, query_index) in enumerate(tokens):
        for k, (key_segment, key_index) in enumerate(tokens):
            if query_segment == key_segment:
                expected = key_index <= query_index
            else:
                expected = is_seen(graph, key_segment, of=query_segment)
            assert graph.sees(q, k) == expected
            assert bool(mask[q, k]) == expected


@given(graphs)
def test_a_segment_starts_behind_the_longest_way_that_leads_to_it(graph):
    expected = [longest_way_to(graph, segment) + index for segment, index in tokens_of(graph)]
    assert graph.positions() == expected
    for index, segment in enumerate(graph.segments):
        assert graph.start(index) == longest_way_to(graph, index)
        assert graph.end(index) == graph.start(index) + segment.length


@given(graphs)
def test_flat_sequences_list_every_token_once_in_order(graph):
    tokens = tokens_of(graph)
    assert graph.length == len(tokens)
    assert graph.token_segments() == [segment for segment, _ in tokens]
    assert graph.thought_ids() == [graph.segments[s].thought_id for s, _ in tokens]


@given(graphs)
def test_segments_read_what_leads_to_them_but_no_paths_beyond_a_prompt(graph):
    n = len(graph.segments)
    for i in range(n):
        expected = [j for j in range(n) if is_seen(graph, j, of=i)]
        assert list(graph.visible(i)) == expected
        assert [j for j in range(n) if graph.reads()[i][j]] == expected


@given(graphs)
def test_sibling_groups_partition_the_segments_into_runs_that_read_the_same(graph):
    groups = graph.sibling_groups()
    assert [i for group in groups for i in group] == list(range(len(graph.segments)))
    for group in groups:
        assert len({graph.visible(i) for i in group}) == 1
        assert not any(is_seen(graph, i, of=j) for i in group for j in group)
    for one, following in pairwise(groups):
        assert graph.visible(one[0]) != graph.visible(following[0])


@given(graphs, st.data())
def test_a_graph_that_grew_equals_one_that_was_made_so(graph, data):
    lengths = [data.draw(st.integers(0, segment.length)) for segment in graph.segments]
    grown = ThoughtGraph(
        [
            Segment(s.kind, length, s.parents, s.thought_id)
            for s, length in zip(graph.segments, lengths, strict=True)
        ]
    )
    for index, segment in enumerate(graph.segments):
        grown.extend(index, segment.length - lengths[index])
    assert grown == graph
    assert grown.positions() == graph.positions()
    assert torch.equal(dense_mask(grown), dense_mask(graph))


@given(graphs)
def test_the_additive_mask_is_zero_where_visible_and_the_least_number_elsewhere(graph):
    mask = additive_mask(graph, torch.bfloat16)
    assert mask.shape == (1, 1, graph.length, graph.length)
    assert torch.equal(mask[0, 0] == 0, dense_mask(graph))
    assert (mask[mask != 0] == torch.finfo(torch.bfloat16).min).all()


def test_the_standard_graph_of_two_ragged_paths_and_a_summary():
    graph = ThoughtGraph.parallel(prompt=2, paths=[(3, 1), (1, 3)], summary=2)
    assert graph.positions() == [0, 1, 2, 2, 3, 4, 5, 6]
    assert graph.thought_ids() == [0, 0, 3, 1, 1, 1, 0, 0]
    assert graph.sibling_groups() == [(0,), (1, 2), (3,)]
    assert dense_mask(graph).int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 0, 0, 0, 0],
        [1, 1, 0, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 1, 1],
    ]


def test_a_second_round_reads_the_paths_of_the_first():
    graph = ThoughtGraph.parallel(2, [(1, 1), (2, 3)], summary=2)
    path = graph.add(Kind.PATH, 1, (3,), thought_id=1)
    summary = graph.add(Kind.SUMMARY, 1, (3, path))
    assert graph.visible(path) == (0, 1, 2, 3)
    assert graph.visible(summary) == (0, 1, 2, 3, path)
    assert graph.positions() == [0, 1, 2, 2, 3, 4, 5, 6, 7, 8]


def test_a_further_question_sees_earlier_prompts_and_summaries_but_no_earlier_path():
    graph = ThoughtGraph.parallel(2, [(1, 1), (2, 3)], summary=2)
    prompt = graph.add(Kind.PROMPT, 2, (3,))
    paths = [graph.add(Kind.PATH, 1, (prompt,), i) for i in (1, 2)]
    summary = graph.add(Kind.SUMMARY, 1, (prompt, *paths))
    again = graph.add(Kind.PROMPT, 1, (summary,))
    assert graph.visible(prompt) == (0, 3)
    assert graph.visible(paths[1]) == (0, 3, prompt)
    assert graph.visible(summary) == (0, 3, prompt, *paths)
    assert graph.visible(again) == (0, 3, prompt, summary)
    # Paths that are not seen still took their place: positions go on behind the summary.
    assert [graph.start(i) for i in (prompt, *paths, summary, again)] == [7, 9, 9, 10, 11]


def test_without_a_summary_the_paths_are_the_leaves():
    graph = ThoughtGraph.parallel(2, [(1, 1), (2, 1)])
    assert [s.kind for s in graph.segments] == [Kind.PROMPT, Kind.PATH, Kind.PATH]


def test_many_rounds_stay_cheap():
    graph, under = ThoughtGraph(), ()
    for _ in range(40):
        prompt = graph.add(Kind.PROMPT, 1, under)
        paths = [graph.add(Kind.PATH, 2, (prompt,), i) for i in range(1, 9)]
        under = (graph.add(Kind.SUMMARY, 1, (prompt, *paths)),)
    assert graph.end(under[0]) == 40 * 4
    assert len(graph.visible(under[0])) == 39 * 2 + 1 + 8


def test_an_empty_graph_has_no_tokens():
    graph = ThoughtGraph()
    assert (graph.length, graph.positions(), graph.sibling_groups()) == (0, [], [])
    assert dense_mask(graph).shape == (0, 0)


@pytest.mark.parametrize("parent", [0, 1, 5, -1])
def test_a_parent_has_to_be_an_earlier_segment(parent):
    graph = ThoughtGraph()
    with pytest.raises(UsageError, match=f"parent {parent} is not an earlier segment"):
        graph.add(Kind.PROMPT, 1, (parent,))
    assert graph.segments == []
    with pytest.raises(UsageError, match="not an earlier segment"):
        ThoughtGraph([Segment(Kind.PROMPT, 1, (parent,))])


@pytest.mark.parametrize("thought_id", [0, -3])
def test_a_path_has_a_thought_id_of_its_own(thought_id):
    with pytest.raises(UsageError, match="thought id must be 1 or more"):
        ThoughtGraph().add(Kind.PATH, 1, (), thought_id)


@pytest.mark.parametrize("kind", [Kind.PROMPT, Kind.SUMMARY])
def test_prompt_and_summary_have_thought_id_zero(kind):
    with pytest.raises(UsageError, match=f"a {kind.value} has thought id 0, got 2"):
        ThoughtGraph().add(kind, 1, (), 2)


def test_a_segment_cannot_be_shorter_than_nothing():
    with pytest.raises(UsageError, match="0 or more, got -1"):
        ThoughtGraph().add(Kind.PROMPT, -1)
    graph = ThoughtGraph.parallel(3, [])
    with pytest.raises(UsageError, match="0 or more, got -1"):
        graph.extend(0, -4)
    assert graph.length == 3
