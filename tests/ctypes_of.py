"""Random C types for property tests: hypothesis strategies that give C declarations."""

from hypothesis import strategies as st

INTS = [f"__{sign}{bits}" for sign in "us" for bits in (8, 16, 32, 64)]
SCALARS = [*INTS, "_Bool", "enum color", "unsigned __int128", "void *"]
PRELUDE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum color { RED, GREEN = 7, BLUE = 1000000 };
"""


@st.composite
def members(draw: st.DrawFn, depth: int = 2, prefix: str = "f") -> str:
    """The members of a struct or union, as C: one to six of them."""
    lines = []
    for i in range(draw(st.integers(1, 6))):
        name = f"{prefix}{i}"
        kind = draw(
            st.sampled_from(["scalar"] * 4 + ["array", "text", "bits"] + ["nested"] * depth)
        )
        if kind == "scalar":
            lines.append(f"{draw(st.sampled_from(SCALARS))} {name};")
        elif kind == "array":
            lines.append(f"{draw(st.sampled_from(INTS))} {name}[{draw(st.integers(1, 9))}];")
        elif kind == "text":
            lines.append(f"char {name}[{draw(st.integers(1, 20))}];")
        elif kind == "bits":
            base, most = draw(st.sampled_from([("__u32", 32), ("__s32", 32), ("__u64", 64)]))
            for j in range(draw(st.integers(1, 3))):
                lines.append(f"{base} {name}_{j} : {draw(st.integers(1, most))};")
        else:
            what = draw(st.sampled_from(["struct", "struct", "union"]))
            inner = draw(members(depth=depth - 1, prefix=f"{name}_"))
            after = draw(st.sampled_from([name, name, "", f"{name}[3]"]))
            lines.append(f"{what} {{ {inner} }} {after};")
    return " ".join(lines)


@st.composite
def structs(draw: st.DrawFn) -> str:
    """A struct's body, packed or not."""
    packed = draw(st.sampled_from(["", "", "", " __attribute__((packed))"]))
    return f"{{ {draw(members())} }}{packed}"


@st.composite
def maps(draw: st.DrawFn) -> tuple[str, str, int]:
    """C text that declares one map ``it``, the map's type and its max_entries."""
    kind = draw(
        st.sampled_from(["HASH", "HASH", "PERCPU_HASH", "LRU_HASH", "ARRAY", "PERCPU_ARRAY"])
    )
    size = draw(st.one_of(st.integers(1, 40), st.integers(1, 5000)))
    keys = st.one_of(st.sampled_from(INTS), structs().map(lambda s: f"struct key {s}"))
    key = "__u32" if "ARRAY" in kind else draw(keys)
    value = draw(st.one_of(st.sampled_from(INTS), structs().map(lambda s: f"struct value {s}")))
    text = PRELUDE
    for one in (key, value):
        text += f"{one};\n" if "{" in one else ""
    name = {"key": key.split(" {")[0], "value": value.split(" {")[0]}
    text += (
        f"struct {{ __uint(type, BPF_MAP_TYPE_{kind}); __uint(max_entries, {size});"
        f' __type(key, {name["key"]}); __type(value, {name["value"]}); }} it SEC(".maps");\n'
        'char LICENSE[] SEC("license") = "Dual MIT/GPL";\n'
    )
    return text, kind, size
