"""Lab 06: the learner's classes and the kernel's maps get the same calls, and must answer alike."""

import ctypes
import os
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EEXIST, EINVAL, ENOENT, errorcode
from typing import Any, NamedTuple

import pandas as pd

from helpers import compare, load
from helpers.answers import Answer, Raised, Remote
from helpers.lab import Lab, NotYet
from helpers.program import Program

U32 = 2**32 - 1
FLAGS = ANY, NOEXIST, EXIST = 0, 1, 2
SPELLED = {ANY: "ANY", NOEXIST: "NOEXIST", EXIST: "EXIST"}
READS = ("lookup", "pop", "peek")  # the calls that answer with a value
KINDS = {"HashMap": "hash", "ArrayMap": "array", "LruMap": "lru", "QueueMap": "queue"}
# What a class may declare, and what a check that never saw it happen says.
WORDS = {
    "order": "Both were walked with next_key(), and gave their keys in the same order.",
    "victims": "Whatever left the one left the other, at the same call.",
    "capacity": "Both were filled, and took the same number of entries.",
    "errors": "Each call that the kernel refused, yours refused with the same errno.",
    "numbers": "Numbers below 0 and above 32 bits were sent, and came out the same.",
    "copies": "Lists were changed after they had been given or got, and neither noticed.",
}
_CALL = struct.Struct("=QQQQq")  # struct call of four_maps.bpf.c
RANDOM_CALLS = 150
UNTIL_IT_SHOWS = 2_000  # calls, for an LRU map of the kernel's to evict another key; 50 do


class Comparison(Lab):
    title = "Python's structures and the kernel's"
    parts = ("answer",)
    hints = (
        "Begin with `HashMap`, and with the real map: `ex.compare()` sends both the same calls. "
        "Write down what the kernel answers to an update of a key that is there, of one that is "
        "not, and of one too many, with each of the flags. In which order does it look for "
        "reasons to refuse?",
        "Four things of Python's get in the way: dicts grow, lists take negative indexes, "
        "integers have no end, and what you keep is the caller's own list. Cut every key with "
        "`key & 0xFFFF_FFFF` as soon as it comes in, and make a new list of a value both when it "
        "comes in and when it goes out. What does `deque(maxlen=…)` do when it is full?",
        "A walk asks for the key after the one it has, and may look up, write or delete in "
        "between. So the order of a walk must not be the order of use: sorted keys will do for "
        "both hash classes. A call that is refused changes nothing, so put every reason to refuse "
        "before the first change. For `differences`: what can two kernels, or two maps in one "
        "kernel, not even agree on among themselves?",
    )

    def verify(self, answer: Answer) -> str:
        entries = random.randint(10, 16)
        done = list[str]()
        calls = 0
        with load("four_maps.bpf.c", defines={"ENTRIES": entries}) as prog:
            for name, trial in TRIALS.items():
                with _after(done):
                    pair = Pair(answer, name, RealMap(prog, KINDS[name]), entries)
                    trial(pair)
                    _declared(pair)
                done.append(name)
                calls += pair.calls
        return (
            f"Your four classes and four maps in the kernel, of {entries} entries each, got the "
            f"same {calls:,} calls, and answered alike. Two differences stay, and you declared "
            "both: the order of a walk, and which entries an LRU map evicts."
        )

    # --- for the notebook

    def compare(
        self, name: str, calls: str, maker: Callable[[int], Any] | None = None
    ) -> pd.DataFrame:
        """Send ``calls``, a line each, to a map of 4 entries and to what ``maker(4)`` makes.

        The lines call both ``m``, and know ANY, NOEXIST and EXIST. ``name`` is one of HashMap,
        ArrayMap, LruMap and QueueMap. Without ``maker``, the kernel is asked alone.
        """
        with load("four_maps.bpf.c") as prog:
            tables: dict[str, Any] = {"kernel": RealMap(prog, KINDS[name])}
            tables |= {"yours": maker(4)} if maker else {}
            lines = [line.strip() for line in calls.splitlines() if line.strip()]
            script = "\n".join(f"told(lambda m: {line}, t)" for line in lines)
            df = compare.run(script, tables, told=_told, ANY=ANY, NOEXIST=NOEXIST, EXIST=EXIST)
        df.index = pd.Index(lines)
        return df if maker else df[["kernel"]]


