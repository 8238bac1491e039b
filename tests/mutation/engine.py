"""Mutants of the engine, the transforms, the kernels, the optimizers and saving: one edit of one function each.

A row is (function, what is wrong afterwards, old text, new text); the old text stands in the function once.
The tests that must kill the rows of a family are named beside them.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import CodeType, FunctionType

from tests.mutation import source, suite
from tests.mutation.outcome import Mutant
from tests.mutation.rules import check_op, samples_of
from tests.mutation.source import edited, replaced
from tinygrad_notes import copies, core, interrupts, parallel, replay, threads, transforms
from tinygrad_notes import registry as registry_module
from tinygrad_notes.functional import losses
from tinygrad_notes.fused import attention, embedding, kernels, masks
from tinygrad_notes.optim import averages, inbox, optimizer, rules, schedules
from tinygrad_notes.recording import arrays as recorded_arrays
from tinygrad_notes.recording import makers, program, recorder
from tinygrad_notes.registry import Fused, Op
from tinygrad_notes.saving import arrays, checkpoints

ENGINE = [
    (core.unbroadcast, "skip the broadcast sum", "np.sum(g, axis=(*range(extra), *repeated))", "g[(0,) * extra][tuple(slice(0, 1) if i + extra in repeated else slice(None) for i in range(len(shape)))]"),
    (core.unbroadcast, "mean for sum", "np.sum(", "np.mean("),
    (core.unbroadcast, "only new axes", "*range(extra), *repeated", "*range(extra),"),
    (core.walk, "= for += (owned)", "before += d", "before = d"),
    (core.walk, "= for += (not owned)", "grads[parent] = before + d", "grads[parent] = d"),
    (core.walk, "the first gradient only", "elif parent in owned and not higher:", "elif True:\n                    pass\n                elif parent in owned and not higher:"),
    (core.walk, "drop a PICK member", "members[i] = g if members[i] is None else members[i] + g", "members[i] = g if i == 0 else None"),
    (core.walk, "= for += of a PICK member", "g if members[i] is None else members[i] + g", "g"),
    (core.walk, "missing members are ones", "np.zeros(s, d) if m is None", "np.ones(s, d) if m is None"),
    (core.walk, "missing members are float64", "np.zeros(s, d) if m is None", "np.zeros(s) if m is None"),
    (core.walk, "indexing forgets what was there", "np.array(grads[parent]) if parent in grads else np.zeros(parent.shape, parent.dtype)", "np.zeros(parent.shape, parent.dtype)"),
    (core.walk, "indexing adds into memory of others", "np.array(grads[parent]) if parent in grads", "np.asarray(grads[parent]) if parent in grads"),
    (core.walk, "indexing copies its buffer each time", "owned.add(parent)\n            op.into", "op.into"),
    (core.walk, "adding in place in a higher order", "elif parent in owned and not higher:", "elif parent in owned:"),
    (core.walk, "into in a higher order", "op.into is not None and not higher", "op.into is not None"),
    (core.walk, "ownership: any array without base", "d is not g and isinstance(d, np.ndarray) and d.base is None and not given_twice(d, g, pulled)", "isinstance(d, np.ndarray) and d.base is None and not given_twice(d, g, pulled)"),
    (core.walk, "ownership: views too", "isinstance(d, np.ndarray) and d.base is None and not given_twice", "isinstance(d, np.ndarray) and not given_twice"),
    (core.walk, "ownership: given twice", " and not given_twice(d, g, pulled)", ""),
    (core.walk, "ownership: all", "d is not g and isinstance(d, np.ndarray) and d.base is None and not given_twice(d, g, pulled)", "True"),
    (core.walk, "a sum of numbers takes no index", " or not isinstance(grads[parent], np.ndarray)", ""),
    (core.given_twice, "members of a multiple output not counted", "(*pulled, *g)", "(*pulled,)"),
    (core.given_twice, "views not counted", " or (isinstance(other, np.ndarray) and other.base is d)", ""),
    (core.walk, "results are not copied", "np.asarray(g) if t in owned else np.array(g)", "np.asarray(g)"),
    (core.walk, "wrong order of the walk", "node = path.pop()", "node = path.pop(0)"),
    (core.walk, "the dtype of the rule", "if d.dtype is not parent.dtype and d.dtype != parent.dtype:", "if False:"),
    (core.walk, "the shape of the rule", "if d.shape != parent.shape:", "if False:"),
    (core.walk, "nothing is freed", "if not retain:", "if False:"),
    (core.walk, "always freed", "retain = retain or higher", "retain = False"),
    (core.walk, "create_graph frees", "retain = retain or higher", "pass"),
    (core.walk, "saved arrays are kept", "node.saved = node.y = None", "pass"),
    (core.walk, "the root is forgotten", "if root in on_path", "if root in path"),
    (core.path_between, "stale check off", "parent.version > node.order", "False"),
    (core.path_between, "stale check never starts", "path[0].order < Leaf.last_touch", "False"),
    (core.path_between, "stale check of the newest node", "path[0].order < Leaf.last_touch", "path[-1].order < Leaf.last_touch"),
    (core.path_between, "freed check off", "if parents is FREED:", "if False:"),
    (core.path_between, "targets passed through", "stack, found = [root for root in seen if root not in targets], []\n    seen |= targets", "stack, found = list(seen), []"),
    (core.path_between, "a root that is a target is passed", "[root for root in seen if root not in targets]", "list(seen)"),
    (core.path_between, "no order", "found.sort(key=attrgetter(\"order\"))", "pass"),
    (core.path_between, "order reversed", "attrgetter(\"order\"))", "attrgetter(\"order\"), reverse=True)"),
    (core.path_between, "dead ends on the path", "leading_to(targets, found) if dead_ends else found", "found"),
    (core.path_between, "other leaves are no dead ends", "if node.op is None:\n            dead_ends = True", "pass"),
    (core.path_between, "old nodes are no dead ends", "else:\n                    dead_ends = True", "else:\n                    pass"),
    (core.leading_to, "nodes off the path", "if not on_path.isdisjoint(node.parents):", "if True:"),
    (core.leading_to, "only what stands on a target itself", "on_path.add(node)", "pass"),
    (core.path_between, "the newest target bounds the search", "oldest = min(", "oldest = max("),
    (core.path_between, "nodes seen again", "seen.add(parent)\n", "pass\n"),
    (core.Leaf.touch, "a change is not recorded", "self.version = Leaf.last_touch = tick()", "self.version = tick()"),
    (core.Leaf.touch, "the clock stands", "Leaf.last_touch = tick()", "Leaf.last_touch = 0"),
    (core.gradients, "shared results", "if p.node in given:", "if False:"),
    (core.gradients, "unused never raises", "if unused == \"raise\":", "if False:"),
    (core.gradients, "a loss of any size", "loss.value.size != 1", "False"),
    (core.gradients, "retain_graph ignored", "create_graph, retain_graph)", "create_graph)"),
    (core.gradients, "create_graph ignored", "create_graph, retain_graph)", "False, retain_graph)"),
    (core.gradients, "zeros of another dtype", "np.zeros_like(p.value)", "np.zeros(p.value.shape, np.float16)"),
    (core.gradients, "zeros are arrays in a higher order", "g if isinstance(g, Variable) else make_tensor(g, Leaf(g.shape, g.dtype))", "g"),
]  # fmt: skip

OPS = [
    (Op.plan, "no input is kept", "bool(mask & rules) for mask", "False for mask"),
    (Op.plan, "every input is kept", "bool(mask & rules) for mask", "True for mask"),
    (Op.plan, "the output is not kept", "bool(self.y_mask & rules)", "False"),
    (Op.plan, "the output is always kept", "bool(self.y_mask & rules)", "True"),
    (Op.plan, "kept for all rules", "~0 if self.joint else tensors", "~0"),
    (Op.plan, "kept for the first rule only", "~0 if self.joint else tensors", "tensors & 1"),
    (Op.plan, "joint rules are planned as single ones", "~0 if self.joint else tensors", "tensors"),
    (Op.plan, "Tensors where no rule is", "if rule is None and tensors >> i & 1:", "if False:"),
    (Op.plan, "variadic plans are cached", "if not self.variadic:", "if True:"),
    (Op.pull, "saved input <-> output", "if params and not STORAGE", "if not self.joint and len(inputs) == 1:\n        inputs, y = [y], inputs[0]\n    if params and not STORAGE"),
    (Op.pull, "inputs detached in a higher order", "v if p is None or v is p else make_tensor(v, p)", "v"),
    (Op.pull, "output detached in a higher order", "else make_tensor(y, node)", "else y"),
    (Op.pull, "multiple outputs detached", "outputs(node, y) if type(node.shape) is list", "y if type(node.shape) is list"),
    (Op.pull, "storage keywords reach the rule", "if params and not STORAGE.isdisjoint(params):", "if False:"),
    (Op.pull, "parameters are lost", "[rule(g, y, *inputs, **params) if p in wanted", "[rule(g, y, *inputs) if p in wanted"),
    (Op.pull, "the first rule for all", "for rule, p in zip(rules, parents)", "for rule, p in zip(rules[:1] * len(rules), parents)"),
    (Op.pull, "two rules exchanged", "(of_a, of_b), (p, q) = inputs, rules, parents", "(of_b, of_a), (p, q) = inputs, rules, parents"),
    (Op.pull, "two inputs exchanged", "(a, b), (of_a, of_b)", "(b, a), (of_a, of_b)"),
    (Op.pull, "the second rule follows the first parent", "if q in wanted else None", "if p in wanted else None"),
    (Op.pull, "rules that nobody wants run", "rule(g, y, *inputs, **params) if p in wanted else None", "rule(g, y, *inputs, **params) if rule else None"),
    (Op.pull, "gradients that nobody wants", "[d if p in wanted else None for d, p in", "[d for d, p in"),
    (registry_module.record, "parents reversed", "node = make_node(op, parents, save(values, parents), y if keep_y else None, params, y.shape", "node = make_node(op, parents[::-1], save(values, parents), y if keep_y else None, params, y.shape"),
    (registry_module.record, "saved reversed", "save(values, parents), y if keep_y else None, params, y.shape", "save(values, parents)[::-1], y if keep_y else None, params, y.shape"),
    (registry_module.apply, "tensors counted wrongly", "bit <<= 1", "pass"),
    (registry_module.record, "parameters are not recorded", "y if keep_y else None, params, y.shape", "y if keep_y else None, NO_PARAMS, y.shape"),
    (registry_module.record, "parameters of multiple outputs are not recorded", "y if keep_y else None, params, shapes", "y if keep_y else None, NO_PARAMS, shapes"),
    (registry_module.binary, "the second is taken for the first", "(p is not None) + 2 * (q is not None)", "(q is not None) + 2 * (p is not None)"),
    (registry_module.binary, "a second constant is recorded as a Tensor", "+ 2 * (q is not None)", "+ 2"),
    (registry_module.binary, "parents reversed", "(p, q), (p is", "(q, p), (p is"),
    (registry_module.record, "integer results are Tensors", "if dtype.kind != \"f\":", "if dtype.kind == \"c\":"),
    (registry_module.record, "complex results pass", "if dtype.kind == \"c\":", "if False:"),
    (registry_module.saver, "constants of which only the shape is read are kept", "p[0] or stand_in(v[0]), v[1] if l else p[1] or stand_in(v[1])", "p[0] or v[0], v[1] if l else p[1] or v[1]"),
    (registry_module.saver, "kept by another input's rule", "k, l = keep", "l, k = keep"),
    (registry_module.saver, "one is kept for all of many", "cycle(keep)", "cycle(keep[:1])"),
    (registry_module.outputs, "every member picks the first", "None, i, v.shape", "None, 0, v.shape"),
    (registry_module.outputs, "the kind of sequence is lost", "return like(y, members)", "return members"),
    (registry_module.call_plain, "out= is let through", "if kwargs.get(\"out\") is not None:", "if False:"),
    (registry_module.Composition.__call__, "out= is let through", "if kwargs.pop(\"out\", None) is not None:", "if False:"),
    (registry_module.plain, "Tensors stay", "x.value if isinstance(x, Variable) else x", "x"),
]  # fmt: skip

TRANSFORMS = [
    (transforms.jvp, "a term dropped", "[d.node for d in tensors(dummies)]", "[d.node for d in tensors(dummies)[1:]]"),
    (transforms.jvp, "tangents ignored", "_cotangents(pulled, list(tangents), \"jvp\")", "_cotangents(pulled, [np.ones_like(t) for t in tangents], \"jvp\")"),
    (transforms.jvp, "one tangent", "_cotangents(pulled, list(tangents), \"jvp\")", "_cotangents(pulled[:1], list(tangents)[:1], \"jvp\")"),
    (transforms.jvp, "results detached", "higher=run.outer or bool(tensors(tangents))", "higher=False"),
    (transforms._cotangents, "= for +=", "seeds[t.node] + v if t.node in seeds else v", "v"),
    (transforms._cotangents, "shapes unchecked", "if v.shape != np.shape(t):", "if False:"),
    (transforms._cotangents, "counts unchecked", "if len(flat_y) != len(flat_g):", "if False:"),
    (transforms._Run.child, "no fresh child", "return IDENTITY(x)", "return x"),
    (transforms._Run.child, "a detached child", "return IDENTITY(x)", "return Tensor(x.value)"),
    (transforms._Run.__init__, "nothing is outside", "bool(captured(tensors(self.y), self.since))", "False"),
    (transforms._Run.__init__, "all is outside", "bool(captured(tensors(self.y), self.since))", "True"),
    (transforms._Run.release, "Tensors leak", "y if self.outer else plain(y)", "y"),
    (transforms.captured, "the roots' own", "node.order < since", "node.order <= 0"),
    (transforms.captured, "seen twice", "and p not in seen", ""),
    (transforms.captured, "no order", "sorted(found, key=lambda node: node.order)", "found"),
    (transforms.stop_gradient, "nothing is stopped", "plain(x)", "x"),
    (transforms._Run.gradient, "ones for a loss of any size", " or np.size(y) != 1:", ":"),
    (transforms._Run.gradient, "higher orders detached", "higher=self.outer)", "higher=False)"),
    (transforms._Run.gradient, "the auxiliary value differentiated", "self.y[0] if has_aux else self.y", "self.y"),
    (transforms.grad, "the value is returned", "run.release(run.y[1])) if has_aux", "run.release(run.y)) if has_aux"),
    (transforms.vjp, "the graph is not kept", "retain=True))", "retain=False))"),
    (transforms.vjp, "vectors detached", "run.outer or bool(tensors(v))", "run.outer"),
    (transforms.hvp, "only the first argument", "_Run(\"hvp\", f, xs)", "_Run(\"hvp\", f, xs, (0,))"),
    (transforms._Run.jacobian, "transposed", "y.shape + x.shape) if rows", "x.shape + y.shape) if rows"),
    (transforms._Run.jacobian, "the graph is not kept", "retain=True)[0]", "retain=False)[0]"),
    (transforms._Run.jacobian, "detached", "higher=self.outer, retain=True)[0]", "higher=False, retain=True)[0]"),
    (transforms._replayed.__wrapped__, "no generator replay", "g.bit_generator.state = state\n        yield", "pass\n        yield"),
    (transforms._replayed.__wrapped__, "generators are not set forward again", "for (g, _), state in zip(states, now):\n            g.bit_generator.state = state", "pass"),
    (transforms._replayed.__wrapped__, "without the rerunning flag", "rerunning.set(True)", "rerunning.set(False)"),
    (transforms._replayed.__wrapped__, "the rerunning flag stays", "rerunning.reset(token)", "pass"),
    (transforms._Recompute.pull, "higher order forgotten", "if p in wanted], higher)", "if p in wanted], False)"),
    (transforms._Recompute.pull, "inputs in another order", "[found.get(p) for p in node.parents]", "[found.get(p) for p in node.parents[::-1]]"),
    (transforms.checkpoint, "inner graph kept", "new = iter(outputs(node, values))", "new = iter(members)"),
    (transforms.checkpoint, "captured weights forgotten", "inputs = captured(members, since)", "inputs = captured(members, since)[:1]"),
    (transforms.checkpoint, "states after the run", "y = f(*args, **kwargs)\n", "y = f(*args, **kwargs)\n        states = [g.bit_generator.state for g in generators]\n"),
    (transforms.generators_in, "closures not searched", "[*cells, *named, ", "[*named, "),
    (transforms.generators_in, "globals not searched", "[*cells, *named, ", "[*cells, "),
    (transforms.generators_in, "defaults not searched", ", x.__defaults__, x.__kwdefaults__]", "]"),
    (transforms.generators_in, "attributes not searched", "stack += [vars(x), *(", "stack += [*("),
    (transforms.generators_in, "partial not searched", "stack += (x.func, x.args, x.keywords)", "pass"),
    (transforms.generators_in, "methods not searched", "stack += (x.__self__, x.__func__)", "pass"),
    (transforms.generators_in, "lists not searched", "isinstance(x, list | tuple | set)", "isinstance(x, tuple | set)"),
]  # fmt: skip

KERNELS = [
    (Fused.__call__, "the twin never runs", "using_reference.get() or not", "not"),
    (Fused.__call__, "kernels take whatever comes", " or not suits(values)", ""),
    (Fused.__call__, "the twin always runs", "if using_reference.get() or not suits(values):", "if True:"),
    (Fused.pull, "gradients that nobody wants", "[d if need else None for d, need in zip(pulled, needs)]", "pulled"),
    (registry_module.suits, "mixed types", "(v.dtype is not dtype and dtype is not None and v.dtype != dtype)", "False"),
    (registry_module.suits, "empty arrays", "not v.size or ", ""),
    (registry_module.suits, "integers", " and dtype.kind == \"f\"", ""),
    (registry_module.suits, "float16", " and dtype.itemsize >= 4", ""),
    (Fused.pull, "the kernel in a higher order", "if not higher:", "if True:"),
    (Fused.pull, "the twin in the first order", "if not higher:", "if False:"),
    (Fused.pull, "seed of ones in a higher order", "walk({y.node: g}", "walk({y.node: np.ones_like(y.value)}"),
    (Fused.pull, "the inputs detached in a higher order", "IDENTITY(make_tensor(v, p))", "core.tensor_class(v)"),
    (attention.forward, "skip the rescale of l", "o *= np.exp(m - shift)", "o[..., :-1] *= np.exp(m - shift)"),
    (attention.forward, "skip the rescale of o", "o *= np.exp(m - shift)", "o[..., -1:] *= np.exp(m - shift)"),
    (attention.forward, "skip the rescale", "o *= np.exp(m - shift)", "pass"),
    (attention.forward, "= for += of l", "o += np.matmul(p, v1[n, :, j])", "o[..., -1:] = 0; o += np.matmul(p, v1[n, :, j])"),
    (attention.forward, "= for += of o", "o += np.matmul(p, v1[n, :, j])", "o[...] = np.matmul(p, v1[n, :, j])"),
    (attention.forward, "stale maximum", "m = m_new", "pass"),
    (attention.forward, "the maximum of this block alone", "np.maximum(m, s.max(axis=-1, keepdims=True))", "s.max(axis=-1, keepdims=True)"),
    (attention.forward, "no maximum", "np.maximum(m, s.max(axis=-1, keepdims=True))", "np.where(m == -np.inf, 0, m)"),
    (attention.forward, "a NaN row where nothing is seen", "np.where(m_new == -np.inf, 0, m_new)", "m_new"),
    (attention.forward, "epsilon in the denominator", "np.divide(o[..., :-1], l,", "np.divide(o[..., :-1], l + 1e-6,"),
    (attention.forward, "no normalisation", "np.divide(o[..., :-1], l,", "np.divide(o[..., :-1], 1,"),
    (attention.calm, "never a maximum", "bool(bound < 0.4 * math.log(largest))", "True"),
    (attention.calm, "the size of q forgotten", "products_of_rows(q, q).max() * ", ""),
    (attention.calm, "the scale forgotten", "abs(scale) * ", ""),
    (attention.calm, "a bias makes no score large", "if bias is not None:", "if False:"),
    (attention.over_queries, "heads of dk and dv not summed", "x.sum(axis=1, keepdims=True)", "x[:, :1]"),
    (attention.over_queries, "mean for sum", "x.sum(", "x.mean("),
    (masks.Mask.block, "a mask taken for full", "return None if may is None or may.all() else may", "return None"),
    (masks.Mask.block, "what the places hide is seen", "self.documents is None:\n        return may", "self.documents is None:\n        return None"),
    (masks.Mask.block, "a block before the diagonal", "nearest < 0", "nearest < -1"),
    (masks.Mask.block, "the window's far end", "max(farthest, -nearest)", "-nearest"),
    (masks.Mask.block, "the window's near end", "max(farthest, -nearest)", "farthest"),
    (masks.Mask.hides, "a mask or documents hide nothing", "self.given is not None or self.documents is not None or ", ""),
    (masks.Mask.hides, "documents hide nothing", " or self.documents is not None", ""),
    (masks.Mask.hides, "the future hides nothing", " or (self.causal and self.offset < S - 1)", ""),
    (masks.Mask.hides, "a window hides nothing", "self.window is not None and ", "False and "),
    (masks.Mask.hides, "a window hides no key before", "max(self.offset + T - 1, S - 1 - self.offset)", "S - 1 - self.offset"),
    (masks.Mask.hides, "a window hides no key behind", "max(self.offset + T - 1, S - 1 - self.offset)", "self.offset + T - 1"),
    (attention.grouped, "query heads beside another's keys", "q.reshape(N, R, *q.shape[-2:])", "q.reshape(R, N, *q.shape[-2:]).swapaxes(0, 1)"),
    (attention.backward, "threads add into one bias", "work = 0 if shared else", "work ="),
    (kernels.cross_entropy.forward, "sum for mean", "losses.sum() / divisor", "losses.sum()"),
    (kernels.cross_entropy.forward, "the mean over all rows", "losses.sum() / divisor", "losses.mean()"),
    (kernels.cross_entropy.backward, "the gradient of the sum", "dlosses = dlosses / divisor", "pass"),
    (kernels.embedding.backward, "= for += of equal ids", "(np.matmul(places.T, dy),)", "(np.stack([dy[np.flatnonzero(ids == v)[-1:]].sum(axis=0) for v in range(V)]),)"),
    (embedding.sparse_sums, "of many ids, each once", "csc_array((ones(n, dy.dtype), ids, np.arange(n + 1)), shape=(V, n))", "csc_array((ones(n, dy.dtype), ids, np.arange(n + 1)), shape=(V, n)).sign() / 2"),
    (attention.with_column, "the first column", "wider[..., -1:] = column", "wider[..., -1:] = 1"),
    (masks.Mask.blocks, "drop the partial block", "range(first, last, size)", "range(first, max(first + 1, last - size + 1), size)"),
    (masks.Mask.blocks, "mask only block 0", "yield j, may", "yield j, may if j.start == 0 else None"),
    (masks.Mask.blocks, "what is seen in part is skipped", "may.any()", "may.all()"),
    (attention.keeps, "P of several blocks kept", " and size[1] >= S", ""),
    (attention.forward, "P is not kept", "out=None if P is None else P[n, :, i, j]", "out=None"),
    (attention.forward, "log l beside P", "if P is None else l", "if P is None else np.log(l)"),
    (attention.backward, "P is not divided by l", "P[n, :, i, j] / L[n, :, i]", "P[n, :, i, j]"),
    (attention.forward, "rows without keys have weights", "np.where(l == 0, far, m), np.where(l == 0, 1, l)", "m, np.where(l == 0, 1, l)"),
    (attention.forward, "rows without keys are NaN", "if not l.all():", "if False:"),
    (attention.forward, "L without log l", "m + np.log(l) if", "m + 0 * l if"),
    (attention.forward, "no scale", "q[n, :, i] * scale", "q[n, :, i]"),
    (attention.forward, "y is not what was saved", "y.reshape(shape), (y, L, P, bad, no_maximum)", "y.reshape(shape), (y + 1e-6, L, P, bad, no_maximum)"),
    (attention.backward, "no D", "with_column(dy[n, :, i], -D)", "with_column(dy[n, :, i], 0)"),
    (attention.backward, "D with the other sign", "with_column(dy[n, :, i], -D)", "with_column(dy[n, :, i], D)"),
    (attention.backward, "no L", "-L[n, :, i])", "0)"),
    (attention.backward, "no softmax", "ds *= p", "pass"),
    (attention.backward, "no scale of dq", "dq *= scale", "pass"),
    (attention.backward, "no scale of q", "q[n, :, i] * scale", "q[n, :, i]"),
    (attention.backward, "= for += of dq", "dq[n, :, i] += ", "dq[n, :, i] = "),
    (attention.backward, "= for += of dk", "dk[n, :, j] += ", "dk[n, :, j] = "),
    (attention.backward, "= for += of dv", "dv[n, :, j] += ", "dv[n, :, j] = "),
    (attention.backward, "= for += of dbias", "part += ds.sum", "part[...] = ds.sum"),
    (attention.backward, "dk without its queries' sum", "np.swapaxes(ds, -1, -2), qi)", "np.swapaxes(ds, -1, -2), qi * 1.001)"),
    (attention.backward, "dv by other weights", "np.swapaxes(p, -1, -2), dyi)", "np.swapaxes(p, -1, -2), dyi * 1.001)"),
    (attention.hide, "no mask", "np.copyto(s, -np.inf, where=~may)", "pass"),
    (attention.erase, "no mask for calm scores", "p *= may.astype(p.dtype)", "pass"),
    (attention.calm, "the size of v forgotten", " and bool(values < largest**0.4)", ""),
    (attention.backward, "infinite values behind the mask", "np.copyto(ds, 0, where=~may)", "pass"),
    (attention.backward, "scores that are not calm go unmasked", "if not no_maximum:", "if False:"),
    (attention.backward, "calm scores go unmasked", "if no_maximum:", "if False:"),
    (attention.scores, "NaN behind the mask", "np.copyto(s, np.nan, where=bad[n, :, :, j])", "pass"),
    (attention.scores, "no bias", "s += cut(bias, n, i, j)", "pass"),
    (attention.bad_rows, "values that are not finite", "for x in arrays])", "for x in arrays[:1]])"),
    (masks.by_position.__wrapped__, "wrong causal offset", "behind >= 0", "behind >= 1"),
    (masks.by_position.__wrapped__, "the future seen", "behind >= 0", "behind >= -1"),
    (masks.by_position.__wrapped__, "a wide window", "np.abs(behind) < window", "np.abs(behind) <= window"),
    (masks.by_position.__wrapped__, "the window ignored", "if window is not None:", "if False:"),
    (masks.by_position.__wrapped__, "the window alone", "may &= np.abs", "may[...] = np.abs"),
    (masks.Mask.block, "documents ignored", "if self.documents is not None:", "if False:"),
    (masks.Mask.block, "a given mask ignored", "if self.given is not None:", "if False:"),
    (masks.Mask.block, "the offset ignored", "self.offset + i.start - j.start", "i.start - j.start"),
    (masks.Mask.keys, "a key too few before", "i.start - self.window + 1", "i.start - self.window + 2"),
    (masks.Mask.keys, "a key too few behind", "i.stop - 1 + self.window", "i.stop - 2 + self.window"),
    (masks.Mask.keys, "a causal key too few", "self.offset + i.stop)\n", "self.offset + i.stop - 1)\n"),
    (masks._both, "or for and", "a & b", "a | b"),
]  # fmt: skip

OPTIMIZERS = [
    (rules.Adam.update, "bias correction of m dropped", "bias1, root2 = 1 - self.beta1**self.steps,", "bias1, root2 = 1.0,"),
    (rules.Adam.update, "bias correction of v dropped", "math.sqrt(1 - self.beta2**self.steps)", "1.0"),
    (rules.Adam.update, "bias correction one step late", "self.beta1**self.steps", "self.beta1 ** (self.steps + 1)"),
    (rules.Adam.update, "eps inside the root", "np.sqrt(v, out=b)\n    b += root2 * self.eps", "np.sqrt(v + self.eps, out=b)"),
    (rules.Adam.update, "eps not corrected", "b += root2 * self.eps", "b += self.eps"),
    (rules.Adam.update, "no eps", "b += root2 * self.eps", "pass"),
    (rules.Adam.update, "moments not squared", "np.multiply(g, g, out=b)", "np.abs(g, out=b)"),
    (rules.Adam.update, "no root", "np.sqrt(v, out=b)", "b[...] = v"),
    (rules.Adam.update, "m does not decay", "m *= self.beta1", "pass"),
    (rules.Adam.update, "v does not decay", "v *= self.beta2", "pass"),
    (rules.Adam.update, "betas exchanged", "m *= self.beta1", "m *= self.beta2"),
    (rules.Adam.update, "= for += of m", "m += b", "m[...] = b"),
    (rules.Adam.update, "= for += of v", "v += b", "v[...] = b"),
    (rules.Adam.update, "uphill", "p -= b", "p += b"),
    (rules.Adam.update, "the momentum forgotten", "np.divide(m, b, out=b)", "np.divide(g, b, out=b)"),
    (rules.AdamW.update, "L2 for decoupled decay", "lr, 0.0, moments", "lr, decay, moments"),
    (rules.AdamW.update, "decay ignored", "p *= 1 - lr * decay", "pass"),
    (rules.AdamW.update, "decay without the learning rate", "1 - lr * decay", "1 - decay"),
    (rules.AdamW.update, "decay after the step", "if decay:\n        p *= 1 - lr * decay\n    super().update(p, g, lr, 0.0, moments, scratch)", "super().update(p, g, lr, 0.0, moments, scratch)\n    p *= 1 - lr * decay"),
    (rules._with_decay, "decay ignored", "if not decay:", "if True:"),
    (rules._with_decay, "the gradient forgotten", "out += g", "pass"),
    (rules.SGD.update, "momentum ignored", "m *= self.momentum\n", "m *= 0\n"),
    (rules.SGD.update, "nesterov ignored", "if self.nesterov:", "if False:"),
    (rules.SGD.update, "nesterov always", "if self.nesterov:", "if True:"),
    (rules.SGD.update, "damped", "m += g", "m += g * (1 - self.momentum)"),
    (rules.SGD.update, "no learning rate", "np.multiply(g, lr, out=b)", "b[...] = g"),
    (rules.Adagrad.update, "eps inside the root", "np.sqrt(s, out=b)\n    b += self.eps", "np.sqrt(s + self.eps, out=b)"),
    (rules.Adagrad.update, "no memory", "s += b", "s[...] = b"),
    (rules.Adagrad.update, "moments not squared", "np.multiply(g, g, out=b)", "np.abs(g, out=b)"),
    (rules.RMSProp.update, "eps inside the root", "np.sqrt(v, out=b)\n    b += self.eps", "np.sqrt(v + self.eps, out=b)\n    b += 0"),
    (rules.RMSProp.update, "not centred", "np.subtract(v, b, out=b)", "b[...] = v"),
    (rules.RMSProp.update, "negative variances", "np.maximum(b, 0, out=b)", "pass"),
    (rules.RMSProp.update, "momentum ignored", "u *= self.momentum", "u *= 0"),
    (rules.RMSProp.update, "moments not squared", "np.multiply(g, g, out=b)", "np.abs(g, out=b)"),
    (rules.Lion.update, "no sign", "np.sign(a, out=a)", "pass"),
    (rules.Lion.update, "betas exchanged", "m *= self.beta2", "m *= self.beta1"),
    (rules.Lion.update, "the moment moves first", "np.multiply(m, self.beta1, out=a)", "m *= self.beta2\n    np.multiply(m, self.beta1, out=a)"),
    (rules.Lion.update, "decay ignored", "p *= 1 - lr * decay", "pass"),
    (optimizer.Optimizer._for_each_chunk, "the first chunk skipped", "range(0, n, 2)", "range(2, n, 2)"),
    (optimizer.Optimizer._for_each_chunk, "the last chunk skipped", "range(1, n, 2)", "range(1, n - 1, 2)"),
    (optimizer.Optimizer._for_each_chunk, "every other chunk twice", "range(1, n, 2)", "range(0, n, 2)"),
    (optimizer.Optimizer._plan, "one scratch for both threads", "parity = len(self.chunks) % 2", "parity = 0"),
    (optimizer.Optimizer.apply, "NaN let through", "if not all(self._for_each_chunk(gather, COST_OF_A_LOOK)):", "if self._for_each_chunk(gather, COST_OF_A_LOOK) is None:"),
    (optimizer.Optimizer.apply, "only the first chunk is looked at", "self._for_each_chunk(gather, COST_OF_A_LOOK)", "self._for_each_chunk(gather, COST_OF_A_LOOK)[:1]"),
    (optimizer.Optimizer.apply, "one finite chunk is enough", "not all(self", "not any(self"),
    (optimizer.Optimizer.apply, "the gradient of another chunk", "self.update(p, gradients[i],", "self.update(p, np.resize(gradients[-1], p.shape),"),
    (optimizer.Optimizer._for_each_chunk, "the second half skipped", "[range(0, n, 2), range(1, n, 2)]", "[range(0, n, 2)]"),
    (optimizer.Optimizer.pieces, "small gradients in another order", "in chunk.pieces]", "in chunk.pieces[::-1]]"),
    (optimizer.Optimizer.pieces, "the beginning of a large gradient", "flat[path][start:stop]", "flat[path][: stop - start]"),
    (optimizer.Optimizer.apply, "one piece for all", "parts[0] if len(parts) == 1", "np.resize(parts[0], self.chunks[i].p.shape) if True"),
    (optimizer.Optimizer.apply, "gathered in the scratch memory", "out=self.chunks[i].gathered", "out=self.chunks[i].scratch[0]"),
    (optimizer.Optimizer._refuse_not_finite, "another element is named", "np.flatnonzero(~np.isfinite(part))[0]", "np.flatnonzero(~np.isfinite(part))[-1]"),
    (optimizer.Optimizer._refuse_not_finite, "only NaN is named", "if not np.isfinite(part).all():", "if np.isnan(part).any():"),
    (optimizer.Optimizer.apply, "the learning rate of the step ignored", "rate = self.lr if lr is None else", "rate = self.lr if True else"),
    (optimizer.Optimizer.apply, "graphs do not become stale", "node.touch()", "pass"),
    (optimizer.Optimizer.apply, "steps are not counted", "self.steps += 1", "self.steps = 1"),
    (optimizer.Optimizer.step, "gradients unchecked", "self.checked(grads)", "{k: v.reshape(-1) for k, v in self._flatten(grads, 'grads').items()}"),
    (optimizer.Optimizer.apply, "Ctrl-C in the middle", "with uninterrupted():", "if True:"),
    (optimizer.Optimizer.apply, "warnings in the middle", "with np.errstate(all=\"ignore\"):", "if True:"),
    (optimizer.Optimizer.checked, "a gradient in the parameters' memory", "g = g.copy()", "pass"),
    (optimizer.Optimizer.checked, "whatever is no array", "if not isinstance(g, (np.ndarray, np.generic)):", "if False:"),
    (optimizer.Optimizer.check_values, "another array unnoticed", "if t.value is not value:", "if False:"),
    (optimizer.Optimizer.checked, "names unchecked", "self._check_names(\"grads\", given)", "pass"),
    (optimizer.Optimizer.checked, "shapes unchecked", "if g.shape != value.shape:", "if False:"),
    (optimizer.Optimizer.checked, "dtypes unchecked", "if g.dtype != value.dtype:", "if False:"),
    (optimizer.all_finite, "large taken for infinite", "math.isfinite(x.dot(x)) or bool(np.isfinite(x).all())", "math.isfinite(x.dot(x))"),
    (optimizer.all_finite, "only NaN", "bool(np.isfinite(x).all())", "not np.isnan(x).any()"),
    (optimizer.Optimizer.__init__, "every parameter decays", "self.weight_decay if self._decays(path, decay) else 0.0", "self.weight_decay"),
    (optimizer.Optimizer.__init__, "none decays", "self.weight_decay if self._decays(path, decay) else 0.0", "0.0"),
    (optimizer.Optimizer._plan, "the last piece of a large parameter forgotten", "range(0, value.size, CHUNK)", "range(0, max(1, value.size // CHUNK * CHUNK), CHUNK)"),
    (optimizer.Optimizer._plan, "moments shifted", "m[end : end + value.size]", "m[begin : begin + value.size]"),
    (optimizer.Optimizer.state_dict, "the state is a view", "np.array(m) for path", "np.asarray(m) for path"),
    (optimizer.Optimizer.state_dict, "steps not in the state", "\"steps\": self.steps,", "\"steps\": 0,"),
    (optimizer.Optimizer.load_state_dict, "steps not loaded", "self.steps = state[\"steps\"]", "pass"),
    (optimizer.Optimizer.load_state_dict, "moments taken over, not copied", "m[...] = state[name][path]", "pass"),
    (optimizer.Optimizer.load_state_dict, "unchecked", "self.check_state(state)", "pass"),
    (averages.global_norm, "norms are added", "math.hypot(*norms)", "sum(norms)"),
    (averages._norm, "overflow", "if 1e-20 < square < math.inf:", "if True:"),
    (averages._norm, "underflow", "if 1e-20 < square < math.inf:", "if square < math.inf:"),
    (averages.clip_by_global_norm, "always scaled", "norm <= max_norm or not", "not"),
    (averages.clip_by_global_norm, "NaN scaled", " or not math.isfinite(norm)", ""),
    (averages.clip_by_global_norm, "in place", "lambda g, path: g * scale", "lambda g, path: np.multiply(g, scale, out=g)"),
    (averages.clip_by_global_norm, "the norm after", "map_structure(lambda g, path: g * scale, grads), norm", "map_structure(lambda g, path: g * scale, grads), max_norm"),
    (averages.average, "sum for mean", "g / n", "g"),
    (averages._total, "the first one is changed", "np.array(g), grads", "np.asarray(g), grads"),
    (averages._add, "= for +=", "total += g", "total[...] = g"),
    (averages.EMA.update, "no warm-up", "min(self.decay, (1 + self.updates) / (10 + self.updates))", "self.decay"),
    (averages.EMA.update, "weights exchanged", "a += (1 - keep) * (new.value - a)", "a += keep * (new.value - a)"),
    (averages.EMA.update, "a tied weight moves twice", "{id(a): (live[path], a) for path, a in averages.items()}.values()", "[(live[path], a) for path, a in averages.items()]"),
    (averages.EMA.update, "buffers forgotten", "a[...] = new", "pass"),
    (schedules.linear_warmup, "from zero", "(step + 1) / max(1, warmup)", "step / max(1, warmup)"),
    (schedules.linear, "no floor", "return floor + (peak - floor)", "return peak"),
    (schedules.cosine, "no warm-up", "if step < warmup:", "if False:"),
    (schedules.inverse_square_root, "the inverse", "math.sqrt(max(1, warmup) / t)", "max(1, warmup) / t"),
    (schedules.one_cycle, "a step late", "rise * steps - 1", "rise * steps"),
    (schedules._progress, "on and on", "min(1.0, (step - first) / (last - first))", "(step - first) / (last - first)"),
    (schedules._half_cosine, "a whole cosine", "math.pi * progress", "2 * math.pi * progress"),
    (interrupts.uninterrupted.__exit__, "Ctrl-C is forgotten", "if self.pending:", "if False:"),
    (interrupts.uninterrupted.__exit__, "the handler stays", "set_handler(signal.SIGINT, self.previous)", "pass"),
    (interrupts.uninterrupted.__enter__, "Ctrl-C is not caught", "self.pending.append(number)", "None"),
]  # fmt: skip

SAVING = [
    (arrays._write_and_sync, "no fsync", "os.fsync(descriptor)\n", "pass\n"),
    (arrays._write_and_sync, "fsync before the writing", "for part in content:\n", "os.fsync(descriptor)\n        for part in content:\n"),
    (arrays._write_and_sync, "one write only", "while rest:", "if rest:"),
    (arrays._write_and_sync, "an existing file is reused", " | os.O_EXCL", ""),
    (arrays._write_and_sync, "private", "0o666", "0o600"),
    (arrays._write_and_sync, "the descriptor stays open", "os.close(descriptor)", "pass"),
    (arrays._sync_folder, "the folder is not synced", "os.fsync(descriptor)", "pass"),
    (arrays._write_atomically, "the folder is not synced", "_sync_folder(folder)", "pass"),
    (arrays._write_atomically, "written in place", "_write_and_sync(temporary, content)\n            os.replace(temporary, target)", "with open(target, 'wb') as stream:\n                stream.writelines(content)"),
    (arrays._write_atomically, "replaced before it is written", "_write_and_sync(temporary, content)\n            os.replace(temporary, target)", "open(temporary, 'wb').close()\n            os.replace(temporary, target)\n            os.unlink(target)\n            _write_and_sync(target, content)"),
    (arrays._write_atomically, "the temporary file in another folder", "os.path.join(folder, f\".{name}", "os.path.join('/tmp', f\".{name}"),
    (arrays._write_atomically, "the temporary file stays", "os.unlink(temporary)", "pass"),
    (arrays._write_atomically, "Ctrl-C leaves the temporary file", "except BaseException:", "except Exception:"),
    (arrays._write_atomically, "the link is replaced", "os.path.realpath(file)", "os.path.abspath(file)"),
    (arrays._write_atomically, "a device is replaced", "not stat.S_ISREG(os.stat(target).st_mode)", "False"),
    (arrays._write_atomically, "errors of the folder ignored", "_sync_folder(folder)\n        except OSError as error:\n            raise", "_sync_folder(folder)\n        except OSError as error:\n            return\n            raise"),
    (arrays._checked, "the checksum is not verified", "metadata.get(CHECKSUM) != found", "False"),
    (arrays._checked, "the version is not verified", "metadata.get(FORMAT) != VERSION or", ""),
    (arrays._checked, "any kind of file", "not stat.S_ISREG(os.stat(file).st_mode)", "False"),
    (arrays._checked, "deep nesting", "except RecursionError:", "except KeyError:"),
    (arrays._checksum, "names not in the checksum", "[name, np.dtype(content[name][0]).str", "[np.dtype(content[name][0]).str"),
    (arrays._checksum, "dtypes not in the checksum", "np.dtype(content[name][0]).str, ", ""),
    (arrays._checksum, "shapes not in the checksum", ", list(content[name][1])]", "]"),
    (arrays._checksum, "metadata not in the checksum", "json.dumps([entries, texts])", "json.dumps([entries])"),
    (arrays._checksum, "bytes not in the checksum", "digest.update(content[name][2])", "pass"),
    (arrays.save_arrays, "memory order", ", order=\"C\")", ")"),
    (arrays.save_arrays, "byte order", "np.asarray(array, array.dtype.newbyteorder(\"<\"), order=\"C\")", "np.asarray(array, order=\"C\")"),
    (arrays.save_arrays, "no checksum", "metadata[CHECKSUM] = _checksum", "_ = _checksum"),
    (arrays._widened, "bfloat16 shifted", "<<= 16", "<<= 15"),
    (arrays._read_header, "gaps and overlaps", "if spec.start != end:", "if False:"),
    (arrays._read_header, "the end unchecked", "if 8 + length + end != size:", "if False:"),
    (arrays._read_header, "any length", "if length > min(size - 8, LONGEST_HEADER):", "if False:"),
    (arrays._without_duplicates, "duplicates", "len(found) != len(pairs)", "False"),
    (arrays._without_duplicates, "half characters", "name.encode()", "pass"),
    (arrays._spec, "shapes that overflow", "len(shape) > 64 or math.prod(n for n in shape if n) * itemsize >= 2**63", "False"),
    (arrays._spec, "offsets that do not fit", "len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * itemsize", "False"),
    (arrays._spec, "negative numbers", "0 <= n < 2**63", "n < 2**63"),
    (checkpoints.save_checkpoint, "the generators forgotten", "\"rng\": rngs", "\"rng\": {}"),
    (checkpoints.save_checkpoint, "the step is lost", "\"step\": int(step)", "\"step\": 0"),
    (checkpoints.save_checkpoint, "the optimizer's numbers are lost", "numbers[name] = x", "numbers[name] = 0"),
    (checkpoints.load_checkpoint, "the model is not restored", "write(pairs)", "pass"),
    (checkpoints.load_checkpoint, "the optimizer is not restored", "one.load_state_dict(state)", "pass"),
    (checkpoints.load_checkpoint, "the generators are not restored", "generator.bit_generator.state = state", "pass"),
    (checkpoints.load_checkpoint, "Ctrl-C in the middle", "with uninterrupted():", "if True:"),
    (checkpoints.load_checkpoint, "half a checkpoint", "optimizers = {} if", "write(pairs)\n        optimizers = {} if"),
    (checkpoints._matching_states, "states unchecked", "one.check_state(state)", "pass"),
    (checkpoints._matching_states, "entries left over", "unread.discard(name)", "unread.clear()"),
    (checkpoints._matching_generators, "generators of another kind", "type(generator.bit_generator)(0).state = states[name]", "pass"),
    (checkpoints._matching_generators, "generators left over", "states.keys() - matching.keys()", "set()"),
]  # fmt: skip

# Two threads: `make mutants` alone tries these, for some leave a lock behind that only the end of a process frees.
THREADS = [
    (threads.for_each, "the first part skipped", "range(len(parts)))", "range(1, len(parts)))"),
    (threads.for_each, "the last part skipped", "range(len(parts)))", "range(len(parts) - 1))"),
    (threads.for_each, "results out of order", "results[i] = work(parts[i])", "results[-1 - i] = work(parts[i])"),
    (threads.for_each, "every part twice", "for i in queue:", "for i in range(len(parts)):"),
    (threads.for_each, "one thread alone", "both(take, take)", "take()"),
    (threads.for_each, "a single part wakes a thread", "len(parts) < 2 or ", ""),
    (threads.for_each, "small jobs wake a thread", " or size < LARGE", ""),
    (threads.both, "results exchanged", "return mine, pending.result()", "return pending.result(), mine"),
    (threads.both, "an error of the second swallowed", "return mine, pending.result()", "return mine, None if pending.exception() else pending.result()"),
    (threads.both, "an error of the first swallowed", "finally:", "except Exception:\n            mine = None\n        finally:"),
    (threads._in_half, "a thread keeps to its half of the cores", "_keep_to(halves[0] | halves[1])", "pass"),
    (threads.both, "the second on the cores of the first", "_in_half, halves, 1, second", "_in_half, halves, 0, second"),
    (threads.both, "the second is not waited for", "_wait(pending)", "pass"),
    (threads.both, "the second without the context", "copy_context().run, _in_half, halves, 1, second", "_in_half, halves, 1, second"),
    (threads.both, "the first alone where there is one thread", "if not two:\n            return first(), second()", "if not two:\n            return first(), None"),
    (threads._hold, "BLAS keeps its threads", "library.set_num_threads(1)", "pass"),
    (threads._hold, "what it had is known afterwards", "_held = [", "for library in _blas():\n        library.set_num_threads(1)\n    _held = ["),
    (threads._give_back, "BLAS does not get its threads back", "library.set_num_threads(threads)", "pass"),
    (threads._give_back, "a Ctrl-C is not made good", "in _held:\n        library.set_num_threads(threads)\n    _held = []", "in (held := _held, _held := [])[0]:\n        library.set_num_threads(threads)"),
    (threads.one_blas_thread.__wrapped__, "the lock stays", "_one_at_a_time.release()", "pass"),
    (threads.one_blas_thread.__wrapped__, "for ever inside", "_inside.reset(token)", "pass"),
    (threads.one_blas_thread.__wrapped__, "a second caller waits", "acquire(blocking=False)", "acquire()"),
    (parallel.OnThread.beside, "one half twice", "for part, seed in zip(parts, seeds, strict=True)", "for part, seed in zip(parts[:1] * 2, seeds, strict=True)"),
    (parallel.OnThread.beside, "the seed of the first", "for part, seed in zip(parts, seeds, strict=True)", "for part, seed in zip(parts, seeds[:1] * 2, strict=True)"),
    (parallel.InProcess.__init__, "weights in a memory of each process's own", "copies.shared_array)", "np.empty)"),
    (parallel.InProcess.__init__, "results of operations are owned", "[t for t in self.params if isinstance(t.node, Leaf)]", "self.params"),
    (parallel.InProcess.beside, "old weights", "copy_all([t.value for t in self.apart], self.weights)", "pass"),
    (parallel.InProcess.beside, "an old batch", "copy_all(parts[1], copies.arrays_in(self.batch, layout))", "pass"),
    (parallel.InProcess.beside, "one half twice", "copy_all(parts[1], ", "copy_all([a[: len(b)] for a, b in zip(*parts)], "),
    (parallel.InProcess.beside, "the seed of the first", "seed=seeds[1]", "seed=seeds[0]"),
    (parallel.InProcess.beside, "a larger batch in the old memory", "> self.room", "> self.room < 0"),
    (parallel.InProcess.beside, "the first alone where there is one core", "for part, seed in zip(parts, seeds, strict=True)", "for part, seed in zip(parts[:1] * 2, seeds, strict=True)"),
    (parallel.InProcess.__init__, "the first half is not repeated", "if replay else tape", "if False else tape"),
    (parallel.InProcess.__init__, "repetitions are compared in any case", "self.params, check).run", "self.params, True).run"),
    (parallel.InProcess.start, "the second half is not repeated", "if self.replay else self.tape", "if False else self.tape"),
    (parallel.InProcess.start, "what the copy repeats is compared in any case", "self.params, self.check, ", "self.params, True, "),
    (parallel.InProcess.start, "what the copy repeats goes elsewhere", ", lambda grads: places)", ")"),
    (parallel.InProcess.answer, "gradients where they are already", "if not taped.again:", "if taped.again:"),
    (parallel.data_parallel, "replay in threads", "if replay and not processes:", "if False:"),
    (parallel.data_parallel, "gradients in the memory of the next ones", "np.empty_like(g) if first.again else g", "g"),
    (replay.Recording.__init__, "what means divide by stays as it was recorded", "[n for n in taped.means if isinstance(n, np.ndarray)]", "[]"),
    (parallel._check, "rounding of the value's dtype only", "min(x.dtype.itemsize for x in whole)", "whole[0].dtype.itemsize"),
    (parallel._check, "nobody says why there is no rng", "error.add_note(", "str("),
    (parallel.InProcess.beside, "a weight of another shape", "check_value(\"data_parallel: a parameter\", t)", "pass"),
    (parallel.InProcess.start, "a shared weight of another shape", "check_value(\"data_parallel: a parameter\", t)", "pass"),
    (copies._asked, "a worker keeps the copy alive", "if os.getppid() != owner:", "if False:"),
    (copies._lines_of, "a part of a long message", "while part and not found.endswith(b\"\\n\"):", "while False:"),
    (copies._look, "nothing arrives", "if arrived.poll(0):", "if False:"),
    (parallel.InProcess.beside, "a weight with another array", "t.value is not memory for", "False for"),
    (parallel.InProcess.beside, "a copy that is still at work", "room, self.room = self.room, -1", "room = self.room"),
    (parallel.InProcess.beside, "a copy in each step", "self.room = room\n", "pass\n"),
    (parallel.InProcess.alike, "the copy of another process", "self.owner == os.getpid()", "True"),
    (parallel.InProcess.alike, "watchers see one half", "core.observer is None", "True"),
    (parallel.InProcess.alike, "reference() in one half", "not using_reference.get()", "True"),
    (parallel.InProcess.start, "Ctrl-C while the copy is made", "with uninterrupted():", "if True:"),
    (parallel.InProcess.start, "a copy that was not made", "self.room, self.copy = -1, None", "self.room = room"),
    (parallel.InProcess.answer, "weights not taken", "copy_all(self.weights, [t.value for t in self.apart])", "pass"),
    (parallel.InProcess.answer, "gradients kept", "copy_all(members(taped.grads), self.gradients)", "pass"),
    (copies.Copy.wait, "any answer", "while number != self.asked:", "while not number:"),
    (copies.Copy.wait, "errors are answers", "if \"error\" in found:", "if False:"),
    (copies._serve, "Ctrl-C ends the copy", "signal.signal(signal.SIGINT, signal.SIG_IGN)", "pass"),
    (copies._serve, "BLAS keeps its threads in the copy", "threads.stay_single()", "pass"),
    (copies._end, "a later copy ends an earlier one", "if os.getpid() == owner:", "if True:"),
    (copies._end, "it lives on alone", "process.kill()\n        process.join()", "pass"),
    (copies._end, "it is asked to end", "process.kill()", "process.terminate()"),
    (copies._serve, "it does what the program does before it ends", "signal.signal(signal.SIGTERM, signal.SIG_DFL)", "pass"),
    (copies.Copy.__init__, "pipes stay open", "_close(ours)\n", "pass\n"),
    (copies.possible, "a daemon tries", " and not multiprocessing.current_process().daemon", ""),
    (copies._lines, "arrays lie over each other", " * np.dtype(dtype).itemsize", ""),
    (copies._as_raised, "errors without the place", "made.add_note(", "str("),
    (parallel.data_parallel, "an example in both halves", "tuple(a[cut:] for", "tuple(a[cut - 1 :] for"),
    (parallel.data_parallel, "an example in neither", "tuple(a[cut:] for", "tuple(a[cut + 1 :] for"),
    (parallel.data_parallel, "no rng", "{} if rng is None else", "{} if True else"),
    (parallel.data_parallel, "one seed for both", "rng.integers(2**63, size=len(parts)).tolist()", "rng.integers(2**63, size=1).tolist() * len(parts)"),
    (parallel.generator, "any seed", "default_rng(seed)", "default_rng()"),
    (parallel.data_parallel, "the check skipped", "if not compared:", "if False:"),
    (parallel.data_parallel, "the check at each step", "compared = True", "pass"),
    (parallel.data_parallel, "the first half not weighted", "np.multiply(g, share, ", "np.multiply(g, 1, "),
    (parallel.data_parallel, "the second half not weighted", "next(rest) * (1 - share)", "next(rest)"),
    (parallel.data_parallel, "the first half alone", "mixed += next(rest) * (1 - share)", "pass"),
    (parallel.data_parallel, "the mean of two means", "share * float(first.loss.item()) + (1 - share) * float(", "0.5 * float(first.loss.item()) + 0.5 * float("),
    (parallel.data_parallel, "unused params unnoticed", "gradients(value, params, unused=unused)", "gradients(value, params)"),
    (parallel.data_parallel, "a long double", "float(first.loss.item())", "first.loss.item()"),
    (parallel.data_parallel, "one example that does not count", "_share(only.means, [0.0] * len(only.means), 1, 1)", "pass"),
    (parallel.data_parallel, "a list in one half", "batch = tuple(_plain(a) for a in batch)", "batch = (batch, [_plain(a) for a in batch])[0]"),
    (replay.checked, "any params", "if not isinstance(t, Tensor):", "if False:"),
    (parallel._plain, "lists of several lengths", "except ValueError:", "except ZeroDivisionError:"),
    (parallel._plain, "masks are lost", " or isinstance(a, np.ma.MaskedArray)", ""),
    (parallel.data_parallel, "divisors collected for ever", "divisors.reset(token)", "pass"),
    (parallel._share, "halves of one size", "return cut / n", "return 0.5"),
    (parallel._share, "examples for targets", "x / (x + y)", "cut / n"),
    (parallel._share, "the share of the other", "x / (x + y)", "y / (x + y)"),
    (parallel._share, "a mean of nothing", "if not all(x + y for", "if False and not all(x + y for"),
    (parallel._share, "two means of two counts", "max(shares) - min(shares) > 1e-12", "False"),
    (parallel._share, "a mean in one half only", "len(a) != len(b) or ", ""),
    (parallel._check, "never equal enough", "if not _largest(x - y) <=", "if _largest(x - y) <="),
    (parallel._check, "only the values are compared", "(value, params) for value, _ in runs)", "(value, []) for value, _ in runs)"),
    (parallel._check, "the first half counts for all", "share * x + (1 - share) * y for", "x for"),
    (parallel._examples, "axes of two lengths", "len(lengths) != 1 or ", ""),
    (parallel._examples, "no example", " or lengths == {0}", ""),
]  # fmt: skip

LOSSES = [
    (losses.noted, "a half with nothing to learn divides by 0", "return n or 1", "return n"),
    (losses.noted, "the divisor is not told", "seen.append(n)", "pass"),
    (losses.noted, "another divisor is told", "seen.append(n)", "seen.append(1.0)"),
    (losses.reduce, "sum for mean", "losses.sum() / count(name, losses.size)", "losses.sum()"),
    (losses.reduce, "a mean over the first axis", "count(name, losses.size)", "count(name, len(losses))"),
    (losses.reduce, "mean for sum", "return losses.sum()\n", "return losses.mean()\n"),
    (losses.reduce, "any reduction", "if reduction == \"none\":", "if True:"),
    (losses.mse, "the divisor is not told", "noted(x.size)", "pass"),
    (losses.mse, "not squared", "np.square(", "np.abs("),
    (losses.check_same_shape, "shapes that broadcast", "if np.shape(x) != np.shape(target):", "if False:"),
    (losses.huber, "a parabola of twice the height", "d - 0.5 * near", "d - near"),
    (losses.huber, "the bound ignored", "np.clip(d, -delta, delta)", "d"),
    (losses.binary_cross_entropy_with_logits, "pos_weight for both terms", "losses if weight is None", "losses * (1 if pos_weight is None else pos_weight) if weight is None"),
    (losses.binary_cross_entropy_with_logits, "pos_weight ignored", "target if pos_weight is None else pos_weight * target", "target"),
    (losses.binary_cross_entropy_with_logits, "weight ignored", "losses if weight is None else losses * weight", "losses"),
    (losses.kl_div, "log of zero", "np.where(p > 0, p, 1)", "p"),
    (losses.kl_div, "the mean of elements for batchmean", "count(\"kl_div\", len(losses))", "count(\"kl_div\", losses.size)"),
    (losses.check_targets, "negative targets", "targets.min() < 0 or ", ""),
    (losses.check_targets, "targets past the classes", " or targets.max() >= C", ""),
    (losses.check_ignored, "ignored targets refused", " & (targets != ignore_index)", ""),
    (losses.weigh, "ignored targets count", "counted = counted.astype(x.dtype)", "counted = np.ones(targets.shape, x.dtype)"),
    (losses.weigh, "the weight of another class", "np.take(weight.astype(x.dtype), targets)", "np.take(weight.astype(x.dtype), targets - 1)"),
    (losses.weigh, "weights of another width", "weight.astype(x.dtype)", "weight"),
    (losses.sum_of_weights, "a mean of nothing", "if total == 0 and divisors.get() is None:", "if False:"),
    (losses.sum_of_weights, "half a batch may not be empty", " and divisors.get() is None", ""),
    (losses.sum_of_weights, "rows for weights", "total = weights.sum()", "total = weights.size"),
    (losses.cross_entropy, "smoothing without its share of the classes", "np.full(C, label_smoothing / C, x.dtype)", "np.full(C, label_smoothing, x.dtype)"),
    (losses.cross_entropy, "smoothing without weights", "if weight is None else (weight * (label_smoothing / C)).astype(x.dtype)", ""),
    (losses.cross_entropy, "the right class keeps all", "weights * (1 - label_smoothing) if label_smoothing else weights", "weights"),
    (losses.cross_entropy, "divided by what smoothing leaves", "sum_of_weights(\"cross_entropy\", weights)", "sum_of_weights(\"cross_entropy\", weights * (1 - label_smoothing))"),
    (losses.cross_entropy, "ignored rows are smoothed", "\"counted\": counted", "\"counted\": np.ones_like(counted)"),
    (losses.nll, "weights ignored", "-weights * log_p", "-log_p"),
    (losses.nll, "divided by rows", "sum_of_weights(\"nll\", weights)", "len(losses)"),
    (losses.direction, "eps not squared", "eps * eps", "eps"),
    (losses.direction, "not the root", "np.sqrt(np.maximum(", "(np.maximum("),
    (losses.cosine_similarity, "the first not normalised", "direction(a, axis, eps)", "a"),
    (losses.cosine_similarity, "the axis ignored", "* direction(b, axis, eps), axis=axis)", "* direction(b, axis, eps), axis=-1)"),
]  # fmt: skip

REPLAY = [
    (recorded_arrays.Recorded.__array_finalize__, "views forget their recorder", "getattr(source, \"recorder\", None)", "None"),
    (recorded_arrays.Recorded.__array_ufunc__, "results go unnoted", "recorder.add(function, *args, *outs, writes=outs)", "pass"),
    (recorded_arrays.Recorded.__array_ufunc__, "reductions go unnoted", "recorder.add(function, *args, out=outs if len(outs) > 1 else outs[0], writes=outs, **kwargs)", "pass"),
    (recorded_arrays.Recorded.__array_ufunc__, "keywords forgotten", "writes=outs, **kwargs)", "writes=outs)"),
    (recorded_arrays.Recorded.__array_ufunc__, "adding at an index goes unnoted", "return recorder.add(function, *args, writes=args[:1])", "return None"),
    (recorded_arrays.Recorded.__array_ufunc__, "outside memory is written", "tuple(map(recorder.own_memory, plain(out)))", "plain(out)"),
    (recorded_arrays.Recorded.__array_ufunc__, "a Tensor is taken for an array", "return NotImplemented", "pass"),
    (recorded_arrays.Recorded.__array_function__, "changes in place go unnoted", "return recorder.add(function, *args, writes=args[:1], **kwargs)", "return None"),
    (recorded_arrays.Recorded.__array_function__, "out= goes unnoted", "recorder.add(function, *args, writes=[kwargs[\"out\"]], **kwargs)", "pass"),
    (recorded_arrays.Recorded.__array_function__, "functions with out= go unnoted", "recorder.add(function, *args, out=plain(out), writes=[out], **kwargs)", "pass"),
    (recorded_arrays.Recorded.__array_function__, "arrays of any numbers are copied", "if function in OF_ONE_NUMBER and", "if False and"),
    (recorded_arrays.Recorded.__array_function__, "zeros are set once", "recorder.add(np.copyto, plain(out), number, \"unsafe\", writes=[out])", "pass"),
    (recorded_arrays.Recorded.__array_function__, "no zeros of bool", "number, \"unsafe\", ", "number, "),
    (recorded_arrays.Recorded.__array_function__, "texts of zeros", " and y.dtype.kind not in \"SU\"", ""),
    (recorded_arrays.Recorded.__array_function__, "dtype= and out= together", " and \"dtype\" not in kwargs", ""),
    (recorded_arrays.Recorded.__setitem__, "assignments go unnoted", "recorder.add(np.copyto, to, new, \"unsafe\", writes=[to])", "pass"),
    (recorded_arrays.Recorded.__setitem__, "assignments to many places go unnoted", "recorder.add(put, x, place, new, writes=[x])", "pass"),
    (recorded_arrays.Recorded.__setitem__, "outside memory is written", "recorder.own_memory(x)[place] = new", "x[place] = new"),
    (recorded_arrays.Recorded.__contains__, "membership without a condition", "bool((self == x).any())", "bool((plain(self) == plain(x)).any())"),
    (recorded_arrays.Recorded._in_order, "copies of views", "plain(out).reshape(x.shape)", "plain(out).reshape(x.shape[::-1]).T"),
    (recorded_arrays.Recorded._in_order, "Fortran's order for C's", "order != \"C\" or ", ""),
    (recorded_arrays.Recorded._copied, "copies go unnoted", "recorder.add(np.copyto, plain(out), recorder.plain(self), \"unsafe\", writes=[out])", "pass"),
    (recorded_arrays.Recorded.__bool__, "no conditions", "recorder.add(condition, recorder.plain(self), value)", "pass"),
    (program.copy_into, "another length is cut", "if np.shape(y) != out.shape:", "if False:"),
    (program.condition, "any way", "if bool(x) is not was:", "if False:"),
    (program.condition, "the other way", "bool(x) is not was", "bool(x) is was"),
    (program.draw_into, "the generator of the recording", "getattr(source.rng, name)", "getattr(np.random.default_rng(0), name)"),
    (program.pack, "memory that is still needed", "piece[2] >= first", "piece[2] > first"),
    (program.pack, "into a gap that is too small", "if begin - start >= nbytes:", "if begin > start:"),
    (program.pack, "nothing is used again", "live = [piece for piece in live if piece[2] >= first]", "pass"),
    (program.pack, "unaligned", " + -nbytes % ALIGNMENT", ""),
    (program.assemble, "needed only where it is first used", "last[root] = time", "last.setdefault(root, time)"),
    (program.assemble, "results lie in the memory that is used again", "& own.keys()) - kept.keys()", "& own.keys())"),
    (program.assemble, "views at the beginning", "begin + address(x) - address(root)", "begin"),
    (program.assemble, "constants lie in the memory that is used again", "first.keys() - constant", "first.keys()"),
    (program.Program.run, "warnings", "all=\"ignore\"", ""),
    (recorder.Recorder.restore, "NumPy stays as it is", "setattr(np, name, function)", "pass"),
    (recorder.Recorder.restore, "recorded for ever", "self.thread = _current = None", "_current = None"),
    (recorder.Recorder.made, "the dtype of objects", "if array.dtype.hasobject:", "if False:"),
    (recorder.Recorder.add, "nothing varies", "self.varying.update(written)", "pass"),
    (recorder.Recorder.add, "draws are constant", "function in OF_GENERATORS or ", ""),
    (recorder.Recorder.add, "arrays from outside are constant", "x.flags.writeable", "False"),
    (recorder.Recorder.call, "what NumPy's functions do is noted too", "self.whole, True", "self.whole, self.whole"),
    (recorder.Recorder.own_memory, "everything is its own", "if id(root_of(x)) not in self.own:", "if False:"),
    (recorder.Recorder.plain, "unknown arrays", "if x.recorder is self and not self.is_known(id(root_of(x))):", "if False:"),
    (recorder.Recorder.result, "copies are views", "if self.are_views([y], came):", "if isinstance(y, np.ndarray) and y.ndim:"),
    (recorder.Recorder.result, "members are views", "if self.are_views(y, came):", "if True:"),
    (recorder.Recorder.program, "one memory for two results", "and root not in kept", ""),
    (recorder.Recorder.program, "a view is written as a whole", "and (x.nbytes, x.strides) == (self.own[root].nbytes, place.strides)", ""),
    (recorder.Recorder.program, "places are empty at first", "if place is not None:\n            np.copyto(place, x)", "if False:\n            pass"),
    (recorder.Recorder.program, "results that never vary or share", "self.add(np.copyto, place, x)", "pass"),
    (recorder.Recorder.repeated, "an array that is filled twice is a constant", " or any(writers[root] > 1 for root in call.written)", ""),
    (makers._filled, "zeros and ones", "{\"zeros\": 0, \"ones\": 1}", "{\"zeros\": 1, \"ones\": 0}"),
    (makers._filled, "filled once", "recorder.add(np.copyto, plain(out), value, \"unsafe\", writes=[out])", "pass"),
    (replay.Step.run, "never compared", "due = self.of.check and recording.is_due(batch)", "due = False"),
    (replay.Step.run, "the generator stays where the other way left it", "rng.bit_generator.state = state", "pass"),
    (replay.Step.run, "weights where they were", "if self.recordings and not self.recordings[0].in_place(self.of.leaves):", "if False:"),
    (replay.Step.run, "any number of ways", "if len(self.recordings) == WAYS:", "if False:"),
    (replay.Step.compare, "only the value", "[t.loss, *members(t.grads)]", "[t.loss]"),
    (replay.Step.compare, "rounding of the value's dtype only", "min(y.dtype.itemsize for y in expected)", "expected[0].dtype.itemsize"),
    (replay.Step.compare, "a value of zero is compared with itself", "[1e-2 * sum(", "[0 * sum("),
    (replay.Step.compare, "a gradient of zero is compared with itself", "[1e-3 * max(sizes[1:], default=0.0)]", "[0.0]"),
    (replay.Recording.__init__, "Ctrl-C between the weights that are put back", ", recorder, uninterrupted():", ", recorder:"),
    (replay.Recording.__init__, "a weight of another shape", "check_value(\"replay: a parameter\", t)", "pass"),
    (replay.Step.compare, "any difference", "<= tolerance * size", "<= np.inf"),
    (replay.Recording.__init__, "the batch of the caller", "x.copy(\"K\") if isinstance(x, np.ndarray)", "x if isinstance(x, np.ndarray)"),
    (replay.Recording.__init__, "weights stay recorded", "t.value = memory", "pass"),
    (replay.Recording.is_due, "a new batch is not compared", " or bool(self.new(batch))", ""),
    (replay.Recording.is_due, "no other repetition is compared", "n & (n - 1) == 0 or ", ""),
    (replay.Recording.is_due, "every repetition is compared", "n & (n - 1) == 0", "True"),
    (replay.Recording.compared, "new for ever", "del self.unseen[i]", "pass"),
    (replay.Step.run, "a step that took another way is compared", "recording.compared(batch)", "pass"),
    (replay.inbox_of, "a step of one's own is passed over", "if type(optimizer).step is not Optimizer.step:", "if False:"),
    (replay.Repeated.run, "the first shape is dropped, however often it comes", "self.steps[key] = self.steps.pop(key)", "pass"),
    (recorder.Recorder.program, "the arrays of the recording stay", "self.calls, self.own, self.inputs = [], {}, {}", "pass"),
    (recorder._forget, "a child process records for ever", "_current.restore()", "pass"),
    (replay.Recording.run, "the batch of the recording", "np.copyto(mine, x)", "pass"),
    (replay.Recording.run, "the generator of the recording", "self.source.rng = rng", "pass"),
    (replay.replay, "gradients in the memory of the next ones", "map_leaves(np.ndarray.copy, grads) if again else grads", "grads"),
    (replay.Repeated.run, "one recording for all shapes", "key = (rng is None, *map(shape_of, batch))", "key = rng is None"),
    (replay.Repeated.run, "all shapes are kept", "if len(self.steps) == SHAPES:", "if False:"),
    (replay.Repeated.run, "what watches sees nothing", "if core.observer is not None or using_reference.get():", "if False:"),
    (replay.replay, "the learning rate ignored", "inbox.step(lr)", "inbox.step()"),
    (replay.replay, "the learning rate of the first steps ignored", "optimizer.step(grads, lr)", "optimizer.step(grads)"),
    (replay.inbox_of, "another model's optimizer", "if [id(t) for t in optimizer.leaves.values()] != [id(t) for t in leaves]:", "if False:"),
    (inbox.Inbox.__init__, "a parameter in two chunks", " and all(stop - start == values[path].size for path, start, stop in chunk.pieces)", ""),
    (optimizer.Chunk.parts, "all at the beginning", "begin += stop - start", "pass"),
    (recorded_arrays.Recorded.__array_function__, "out= writes outside", "recorder.own_memory(kwargs[\"out\"])", "pass"),
    (recorded_arrays.Recorded.__array_ufunc__, "Python's numbers have a dtype", "(inputs if not strong else [meeting(x, strong) for x in inputs], kwargs)", "(inputs, kwargs)"),
    (recorded_arrays.Recorded.__array_ufunc__, "no number of Python's comes of two", "not strong and ufunc in PYTHONS", "False"),
    (recorded_arrays.Recorded.__getitem__, "numbers are views", "return y if isinstance(x[place], np.ndarray) else y._copied(plain(y)[()])", "return y"),
    (recorded_arrays.out_by_name, "out= by its place", "if \"out\" not in names or len(args) <= (i := names.index(\"out\")):", "i = 0\n    if True:"),
    (recorded_arrays.Recorded.view, "a plain view escapes", "return self[...]", "return y"),
    (recorder.Recorder.notes, "other threads are recorded", "if self.notes_here():", "if True:"),
    (recorder.Recorder.notes, "what NumPy calls back is not recorded, and nobody knows", "raise not_recorded(\"a function that is given to NumPy uses arrays of the loss beside its arguments\")", "return False"),
    (recorder.Recorder.notes, "other threads compute a part", "raise not_recorded(\"another thread computes a part of the loss\")", "return False"),
    (recorder.Recorder.call_of_unchanged, "functions change their arguments unseen", "args, kwargs = map_arrays(read_only, (args, kwargs))", "pass"),
    (recorder.Recorder.plain, "those of an earlier recording are refused", "x.recorder is self and ", ""),
    (recorder.Recorder.result, "what arrays hold decides unseen", " and function not in OF_NUMBERS", ""),
    (makers._constant, "filled constants go unnoted", "recorder.add(np.copyto, plain(out), y, writes=[out])", "pass"),
    (makers._of_list, "the dtype ignored", "dtype = x.dtype if dtype is None else dtype", "dtype = x.dtype"),
    (makers._of_list, "np.array copies nothing", "copy = kwargs.get(\"copy\", function.__name__ == \"array\") or x.number", "copy = False"),
    (makers._dispatched, "tables from outside are indexed unseen", "x = recorder.read(x)", "pass"),
    (program.save_state, "no state is kept", "state.value = source.rng.bit_generator.state", "state.value = np.random.default_rng(0).bit_generator.state"),
    (program.restore_state, "a state is not restored", "source.rng.bit_generator.state = state.value", "pass"),
    (replay.Step.run, "the recorded step is not compared", "if self.of.check:", "if False:"),
    (replay.shape_of, "zero is zero", "type(x), repr(x)", "type(x), x"),
]  # fmt: skip

# The quickest first; a mutant dies at the first test that fails. REGISTRY stands for the checks of all ops.
REGISTRY = "the checks of the registry"
FAMILIES = {
    "engine": (ENGINE, ["tests.test_transforms", "tests.test_corners", "tests.test_engine", REGISTRY, "tests.ops.test_indexing",
                        "tests.test_state_machine"]),
    "ops": (OPS, ["tests.test_transforms", "tests.test_corners", "tests.test_engine", REGISTRY, "tests.ops.test_classified"]),
    "transforms": (TRANSFORMS, ["tests.test_transforms", "tests.test_corners", "tests.nn.test_layers", "tests.test_engine"]),
    "kernels": (KERNELS, ["tests.fused.test_attention", "tests.fused.test_kernels", "tests.test_graph"]),
    "kernel sources": ([], ["tests.fused.test_attention", "tests.fused.test_kernels", "tests.fused.test_edges", "tests.fused.test_sizes"]),
    "threads": (THREADS, ["tests.test_corners", "tests.test_threads", "tests.test_parallel", "tests.test_copies"]),
    "replay": (REPLAY, ["tests.test_replay", "tests.test_replay_edges", "tests.test_recording"]),
    "losses": (LOSSES, ["tests.functional.test_losses", "tests.test_corners", "tests.test_parallel"]),
    "optim": (OPTIMIZERS, ["tests.test_optim", "tests.test_tree", "tests.test_corners"]),
    "saving": (SAVING, ["tests.test_saving", "tests.test_corners"]),
}  # fmt: skip


def kernel_functions() -> list[FunctionType]:
    """Every function in the files of the kernels but their twins, which are what the tests compare with."""
    twins = {item.reference for item in registry_module.registry if isinstance(item, Fused)}
    found: list[FunctionType] = []
    for module in [m for name, m in sorted(sys.modules.items()) if name.startswith("tinygrad_notes.fused.")]:
        members = [v for x in vars(module).values() for v in (vars(x).values() if isinstance(x, type) else [x])]
        members = [getattr(v, "__wrapped__", getattr(v, "fget", v)) for v in members]
        found += [f for f in members if isinstance(f, FunctionType) and f.__module__ == module.__name__ and f not in twins]
    return [f for f in dict.fromkeys(found) if f.__code__.co_filename.endswith(".py")]


def of_kernel_sources() -> Iterator[Mutant]:
    """Every small change of syntax in every function of the kernels: no list to keep in step with them."""
    for function in kernel_functions():
        if function.__name__.startswith(("_case", "masked")) or "reference" in function.__name__:
            continue
        for mutator, what, changed in source.mutants_of(function):
            yield Mutant("kernel sources", function, mutator, what, partial(without_plans, function, source.compiled(function, changed)))


def of_family(family: str) -> Iterator[Mutant]:
    if family == "kernel sources":
        yield from of_kernel_sources()
    for decorated, mutator, old, new in FAMILIES[family][0]:
        function = inspect.unwrap(decorated)
        code = edited(function, old, new)
        where = " ".join(f"{old} -> {new}".split())
        yield Mutant(family, function, mutator, where, partial(without_plans, function, code))


@contextmanager
def without_plans(function: FunctionType, code: CodeType) -> Iterator[None]:
    """`function` runs `code`, and nothing remembers what it planned or found before."""
    ops = [item for item in (*registry_module.registry, registry_module.IDENTITY) if isinstance(item, Op)]
    caches = [v for name, m in list(sys.modules.items()) if name.startswith("tinygrad_notes") for v in vars(m).values()]
    forget = [item.plans.clear for item in ops] + [v.cache_clear for v in caches if hasattr(v, "cache_clear")]

    def start_anew():
        for each in forget:
            each()

    start_anew()
    try:
        with replaced(function, code):
            yield
    finally:
        start_anew()


def check_registry() -> None:
    """The checks of tests/ops/test_registry.py on each op with many inputs or outputs, and on the first case of all others."""
    for item in list(registry_module.registry):
        samples = samples_of(item)
        check_op(item, samples if any(len(s.varied) > 1 for s in samples) else samples[:1])


def kernels_with(function: Callable) -> list[Fused]:
    """The kernels of the file that a function stands in, and of those that take something from there; all, if that is none."""
    kernels = [item for item in registry_module.registry if isinstance(item, Fused)]
    file = function.__module__

    def takes(item):
        named = vars(sys.modules[item.forward.__module__]).values()
        return item.forward.__module__ == file or any(getattr(x, "__module__", None) == file for x in named)

    return [item for item in kernels if takes(item)] or kernels


def ops_with(function: Callable) -> list[Op]:
    """The ops of tinygrad_notes.functional that take something from the file that a function stands in."""
    file, found = function.__module__, []
    for item in registry_module.registry:
        if isinstance(item, Op) and str(getattr(item.function, "__module__", "")).startswith("tinygrad_notes"):
            named = next(filter(None, item.rules)).__globals__.values()
            if any(getattr(x, "__module__", None) == file or getattr(x, "__name__", None) == file for x in named):
                found.append(item)
    return found


def first_killers(mutant: Mutant) -> list[Callable[[], None]]:
    """The checks of the registry for the kernels and ops that a mutant can change: they kill most, and at once."""
    if not mutant.family.startswith("kernel"):
        return []
    return [partial(check_op, item) for item in [*kernels_with(mutant.item), *ops_with(mutant.item)]]


def kernel_killers(mutant: Mutant) -> list[Callable[[], None]]:
    """The tests of tests/fused/ for the kernels that a mutant can change, but those that `first_killers` are already."""
    names = {item.name for item in kernels_with(mutant.item)}
    modules = FAMILIES["kernel sources"][1]
    if "blocked_attention" not in names:
        modules = modules[1:]

    def concerns(arguments):
        return arguments.get("name", next(iter(names))) in names

    return [partial(suite.run_all, [module], "test_every_property_of_an_op", only=concerns) for module in modules]


def killers(family: str, quick: bool = False) -> list[Callable[[], None]]:
    """The tests of a family, each of which has passed when this returns; only those before REGISTRY if they shall be quick."""
    found = []
    for name in FAMILIES[family][1]:
        if name == REGISTRY and quick:
            break
        if name == REGISTRY:
            check_registry()
            found.append(check_registry)
        else:
            suite.tests_in(name)
            found.append(partial(suite.run_all, [name]))
    return found
