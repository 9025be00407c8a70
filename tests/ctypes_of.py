"""Random C types for property tests: hypothesis strategies that give C declarations."""

from hypothesis import strategies as st

INTS = [f"__{sign}{bits}" for sign in "us" for bits in (8, 16, 32, 64)]
SCALARS = [*INTS, "_Bool", "enum color", "unsigned __int128", "void *"]
ODD = ["char", "signed char", "float", "double", "__int128", "enum below", "enum wide"]
ODD += ["const volatile __s16", "word", "struct other *", "long", "enum color *const"]
ODD_BITS = ["_Bool : 1", "enum color : 20", "__s64 : 64", "__s8 : 3", "enum below : 9", "word : 31"]
PRELUDE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum color { RED, GREEN = 7, BLUE = 1000000 };
enum below { UNDER = -1, ZERO };
enum wide { NEAR, FAR = 1ull << 40 };
typedef __s32 word;
struct other;
"""


@st.composite
def members(draw: st.DrawFn, depth: int = 2, prefix: str = "f", odd: bool = False) -> str:
    """The members of a struct or union, as C: one to six of them, of ``odd`` types, too."""
    lines = []
    kinds = ["scalar"] * 4 + ["array", "text", "bits"] + ["nested"] * depth
    kinds += ["odd", "odd", "grid", "odd bits", "empty"] if odd else []
    for i in range(draw(st.integers(1, 6))):
        name = f"{prefix}{i}"
        kind = draw(st.sampled_from(kinds))
        if kind == "scalar":
            lines.append(f"{draw(st.sampled_from(SCALARS))} {name};")
        elif kind == "odd":
            lines.append(f"{draw(st.sampled_from(ODD))} {name};")
        elif kind == "grid":
            sides = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
            base = draw(st.sampled_from(SCALARS + ODD))
            lines.append(f"{base} {name}{''.join(f'[{n}]' for n in sides)};")
        elif kind == "odd bits":
            base, _, width = draw(st.sampled_from(ODD_BITS)).partition(" : ")
            gap = draw(st.sampled_from(["", " __u32 : 5;", " __u16 : 0;"]))
            lines.append(f"{base} {name} : {width};{gap}")
        elif kind == "empty":
            lines.append(draw(st.sampled_from(["struct {{ }} {};", "__u16 {}[0];"])).format(name))
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
            inner = draw(members(depth=depth - 1, prefix=f"{name}_", odd=odd))
            after = draw(st.sampled_from([name, name, "", f"{name}[3]"]))
            lines.append(f"{what} {{ {inner} }} {after};")
    return " ".join(lines)


@st.composite
def structs(draw: st.DrawFn) -> str:
    """A struct's body, packed or not."""
    packed = draw(st.sampled_from(["", "", "", " __attribute__((packed))"]))
    return f"{{ {draw(members())} }}{packed}"


@st.composite
def odd_structs(draw: st.DrawFn) -> str:
    """The same of odd types: it may be large, end in an array without a length, or be a union."""
    last = draw(st.sampled_from(["", "", "", "", " __u8 rest[];", " __u64 many[512];"]))
    packed = draw(st.sampled_from(["", "", "", " __attribute__((packed))"]))
    inner = draw(members(odd=True))
    if packed:  # a float that is not aligned, and the kernel refuses all of the BTF
        inner = inner.replace("float ", "int ").replace("double ", "long ")
    return f"{{ __u32 first; {inner}{last} }}{packed}"


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