class _Word(str):
    """A text that shows without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _told(call: Callable[[Any], Any], table: Any) -> Any:
    try:
        return call(table)
    except OSError as error:
        return _Word(errorcode.get(error.errno or 0, type(error).__name__))


# --- two maps in Python: one asks the kernel, one is exact ----------------------------------


class RealMap:
    """A map in the kernel, under the calls that the task names; programs in the kernel make them.

    Only ``next_key()`` goes through the system call: programs have no such helper.
    """

    title = "the kernel's map"

    def __init__(self, prog: Program, name: str) -> None:
        self.prog, self.name, self.map = prog, name, prog[name]

    def lookup(self, key: int) -> list[int]:
        return self._call("lookup", key)

    def update(self, key: int, value: list[int], flags: int = ANY) -> None:
        self._call("update", key, value, flags)

    def delete(self, key: int) -> None:
        self._call("delete", key)

    def next_key(self, key: int | None = None) -> int | None:
        return self.map.next_key(None if key is None else ctypes.c_uint32(key).value)

    def push(self, value: list[int], flags: int = ANY) -> None:
        self._call("push", 0, value, flags)

    def pop(self) -> list[int]:
        return self._call("pop")

    def peek(self) -> list[int]:
        return self._call("peek")

    def keys(self) -> list[int]:
        return list(self.map)

    def empty(self) -> None:
        if self.name == "queue":
            with suppress(FileNotFoundError):
                while True:
                    self.pop()
        elif self.name == "array":
            self.map.update(dict.fromkeys(self.map, (0, 0)))
        else:
            self.map.clear()

    def _call(
        self, what: str, key: int = 0, value: list[int] | None = None, flags: int = ANY
    ) -> list[int]:
        numbers = [ctypes.c_uint64(n).value for n in (key, *(value or (0, 0)), flags)]
        done = self.prog.run(f"{self.name}_{what}", data=_CALL.pack(*numbers, 0))
        _, packets, length, _, result = _CALL.unpack(done.data)
        if result:
            raise OSError(-result, os.strerror(-result))
        return [packets, length]


class ExactLru:
    """What an LRU hash would be if it evicted exactly the entry that was used longest ago."""

    title = "an exact LRU"

    def __init__(self, entries: int) -> None:
        self.entries, self.table = entries, dict[int, list[int]]()

    def lookup(self, key: int) -> list[int]:
        key &= U32
        if key not in self.table:
            raise OSError(ENOENT, os.strerror(ENOENT))
        self.table[key] = self.table.pop(key)
        return self.table[key]

    def update(self, key: int, value: list[int], flags: int = ANY) -> None:
        key &= U32
        there = key in self.table
        for number, holds in (
            (EINVAL, flags not in FLAGS),
            (EEXIST, flags == NOEXIST and there),
            (ENOENT, flags == EXIST and not there),
        ):
            if holds:
                raise OSError(number, os.strerror(number))
        self.table.pop(key, None)
        if len(self.table) == self.entries:
            self.table.pop(self.oldest)
        self.table[key] = [n & U32 for n in value]

    def delete(self, key: int) -> None:
        if self.table.pop(key & U32, None) is None:
            raise OSError(ENOENT, os.strerror(ENOENT))

    @property
    def oldest(self) -> int:
        return next(iter(self.table))

    def keys(self) -> list[int]:
        return list(self.table)

    def empty(self) -> None:
        self.table.clear()


# --- both at once ---------------------------------------------------------------------------


class Evidence(NamedTuple):
    """A difference that was seen: what it was, in a sentence."""

    seen: str


class Pair:
    """One of the learner's classes and what it must be like: each call goes to both.

    ``idea`` is the question that a learner reads when the next calls differ.
    """

    def __init__(self, answer: Answer, name: str, real: "RealMap | ExactLru", entries: int) -> None:
        self.answer, self.name, self.real, self.entries = answer, name, real, entries
        self.calls, self.idea = 0, ""
        self.differences = dict[str, Evidence]()
        self.shadow: RealMap | None = None  # gets the same calls, and may answer otherwise
        self.fresh()

    def fresh(self) -> None:
        """Begin again: with a new object of the class, and with the map empty."""
        # Kept, since an object of a class that is derived from dict would come over as a dict.
        self.yours: Remote = self.answer.call(self.name, self.entries, keep=True)
        self.before = list[str]()
        self.real.empty()
        if self.shadow:
            self.shadow.empty()

    # --- calls

    def __call__(self, what: str, *args: Any) -> str:
        """Make a call on both, and compare the answers."""
        want = _outcome(what, lambda: getattr(self.real, what)(*args))
        got = self.ask(what, *args)
        if self.shadow:
            with suppress(OSError):
                getattr(self.shadow, what)(*args)
        if got != want:
            self.explain(_spell(what, args), want, got)
        self.before.append(_spell(what, args))
        return got

    def ask(self, what: str, *args: Any) -> str:
        """Make a call on the learner's object alone; returns what it did, in words."""
        self.calls += 1
        return _outcome(what, lambda: self.answer.call((self.yours, what), *args))

    def explain(self, call: str, want: str, got: str) -> None:
        idea = self.idea
        if want in errorcode.values():
            if got.startswith("return"):
                idea = (
                    "In C a failure is a negative number that somebody has to look at. How does a "
                    "Python function say that it failed, so that nobody can overlook it?"
                )
            elif got.startswith("raise"):
                idea = (
                    "The kernel gives its reason as an errno. Which of Python's exceptions "
                    "carries one?"
                )
        raise NotYet(
            f"{self.so_far}`{call}` was called. {_sentence(self.real.title)} answers with {want}; "
            f"your `{self.name}` {_verb(got)}.",
            idea,
        )

    @property
    def so_far(self) -> str:
        """What came before, as the beginning of a sentence; the last calls are enough."""
        made, count = f"On a new `{self.name}({self.entries})`", len(self.before)
        if not count:
            return f"{made}, "
        *others, last = [f"`{call}`" for call in self.before[-3:]]
        calls = f"{', '.join(others)} and {last}" if others else last
        if count > 3:
            return f"{made}, {count} calls were made, the last of them {calls}. Then "
        return f"{made}, {calls} {'were' if others else 'was'} called. Then "

    # --- walks

    def next_key(self, *args: Any) -> int | None:
        """The learner's next key: a number, or None."""
        self.calls += 1
        try:
            found = self.answer.call((self.yours, "next_key"), *args)
        except Raised as raised:
            raise NotYet(
                f"{self.so_far}`{_spell('next_key', args)}` was called. Your `{self.name}` raised "
                f"{raised}.",
                "Which keys may be asked about, and what does `next_key()` give when there is "
                "nothing to give?",
            ) from None
        if found is None or (isinstance(found, int) and 0 <= found <= U32):
            return found
        raise NotYet(
            f"{self.so_far}`{_spell('next_key', args)}` was called. Your `{self.name}` "
            f"{_odd(found)}.",
            "The keys of these maps are numbers of 32 bits. In which form do you keep yours?",
        )

    def keys(self, meanwhile: Callable[[int], object] = lambda _: None) -> list[int]:
        """Walk over the learner's keys, and do something at each of them."""
        most = len(self.real.keys())
        found = list[int]()
        key = self.next_key()
        while key is not None:
            if key in found:
                raise NotYet(
                    f"{self.so_far}a walk with `next_key()` gave {_list(found)}, and then {key} "
                    "again: it has no end.",
                    f"It asked for the key after {found[-1]}. How does your `next_key()` know "
                    "where that one stands?",
                )
            found.append(key)
            if len(found) > most:
                break
            meanwhile(key)
            key = self.next_key(key)
        return found

    def walk(self, what: str = "", meanwhile: Callable[[int], object] = lambda _: None) -> None:
        """Both are walked: the keys must be the same, in whatever order."""
        want, got = self.real.keys(), self.keys(meanwhile)
        if sorted(got) == sorted(want):
            return
        lost, more = (
            [key for key in want if key not in got],
            [key for key in got if key not in want],
        )
        said = (
            f"{more[0]}, which is not in {self.real.title}"
            if more
            else (f"{len(got)} of {len(want)} keys, and not {lost[0]}")
        )
        raise NotYet(f"{self.so_far}a walk with `next_key()`{what} gave {said}.", self.idea)

    def compare_order(self) -> None:
        """Both hold the same keys: does a walk visit them in the same order?"""
        want, got = self.real.keys(), self.keys()
        if want != got:
            self.differences["order"] = Evidence(
                f"{len(got)} keys were put into both. A walk gave {_list(want)} in the kernel, "
                f"and {_list(got)} in your `{self.name}`."
            )

    # --- lists on the learner's side

    def a_list(self, numbers: list[int]) -> Remote:
        """A new list over there, to see who holds on to it: ``dir()`` makes one for any object."""
        made: Remote = self.answer.call((self.yours, "__dir__"), keep=True)
        self.answer.call((made, "clear"))
        self.answer.call((made, "extend"), numbers)
        return made

    def give(self, what: str, *args: Any) -> None:
        """Give both a list as the last argument, and change the list afterwards."""
        *others, value = args
        mine, theirs = list(value), self.a_list(value)
        getattr(self.real, what)(*others, mine)
        self.answer.call((self.yours, what), *others, theirs)
        mine[0] += 1
        self.answer.call((theirs, "__setitem__"), 0, value[0] + 1)
        self.before += [_spell(what, args), "value[0] += 1"]

    def take(self, what: str, *args: Any) -> None:
        """Get a list from both, and change it."""
        self(what, *args)
        mine = getattr(self.real, what)(*args)
        if isinstance(self.answer.call((self.yours, what), *args), list):
            theirs = self.answer.call((self.yours, what), *args, keep=True)
            self.answer.call((theirs, "__setitem__"), 0, mine[0] + 1)
        mine[0] += 1
        self.before[-1] = f"{_spell(what, args)}[0] += 1"


