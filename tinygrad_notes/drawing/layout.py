"""Where the boxes of a graph stand: rows by distance from the last box, few crossings, no overlaps.

Sugiyama, Tagawa and Toda (1981), "Methods for visual understanding of hierarchical system structures", in four steps:
rows (the longest path to the last box), a bend in every row that an edge passes (so that it keeps a place between
the boxes there), an order in each row that crosses little, and positions that keep the order and pull
neighbours above one another.
"""

from dataclasses import dataclass

import numpy as np

GAP, ROOM = 22, 44  # pixels between neighbours in a row, and between rows
BEND = 6  # the width of an edge's place in a row that it passes
SWEEPS, PULLS = 12, 24  # for the order and for the places


@dataclass
class Layout:
    """Pixels. corners: the upper left one of each box; paths: of each edge, its points, from the box above to the one below."""

    width: float
    height: float
    corners: list[tuple[float, float]]
    paths: list[list[tuple[float, float]]]


def layout(sizes: list[tuple[float, float]], edges: list[tuple[int, int]]) -> Layout:
    """Places for boxes of these (width, height); an edge (i, j) leads from box i down to box j, and i < j. The last box is the lowest."""
    row = rows_of(len(sizes), edges)
    at, links = bends(row, edges)  # items: boxes, then bends
    widths = [w for w, _ in sizes] + [BEND] * (len(row) - len(sizes))
    order = ordered([[i for i, r in enumerate(row) if r == k] for k in range(max(row) + 1)], links, len(row))
    x = positions(order, links, widths)
    tops, y = [], 0.0
    heights = [max((sizes[i][1] for i in items if i < len(sizes)), default=0.0) for items in order]
    for height in heights:
        tops.append(y)
        y += height + ROOM
    corners = [(x[i] - w / 2, tops[row[i]] + heights[row[i]] - h) for i, (w, h) in enumerate(sizes)]
    ends = ports(edges, at, row, x, widths)
    paths = []
    for (i, j), end in zip(edges, ends):
        path = [(x[i], tops[row[i]] + heights[row[i]])]
        for r in range(row[i] + 1, row[j]):
            path += [(x[at[i][r]], tops[r]), (x[at[i][r]], tops[r] + heights[r])]
        paths.append([*path, (end, tops[row[j]]), (end, corners[j][1])])
    return Layout(float(np.max(x + np.array(widths) / 2)), y - ROOM, corners, paths)


def rows_of(n: int, edges: list[tuple[int, int]]) -> list[int]:
    """The row of each box: so many rows above the lowest as the longest path to it has edges."""
    distance = [0] * n
    for i, j in sorted(edges, key=lambda edge: -edge[1]):
        distance[i] = max(distance[i], distance[j] + 1)
    return [max(distance) - d for d in distance]


def bends(row: list[int], edges: list[tuple[int, int]]) -> tuple[dict[int, dict[int, int]], list[tuple[int, int]]]:
    """For each box its item in every row that its edges pass; and the links between items of neighbouring rows. `row` gets the bends.

    All edges of a box share one trunk, from which they branch off: a weight that is used a hundred times has one line, not a hundred.
    """
    at: dict[int, dict[int, int]] = {}
    links: dict[tuple[int, int], None] = {}  # a set that keeps its order
    for i, j in edges:
        trunk = at.setdefault(i, {row[i]: i})
        for r in range(row[i] + 1, row[j]):
            if r not in trunk:
                trunk[r] = len(row)
                row.append(r)
            links[trunk[r - 1], trunk[r]] = None
        links[trunk[row[j] - 1], j] = None
    return at, list(links)