def _outcome(what: str, call: Callable[[], Any]) -> str:
    """What a call did, in words: a value, an errno's name, "success", or something else."""
    try:
        value = call()
    except OSError as error:  # of our own maps
        return errorcode[error.errno or 0]
    except Raised as raised:
        return errorcode.get(raised.errno) or f"raised {raised}"
    if what in READS and isinstance(value, list | tuple):
        return str(list(value)) if all(isinstance(n, int) for n in value) else _odd(value)
    if what in READS or (isinstance(value, int) and value < 0):
        return _odd(value)
    return "success"


def _odd(value: Any) -> str:
    return "returned " + ("an object of another type" if isinstance(value, Remote) else repr(value))


def _verb(outcome: str) -> str:
    return outcome if outcome.startswith(("raised", "returned")) else f"answers with {outcome}"


def _spell(what: str, args: tuple[Any, ...]) -> str:
    """The call, as Python would write it."""
    words = [str(arg) for arg in args]
    if what in ("update", "push") and isinstance(args[-1], int):
        words[-1] = SPELLED.get(args[-1], words[-1])
    return f"{what}({', '.join(words)})"


def _list(keys: list[int]) -> str:
    return ", ".join(map(str, keys[:4])) + (", …" if len(keys) > 4 else "")


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _value() -> list[int]:
    return random.sample(range(1, 1000), 2)