def ordered(rows: list[list[int]], links: list[tuple[int, int]], n: int) -> list[list[int]]:
    """The rows, each sorted so that few links cross: by the mean place of the neighbours below, then of those above, and again.

    They start as one meets them from the lowest box upwards, a box's inputs from left to right: a tree stays so, and a - b is read as a - b.
    """
    above, below = neighbours(links, n)
    place = np.zeros(n)
    met: dict[int, int] = {}
    stack = list(rows[-1])
    while stack:
        i = stack.pop()
        if i not in met:
            met[i] = len(met)
            stack += reversed(above[i])
    rows = [sorted(items, key=lambda i: met[i]) for items in rows]

    def settle(items):
        place[items] = np.arange(len(items)) - (len(items) - 1) / 2

    for items in rows:
        settle(items)
    best, fewest = [list(items) for items in rows], crossings(rows, links, place)
    for sweep in range(SWEEPS):
        near = above if sweep % 2 else below
        for items in rows if sweep % 2 else rows[::-1]:
            items.sort(key=lambda i: sum(place[j] for j in near[i]) / len(near[i]) if near[i] else place[i])
            settle(items)
        count = crossings(rows, links, place)
        if count < fewest:
            best, fewest = [list(items) for items in rows], count
    return best


def neighbours(links: list[tuple[int, int]], n: int) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in range(n)]
    below: list[list[int]] = [[] for _ in range(n)]
    for a, b in links:
        above[b].append(a)
        below[a].append(b)
    return above, below


def crossings(rows: list[list[int]], links: list[tuple[int, int]], place: np.ndarray) -> int:
    """How many pairs of links between the same two rows cross."""
    row = {i: r for r, items in enumerate(rows) for i in items}
    between: dict[int, list[tuple[float, float]]] = {}
    for a, b in links:
        between.setdefault(row[a], []).append((place[a], place[b]))
    total = 0
    for ends in between.values():
        a, b = np.array(ends).T
        total += int(np.sum((a[:, None] < a) & (b[:, None] > b)))
    return total


def positions(rows: list[list[int]], links: list[tuple[int, int]], widths: list[float]) -> np.ndarray:
    """The x of each item's middle, in the order of its row, GAP apart, so that sum of weight * (x[a] - x[b])^2 over links is small.

    Each step is the best for one row while the others stand, and the sum is convex: it falls towards its minimum. Long edges
    weigh more, so that they are straight (the weights of Gansner et al. 1993, "A technique for drawing directed graphs").
    """
    above, below = neighbours(links, len(widths))
    x, width = np.zeros(len(widths)), np.array(widths)
    bend = (width == BEND).astype(int)
    steps = []
    for items in rows:
        near = [(k, j) for k, i in enumerate(items) for j in above[i] + below[i]] or [(0, items[0])]
        k, j = np.array(near).T
        pull = np.array([1.0, 2.0, 8.0])[bend[np.array(items)[k]] + bend[j]]
        room = (width[items][1:] + width[items][:-1]) / 2 + GAP
        start = np.concatenate([[0], np.cumsum(room)])  # where they would stand, packed
        steps.append((items, k, j, pull, np.bincount(k, pull), start))
    for sweep in range(PULLS):
        for items, k, j, pull, total, start in steps if sweep % 2 == 0 else steps[::-1]:
            wish = np.bincount(k, pull * x[j]) / total
            x[items] = start + rising(wish - start, total)
    return x - np.min(x - width / 2)


def rising(wish: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The nearest sequence that never falls, in weighted least squares: neighbours that would change places share their mean."""
    if np.all(wish[1:] >= wish[:-1]):
        return wish
    blocks: list[list[float]] = []  # mean, weight, length
    for m, w in zip(wish.tolist(), weight.tolist()):
        blocks.append([m, w, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            m2, w2, n2 = blocks.pop()
            m1, w1, n1 = blocks.pop()
            blocks.append([(m1 * w1 + m2 * w2) / (w1 + w2), w1 + w2, n1 + n2])
    return np.repeat([m for m, _, _ in blocks], [int(n) for _, _, n in blocks])


def ports(edges: list[tuple[int, int]], at: dict[int, dict[int, int]], row: list[int], x: np.ndarray, widths: list[float]) -> list[float]:
    """The x at which each edge ends: spread over the top of its box, in the order in which edges arrive."""
    arriving: dict[int, list[int]] = {}
    for e, (_, j) in enumerate(edges):
        arriving.setdefault(j, []).append(e)
    ends = [0.0] * len(edges)
    for j, es in arriving.items():
        es.sort(key=lambda e: x[at[edges[e][0]][row[j] - 1]])
        step = min(28.0, (widths[j] - 16) / len(es))
        for k, e in enumerate(es):
            ends[e] = x[j] + (k - (len(es) - 1) / 2) * step
    return ends