# --- what is tried --------------------------------------------------------------------------


def hash_map(pair: Pair) -> None:
    keys = _keys(pair.entries + 3)
    one_entry(pair, keys)
    flags(pair, keys)
    numbers(pair, keys)
    walks(pair, keys[: pair.entries // 2])
    orders(pair)
    copies(pair, keys)
    full(pair, keys)
    random_calls(pair, [*keys, U32, 1 << 31])


def lru_map(pair: Pair) -> None:
    """Half full, it must be like the kernel's; from then on, exact."""
    keys, real = _keys(pair.entries + 3), pair.real
    assert isinstance(real, RealMap)
    with one_cpu():
        one_entry(pair, keys)
        flags(pair, keys)
        numbers(pair, keys)
        walks(pair, keys[: pair.entries // 2])
        orders(pair)
        copies(pair, keys)
        pair.real, pair.shadow = ExactLru(pair.entries), real
        evictions(pair, keys)
        random_calls(pair, [*keys, U32, 1 << 31])
        pair.real, pair.shadow = real, None
        watch_victims(pair, keys)


def array_map(pair: Pair) -> None:
    last = pair.entries - 1
    pair.idea = (
        "An array in the kernel has all its elements from the beginning. What is in them, and "
        "what of that can `ex.compare()` show you?"
    )
    pair("lookup", 0)
    pair("lookup", last)
    pair.idea = "What is the last index of an array, and what does the kernel say of the next one?"
    pair("lookup", last + 1)
    pair("update", last, _value())
    pair("lookup", last)
    pair("update", last + 1, _value())
    pair("lookup", last + 1)
    pair.idea = "All elements begin with zeros. How many lists of zeros did you make for them?"
    pair("lookup", 0)
    pair.idea = "Every element of an array exists. What can `NOEXIST` mean there, and what `EXIST`?"
    pair("update", 1, _value(), NOEXIST)
    pair("update", 1, _value(), EXIST)
    pair("lookup", 1)
    pair.idea = "Which of two reasons to refuse does the kernel look for first?"
    pair("update", last + 1, _value(), NOEXIST)
    pair("update", last + 1, _value(), EXIST)
    for flag in _bad_flags():
        pair("update", 1, _value(), flag)
        pair("update", last + 1, _value(), flag)
        pair("lookup", 1)
    pair.idea = (
        "The elements of an array are there for as long as the array. What could it mean to "
        "delete one, and does the kernel do it?"
    )
    pair("delete", 1)
    pair("delete", last + 1)
    pair("lookup", 1)
    pair.idea = (
        "An index is 32 bits without a sign. Which index does C make of -1, and of 2**32 + 1; and "
        "what does a list make of them?"
    )
    beyond = (1 << 32) + 1, 1 - (1 << 32), (1 << 32) + pair.entries
    for key in (-1, -pair.entries, (1 << 31) + 1, *beyond):
        pair("lookup", key)
        pair("update", key, _value())
        pair("update", key, _value(), EXIST)
        pair("delete", key)
        pair("lookup", 1)
    wide_values(pair, "update", "lookup", 1)
    new_one(pair, "lookup", 0)
    pair.idea = "A walk over an array goes by index. Which is the first, and what follows the last?"
    in_order(pair, [(), (None,), *((index,) for index in range(pair.entries + 1))])
    in_order(pair, [(U32,), (-1,), (1 << 32,), ((1 << 32) + 1,)])
    pair.fresh()
    pair.idea = _COPIES
    pair.take("lookup", 0)
    pair("lookup", last)
    pair("lookup", 0)
    pair.give("update", 2, _value())
    pair("lookup", 2)
    pair.take("lookup", 2)
    pair("lookup", 2)
    random_calls(pair, range(-2, pair.entries + 2))


def in_order(pair: Pair, asked: list[tuple[Any, ...]]) -> None:
    """An array's next key is no matter of taste."""
    for args in asked:
        want, got = pair.real.next_key(*args), pair.next_key(*args)
        if want != got:
            raise NotYet(
                f"{pair.so_far}`{_spell('next_key', args)}` was called. The kernel's map answers "
                f"with {want}; your `{pair.name}` answers with {got}.",
                pair.idea,
            )


def queue_map(pair: Pair) -> None:
    values = [_value() for _ in range(pair.entries + 3)]
    pair.idea = "What does the kernel say when there is nothing to take?"
    pair("pop")
    pair("peek")
    pair.idea = "Which end of a queue does the next value come from, and which end does it go to?"
    for value in values[:3]:
        pair("push", value)
    pair("peek")
    pair.idea = "To peek is to look at the next value. What is the next one after that?"
    pair("peek")
    pair.idea = "Which end of a queue does the next value come from, and what is there afterwards?"
    for _ in range(4):
        pair("pop")
    pair.idea = (
        "There are no keys here. What can `EXIST` and `NOEXIST` ask of a queue? Try each, on one "
        "that has room and on one that has none."
    )
    pair("push", values[0], NOEXIST)
    pair("peek")
    pair("push", values[0], EXIST)
    pair("push", values[1], EXIST)
    for flag in _bad_flags():
        pair("push", values[2], flag)
    pair("pop")
    pair("pop")
    pair("pop")
    pair.fresh()
    for value in values[: pair.entries]:
        pair.idea = "For how many values was the queue made?"
        pair("push", value)
    pair.idea = (
        "The queue is full. What becomes of one more value, what of the oldest, and who is told?"
    )
    pair("push", values[-1])
    pair("peek")
    pair.idea = "The queue is full. Which values does `EXIST` let in, and which does it let go?"
    pair("push", values[-2], EXIST)
    pair("push", values[-3], EXIST)
    pair("peek")
    pair.idea = "The queue is full, and the flags are wrong as well. Which is the kernel's reason?"
    pair("push", values[-1], NOEXIST)
    for flag in _bad_flags():
        pair("push", values[-1], flag)
    pair.idea = "In which order do values leave, and are all of them there?"
    for _ in range(pair.entries + 1):
        pair("pop")
    wide_values(pair, "push", "pop")
    pair.idea = _COPIES
    pair.fresh()
    pair.give("push", values[0])
    pair("peek")
    pair.take("peek")
    pair("pop")
    new_one(pair, "peek")
    for _ in range(RANDOM_CALLS):
        what = random.choices(["push", "pop", "peek"], [6, 3, 1])[0]
        args = (_value(), *_any_flags()) if what == "push" else ()
        pair(what, *args)


TRIALS: Mapping[str, Callable[[Pair], None]] = {
    "HashMap": hash_map,
    "ArrayMap": array_map,
    "LruMap": lru_map,
    "QueueMap": queue_map,
}


def one_entry(pair: Pair, keys: list[int]) -> None:
    a, b, *_ = keys
    pair.idea = "What does the kernel say of a key that is not there?"
    pair("lookup", a)
    pair("delete", a)
    pair.walk()
    pair.idea = "Something was written. What should be read afterwards, and under which keys?"
    pair("update", a, _value())
    pair("lookup", a)
    pair("lookup", b)
    pair("update", b, [0, 0])
    pair("update", a, _value())
    pair("lookup", a)
    pair("lookup", b)
    pair.idea = "What is left of an entry after it has been deleted, and of the others?"
    pair("delete", a)
    pair("lookup", a)
    pair("delete", a)
    pair("lookup", b)
    new_one(pair, "lookup", b)


def new_one(pair: Pair, what: str, *args: Any) -> None:
    """Objects of a class share nothing."""
    pair.idea = (
        "There was another object of this class before, and it held this. What do two objects "
        "of one class share in Python, and where is that made?"
    )
    if what == "peek":
        pair("push", _value())
    else:
        pair("update", *args, _value())
    pair.fresh()
    pair(what, *args)


def flags(pair: Pair, keys: list[int]) -> None:
    a, b, *_ = keys
    pair.fresh()
    pair.idea = "`EXIST` asks for a condition. What becomes of the update where it does not hold?"
    pair("update", a, _value(), EXIST)
    pair("lookup", a)
    pair.idea = "`NOEXIST` asks for a condition. Does it hold here, and what follows?"
    pair("update", a, _value(), NOEXIST)
    pair("lookup", a)
    pair("update", a, _value(), NOEXIST)
    pair("lookup", a)
    pair.idea = "`EXIST` and `ANY` both replace what is there. What is there now?"
    pair("update", a, _value(), EXIST)
    pair("lookup", a)
    pair("update", a, _value(), ANY)
    pair("lookup", a)
    pair.idea = "There are three flags. What does the kernel make of a fourth?"
    for flag in _bad_flags():
        pair("update", a, _value(), flag)
        pair("update", b, _value(), flag)
        pair("lookup", a)
        pair("lookup", b)


def numbers(pair: Pair, keys: list[int]) -> None:
    pair.fresh()
    a, wide = keys[0], 1 << 32
    pair.idea = (
        "In C, what does not fit into 32 bits is cut off. Which key is -1 then, and which is "
        "2**32 + 7; and to which of your calls does that matter?"
    )
    pair("update", -1, _value())
    pair("lookup", U32)
    pair("update", a + wide, _value())
    pair("lookup", a)
    pair("lookup", a - wide)
    pair("update", a - wide, _value(), NOEXIST)
    pair("update", a - wide, _value(), EXIST)
    pair.walk()
    if pair.next_key(a) != pair.next_key(a + wide):
        raise NotYet(
            f"{pair.so_far}`next_key({a})` and `next_key({a} + 2**32)` gave your `{pair.name}` two "
            "keys, and the kernel's map one and the same.",
            pair.idea,
        )
    pair("delete", a + 3 * wide)
    pair("lookup", a)
    wide_values(pair, "update", "lookup", keys[1])


def wide_values(pair: Pair, put: str, get: str, *key: int) -> None:
    pair.idea = (
        "Both fields of a value are 32 bits without a sign. What does C make of a number that "
        "does not fit, and of one that just fits?"
    )
    for value in ([U32, 1 << 31], [1 << 32, -1], [-(1 << 31), (1 << 40) + 5], [-(1 << 32) - 1, 0]):
        pair(put, *key, value)
        pair(get, *key)


def walks(pair: Pair, keys: list[int]) -> None:
    """At most half full, so that an LRU map evicts nothing either."""
    pair.fresh()
    pair.idea = "What does `next_key()` give for `None`, for a key, and for the last one?"
    pair.walk()
    absent = keys[-1]
    if pair.next_key(absent) is not None:
        raise NotYet(
            f"{pair.so_far}`next_key({absent})` was called. The map is empty, and your "
            f"`{pair.name}` found a key.",
            pair.idea,
        )
    for key in keys[:-1]:
        pair("update", key, _value())
    pair.walk()
    first = pair.next_key(None)
    pair.idea = (
        "The key has just been deleted, say, in the middle of a walk. Where does the kernel go "
        "on when it does not know where it was?"
    )
    if pair.real.next_key(absent) == pair.real.next_key(None) and pair.next_key(absent) != first:
        raise NotYet(
            f"{pair.so_far}`next_key({absent})` was called, and that key is not there. The "
            "kernel's map begins again with its first key, and your "
            f"`{pair.name}` gives {pair.next_key(absent)}; its first is {first}.",
            pair.idea,
        )
    for what, meanwhile in _MEANWHILE.items():
        pair.idea = (
            "Nothing came, and nothing went. A walk through the kernel's map may lose its way when "
            "a key is written meanwhile; yours shall not. Which order stays as it is?"
        )
        pair.walk(what, lambda key, do=meanwhile: do(pair, key))
    pair("update", absent, _value())
    pair.idea = "A walk asks for the next key first, and deletes then. Which keys should it meet?"
    key = pair.next_key()
    while key is not None:
        following = pair.next_key(key)
        pair("delete", key)
        key = following
    pair.walk(", after each key of a walk was deleted,")


def orders(pair: Pair) -> None:
    """Other keys, and others again, until a walk differs: few may come in one order by chance."""
    for _ in range(20):
        pair.fresh()
        for key in random.sample(range(1, 100), pair.entries // 2):
            pair("update", key, _value())
        pair.compare_order()
        if "order" in pair.differences:
            return


_MEANWHILE: Mapping[str, Callable[[Pair, int], object]] = {
    ", and a lookup of each key on the way,": lambda pair, key: pair("lookup", key),
    ", and an update of each key on the way,": lambda pair, key: pair("update", key, _value()),
}

_COPIES = (
    "The kernel copies bytes: in when you write, out when you read. Whose list does your class "
    "keep, and whose does it hand out?"
)


def copies(pair: Pair, keys: list[int]) -> None:
    a, *_ = keys
    pair.fresh()
    pair.idea = _COPIES
    pair.give("update", a, _value())
    pair("lookup", a)
    pair.take("lookup", a)
    pair("lookup", a)


def full(pair: Pair, keys: list[int]) -> None:
    """A hash map with as many entries as it was made for."""
    pair.fresh()
    *new, spare = keys[pair.entries :]
    held = keys[: pair.entries]
    pair.idea = "For how many entries was the map made?"
    for key in held:
        pair("update", key, _value())
    pair("update", new[0], _value())
    pair.idea = "The map is full. Which updates need room, and which do not?"
    pair("lookup", new[0])
    pair("update", held[0], _value())
    pair("update", held[1], _value(), EXIST)
    pair.idea = "The map is full, and the flags ask for something too. Which does the kernel say?"
    pair("update", new[0], _value(), EXIST)
    pair("update", held[0], _value(), NOEXIST)
    pair("update", new[0], _value(), NOEXIST)
    for flag in _bad_flags():
        pair("update", new[0], _value(), flag)
    pair.walk()
    pair.compare_order()
    pair.idea = "One entry of a full map was deleted. How many new keys does it take now?"
    pair("delete", held[2])
    pair("update", new[1], _value())
    pair("update", spare, _value())
    pair.walk()


def evictions(pair: Pair, keys: list[int]) -> None:
    """An exact LRU map with as many entries as it was made for, each time with another history."""
    *held, spare, other, third = keys
    oldest, second = held[:2]
    # Each: what is done to a full map, and what a learner should think about.
    scenes: list[tuple[list[tuple[Any, ...]], str]] = [
        ([], "The map is full, and a new key comes. Which of the entries has to go?"),
        (
            [("lookup", oldest), ("lookup", (1 << 32) + second)],
            "What does a lookup change about the order in which entries go?",
        ),
        (
            [("update", oldest, _value()), ("update", second, _value(), EXIST)],
            "Is an update of an entry that is there a use of it?",
        ),
        (
            [
                ("update", oldest, _value(), NOEXIST),
                ("update", second, _value(), 3),
                ("lookup", spare),
                ("delete", spare),
            ],
            "A call that is refused changes nothing. What did yours change before it refused?",
        ),
        (
            [("update", spare, _value(), EXIST), ("update", other, _value(), 3)],
            "A call that is refused evicts nothing. What comes first in your `update()`?",
        ),
        (
            [("update", held[5], _value()), ("update", held[3], _value(), EXIST)],
            "The key is there already. How much room does its update need?",
        ),
        (
            [("delete", held[4]), ("update", other, _value())],
            "An entry was deleted, so there is room for one. Who has to go for a new key then?",
        ),
    ]
    for calls, idea in scenes:
        pair.fresh()
        for key in held:
            pair.idea = "For how many entries was the map made?"
            pair("update", key, _value())
        pair.idea = idea
        for call in calls:
            pair(*call)
        compare_keys(pair, idea)
        for key in (spare, third):
            pair("update", key, _value())
            compare_keys(pair, idea)
            pair("lookup", key)


def compare_keys(pair: Pair, idea: str) -> None:
    """Which keys are there, and so: which went?"""
    assert isinstance(pair.real, ExactLru)
    want, got = set(pair.real.keys()), set(pair.keys())
    lost, kept = sorted(want - got), sorted(got - want)
    if len(got) > pair.entries:
        said = f"holds {len(got)} entries"
        idea = "For how many entries was the map made, and who makes room for a new one?"
    elif lost and kept:
        said = f"dropped {lost[0]}, and kept {kept[0]}, which was not used for longer"
    elif lost:
        said = f"dropped {lost[0]}, and need not have"
    elif kept:
        said = f"still holds {kept[0]}"
    else:
        return
    raise NotYet(f"{pair.so_far}your `{pair.name}` {said}.", idea)


def watch_victims(pair: Pair, keys: list[int]) -> None:
    """Until the kernel's LRU map holds other keys than the learner's, which is exact by now."""
    exact, real = ExactLru(pair.entries), pair.real
    pair.fresh()
    count = 0
    while set(real.keys()) == set(exact.keys()) and count < UNTIL_IT_SHOWS:
        count += 1
        key = random.choice(keys)
        if random.random() < 0.5:
            args: tuple[Any, ...] = ("update", key, _value())
        else:
            args = ("lookup", key)
        for table in (exact, real):
            with suppress(OSError):
                getattr(table, args[0])(*args[1:])
        pair.ask(*args)
    there, mine = set(real.keys()), set(pair.keys())
    if there == mine:
        return
    key = min(there ^ mine)
    here = "the kernel's map had the key {} no more, and yours had it"
    gone = "the kernel's map had the key {} still, and yours had it no more"
    pair.differences["victims"] = Evidence(
        f"{count:,} random calls went to both. Then {(here if key in mine else gone).format(key)}."
    )


def random_calls(pair: Pair, pool: "list[int] | range") -> None:
    """Whatever nobody thought of."""
    pair.fresh()
    pair.idea = "Send the same calls to both with `ex.compare()`. Where do they part?"
    for count in range(RANDOM_CALLS):
        key = random.choice(pool) + random.choice([0, 0, 0, 1 << 32, -1 << 32])
        what = random.choices(["update", "lookup", "delete"], [5, 3, 2])[0]
        args = (key, _wide_value(), *_any_flags()) if what == "update" else (key,)
        pair(what, *args)
        if count % 25 == 24:
            pair.walk()


def _keys(count: int) -> list[int]:
    """Keys of a check, small enough to read, and 0 among the first."""
    keys = [0, *random.sample(range(1, 100), count - 1)]
    first = keys[:4]
    random.shuffle(first)
    return first + keys[4:]


def _bad_flags() -> list[int]:
    """No flags of an update; 4 is BPF_F_LOCK."""
    return [3, random.randint(8, 11)]


def _any_flags() -> tuple[int, ...]:
    return random.choice([(), (), (ANY,), (NOEXIST,), (EXIST,), (3,)])


def _wide_value() -> list[int]:
    return [random.randrange(-(1 << 34), 1 << 34), random.randrange(1 << 32)]


# --- what was declared ----------------------------------------------------------------------


def _declared(pair: Pair) -> None:
    words = _words(pair)
    for word, evidence in pair.differences.items():
        if word not in words:
            raise NotYet(
                f"{evidence.seen} `{pair.name}.differences` is {_said(words)}.",
                f"{_ASKED[word]} Which of the words in the task says so?",
            )
    for word in sorted(words - pair.differences.keys()):
        raise NotYet(
            f"`{pair.name}.differences` names `{word}`. In {pair.calls:,} calls no such "
            f"difference showed. {WORDS[word]}",
            _TOO_MANY[word],
        )


_ASKED = {
    "order": "Two maps of one kernel do not agree on that either.",
    "victims": "Two versions of the kernel do not agree on that either.",
}
_TOO_MANY = {
    "order": "What decides where an index comes in a walk?",
    "victims": "What does the kernel do with one value too many here: does it choose who goes?",
    "capacity": "What keeps your class from growing, and is it still a difference then?",
    "errors": "To declare is to say what stays different. Which call is still refused otherwise?",
    "numbers": "Your class cuts numbers as C does. What is left of the difference?",
    "copies": "Your class copies as the kernel does. What is left of the difference?",
}


def _words(pair: Pair) -> set[str]:
    try:
        said = pair.answer.call((pair.yours, "__getattribute__"), "differences")
    except Raised:
        raise NotYet(
            f"`{pair.name}` answers as the kernel does in all {pair.calls:,} calls. It has no "
            "`differences`.",
            "What stays different between your class and the map, whatever you do?",
        ) from None
    words = {said} if isinstance(said, str) and said else set(said or ())
    if unknown := words - WORDS.keys():
        raise NotYet(
            f"`{pair.name}.differences` is {_said(words)}. The words to choose from: "
            f"{', '.join(WORDS)}.",
            f"What do you mean by `{min(unknown, key=str)}`, and which of the words comes near it?",
        )
    return words


def _said(words: set[str]) -> str:
    return ", ".join(sorted(f"`{word}`" for word in words)) or "empty"


# --- the ground it stands on ----------------------------------------------------------------


@contextmanager
def _after(done: list[str]) -> Iterator[None]:
    """Say first which classes are done."""
    try:
        yield
    except NotYet as wrong:
        names = ", ".join(f"`{name}`" for name in done)
        held = f"Done: {names}. "
        raise NotYet(f"{held if done else ''}{wrong.seen}", wrong.idea) from None


@contextmanager
def one_cpu() -> Iterator[None]:
    """An LRU map deals its room out to the CPUs: on one, half of it is there for sure."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
